"""`Mirror`: what a process keeps of all memories so that searching them needs no server. Pure, and for one thread at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orka.memory.bm25 import Words
from orka.memory.columns import Columns
from orka.memory.matrix import Matrix, Ranking
from orka.memory.query import Look
from orka.memory.record import MemoryRecord
from orka.memory.rows import MOST, Rows, best

_SLACK: Final = 10_000
"""Memories that are gone and are put up with at least."""


class Found(NamedTuple):
    """A memory that a look may want."""

    key: str
    state: int
    """Another one when it has changed: see `Rows.holds`."""
    score: float
    similarity: float | None = None
    """To the vector beside the words of a look."""


class Mirror:
    """Contents stay on the server. A memory of d dimensions and w different words takes 4d + 4w and about 350 bytes (its key,
    its row, its filters), 8d after the matrix has grown to twice its size; gone ones are swept out when they are as many
    as those that are there."""

    def __init__(self, dimension: int) -> None:
        self._rows = Rows()
        self._matrix = Matrix(self._rows, dimension)
        self._columns = Columns(self._rows)
        self._words = Words(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, records: Sequence[MemoryRecord], vectors: NDArray[np.float32]) -> None:
        """Adds or replaces; `vectors` has a row for each, zeros for none. Of one key the last counts."""
        last = {record.key: i for i, record in enumerate(records)}
        if len(last) < len(records):
            chosen = sorted(last.values())
            records, vectors = [records[i] for i in chosen], vectors[chosen]
        places, numbers = self._rows.place([record.key for record in records])
        self._matrix.put(places, vectors)
        self._columns.put(places, numbers, records)
        self._words.put(places, numbers, [record.content for record in records])
        self._sweep()

    def remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            moved = self._rows.remove(key)
            if moved is not None and moved[0] != moved[1]:
                for part in (self._matrix, self._columns, self._words):
                    part.move(moved[1], moved[0])
        self._sweep()

    def forget(self, found: Iterable[Found]) -> None:
        """Removes what has not changed since it was found."""
        self.remove([one.key for one in found if self._rows.holds(one.key, one.state)])

    def takes_easily(self, count: int, at_ms: int) -> bool:
        """Whether that many changes make nothing grow, be swept or be dropped: all of it is copied or walked through then."""
        rows = self._rows
        room = len(rows) + count <= len(rows.number) and rows.given + count <= len(rows.row_of)
        return room and rows.spent + count <= max(_SLACK, len(rows)) and not self._many_expired(at_ms)

    def drop_expired(self, at_ms: int) -> None:
        """Removes what has expired, once it is worth the while."""
        if rows := self._many_expired(at_ms):
            self.remove([self._rows.keys[row] for row in rows])

    def _many_expired(self, at_ms: int) -> list[int]:
        rows: list[int] = self._columns.expired(at_ms).tolist()
        return rows if len(rows) > max(1000, len(self) // 8) else []

    def search(self, looks: Sequence[Look], spare: int) -> list[list[Found]]:
        """For each look what it wants, best first, and up to `spare` more."""
        masks = [self._columns.mask(look.filters, look.at_ms) for look in looks]
        rankings: list[Ranking | None] = [None] * len(looks)
        near = [i for i, look in enumerate(looks) if look.vector is not None]
        queries = [look.vector for look in looks if look.vector is not None]
        counts = [looks[i].count + spare for i in near]
        for i, ranking in zip(near, self._matrix.nearest(queries, [masks[i] for i in near], counts), strict=True):
            rankings[i] = ranking
        for i, look in enumerate(looks):
            if look.vector is None:
                rankings[i] = self._rank(look, masks[i], spare)
        return [
            self._name(ranking, look.beside)
            for ranking, look in zip(rankings, looks, strict=True)
            if ranking is not None
        ]

    def _rank(self, look: Look, mask: NDArray[np.bool_], spare: int) -> Ranking:
        if look.words:
            return self._words.rank(look.words, mask, look.count + spare)
        written = np.where(mask, self._columns.written, -np.inf)
        order = best(written, look.offset + look.count + spare, self._rows.number[: len(self)])[look.offset :]
        return order, np.zeros(len(order), dtype=np.float32)

    def _name(self, ranking: Ranking, beside: NDArray[np.float32] | None) -> list[Found]:
        rows, scores = ranking
        keys = self._rows.keys
        numbers: list[int] = self._rows.number[rows].tolist()
        cosines = [None] * len(rows) if beside is None else self._matrix.cosines(rows, beside)
        return [
            Found(keys[row], self._rows.base + number, score, cosine)
            for row, number, score, cosine in zip(rows.tolist(), numbers, scores.tolist(), cosines, strict=True)
        ]

    def _sweep(self) -> None:
        if self._rows.spent > max(_SLACK, len(self)) or self._rows.given > MOST - _SLACK:
            new = self._rows.renumber()
            self._columns.renumber(new)
            self._words.renumber(new)
