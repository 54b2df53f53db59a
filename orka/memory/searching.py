"""`Searches`: looks of many tasks done together over a `Mirror`, and the memories they find read from the server."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio

from orka.errors import StoreError
from orka.memory.following import RECONNECT, Follower
from orka.memory.hashes import Hashes
from orka.memory.mirror import Found
from orka.memory.query import Candidate, Look
from orka.memory.record import MemoryRecord

TOGETHER: Final = 64
"""Looks that are done at once."""
WAITING: Final = 256
"""Searches that are taken; more wait for a place."""
_SPARE: Final = 16
"""Memories found beside those that are wanted, for when some have gone meanwhile."""
_LITTLE: Final = 2000
"""Rows looked at (memories times looks) that take well under a millisecond."""
_ATTEMPTS: Final = RECONNECT[:4]


@dataclass(slots=True, eq=False)
class _Asked:
    """A search on its way."""

    looks: Sequence[Look]
    done: anyio.Event = field(default_factory=anyio.Event)
    found: Sequence[Sequence[Candidate]] = ()
    error: Exception | None = None
    left: bool = False
    """Whoever asked has gone."""

    def end(self, error: Exception | None) -> None:
        self.error = error
        self.done.set()


class Searches:
    """Owned by a `BasicStore`, which lets `run` run, twice: one computes while the other reads what it has found."""

    def __init__(self, follower: Follower, hashes: Hashes) -> None:
        self._follower = follower
        self._hashes = hashes
        self._send, self._receive = anyio.create_memory_object_stream[_Asked](WAITING)

    async def ask(self, looks: Sequence[Look]) -> Sequence[Sequence[Candidate]]:
        """Candidates of each look."""
        asked = _Asked(looks)
        try:
            await self._send.send(asked)
            await asked.done.wait()
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            raise _closed() from None
        finally:
            asked.left = True
        if asked.error is not None:
            raise asked.error
        return asked.found

    def close(self) -> None:
        """Those who wait are told."""
        self._send.close()
        with contextlib.suppress(anyio.WouldBlock, anyio.EndOfStream):
            while True:
                self._receive.receive_nowait().end(_closed())
        self._receive.close()

    async def run(self) -> None:
        """Takes searches, as many as there are at once, for ever."""
        while True:
            batch = [await self._receive.receive()]
            count = len(batch[0].looks)
            with contextlib.suppress(anyio.WouldBlock):
                while count < TOGETHER:
                    batch.append(self._receive.receive_nowait())
                    count += len(batch[-1].looks)
            await self._answer([asked for asked in batch if not asked.left])

    async def _answer(self, batch: Sequence[_Asked]) -> None:
        error: Exception | None = _closed()  # unless it comes to something else
        try:
            found = await self._retrieve([look for asked in batch for look in asked.looks])
            error = None
            for asked in batch:
                asked.found, found = found[: len(asked.looks)], found[len(asked.looks) :]
        except Exception as exc:  # bulkhead: the error goes to those who asked
            error = exc
        finally:
            for asked in batch:
                asked.end(error)

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
                        taken[i].append(_candidate(looks[i], record, found.score))
        if gone:
            await self._follower.use(lambda mirror: mirror.forget(gone), little=len(gone) <= _SPARE)
        return taken

    async def _read(self, keys: Sequence[str]) -> list[MemoryRecord | None]:
        """Again when the connection was lost: reading twice is harmless."""
        for pause in _ATTEMPTS:
            try:
                return await self._hashes.read(keys)
            except StoreError:
                await anyio.sleep(pause)
        return await self._hashes.read(keys)


def _candidate(look: Look, record: MemoryRecord, score: float) -> Candidate:
    if look.vector is not None:
        return Candidate(record=record, similarity=score)
    return Candidate(record=record, relevance=score) if look.words else Candidate(record=record)


def _closed() -> StoreError:
    return StoreError("the memories were closed while a search was on its way: keep them open until it is answered")
