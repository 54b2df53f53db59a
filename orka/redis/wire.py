"""`exchange`: one round trip over a connection; `Wire`: a connection over which the round trips of several tasks overlap.

Replies are raw; an error reply is a value in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias, cast

import anyio
from hiredis import pack_command  # pyright: ignore[reportUnknownVariableType]
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.exceptions import ConnectionError, RedisError, ResponseError

from orka.redis.lua import Command


class Connection(Protocol):
    """The part of redis-py's connection that is used here."""

    _writer: asyncio.StreamWriter | None
    _parser: Any

    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = False) -> None: ...
    async def send_packed_command(self, command: Any, check_health: bool = True) -> None: ...
    async def read_response(self) -> Any: ...


Prepare: TypeAlias = Callable[[Connection], Awaitable[None]]
"""Connects, and does what comes before the first commands. Harmless to repeat."""


_GONE: Final = "a task that shared the connection was cancelled or found it broken"


class Wire:
    """Commands go out as they come, and replies come in that order: each task reads its own when those before have read
    theirs. A round trip that ends otherwise leaves replies on the way: it closes the wire, and those under way fail with it.
    """

    def __init__(self, connection: Connection, prepare: Prepare) -> None:
        self._connection = connection
        self._prepare = prepare
        self._prepared = False
        self.closed = False
        self._sending = anyio.Lock(fast_acquire=True)
        self._last = asyncio.Event()
        """Set when what was sent last has its replies."""
        self._last.set()

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Commands in one write, replies in their order. `redis.exceptions.ConnectionError` and `OSError` when the
        connection is lost, and what `prepare` raises."""
        packed = _pack(commands)
        async with self._sending:
            self._check()
            try:
                if not self._prepared:
                    await self._prepare(self._connection)
                    self._prepared = True
                await self._connection.send_packed_command(packed, check_health=False)
            except BaseException as exc:
                await self._break(exc)
                raise
            before, own = self._last, asyncio.Event()
            self._last = own
        try:
            if not before.is_set():
                await before.wait()
                self._check()
            return await _replies(self._connection, len(commands))
        except BaseException as exc:
            await self._break(exc)
            raise
        finally:
            own.set()

    def _check(self) -> None:
        """The client library would connect anew, and replies would go to the wrong commands."""
        if self.closed:
            raise ConnectionError(_GONE)

    async def _break(self, exc: BaseException) -> None:
        if self.closed and isinstance(exc, Exception):  # closed under a task that reads, which stumbles over anything
            raise ConnectionError(_GONE) from exc
        self.closed = True
        with anyio.CancelScope(shield=True):
            await self._connection.disconnect(nowait=True)

    async def aclose(self) -> None:
        """When nobody uses it any more."""
        self.closed = True
        await self._connection.disconnect()

    def abort(self) -> None:
        """Breaks what waits for replies that never come. Harmless when nothing does."""
        if (writer := self._connection._writer) is not None:  # pyright: ignore[reportPrivateUsage]
            writer.transport.abort()


async def exchange(connection: Connection, commands: Sequence[Command]) -> list[Any]:
    """Commands in one write, replies in their order, over a connection that nobody else uses meanwhile."""
    await connection.send_packed_command(_pack(commands), check_health=False)
    return await _replies(connection, len(commands))


def _pack(commands: Sequence[Command]) -> bytes:
    # hiredis packs in C what the client library packs in Python, which would be a tenth of a step's cost.
    pack = cast("Callable[[Command], bytes]", pack_command)  # its stub knows tuples of one element only
    return b"".join([pack(command) for command in commands])


async def _replies(connection: Connection, count: int) -> list[Any]:
    read = cast("Callable[[], Awaitable[Any]]", connection.read_response)
    replies: list[Any] = []
    while len(replies) < count:
        try:
            replies.append(await read())
        except ResponseError as exc:
            replies.append(exc)
        _take_read(connection, replies, count)
    return replies


def _take_read(connection: Connection, replies: list[Any], count: int) -> None:
    """What has come with the reply before, up to `count` in all. Asking the client library for each costs 4 microseconds."""
    gets = connection._parser._reader.gets  # pyright: ignore[reportPrivateUsage]
    while len(replies) < count:
        reply = gets()
        if reply is NOT_ENOUGH_DATA:
            return
        if isinstance(reply, RedisError) and not isinstance(reply, ResponseError):
            raise reply
        replies.append(reply)
