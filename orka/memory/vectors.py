"""Vectors that callers give: checked, and brought to length 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orka.errors import QueryRefused, RecordRefused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def unit_vector(given: Sequence[float], dimension: int) -> NDArray[np.float32]:
    """Shape (dimension,), length 1. `QueryRefused` for another number of components, for all zeros, infinities, NaN."""
    import numpy as np

    try:
        vector = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as exc:
        raise QueryRefused(f"a vector is a list of numbers: {exc}") from exc
    if vector.ndim != 1:
        raise QueryRefused(f"a vector is a list of numbers, and this one has the shape {vector.shape}")
    if len(vector) != dimension:
        raise QueryRefused(f"the vector has {len(vector)} numbers, and those of the memories have {dimension}")
    largest = np.abs(vector).max()
    if not np.isfinite(largest) or not largest:
        raise QueryRefused("a vector must be finite numbers, and not all 0")
    vector = vector / largest  # squares of very large and very small numbers are none
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def content_vector_of(given: Sequence[float] | None, dimension: int) -> NDArray[np.float32] | None:
    """Of a memory that is given one; None for none. `RecordRefused` for one that memories cannot have."""
    try:
        return None if given is None else unit_vector(given, dimension)
    except QueryRefused as exc:
        raise RecordRefused(f"content_vector: {exc}") from exc
