"""`Searches`: looks of many tasks done together over a `Mirror`, and the memories they find read from the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from orka.errors import StoreError
from orka.memory.following import Follower
from orka.memory.hashes import Hashes
from orka.memory.query import Candidate, Look
from orka.memory.record import MemoryRecord

if TYPE_CHECKING:
    from orka.memory.mirror import Found

TOGETHER: Final = 64
"""Looks that are done at once."""
_SPARE: Final = 16
"""Memories found beside those that are wanted, for when some have gone meanwhile."""
_LITTLE: Final = 2000
"""Rows looked at (memories times looks) that take well under a millisecond."""
_CLOSED: Final = "the memories are closed: keep them open until every search is answered"


@dataclass(slots=True, eq=False)
class _Asked:
    """A search on its way."""

    looks: Sequence[Look]
    found: Sequence[Sequence[Candidate]] | None = None
    error: Exception | None = None

    @property
    def answered(self) -> bool:
        return self.found is not None or self.error is not None


class Searches:
    """Owned by a `BasicStore`. Whoever comes first does what waits by then for all: no task of its own is needed, and one that is
    cancelled leaves the others' looks to the next."""

    def __init__(self, follower: Follower, hashes: Hashes) -> None:
        self._follower = follower
        self._hashes = hashes
        self._waiting: dict[_Asked, None] = {}
        self._turn = anyio.Lock()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Searches under way: each has its own task that waits."""
        return len(self._waiting)

    async def ask(self, looks: Sequence[Look]) -> Sequence[Sequence[Candidate]]:
        """Candidates of each look."""
        asked = _Asked(looks)
        self._waiting[asked] = None
        try:
            async with self._turn:
                if not asked.answered:
                    await self._answer(self._batch(asked))
        finally:
            del self._waiting[asked]
        if asked.error is not None:
            raise asked.error
        return asked.found or ()

    def close(self) -> None:
        """Those who wait are told."""
        self._closed = True

    def _batch(self, first: _Asked) -> list[_Asked]:
        batch = [first]
        count = len(first.looks)
        for asked in self._waiting:
            if count >= TOGETHER:
                break
            if not asked.answered and asked is not first:
                batch.append(asked)
                count += len(asked.looks)
        return batch

    async def _answer(self, batch: Sequence[_Asked]) -> None:
        try:
            if self._closed:
                raise StoreError(_CLOSED)
            found = await self._retrieve([look for asked in batch for look in asked.looks])
        except Exception as exc:  # bulkhead: the error goes to those who asked
            for asked in batch:
                asked.error = exc
        else:
            for asked in batch:
                asked.found, found = found[: len(asked.looks)], found[len(asked.looks) :]

    async def _retrieve(self, looks: Sequence[Look]) -> list[list[Candidate]]:
        """What a look wants may have gone or changed since the mirror heard of it: then the next are taken, from a longer
        list each time, until there are enough or no more."""
        results: list[list[Candidate]] = [[] for _ in looks]
        todo = list(range(len(looks)))
        spare = _SPARE
        while todo:
            part = [looks[i] for i in todo]
            rankings = await self._rank(part, spare)
            taken = await self._take(part, rankings)
            short: list[int] = []
            for i, candidates, ranking in zip(todo, taken, rankings, strict=True):
                results[i] = candidates
                wanted = looks[i].count
                if len(candidates) < wanted and len(ranking) == wanted + spare:
                    short.append(i)
            todo = short
            spare *= 4
        return results

    async def _rank(self, looks: Sequence[Look], spare: int) -> list[list[Found]]:
        little = self._follower.statistics().memories * len(looks) <= _LITTLE
        return await self._follower.use(lambda mirror: mirror.search(looks, spare), little=little)

    async def _take(self, looks: Sequence[Look], rankings: Sequence[Sequence[Found]]) -> list[list[Candidate]]:
        """The first of each ranking that are there and still what is looked for. One round trip, unless some are not."""
        taken: list[list[Candidate]] = [[] for _ in looks]
        places = [0] * len(looks)
        known: dict[str, MemoryRecord | None] = {}
        gone: list[Found] = []
        while True:
            parts: list[tuple[int, Sequence[Found]]] = []
            for i, look in enumerate(looks):
                if part := rankings[i][places[i] : places[i] + look.count - len(taken[i])]:
                    parts.append((i, part))
                    places[i] += len(part)
            if not parts:
                break
            unread = list({found.key: None for _, part in parts for found in part if found.key not in known})
            known |= zip(unread, await self._read(unread), strict=True)
            for i, part in parts:
                for found in part:
                    record = known[found.key]
                    if record is None:
                        gone.append(found)
                    elif looks[i].filters.match(record, looks[i].at_ms):
                        taken[i].append(_candidate(looks[i], record, found))
        if gone:
            await self._follower.use(lambda mirror: mirror.forget(gone), little=len(gone) <= _SPARE)
        return taken

    async def _read(self, keys: Sequence[str]) -> list[MemoryRecord | None]:
        """Again when the server was away: reading twice is harmless."""

        async def read() -> list[MemoryRecord | None] | None:
            try:
                return await self._hashes.read(keys)
            except StoreError:
                if self._closed:
                    return None
                raise

        found = await self._follower.again(read)
        if found is None:
            raise StoreError(_CLOSED)
        return found


def _candidate(look: Look, record: MemoryRecord, found: Found) -> Candidate:
    if look.vector is not None:
        return Candidate(record=record, similarity=found.score)
    return Candidate(record=record, similarity=found.similarity, relevance=found.score if look.words else None)
