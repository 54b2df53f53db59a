"""`Matrix`: the vectors that a process keeps, and their cosines with others. Pure.

Exact: every row is compared. 100,000 rows of 256 numbers are 100 MB, which a core reads in some milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orka.memory.rows import Rows, best, grown

TOGETHER: Final = 32
"""Looks in one matrix product; their scores take 4 bytes per row each."""
_SELECTIVE: Final = 0.15
"""Share of rows up to which copying these costs less than comparing all."""

_SEVERAL: Final = 4
"""Looks from which on a matrix product costs less than as many passes over the vectors."""

Ranking = tuple[NDArray[np.intp], NDArray[np.float32]]
"""Rows, best first, and their scores."""


class Matrix:
    """A row of float32 per memory, of length 1 or zeros: 4 bytes times the dimension, twice that after growing."""

    def __init__(self, rows: Rows, dimension: int) -> None:
        self._rows = rows
        self._vectors: NDArray[np.float32] = np.zeros((64, dimension), dtype=np.float32)
        self._there: NDArray[np.bool_] = np.zeros(64, dtype=np.bool_)

    def put(self, places: NDArray[np.intp], vectors: NDArray[np.float32]) -> None:
        """Rows of any length; what is no direction (zeros, NaN) is no vector."""
        self._vectors = grown(self._vectors, len(self._rows))
        self._there = grown(self._there, len(self._rows))
        lengths: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        there = np.isfinite(lengths) & (lengths > 0)
        self._vectors[places] = np.where(there[:, None], vectors / np.where(there, lengths, 1)[:, None], 0)
        self._there[places] = there

    def move(self, source: int, to: int) -> None:
        self._vectors[to] = self._vectors[source]
        self._there[to] = self._there[source]

    def nearest(
        self, queries: list[NDArray[np.float32]], masks: list[NDArray[np.bool_]], counts: list[int]
    ) -> list[Ranking]:
        """For each query of length 1 the rows of highest cosine among those of its mask."""
        size = len(self._rows)
        allowed = [mask & self._there[:size] for mask in masks]
        rankings: list[Ranking | None] = [None] * len(queries)
        together: list[int] = []
        counted = [int(np.count_nonzero(mask)) for mask in allowed]
        for i, mask in enumerate(allowed):
            if counted[i] <= size * _SELECTIVE:
                chosen = np.flatnonzero(mask)
                rankings[i] = self._rank(_cosines(self._vectors[chosen], queries[i]), counts[i], chosen)
            else:
                together.append(i)
        for start in range(0, len(together), TOGETHER):
            part = together[start : start + TOGETHER]
            for i, scores in zip(part, self._products([queries[i] for i in part]), strict=True):
                if counted[i] < size:
                    scores[~allowed[i]] = -np.inf
                rankings[i] = self._rank(scores, counts[i], None)
        return [ranking for ranking in rankings if ranking is not None]

    def cosines(self, rows: NDArray[np.intp], query: NDArray[np.float32]) -> list[float | None]:
        """Of some rows with a query of length 1; None where there is no vector."""
        there: list[bool] = self._there[rows].tolist()
        found: list[float] = np.clip(_cosines(self._vectors[rows], query), -1, 1).tolist()
        return [cosine if is_there else None for cosine, is_there in zip(found, there, strict=True)]

    def _products(self, queries: list[NDArray[np.float32]]) -> Iterable[NDArray[np.float32]]:
        vectors = self._vectors[: len(self._rows)]
        if len(queries) < _SEVERAL:
            return [_cosines(vectors, query) for query in queries]
        return np.stack(queries) @ vectors.T

    def _rank(self, scores: NDArray[np.float32], count: int, chosen: NDArray[np.intp] | None) -> Ranking:
        numbers = self._rows.number[: len(self._rows)]
        order = best(scores, count, numbers if chosen is None else numbers[chosen])
        return (order if chosen is None else chosen[order]), np.clip(scores[order], -1, 1)


def _cosines(vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Not by `@`, which shares its work among threads and waits for the last one: on a machine that has other things to do
    that takes many times longer. Numpy 1 has no `vecdot`; `einsum` takes twice the time."""
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        return np.einsum("ij,j->i", vectors, query)
    return np.vecdot(vectors, query)
