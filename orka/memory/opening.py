"""Opening memories by the settings alone: for one block, or at the first call in each event loop."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

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
    stack: AsyncExitStack


@asynccontextmanager
async def open_memories(
    settings: Settings, *, buffered: bool = True, on_progress: OnProgress | None = None
) -> AsyncGenerator[tuple[RedisHandle, Memory]]:
    """Redis (or the private server) and its memories, by the settings. Errors as `open_redis` and `open_memory`."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(settings))
        router = await redis.open_router()
        embedder = await stack.enter_async_context(open_embedder(settings, router))
        memory = await stack.enter_async_context(
            open_memory(redis, router, settings, embedder, buffered=buffered, on_progress=on_progress)
        )
        yield redis, memory


class Openings:
    """Owned by one `MemoryLogger`."""

    def __init__(self, settings: Settings, stream: str) -> None:
        self._settings = settings
        self._stream = stream
        self._entered: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Opened] = weakref.WeakKeyDictionary()
        self._lazy: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Opened] = weakref.WeakKeyDictionary()
        self._locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()

    async def enter(self) -> None:
        """For one block of this event loop: writes are buffered. `StoreError` inside another such block."""
        async with self._lock():
            if self._entered.get(asyncio.get_running_loop()) is not None:
                raise StoreError(
                    "these memories are open in an `async with` already, whose end would close them for both: use them "
                    "without another one, or make others with create_memory_logger"
                )
            self._entered[asyncio.get_running_loop()] = await self._open(buffered=True)

    async def leave(self) -> None:
        """Ends the block. `WriteLost` when something accepted could not be stored."""
        opened = self._entered.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            await opened.stack.aclose()

    async def current(self) -> Opened:
        """What this event loop has open, opened if need be: then every write is stored before it returns."""
        loop = asyncio.get_running_loop()
        if (opened := self._entered.get(loop) or self._lazy.get(loop)) is not None:
            return opened
        async with self._lock():
            opened = self._entered.get(loop) or self._lazy.get(loop)
            if opened is None:
                opened = self._lazy[loop] = await self._open(buffered=False)
            return opened

    def _lock(self) -> asyncio.Lock:
        return self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    async def close(self) -> None:
        """Closes what this event loop has opened lazily."""
        opened = self._lazy.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            await opened.stack.aclose()

    async def _open(self, *, buffered: bool) -> Opened:
        stack = AsyncExitStack()
        try:
            redis, memory = await stack.enter_async_context(open_memories(self._settings, buffered=buffered))
        except BaseException:
            await stack.aclose()
            raise
        return Opened(redis=redis, memory=memory, events=EventLog(redis.client, self._stream), stack=stack)
