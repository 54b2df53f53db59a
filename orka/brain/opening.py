"""Opening a brain by the settings alone, for whoever uses one without a run: for one block, or at the first call."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import anyio

from orka.brain.legacy import adopt
from orka.brain.store import BrainStore, pack
from orka.clock import now_ms
from orka.embedding.base import Embedder
from orka.embedding.choice import open_embedder
from orka.errors import ConfigError
from orka.redis.client import NodeRouter, open_redis
from orka.redis.pipeline import Pipe
from orka.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DAY_MS = 86_400_000


class HasSettings(Protocol):
    """As what `create_memory_logger` gives."""

    @property
    def settings(self) -> Settings: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a brain works with."""

    store: BrainStore
    embedder: Embedder
    turn: anyio.Lock = field(default_factory=anyio.Lock)
    """Held while a skill is changed."""

    def pack(self, vector: NDArray[np.float32]) -> bytes:
        return pack(vector)


@asynccontextmanager
async def open_store(
    router: NodeRouter, settings: Settings, embedder: Embedder | None = None
) -> AsyncGenerator[Opened]:
    """On connections of its own. What OrKa 0.9 had learned is taken over first. A change is known to have been made for as
    long as runs are kept, a day at least."""
    async with AsyncExitStack() as stack:
        pipe = Pipe(router)
        stack.push_async_callback(pipe.aclose)
        given = embedder or await stack.enter_async_context(open_embedder(settings, router))
        store = BrainStore(pipe, visit_ms=max(_DAY_MS, round(settings.retention * 1000)))
        await adopt(store, given, now_ms=now_ms())
        yield Opened(store=store, embedder=given)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hosted:
    opened: Opened
    host: asyncio.Task[None]
    left: asyncio.Event


class Opening:
    """Owned by one `Brain`. Each event loop has its own connections."""

    def __init__(self, memory: HasSettings | Settings | str | None, embedder: Embedder | None) -> None:
        self._settings = _settings_of(memory)
        self._embedder = embedder
        self._hosted: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Hosted] = weakref.WeakKeyDictionary()
        self._locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()

    async def opened(self) -> Opened:
        """What this event loop has open, opened if need be."""
        loop = asyncio.get_running_loop()
        if (hosted := self._hosted.get(loop)) is not None:
            return hosted.opened
        async with self._lock():
            hosted = self._hosted.get(loop) or await self._host_one(loop)
            return hosted.opened

    async def enter(self) -> None:
        await self.opened()

    async def close(self) -> None:
        async with self._lock():
            if (hosted := self._hosted.get(asyncio.get_running_loop())) is not None:
                hosted.left.set()
                await asyncio.shield(hosted.host)

    def _lock(self) -> asyncio.Lock:
        return self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    async def _host_one(self, loop: asyncio.AbstractEventLoop) -> _Hosted:
        # A task of its own: nobody need ever call `close`, and the end of the event loop cancels and awaits its tasks.
        ready: asyncio.Future[Opened] = loop.create_future()
        left = asyncio.Event()
        host = asyncio.create_task(self._host(loop, ready, left))
        try:
            await asyncio.wait({host, ready}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            host.cancel()
            raise
        if host.done():
            await host
        hosted = self._hosted[loop] = _Hosted(opened=ready.result(), host=host, left=left)
        return hosted

    async def _host(self, loop: asyncio.AbstractEventLoop, ready: asyncio.Future[Opened], left: asyncio.Event) -> None:
        try:
            async with AsyncExitStack() as stack:
                redis = await stack.enter_async_context(open_redis(self._settings))
                store = open_store(await redis.open_router(), self._settings, self._embedder)
                ready.set_result(await stack.enter_async_context(store))
                await left.wait()
        finally:
            self._hosted.pop(loop, None)


def _settings_of(memory: HasSettings | Settings | str | None) -> Settings:
    match memory:
        case None:
            return Settings.from_environment()
        case str():
            return replace(Settings.from_environment(), redis_url=memory)
        case Settings():
            return memory
        case _ if isinstance(getattr(memory, "settings", None), Settings):
            return memory.settings
        case _:
            raise ConfigError(
                f"a Brain needs the URL of a Redis, Settings, or what create_memory_logger gives, not a "
                f"{type(memory).__name__}"
            )
