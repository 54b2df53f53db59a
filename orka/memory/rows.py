"""`Rows`: which memory is in which row of the arrays that a process keeps, and arrays that grow. Pure.

Rows are without holes: the last one moves into the place of one that goes. What lists memories by a word or a facet cannot be
rewritten at each move, so it names them by a number that is given once and never again; a changed memory gets a new one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

MOST: Final = 1 << 26
"""Numbers that can be given before they are given anew (`Mirror` does, when half of them are spent)."""

_lives = itertools.count(0, 1 << 40)
T = TypeVar("T", bound=np.generic)


def grown(array: NDArray[T], size: int) -> NDArray[T]:
    """With room for `size` rows: the same, or a copy of at least twice the length."""
    if size <= len(array):
        return array
    longer: NDArray[T] = np.zeros((max(size, 2 * len(array)), *array.shape[1:]), dtype=array.dtype)
    longer[: len(array)] = array
    return longer


class Rows:
    """Owned by one `Mirror`."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        """By row."""
        self._row: dict[str, int] = {}
        self.number: NDArray[np.int32] = np.zeros(64, dtype=np.int32)
        """By row."""
        self.row_of: NDArray[np.int32] = np.zeros(64, dtype=np.int32)
        """By number; -1 for what is gone."""
        self.given = 0
        """Numbers given so far: 0 to `given` - 1."""
        self.base = next(_lives)
        """A number and this are never given again, not even after `renumber` or by another `Rows`."""

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def spent(self) -> int:
        """Numbers of what is gone."""
        return self.given - len(self.keys)

    def holds(self, key: str, state: int) -> bool:
        """Whether the memory is there, unchanged since its number and `base` were `state`."""
        row = self._row.get(key)
        return row is not None and self.base + int(self.number[row]) == state

    def place(self, keys: Sequence[str]) -> tuple[NDArray[np.intp], range]:
        """(rows, numbers) for memories that are new or changed, each named once."""
        before = len(self.keys)
        rows: list[int] = []
        for key in keys:
            row = self._row.get(key)
            if row is None:
                row = self._row[key] = len(self.keys)
                self.keys.append(key)
            rows.append(row)
        places = np.array(rows, dtype=np.intp)
        numbers = range(self.given, self.given + len(rows))
        self.given += len(rows)
        self.number = grown(self.number, len(self.keys))
        self.row_of = grown(self.row_of, self.given)
        self.row_of[self.number[places[places < before]]] = -1
        self.number[places] = numbers
        self.row_of[numbers.start : numbers.stop] = places
        return places, numbers

    def remove(self, key: str) -> tuple[int, int] | None:
        """(row that became free, row that moved there: the last one); None for what is not there."""
        hole = self._row.pop(key, None)
        if hole is None:
            return None
        last = len(self.keys) - 1
        moved = self.keys.pop()
        self.row_of[self.number[hole]] = -1
        if hole != last:
            self.keys[hole] = moved
            self._row[moved] = hole
            self.number[hole] = self.number[last]
            self.row_of[self.number[hole]] = hole
        return hole, last

    def renumber(self) -> NDArray[np.int32]:
        """Numbers without gaps, in the same order. Gives the new one of each old one, -1 for what is gone."""
        there = self.row_of[: self.given] >= 0
        new = np.where(there, np.cumsum(there) - 1, -1).astype(np.int32)
        kept = self.row_of[: self.given][there]
        self.base += self.given
        self.given = len(kept)
        self.row_of = grown(kept.copy(), 64)
        self.number[kept] = np.arange(len(kept), dtype=np.int32)
        return new


def best(scores: NDArray[Any], count: int, later: NDArray[np.int32]) -> NDArray[np.intp]:
    """Indices of the `count` highest scores above minus infinity, highest first; of equal ones the greater of `later`.

    Scores are taken in columns whose maxima are cheap: the `count`th highest of these is a bound that few scores reach.
    """
    floor = -np.inf
    columns = len(scores) // 64
    if columns > count:
        tops = scores[: columns * 64].reshape(64, columns).max(axis=0)
        floor = np.partition(tops, columns - count)[columns - count]
    found = np.flatnonzero(scores >= floor if floor > -np.inf else scores > -np.inf)
    return found[np.lexsort((-later[found], -scores[found]))[:count]]
