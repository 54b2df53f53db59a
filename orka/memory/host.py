"""`MemoryHost`: the memories of one process, opened by the first agent that needs them and closed with the process's services."""

from __future__ import annotations

import anyio
import anyio.abc

from orka.embedding.base import Embedder
from orka.embedding.choice import open_embedder
from orka.memory.memory import Memory, open_memory
from orka.redis.client import NodeRouter, RedisHandle
from orka.settings import Settings


class MemoryHost:
    """Owned by the services of one process, in whose task group the memories live."""

    def __init__(
        self,
        redis: RedisHandle,
        router: NodeRouter,
        settings: Settings,
        tasks: anyio.abc.TaskGroup,
        embedder: Embedder | None = None,
    ) -> None:
        """`embedder` in place of the one that the settings name."""
        self._redis = redis
        self._router = router
        self._settings = settings
        self._tasks = tasks
        self._embedder = embedder
        self._memory: Memory | None = None
        self._opening = anyio.Lock()
        self._closing = anyio.Event()
        self._closed = anyio.Event()

    @property
    def memory(self) -> Memory | None:
        """None until somebody has asked for it."""
        return self._memory

    async def opened(self) -> Memory:
        """Errors as `open_memory`; a failed opening is tried again by whoever asks next."""
        if self._memory is not None:
            return self._memory
        async with self._opening:
            memory = self._memory
            if memory is None:
                memory = self._memory = await self._tasks.start(self._hold)
            return memory

    async def aclose(self) -> None:
        """Stores what was accepted."""
        if self._memory is not None:
            self._closing.set()
            with anyio.CancelScope(shield=True):
                await self._closed.wait()

    async def _hold(self, *, task_status: anyio.abc.TaskStatus[Memory]) -> None:
        self._closed = anyio.Event()  # an earlier opening may have failed
        try:
            async with (
                open_embedder(self._settings, self._router, self._embedder) as embedder,
                open_memory(self._redis, self._router, self._settings, embedder) as memory,
            ):
                task_status.started(memory)
                await self._closing.wait()
        finally:
            self._closed.set()
