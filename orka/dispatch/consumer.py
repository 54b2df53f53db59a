"""`Consumer`: takes tasks from the streams of some queues, never more than it has slots for, and hands them to a handler.

What is there is fetched by one script that looks into inner streams first; when nothing is, a blocking read waits for the
first task. On a cluster every partition has such a reader of its own, because one call cannot name several slots.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import anyio
import anyio.abc
from redis.exceptions import RedisError, ResponseError

from orka.dispatch.bell import Bell, end_reads, ring
from orka.dispatch.delivery import Delivery, parse_delivery
from orka.dispatch.inbox import RECONNECT, TURNS
from orka.dispatch.slots import Slot, Slots
from orka.errors import StoreError
from orka.journal.registry import Registry
from orka.journal.writer import give_way
from orka.logs import get_logger
from orka.redis.client import Connection, NodeRouter
from orka.redis.faults import reply_text
from orka.redis.keys import BRANCHES, GROUP, INNER, LEVELS, RUNS, tag_of, task_stream
from orka.redis.lua import Command
from orka.redis.mark import HELD_BACK, parse_mark
from orka.redis.recovery_scripts import hand_back
from orka.redis.task_scripts import FETCH, fetch_tasks, make_groups
from orka.redis.wire import exchange

MOST_PARKED = 10
"""Times its slots that a worker has tasks which wait for branches; then it takes inner ones only."""

_LEAST_FETCH = 16
"""Tasks fetched at once if there are slots for them, however few slots there are in all."""

_LEAST_READ = 2
"""Tasks of one stream that a waiting read asks for: when fewer come, no more were there. Others may want some, too."""

_log = get_logger()


Handler = Callable[[Delivery, Slot], Awaitable[None]]
"""Executes a task and commits it, or hands it back. Owns the slot."""


class ConsumerStatistics(NamedTuple):
    """Counters since the consumer was opened, and what is under way."""

    taken: int
    done: int
    handed_back: int
    under_way: int
    parked: int
    reconnects: int


class Consumer:
    """Owned by a worker. `run` is its background task."""

    def __init__(
        self,
        router: NodeRouter,
        registry: Registry,
        *,
        process: str,
        queues: Sequence[str],
        partitions: int,
        lease: float,
        slots: Slots,
        handler: Handler,
    ) -> None:
        self._lease = lease
        self._router = router
        self._registry = registry
        self._process = process
        self._queues = tuple(queues)
        self._tags = tuple(tag_of(number) for number in range(partitions))
        self.slots = slots
        self._handler = handler
        self._stopping = False
        self._lanes: anyio.abc.TaskGroup | None = None
        """Of the tasks that read, while they do."""
        self._bells = {lane: Bell(lane[0], process) for lane in router.lanes(self._tags)}
        self._choice = 0
        """Changes when a queue is wanted again."""
        self._passed: Counter[str] = Counter()
        """Tasks that wait for room in a queue: nothing more is taken of it until they have it."""
        self._here: set[tuple[str, str]] = set()
        """Tasks under way, by stream and id."""
        self._taken = self._done = self._handed_back = self._under_way = self._reconnects = 0

    def statistics(self) -> ConsumerStatistics:
        return ConsumerStatistics(
            taken=self._taken,
            done=self._done,
            handed_back=self._handed_back,
            under_way=self._under_way,
            parked=self.slots.parked,
            reconnects=self._reconnects,
        )

    @property
    def streams(self) -> tuple[str, ...]:
        """Every stream it reads."""
        return self._streams(self._tags, LEVELS)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Takes tasks until `stop`, and returns when those it took are done. Cancelling cancels them."""
        # asyncio's own group: a task in anyio's costs several microseconds more, a tenth of a trivial branch.
        async with asyncio.TaskGroup() as tasks:
            try:
                async with anyio.create_task_group() as self._lanes:
                    for lane, bell in self._bells.items():
                        self._lanes.start_soon(self._read_lane, lane, bell, tasks)
                    task_status.started()
            finally:
                self._lanes = None

    async def stop(self) -> None:
        """Takes nothing more, and returns when no read waits."""
        self._stopping = True
        self.slots.notify()
        await end_reads(self._registry, self._bells.values())

    @contextmanager
    def passing_over(self, queue: str) -> Generator[None]:
        """Takes no further tasks of `queue` inside, but for those that a read waits for already."""
        self._passed[queue] += 1
        try:
            yield
        finally:
            self._passed[queue] -= 1
            if not self._passed[queue]:
                self._choice += 1
                self.slots.notify()
                if self._lanes is not None:
                    self._lanes.start_soon(self._choose_again)

    async def _choose_again(self) -> None:
        """Ends reads that wait for another choice of queues than the present one."""
        old = [bell for bell in self._bells.values() if bell.read is not None and bell.read.choice != self._choice]
        await end_reads(self._registry, old)

    def _streams(self, tags: Sequence[str], levels: Sequence[int]) -> tuple[str, ...]:
        return tuple(task_stream(tag, queue, level) for level in levels for queue in self._queues for tag in tags)

    def _wanted(self, tags: Sequence[str]) -> tuple[str, ...]:
        """Those that it would take a task of now."""
        queues = [queue for queue in self._queues if not self._passed[queue]]
        return tuple(task_stream(tag, queue, level) for level in self._levels() for queue in queues for tag in tags)

    def _levels(self) -> tuple[int, ...]:
        """With too many parents waiting, only what they may wait for."""
        if self.slots.parked < MOST_PARKED * self.slots.total:
            return LEVELS
        return (INNER,) if self.slots.parked >= 2 * MOST_PARKED * self.slots.total else (INNER, BRANCHES)

    async def _read_lane(self, tags: Sequence[str], bell: Bell, tasks: asyncio.TaskGroup) -> None:
        failures, known = 0, ""
        while not self._stopping:
            try:
                async with self._router.dedicated(task_stream(tags[0], self._queues[0], RUNS)) as connection:
                    await _greet(connection, (*self._streams(tags, LEVELS), bell.key))
                    [facts] = await exchange(connection, [("INFO", "server")])
                    failures, mark = 0, parse_mark(facts)
                    if known and mark.run_id != known:
                        await self._hold_back(HELD_BACK - mark.uptime)
                    known = mark.run_id
                    await self._take_from(connection, bell, tags, tasks)
            except (RedisError, OSError, StoreError) as exc:
                pause = RECONNECT[min(failures, len(RECONNECT) - 1)]
                failures += 1
                self._reconnects += 1
                _log.warning("worker.disconnected", error=reply_text(exc), retry_in=pause)
                await anyio.sleep(pause)

    async def _hold_back(self, seconds: float) -> None:
        """The server may have forgotten what its tasks have done: who knows tells it first."""
        with anyio.move_on_after(max(0.0, seconds)):
            while not self._stopping:
                await self.slots.wait()

    async def _take_from(
        self, connection: Connection, bell: Bell, tags: Sequence[str], tasks: asyncio.TaskGroup
    ) -> None:
        turn = 0
        crowded = True  # there may be more than a waiting read would give at once
        while not self._stopping:
            turn = (turn + 1) % len(tags)  # no partition is always the first
            streams = self._wanted((*tags[turn:], *tags[:turn]))
            if not self.slots.free or not streams:
                await self.slots.wait()
                continue
            # A part at a time: what was fetched before is executed while the next is on its way.
            room = min(self.slots.free, max(_LEAST_FETCH, self.slots.total // 4))
            waited = False
            if crowded:
                found = await self._fetch(connection, streams, room)
                crowded = sum(len(entries) for _, entries in found) == room
            else:
                each = min(room, max(_LEAST_READ, room // len(streams)))
                found = await self._wait_for(connection, bell, streams, each)
                crowded = any(len(entries) == each for _, entries in found)
                waited = True
            await self._accept(found, tasks)
            if waited:  # there was nothing to do before: the first tasks have all the time
                await give_way(TURNS)

    async def _fetch(self, connection: Connection, streams: Sequence[str], room: int) -> Sequence[Any]:
        """What is there, `room` tasks at most; other lanes must not count on the same slots meanwhile."""
        self.slots.reserve(room)
        try:
            return await _reply(connection, fetch_tasks(streams, process=self._process, count=room))
        finally:
            self.slots.give_back(room)

    async def _wait_for(self, connection: Connection, bell: Bell, streams: Sequence[str], each: int) -> Sequence[Any]:
        """The first tasks that come, at most `each` of every stream."""
        if self._stopping:  # since the fetch: nobody would end the read
            return []
        found: Sequence[Any] = []
        with bell.waiting(self._choice):
            read = _blocking_read(self._process, (*streams, bell.key), each)
            found = await _reply(connection, *bell.spent, read) or []
        return bell.take_rings(found)

    async def _accept(self, found: Sequence[Any], tasks: asyncio.TaskGroup) -> None:
        for raw_stream, entries in found:
            stream = raw_stream.decode()
            for entry_id, fields in entries:
                delivery = parse_delivery(stream, entry_id, fields)
                if (stream, delivery.id) in self._here:  # the server had forgotten that it gave it to us
                    continue
                self._taken += 1
                if self.slots.free and not self._stopping:
                    self._under_way += 1
                    tasks.create_task(self._execute(delivery, self.slots.take(alone=delivery.alone)))
                else:  # a waiting read was given one task of several streams at once, or one before is to run alone
                    await self.hand_back(delivery)
        if not self.slots.free:  # what other lanes wait for would come too early
            await ring(self._registry, self._bells.values())

    async def _execute(self, delivery: Delivery, slot: Slot) -> None:
        self._here.add((delivery.stream, delivery.id))
        try:
            if delivery.alone and not await self._until_alone(delivery):
                with suppress(StoreError):  # else its lease runs out
                    await self.hand_back(delivery, why="its worker was stopped")
                return
            await self._handler(delivery, slot)
        finally:
            slot.free()
            self._here.discard((delivery.stream, delivery.id))
            self._done += 1
            self._under_way -= 1
            self.slots.notify()

    async def _until_alone(self, delivery: Delivery) -> bool:
        """Returns when nothing runs beside a task any more; False when nothing is to be begun. A task that only waits must
        not look like one whose worker has died."""
        while self.slots.used > 1:
            if self._stopping:
                return False
            with anyio.move_on_after(self._lease / 3) as limit:
                await self.slots.wait()
            if limit.cancelled_caught:
                sign = ("XCLAIM", delivery.stream, GROUP, self._process, 0, delivery.id, "JUSTID")
                with suppress(StoreError):
                    await self._registry.one(delivery.stream, sign)
        return not self._stopping

    async def hand_back(self, delivery: Delivery, *, delay: float = 0.0, why: str = "") -> None:
        """Puts a task back for others, after `delay` seconds. No death is counted. Harmless when it is not ours any more."""
        self._handed_back += 1
        keys = self._registry.keys(delivery.run)
        await self._registry.one(
            keys.run,
            hand_back(
                keys,
                process=self._process,
                path=delivery.path,
                task_id=delivery.id,
                stream=delivery.stream,
                delay_ms=int(delay * 1000),
                why=why,
            ),
        )

    async def leave(self) -> None:
        """Takes this process out of the consumer groups. Only after `run` has ended: what it still held would be lost."""
        commands: list[tuple[str, Command]] = [
            (stream, ("XGROUP", "DELCONSUMER", stream, GROUP, self._process)) for stream in self.streams
        ]
        commands += [(bell.key, ("DEL", bell.key)) for bell in self._bells.values()]
        await self._registry.ask(commands)


async def _greet(connection: Connection, streams: Sequence[str]) -> None:
    """The streams and their groups exist, and the script that fetches."""
    for reply in await exchange(connection, [("SCRIPT", "LOAD", FETCH.text), *make_groups(streams)]):
        if isinstance(reply, ResponseError) and not str(reply).startswith("BUSYGROUP"):
            raise reply


async def _reply(connection: Connection, *commands: Command) -> Any:
    """Of the last one; the others are sent with it."""
    reply = (await exchange(connection, commands))[-1]
    if isinstance(reply, ResponseError):
        if str(reply).startswith("UNBLOCKED"):
            return []
        raise reply
    return reply


def _blocking_read(process: str, streams: Sequence[str], count: int) -> Command:
    ids = (">",) * len(streams)
    return ("XREADGROUP", "GROUP", GROUP, process, "COUNT", count, "BLOCK", 0, "STREAMS", *streams, *ids)
