"""`Bell`: ends a read that waits for tasks, without a task being lost to it.

It is a stream of its own with the consumer group of the task streams, and the last one that the blocking read waits for.
A message in it ends the read whether that waits already or is still on its way to the server, which ending a client's wait by
its id (CLIENT UNBLOCK) does not; closing the connection could take a task with it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import anyio
from redis.exceptions import ConnectionError as RedisConnectionError

from orka.errors import StoreError
from orka.journal.registry import Registry
from orka.redis.keys import GROUP, bell_key
from orka.redis.lua import Command


class Read:
    """A read that waits, from before it is sent until its reply is there."""

    def __init__(self, choice: int) -> None:
        self.choice = choice
        """Of streams, that it began with."""
        self.scope = anyio.CancelScope()
        self.ended = anyio.Event()


class Bell:
    """Of one lane of a consumer."""

    def __init__(self, tag: str, process: str) -> None:
        self.key = bell_key(tag, process)
        self.read: Read | None = None
        """The one that waits now."""
        self.spent: tuple[Command, ...] = ()
        """To be sent before the next read: takes away the messages that ended the one before."""

    @contextmanager
    def waiting(self, choice: int) -> Generator[None]:
        """Around one read. Raises redis-py's `ConnectionError` when it was cut off."""
        self.read = read = Read(choice)
        try:
            with read.scope:
                yield
        finally:
            self.read = None
            read.ended.set()
        if read.scope.cancelled_caught:
            raise RedisConnectionError(
                "the wait for tasks was ended, and the server takes no message that would end it"
            )

    def take_rings(self, found: Sequence[Any]) -> list[Any]:
        """What a read gave without the bell's own messages; those are taken away with the next read."""
        self.spent = ()
        for stream, entries in found:
            if stream == self.key.encode():
                ids = [entry_id for entry_id, _ in entries]
                self.spent = (("XACK", self.key, GROUP, *ids), ("XDEL", self.key, *ids))
        return [row for row in found if row[0] != self.key.encode()]


async def ring(registry: Registry, bells: Iterable[Bell]) -> None:
    """Ends the reads that wait at these bells now. They may not have ended when it returns."""
    keys = [bell.key for bell in bells if bell.read is not None]
    if keys:
        await registry.ask([(key, ("XADD", key, "*", "ring", "1")) for key in keys])


async def end_reads(registry: Registry, bells: Iterable[Bell]) -> None:
    """Returns when the reads that wait at these bells now have ended. Where the server takes no message (it is away, its
    memory or its disk is full) they are cut off: nobody can queue a task there either."""
    bells = list(bells)
    reads = [read for bell in bells if (read := bell.read) is not None]
    try:
        await ring(registry, bells)
    except StoreError:
        for read in reads:
            read.scope.cancel()
    for read in reads:
        await read.ended.wait()
