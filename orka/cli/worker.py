"""`orka worker`: executes branches and submitted runs until it is told to stop."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import anyio
import anyio.abc
from cyclopts import Parameter

from orka.cli.exits import Exit
from orka.cli.interrupt import run_to_the_end
from orka.cli.modules import Modules, import_agents
from orka.cli.output import warn
from orka.cli.run import AllowFunctions, permission
from orka.engine.away import SHARED
from orka.errors import ConfigError
from orka.ids import parse_queue
from orka.services import open_services
from orka.settings import Settings
from orka.worker import Worker, WorkerOptions


def worker(
    *,
    concurrency: Annotated[
        int, Parameter(help="Tasks at once; those that wait for their own branches do not count.")
    ] = 10,
    queue: Annotated[
        list[str] | None,
        Parameter(help="A queue to serve, as `runs_on` names it; may be repeated.", consume_multiple=True),
    ] = None,
    import_: Modules = None,
    redis: Annotated[str | None, Parameter(help="The server, instead of REDIS_URL.")] = None,
    grace: Annotated[
        float, Parameter(help="Seconds that tasks have to end after SIGTERM; then they are handed back.")
    ] = 30.0,
    health: Annotated[
        Path | None, Parameter(help="A file that shows the worker's progress, rewritten again and again.")
    ] = None,
    max_deaths: Annotated[int, Parameter(help="Times that a task may take down a worker in which it is alone.")] = 3,
    allow_functions: AllowFunctions = None,
) -> int:
    """Execute branches and submitted runs of shared queues, until SIGTERM or Ctrl-C.

    Graphs come from Redis: a worker needs no file. The first signal stops taking tasks and waits for those under way, a
    second one leaves at once.
    """
    settings = Settings.from_environment()
    if redis is not None:
        settings = replace(settings, redis_url=redis)
    if concurrency < 1 or max_deaths < 1 or not 0 <= grace < math.inf:
        raise ConfigError("--concurrency and --max-deaths are at least 1, --grace is a number of seconds, at least 0")
    allowed = permission(allow_functions)
    import_agents(import_)
    options = WorkerOptions(
        queues=tuple(dict.fromkeys(parse_queue(name) for name in queue or (SHARED,))),
        concurrency=concurrency,
        grace=grace,
        most_deaths=max_deaths,
        health=health,
    )
    return run_to_the_end(_work(settings, options, allowed))


async def _work(settings: Settings, options: WorkerOptions, allowed: bool | frozenset[str]) -> int:
    async with open_services(settings, allow_functions=allowed) as services, anyio.create_task_group() as group:
        worker = Worker(services, options)
        await group.start(_stop_when_told, worker)
        warn(
            f"worker {services.process} serves {', '.join(options.queues)} with {options.concurrency} slots"
            f" on {services.redis.target.label}"
        )
        await worker.run()
        group.cancel_scope.cancel()
    return Exit.OK


async def _stop_when_told(
    worker: Worker, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async with anyio.create_task_group() as group:
            stopping = False
            async for number in signals:
                if stopping:
                    os._exit(Exit.INTERRUPTED if number is signal.SIGINT else Exit.TERMINATED)
                stopping = True
                warn("stopping: no new tasks; those under way may end (once more to leave at once)")
                group.start_soon(worker.stop)
