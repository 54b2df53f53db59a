"""`Inbox`: what this process is told, one blocking reader for everything that it waits for.

Messages have a kind, a run and a path. `done`: a branch has ended; `stop`: a branch is not wanted any more; `cancel`: a run is
not; `idle`: a run that this process wants cancelled was given back by its owner; `limit`: a place is there. Whoever waits
leaves a callback; a message that nobody waits for is dropped and counted. Reading begins at the first use, behind nothing:
the name of the inbox is used once only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import anyio
import anyio.abc
from redis.exceptions import RedisError

from orka.errors import StoreError
from orka.journal.registry import Registry
from orka.journal.writer import give_way
from orka.logs import get_logger
from orka.redis.client import NodeRouter
from orka.redis.faults import reply_text
from orka.redis.keys import inbox_key, tag_of
from orka.redis.task_scripts import forget_read, read_inbox
from orka.redis.wire import exchange

RECONNECT = (0.02, 0.1, 0.3, 1.0)
"""Seconds before each further attempt to reach Redis; the last one again and again (see `orka.redis.mark.HELD_BACK`)."""

TURNS = 8
"""Of the loop, from a message until what follows from it is on its way."""

_FEW = 4
"""Messages at once up to which the process is not busy: what follows from each is waited for."""

Message: TypeAlias = Mapping[str, bytes]
Callback: TypeAlias = Callable[[Message], None]
Key: TypeAlias = tuple[str, str, str]
"""(kind, run id, path)."""

_log = get_logger()


class InboxStatistics(NamedTuple):
    """Counters since the inbox was opened."""

    read: int
    unwanted: int
    """Messages that nobody waited for: answers that came twice, or too late."""
    waiting: int
    reconnects: int


class Inbox:
    """Owned by the services of one process. `process` names it."""

    def __init__(self, router: NodeRouter, *, process: str, partitions: int, tasks: anyio.abc.TaskGroup) -> None:
        self.process = process
        self._router = router
        self._tags = tuple(tag_of(number) for number in range(partitions))
        self._tasks = tasks
        self._waiting: dict[Key, list[Callback]] = {}
        self._reading = self._named = False
        """Somebody reads; others may know the inbox."""
        self.on_return: Callable[[], None] | None = None
        """Called when Redis can be reached again."""
        self._read = self._unwanted = self._reconnects = 0

    def statistics(self) -> InboxStatistics:
        return InboxStatistics(
            read=self._read, unwanted=self._unwanted, waiting=len(self._waiting), reconnects=self._reconnects
        )

    def expect(self, kind: str, run: str, path: str, callback: Callback) -> None:
        """`callback` is called with every such message until `forget`; it must not block. Two may expect the same: a
        process that slept past its lease is given its own task again, before it knows that it has lost it."""
        self._waiting.setdefault((kind, run, path), []).append(callback)
        self._named = True
        self.watch()

    def watch(self) -> None:
        """From now on somebody reads, and so notices when Redis goes away and when it is back."""
        if not self._reading:
            self._reading = True
            for lane in self._router.lanes(self._tags):
                self._tasks.start_soon(self._read_lane, lane)

    def forget(self, kind: str, run: str, path: str, callback: Callback) -> None:
        callbacks = self._waiting.get((kind, run, path), [])
        if callback in callbacks:
            callbacks.remove(callback)
            if not callbacks:
                del self._waiting[kind, run, path]

    async def remove(self, registry: Registry) -> None:
        """Takes the inbox off the server; nothing more is expected. One that is left by a dead process expires."""
        if self._named:
            keys = [inbox_key(tag, self.process) for tag in self._tags]
            await registry.ask([(key, ("DEL", key)) for key in keys])

    async def _read_lane(self, tags: Sequence[str]) -> None:
        """Reads the inboxes that one call can read, for ever."""
        after = {inbox_key(tag, self.process): "0" for tag in tags}
        failures = 0
        while True:
            try:
                async with self._router.dedicated(next(iter(after))) as connection:
                    if failures and self.on_return is not None:
                        self.on_return()
                    seen: list[tuple[str, str]] = []
                    while True:
                        forget = [forget_read(tag, self.process, last) for tag, last in seen]
                        replies = await exchange(connection, [*forget, read_inbox(tuple(after), tuple(after.values()))])
                        failures = 0
                        before, seen = self._read, self._deliver(replies[-1], after)
                        if self._read - before <= _FEW:
                            await give_way(TURNS)
            except (RedisError, OSError, StoreError) as exc:
                pause = RECONNECT[min(failures, len(RECONNECT) - 1)]
                failures += 1
                self._reconnects += 1
                _log.warning("inbox.disconnected", error=reply_text(exc), retry_in=pause)
                await anyio.sleep(pause)

    def _deliver(self, reply: object, after: dict[str, str]) -> list[tuple[str, str]]:
        """Calls back, and gives (tag, last id) of what was read."""
        if isinstance(reply, RedisError):
            raise reply
        seen: list[tuple[str, str]] = []
        streams: list[tuple[bytes, list[tuple[bytes, list[bytes]]]]] = reply or []  # pyright: ignore[reportAssignmentType]
        for raw, messages in streams:
            key = raw.decode()
            after[key] = messages[-1][0].decode()
            seen.append((key.partition(":inbox:")[0], after[key]))
            for _, fields in messages:
                self._read += 1
                message = {fields[i].decode(): fields[i + 1] for i in range(0, len(fields), 2)}
                key = message["kind"].decode(), message["run"].decode(), message["path"].decode()
                callbacks = self._waiting.get(key)
                if callbacks is None:
                    self._unwanted += 1
                else:
                    for callback in tuple(callbacks):
                        callback(message)
        return seen
