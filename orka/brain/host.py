"""`BrainHost`: the brain of one process, opened by the first agent that needs it and closed with the process's services."""

from __future__ import annotations

import anyio
import anyio.abc

from orka.brain.brain import Brain
from orka.brain.opening import Opened, open_store
from orka.embedding.base import Embedder
from orka.redis.client import NodeRouter
from orka.settings import Settings


class BrainHost:
    """Owned by the services of one process, in whose task group the connections live."""

    def __init__(
        self, router: NodeRouter, settings: Settings, tasks: anyio.abc.TaskGroup, embedder: Embedder | None = None
    ) -> None:
        """`embedder` in place of the one that the settings name."""
        self._router = router
        self._settings = settings
        self._tasks = tasks
        self._embedder = embedder
        self._found: Opened | None = None
        self._opening = anyio.Lock()
        self._closing = anyio.Event()
        self._closed = anyio.Event()
        self.brain = Brain(access=self)

    async def opened(self) -> Opened:
        """Errors as those of a `Brain`; a failed opening is tried again by whoever asks next."""
        if self._found is not None:
            return self._found
        async with self._opening:
            found = self._found
            if found is None:
                found = self._found = await self._tasks.start(self._hold)
            return found

    async def enter(self) -> None:
        await self.opened()

    async def close(self) -> None:
        """Whoever uses the process's brain does not end it."""

    async def aclose(self) -> None:
        if self._found is not None:
            self._closing.set()
            with anyio.CancelScope(shield=True):
                await self._closed.wait()

    async def _hold(self, *, task_status: anyio.abc.TaskStatus[Opened]) -> None:
        self._closed = anyio.Event()
        try:
            async with open_store(self._router, self._settings, self._embedder) as opened:
                task_status.started(opened)
                await self._closing.wait()
        finally:
            self._closed.set()
