"""Workers in the process of the test, for what does not depend on being a process of their own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from orka.agents.registry import Registry
from orka.services import open_services
from orka.settings import Settings
from orka.worker import Worker, WorkerOptions


@asynccontextmanager
async def working(
    settings: Settings, *queues: str, registry: Registry | None = None, concurrency: int = 10
) -> AsyncIterator[Worker]:
    """A worker of `queues` (by default of `default`), which is stopped at the end; what it executes is handed back."""
    options = WorkerOptions(queues=queues or ("default",), concurrency=concurrency, grace=0.2)
    async with (
        open_services(settings, registry=registry, allow_functions=True) as services,
        anyio.create_task_group() as group,
    ):
        worker = Worker(services, options)
        await group.start(worker.run)
        try:
            yield worker
        finally:
            with anyio.CancelScope(shield=True):
                await worker.stop()


async def becomes(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Waits until `await condition()` is true; fails after the deadline."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
