"""A bench whose runs are distributed, with workers beside it in the same process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
from support import probe
from support.crash import Bench

from orka.graph.graph import Graph
from orka.ids import new_run_id
from orka.lifecycle import RunOptions, start_run
from orka.results import RunResult
from orka.services import Services, open_services
from orka.settings import Settings
from orka.types import Json
from orka.worker import Worker, WorkerOptions


class FleetBench(Bench):
    """Its runs send their branches to the workers."""

    def __init__(self, services: Services, workers: list[Worker]) -> None:
        super().__init__(services)
        self.workers = workers

    async def run(self, graph: Graph, given: Json = "input") -> RunResult:
        return await start_run(
            self.services, self.services.build(graph), given, new_run_id(), RunOptions(distributed=True)
        )

    async def check_empty(self) -> None:
        """No task is left in any stream or group, and no record of one."""
        for key in await self.client.keys("*"):
            if b":tasks:" in key:
                assert await self.client.xlen(key) == 0, key
                assert (await self.client.xpending(key, "workers"))["pending"] == 0, key
            assert not key.endswith((b":branches", b":scopes")), (key, await self.client.hgetall(key))


@asynccontextmanager
async def open_fleet(
    settings: Settings, *workers: int | WorkerOptions, lease: float = 5.0
) -> AsyncIterator[FleetBench]:
    """One worker of each number of slots, or with the options given. Each has services (and so a consumer, an inbox and
    a journal) of its own. The server is emptied first: what other tests left is none of theirs."""
    settings = replace(settings, lease=lease)
    async with open_services(settings, registry=probe.registry()) as services, anyio.create_task_group() as group:
        await services.redis.client.flushall()  # pyright: ignore
        options = [WorkerOptions(concurrency=one, grace=5) if isinstance(one, int) else one for one in workers]
        started = [await group.start(_run_worker, settings, one) for one in options]
        yield FleetBench(services, started)
        for worker in started:
            await worker.stop()


async def _run_worker(
    settings: Settings,
    options: WorkerOptions,
    *,
    task_status: anyio.abc.TaskStatus[Worker] = anyio.TASK_STATUS_IGNORED,
) -> None:
    async with open_services(settings, registry=probe.registry()) as services, anyio.create_task_group() as group:
        worker = Worker(services, options)
        await group.start(worker.run)
        task_status.started(worker)
