"""What embedders have in common: which texts are worth asking about, and answers checked and brought to length 1. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orka.errors import EmbeddingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def clean(text: str) -> str:
    """As models can read it: half a surrogate pair is no character, and white space alone is no text."""
    if not text or text.isspace():
        return ""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def unit_rows(rows: object, *, count: int, dimension: int | None, source: str) -> NDArray[np.float32]:
    """Shape (count, dimension), each row brought to length 1 (zeros stay zeros). `EmbeddingError` where `rows` are no
    finite numbers of that shape; any dimension will do when it is None. Blocking for big batches."""
    import numpy as np

    try:
        found = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as exc:
        raise EmbeddingError(
            f"{source} gives vectors that are not {count} equally long rows of numbers: {exc}"
        ) from exc
    if found.ndim != 2 or found.shape[0] != count or found.shape[1] == 0:
        raise EmbeddingError(
            f"{source} gives vectors of shape {found.shape} for {count} texts: one row for each is needed"
        )
    if dimension is not None and found.shape[1] != dimension:
        raise EmbeddingError(
            f"{source} gives vectors of {found.shape[1]:,} numbers where {dimension:,} are expected: is it still the same "
            "model? Vectors of different models cannot be compared"
        )
    if not np.isfinite(found).all():
        row = int(np.argmin(np.isfinite(found).all(axis=1)))
        raise EmbeddingError(
            f"{source} gives a vector with infinite or undefined numbers (row {row} of {count})", index=row
        )
    # Scaled before it is squared: a number beyond 1e154 has no square.
    largest = np.abs(found).max(axis=1, keepdims=True)
    scaled = np.divide(found, largest, out=np.zeros_like(found), where=largest > 0)
    lengths = np.sqrt(np.einsum("ij,ij->i", scaled, scaled))[:, np.newaxis]
    return np.divide(scaled, lengths, out=np.zeros_like(scaled), where=lengths > 0).astype(np.float32)
