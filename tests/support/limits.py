"""Several processes' worth of clients of limits, and workers, in one process: each has a name, an inbox and connections of
its own, and no part of it knows of the others."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import anyio.abc

from orka.agents.registry import Registry
from orka.dispatch.inbox import Inbox
from orka.dispatch.limits import Limit, Limits
from orka.redis.client import RedisHandle
from orka.redis.keys import limit_keys
from orka.redis.pipeline import Pipe
from orka.services import open_services
from orka.settings import Settings
from orka.worker import Worker, WorkerOptions

PARTITIONS = 16


class Process:
    """One process that uses limits. `kill` ends it without a farewell."""

    def __init__(self, limits: Limits, inbox: Inbox, tasks: anyio.abc.TaskGroup) -> None:
        self.limits = limits
        self.inbox = inbox
        self.killed = False
        self._tasks = tasks

    def kill(self) -> None:
        self.killed = True
        self._tasks.cancel_scope.cancel()


@asynccontextmanager
async def process(redis: RedisHandle, name: str, *, lease: float = 10.0) -> AsyncIterator[Process]:
    router = await redis.open_router()
    pipe = Pipe(router)

    async def live(*, task_status: anyio.abc.TaskStatus[Process]) -> None:
        async with anyio.create_task_group() as tasks:
            inbox = Inbox(router, process=name, partitions=PARTITIONS, tasks=tasks)
            limits = Limits(pipe, inbox, partitions=PARTITIONS, lease=lease, tasks=tasks)
            task_status.started(Process(limits, inbox, tasks))
            await anyio.sleep_forever()

    try:
        async with anyio.create_task_group() as host:  # `kill` must not end the test with it
            process: Process = await host.start(live)
            yield process
            if not process.killed:
                await process.limits.aclose()
                process.kill()
    finally:
        await pipe.aclose()


class Gauge:
    """How many are inside, how many were at most, and who came when."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.order: list[str] = []
        self.times: list[float] = []

    async def use(self, process: Process, limits: Sequence[Limit], name: str, seconds: float = 0.0) -> None:
        async with process.limits.holding(limits, "run", name):
            await self.stay(name, seconds)

    async def stay(self, name: str, seconds: float) -> None:
        self.times.append(time.monotonic())
        self.order.append(name)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await anyio.sleep(seconds)
        finally:
            self.now -= 1


async def state(redis: RedisHandle, name: str) -> tuple[int, int]:
    """(places held, tickets that wait) at the server."""
    held, queue, *_ = limit_keys(name, PARTITIONS)
    return await redis.client.zcard(held), await redis.client.zcard(queue)


async def until(condition: Any, *, seconds: float = 5.0) -> None:
    """Returns when `condition` (maybe awaitable) holds."""
    with anyio.fail_after(seconds):
        while True:
            found = condition()
            if (await found) if hasattr(found, "__await__") else found:
                return
            await anyio.sleep(0.005)


@asynccontextmanager
async def worker(
    settings: Settings,
    registry: Registry | None = None,
    *,
    concurrency: int = 10,
    queues: tuple[str, ...] = ("default",),
    lease: float | None = None,
) -> AsyncIterator[Worker]:
    """A worker that works until the end of the block."""
    settings = settings if lease is None else replace(settings, lease=lease)
    async with open_services(settings, registry=registry) as services, anyio.create_task_group() as group:
        made = Worker(services, WorkerOptions(queues=queues, concurrency=concurrency, grace=2.0))
        await group.start(made.run)
        yield made
        await made.stop()
