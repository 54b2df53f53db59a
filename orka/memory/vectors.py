"""Vectors that callers give: checked, and brought to length 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orka.errors import QueryRefused, RecordRefused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def unit_vector(given: Sequence[float], dimension: int) -> NDArray[np.float32]:
    """Shape (dimension,), length 1. `QueryRefused` for another shape, for what is no number, infinities, NaN, all zeros."""
    import numpy as np

    try:
        vector = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as exc:
        raise QueryRefused(f"a vector must be {dimension} numbers, and a {type(given).__name__} has none") from exc
    if vector.shape != (dimension,):
        shown = f"{len(vector)} numbers" if vector.ndim == 1 else f"the shape {vector.shape}"
        raise QueryRefused(f"the vector has {shown}, and those of the memories have {dimension} numbers")
    largest = float(np.abs(vector).max())
    if not (math.isfinite(largest) and largest > 0):
        raise QueryRefused("a vector must be finite numbers, and not all 0")
    vector = vector / largest  # a number beyond 1e154 has no square
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def content_vector_of(given: Sequence[float] | None, dimension: int) -> NDArray[np.float32] | None:
    """Of a memory that is given one; None for none. `RecordRefused` for one that memories cannot have."""
    try:
        return None if given is None else unit_vector(given, dimension)
    except QueryRefused as exc:
        raise RecordRefused(f"content_vector: {exc}") from exc
