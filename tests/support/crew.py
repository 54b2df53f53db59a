"""Workers in the process of the test, for what does not depend on being a process of their own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from orka.agents.registry import Registry
from orka.journal.entries import RULES, BranchFinished, encode_json
from orka.redis.keys import GROUP, run_keys
from orka.redis.recovery_scripts import bury
from orka.results import Failure
from orka.services import Services, open_services
from orka.settings import Settings
from orka.types import RunId
from orka.worker import Worker, WorkerOptions

DEATH = Failure(kind="WorkerDied", message="given up: it has taken its worker down 3 times")


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


async def take_and_bury(services: Services, client: Any, run_id: RunId, path: str, level: int = 1) -> None:
    """What a sweeper does with the task of a branch whose workers died too often."""
    keys = run_keys(run_id, services.settings.partitions)
    stream = f"{keys.tag}:tasks:default:{level}"
    task_id = (await client.hget(keys.branches, path)).decode().split("|")[5]
    pending = await client.xpending_range(stream, GROUP, "-", "+", 10)
    assert [entry["message_id"].decode() for entry in pending] == [task_id]
    await client.xclaim(stream, GROUP, services.process, 0, [task_id])
    body = BranchFinished(worker=services.process, error=DEATH, rules=RULES)
    await services.registry.one(
        keys.run,
        bury(
            keys,
            process=services.process,
            path=path,
            task_id=task_id,
            run_id=run_id,
            parent="",
            data=encode_json(body),
            reason=DEATH.message,
            retention_ms=60_000,
        ),
    )
