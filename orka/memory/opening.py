"""Opening memories by the settings alone: for one block, or at the first call in each event loop."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from orka.embedding.base import Embedder
from orka.embedding.choice import open_embedder
from orka.errors import StoreError
from orka.memory.events import EventLog
from orka.memory.memory import Memory, OnProgress, open_memory
from orka.redis.client import RedisHandle, open_redis
from orka.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What one event loop has open."""

    redis: RedisHandle
    memory: Memory
    events: EventLog


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hosted:
    opened: Opened
    host: asyncio.Task[None]
    left: asyncio.Event


@asynccontextmanager
async def open_memories(
    settings: Settings,
    *,
    embedder: Embedder | None = None,
    buffered: bool = True,
    on_progress: OnProgress | None = None,
) -> AsyncGenerator[tuple[RedisHandle, Memory]]:
    """Redis (or the private server) and its memories, by the settings; `embedder` in place of theirs. Errors as `open_redis`
    and `open_memory`."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(settings))
        router = await redis.open_router()
        used = await stack.enter_async_context(open_embedder(settings, router, embedder))
        memory = await stack.enter_async_context(
            open_memory(redis, router, settings, used, buffered=buffered, on_progress=on_progress)
        )
        yield redis, memory


class Openings:
    """Owned by one `MemoryLogger`. Each event loop has its own."""

    def __init__(self, settings: Settings, stream: str, embedder: Embedder | None) -> None:
        self._settings = settings
        self._stream = stream
        self._embedder = embedder
        self._entered: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Opened, AsyncExitStack]]
        self._entered = weakref.WeakKeyDictionary()
        self._lazy: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Hosted] = weakref.WeakKeyDictionary()
        self._locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()

    async def enter(self) -> None:
        """For one block of this event loop: writes are buffered. `StoreError` inside another such block."""
        loop = asyncio.get_running_loop()
        async with self._lock():
            if loop in self._entered:
                raise StoreError(
                    "these memories are open in an `async with` already, whose end would close them for both: use them "
                    "without another one, or make others with create_memory_logger"
                )
            async with AsyncExitStack() as stack:
                opened = await stack.enter_async_context(self._open(buffered=True))
                self._entered[loop] = opened, stack.pop_all()

    async def leave(self) -> None:
        """Ends the block. `WriteLost` when something accepted could not be stored."""
        _, stack = self._entered.pop(asyncio.get_running_loop())
        await stack.aclose()

    async def current(self) -> Opened:
        """What this event loop has open, opened if need be: then every write is stored before it returns."""
        if (found := self._found()) is not None:
            return found
        async with self._lock():
            return self._found() or await self._open_hosted()

    async def close(self) -> None:
        """Closes what this event loop has opened lazily."""
        async with self._lock():
            hosted = self._lazy.get(asyncio.get_running_loop())
            if hosted is not None:
                hosted.left.set()
                await asyncio.shield(hosted.host)

    def _lock(self) -> asyncio.Lock:
        return self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    def _found(self) -> Opened | None:
        loop = asyncio.get_running_loop()
        if (entered := self._entered.get(loop)) is not None:
            return entered[0]
        hosted = self._lazy.get(loop)
        return None if hosted is None else hosted.opened

    async def _open_hosted(self) -> Opened:
        # A task of its own: nobody need ever call `close`, and the end of the event loop cancels its tasks and awaits them,
        # while it closes generators all at once, those that use each other too.
        ready: asyncio.Future[Opened] = asyncio.get_running_loop().create_future()
        left = asyncio.Event()
        host = asyncio.create_task(self._host(ready, left))
        try:
            await asyncio.wait({host, ready}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            host.cancel()
            raise
        if host.done():
            await host
        self._lazy[asyncio.get_running_loop()] = _Hosted(opened=ready.result(), host=host, left=left)
        return ready.result()

    async def _host(self, ready: asyncio.Future[Opened], left: asyncio.Event) -> None:
        try:
            async with self._open(buffered=False) as opened:
                ready.set_result(opened)
                await left.wait()
        finally:
            self._lazy.pop(asyncio.get_running_loop(), None)

    @asynccontextmanager
    async def _open(self, *, buffered: bool) -> AsyncGenerator[Opened]:
        async with open_memories(self._settings, embedder=self._embedder, buffered=buffered) as (redis, memory):
            yield Opened(redis=redis, memory=memory, events=EventLog(redis.client, self._stream))
