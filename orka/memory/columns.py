"""`Columns`: what filters compare, by row: tags as whole numbers, times and importance, facets of the metadata. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orka.memory.query import Filters
from orka.memory.record import TAGS, MemoryRecord, encode_facet
from orka.memory.rows import Rows, grown


class Columns:
    """52 bytes per memory, 4 more per facet, and every different value once."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._codes: dict[str, NDArray[np.int32]] = {name: np.zeros(64, dtype=np.int32) for name in TAGS}
        self._values: dict[str, dict[str, int]] = {name: {} for name in TAGS}
        # Floating point, for whole numbers of any size: milliseconds are exact up to 2 ** 53.
        self._importance: NDArray[np.float64] = np.zeros(64)
        self._written: NDArray[np.float64] = np.zeros(64)
        self._expire: NDArray[np.float64] = np.zeros(64)
        self._facets: dict[str, array[int]] = {}

    @property
    def written(self) -> NDArray[np.float64]:
        """Milliseconds since the epoch, by row."""
        return self._written[: len(self._rows)]

    def put(self, places: NDArray[np.intp], numbers: range, records: Sequence[MemoryRecord]) -> None:
        size = len(self._rows)
        for name, values in self._values.items():
            codes = self._codes[name] = grown(self._codes[name], size)
            codes[places] = [values.setdefault(record.tag(name), len(values)) for record in records]
        self._importance = grown(self._importance, size)
        self._written = grown(self._written, size)
        self._expire = grown(self._expire, size)
        self._importance[places] = [record.importance for record in records]
        self._written[places] = [_bounded(record.timestamp_ms) for record in records]
        self._expire[places] = [_bounded(record.expire_ms) if record.expire_ms > 0 else np.inf for record in records]
        for number, record in zip(numbers, records, strict=True):
            for item in record.metadata.items():
                if (facet := encode_facet(*item)) is not None:
                    self._facets.setdefault(facet, array("I")).append(number)

    def move(self, source: int, to: int) -> None:
        for column in (*self._codes.values(), self._importance, self._written, self._expire):
            column[to] = column[source]

    def expired(self, at_ms: int) -> NDArray[np.intp]:
        """Rows of what has expired by then."""
        return np.flatnonzero(self._expire[: len(self._rows)] <= at_ms)

    def mask(self, filters: Filters, at_ms: int) -> NDArray[np.bool_]:
        """Which rows `Filters.match` would take."""
        size = len(self._rows)
        mask: NDArray[np.bool_] = self._expire[:size] > at_ms
        for name, wanted in filters.tags():
            mask &= self._among(name, wanted)
        if filters.least_importance is not None:
            mask &= self._importance[:size] >= filters.least_importance
        if filters.most_importance is not None:
            mask &= self._importance[:size] <= filters.most_importance
        if filters.since_ms is not None:
            mask &= self._written[:size] >= filters.since_ms
        if filters.until_ms is not None:
            mask &= self._written[:size] < filters.until_ms
        if filters.expires_before_ms is not None:
            mask &= self._expire[:size] < filters.expires_before_ms
        for facets in filters.facets():
            mask &= self._having(facets)
        return mask

    def _among(self, name: str, wanted: Sequence[str]) -> NDArray[np.bool_]:
        column = self._codes[name][: len(self._rows)]
        values = self._values[name]
        codes = [values[value] for value in dict.fromkeys(wanted) if value in values]
        if len(codes) > 4:
            return np.isin(column, codes)
        found: NDArray[np.bool_] = np.zeros(len(column), dtype=np.bool_)
        for code in codes:
            found |= column == code
        return found

    def _having(self, facets: Sequence[str]) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = np.zeros(len(self._rows), dtype=np.bool_)
        for facet in facets:
            if (numbers := self._facets.get(facet)) is not None:
                rows = self._rows.row_of[np.array(numbers, dtype=np.uint32)]
                found[rows[rows >= 0]] = True
        return found

    def renumber(self, new: NDArray[np.int32]) -> None:
        """After `Rows.renumber`; values that no memory has any more are forgotten."""
        size = len(self._rows)
        for name, values in self._values.items():
            used, codes = np.unique(self._codes[name][:size], return_inverse=True)
            by_code = list(values)
            self._values[name] = {by_code[old]: code for code, old in enumerate(used.tolist())}
            self._codes[name][:size] = codes
        self._facets = {facet: kept for facet, old in self._facets.items() if (kept := renumbered(old, new))}


def _bounded(number: int) -> int:
    """As near as a float can have it: any whole number may have been stored."""
    return max(-(1 << 62), min(number, 1 << 62))


def renumbered(numbers: array[int], new: NDArray[np.int32], shift: int = 0) -> array[int]:
    """A list of numbers without those that are gone; each is stored above `shift` other bits."""
    packed = np.array(numbers, dtype=np.uint32)
    found = new[packed >> shift]
    there = found >= 0
    kept = (found[there].astype(np.uint32) << shift) | (packed[there] & ((1 << shift) - 1))
    return array("I", kept.astype(np.uint32).tobytes())
