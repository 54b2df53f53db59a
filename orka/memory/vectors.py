"""Vectors that callers give: checked, and brought to length 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orka.errors import QueryRefused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def unit_vector(given: Sequence[float], dimension: int) -> NDArray[np.float32]:
    """Shape (dimension,), length 1. `QueryRefused` for another number of components, for all zeros, infinities, NaN."""
    import numpy as np

    if len(given) != dimension:
        raise QueryRefused(f"the vector has {len(given)} numbers, and those of the memories have {dimension}")
    if not all(map(math.isfinite, given)) or not any(given):
        raise QueryRefused("a vector must be finite numbers, and not all 0")
    vector = np.asarray(given, dtype=np.float64)
    return (vector / np.linalg.norm(vector)).astype(np.float32)
