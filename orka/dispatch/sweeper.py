"""`Sweeper`: one worker of the fleet at a time looks after tasks that the dead left behind, and after those that wait."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

import anyio

from orka.dispatch.roster import Roster
from orka.errors import StoreError
from orka.journal.registry import Registry
from orka.logs import get_logger
from orka.redis.keys import GROUP, LEVELS, sweeper_key, tag_of, task_stream
from orka.redis.lua import Command
from orka.redis.recovery_scripts import forget_consumers, sweep
from orka.types import Path, RunId

PER_STREAM = 400
"""Tasks of one stream that one call looks at: keeps the script under a few milliseconds."""
_MOST_CALLS = 1250
"""For one partition in one sweep; the next sweep goes on where this one has stopped."""
_MOST_FORGOTTEN = 200
"""Consumers of vanished processes that are looked at in one sweep."""

_draw = random.SystemRandom()
"""Not the shared generator: programs that seed it get their own numbers."""
_log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """A task that has taken its worker down too often while it was alone there."""

    stream: str
    id: str
    run: RunId
    path: Path
    task: bytes
    deaths: int


Bury = Callable[[GivenUp], Awaitable[None]]


class SweeperStatistics(NamedTuple):
    """Counters since the sweeper was started."""

    sweeps: int
    queued: int
    """Tasks queued again."""
    given_up: int
    forgotten: int
    """Consumers of vanished processes that were taken out of their groups."""


class Sweeper:
    """Owned by a worker. `run` is its background task."""

    def __init__(
        self,
        registry: Registry,
        roster: Roster,
        *,
        process: str,
        partitions: int,
        lease: float,
        most_deaths: int,
        bury: Bury,
    ) -> None:
        self._registry = registry
        self._roster = roster
        self._process = process
        self._partitions = partitions
        self._lease = lease
        self._most_deaths = most_deaths
        self._bury = bury
        self._places: dict[str, str] = {}
        """Where the next call goes on in each stream."""
        self._sweeps = self._queued = self._given_up = self._forgotten = 0

    def statistics(self) -> SweeperStatistics:
        return SweeperStatistics(
            sweeps=self._sweeps, queued=self._queued, given_up=self._given_up, forgotten=self._forgotten
        )

    async def run(self) -> None:
        """Sweeps four times per lease while this process is the one that does; for ever."""
        while True:
            await anyio.sleep(self._lease / 4 * _draw.uniform(0.8, 1.2))
            try:
                if await self._leads():
                    await self.sweep()
            except StoreError as exc:
                _log.warning("sweep.failed", error=str(exc))

    async def _leads(self) -> bool:
        """This process is the sweeper, or becomes it because there is none."""
        key = sweeper_key()
        lasts = int(self._lease * 1000)
        taken = await self._registry.one(key, ("SET", key, self._process, "NX", "PX", lasts))
        if taken is not None:
            return True
        if await self._registry.one(key, ("GET", key)) != self._process.encode():
            return False
        await self._registry.one(key, ("PEXPIRE", key, lasts))
        return True

    async def sweep(self) -> int:
        """One look at every stream; gives the number of tasks that were queued again."""
        self._sweeps += 1
        queues = await self._roster.queues()
        if not queues:
            return 0
        workers = await self._roster.workers()
        dead = tuple(info.worker for info in workers if info.dead)
        moved = 0
        for number in range(self._partitions):
            tag = tag_of(number)
            streams = _streams(tag, queues)
            if await self._just_started(streams[0]):
                continue
            for _ in range(_MOST_CALLS):
                starts = [self._places.get(stream, "-") for stream in streams]
                queued, places, given_up = await self._registry.one(
                    streams[0], self._command(tag, streams, starts, dead)
                )
                moved += queued
                for row in given_up:
                    await self._give_up(row)
                self._places = {
                    **self._places,
                    **{stream: place.decode() for stream, place in zip(streams, places, strict=True)},
                }
                if all(self._places[stream] == "-" for stream in streams):
                    break
        await self._forget_consumers(
            _streams(tag_of(self._sweeps % self._partitions), queues), {info.worker for info in workers}
        )
        self._queued += moved
        if moved:
            _log.info("sweep.queued", tasks=moved)
        return moved

    async def _forget_consumers(self, streams: Sequence[str], known: Set[str]) -> None:
        """A process that was killed leaves its name in the groups. Looks at one partition's, and takes out those that are on
        the roster no more, and have nothing pending. The consumers are read before the roster is asked, because a worker
        is there before it is a consumer."""
        replies = await self._registry.ask(
            [(stream, ("XINFO", "CONSUMERS", stream, GROUP)) for stream in streams], tolerant=True
        )
        found = {stream: _idle_consumers(reply or ()) for stream, reply in zip(streams, replies, strict=True)}
        strangers = dict.fromkeys(name for names in found.values() for name in names if name not in known)
        gone = set(await self._roster.without(list(strangers)[:_MOST_FORGOTTEN]))
        commands = [
            (stream, forget_consumers(stream, theirs))
            for stream, names in found.items()
            if (theirs := [name for name in names if name in gone])
        ]
        if commands:
            count = sum(await self._registry.ask(commands))
            self._forgotten += count
            _log.info("sweep.forgotten", consumers=count, processes=len(gone))

    async def _just_started(self, key: str) -> bool:
        """The server has not been up for long enough that living workers have renewed what they hold."""
        facts: bytes = await self._registry.one(key, ("INFO", "server"))
        found = re.search(rb"uptime_in_seconds:(\d+)", facts)
        return found is not None and int(found[1]) <= self._lease

    def _command(self, tag: str, streams: Sequence[str], starts: Sequence[str], dead: Sequence[str]) -> Command:
        return sweep(
            tag,
            streams,
            lease_ms=int(self._lease * 1000),
            count=PER_STREAM,
            most_deaths=self._most_deaths,
            process=self._process,
            starts=starts,
            dead=dead,
        )

    async def _give_up(self, row: Sequence[Any]) -> None:
        stream, entry_id, run, path, task, deaths = row
        self._given_up += 1
        given_up = GivenUp(
            stream=stream.decode(),
            id=entry_id.decode(),
            run=RunId(run.decode()),
            path=Path(path.decode()),
            task=task,
            deaths=int(deaths),
        )
        _log.error("task.given_up", run_id=given_up.run, path=given_up.path, deaths=given_up.deaths)
        await self._bury(given_up)


def _streams(tag: str, queues: Sequence[str]) -> list[str]:
    return [task_stream(tag, queue, level) for queue in queues for level in LEVELS]


def _idle_consumers(reply: Sequence[Sequence[Any]]) -> list[str]:
    """Names of those without a pending task, from XINFO CONSUMERS."""
    rows = (dict(zip(row[::2], row[1::2], strict=True)) for row in reply)
    return [row[b"name"].decode() for row in rows if row[b"pending"] == 0]
