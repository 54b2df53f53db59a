"""What is asked of a run from outside the process that executes it: that it ends, that it is tried again or finished."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import aclosing, contextmanager
from dataclasses import replace

import anyio

from orka.agents.registry import Registry
from orka.dispatch.dead import DeadLetters, Letter
from orka.dispatch.inbox import Message
from orka.dispatch.task import BranchTask, encode_task
from orka.engine.away import SHARED
from orka.engine.needs import facts_of
from orka.engine.program import build_program
from orka.errors import RetryRefused, RunAlive, RunCancelled, RunNotFound
from orka.graph.codec import decode_graph
from orka.graph.graph import Graph
from orka.ids import parse_queue
from orka.journal.events import RunEvent
from orka.journal.feed import read_feed
from orka.journal.holder import until_dead
from orka.journal.paths import ROOT
from orka.journal.registry import not_found
from orka.journal.watching import OnEvent
from orka.lifecycle import RunOptions, end_idle, finish_run
from orka.redis.keys import RUNS, task_stream
from orka.redis.recovery_scripts import cancel_run as mark_cancelled
from orka.results import Failure, RunResult
from orka.services import Services, open_services
from orka.settings import Settings
from orka.traces import Trace
from orka.types import RunId, RunStatus

CANCELLING = 7.0
"""Seconds beyond a lease that whoever executes a run has to end it: an agent alone may take five."""
_CANCELLED = Failure(
    kind=RunCancelled.__name__, message="it was cancelled while no process executed it (`orka cancel`)"
)


async def cancel_run(services: Services, run_id: RunId, *, patience: float | None = None) -> RunStatus:
    """Ends a run wherever it is executed, and returns when it is over: `cancelled`, or as it had ended before.

    What nobody executes is ended from here. `RunAlive` when its process has not ended it within `patience` seconds; it
    stays marked, and whoever goes on with it cancels it. `RunNotFound`.
    """
    keys = services.registry.keys(run_id)
    reply = await services.registry.one(keys.run, mark_cancelled(keys, run_id, services.process))
    if reply[0] != b"ok":
        raise not_found(run_id)
    info = await services.registry.info(run_id)
    if info.status.ended:
        if info.on_queue:  # to be resumed: that is called off
            await end_idle(services, run_id, RunStatus.CANCELLED, _CANCELLED)
        return (await services.registry.info(run_id)).status
    lasts = services.settings.lease + CANCELLING if patience is None else patience
    with anyio.move_on_after(lasts):
        async with anyio.create_task_group() as group:
            group.start_soon(_end_when_idle, services, run_id)
            async with aclosing(_feed(services, run_id)) as events:
                async for _ in events:
                    pass
            group.cancel_scope.cancel()
    info = await services.registry.info(run_id)
    if not info.status.ended:
        raise RunAlive(
            f"run {run_id} is still executed by {info.holder}, which was told to cancel it and did not within"
            f" {lasts:g} s; `orka doctor {run_id}` shows what it does",
            run_id=run_id,
            holder=info.holder,
            left_ms=info.lease_left_ms,
        )
    return info.status


def _feed(services: Services, run_id: RunId) -> AsyncGenerator[RunEvent]:
    return read_feed(services.registry, services.router, run_id, follow=True, tokens=False)


@contextmanager
def _told_of(services: Services, run_id: RunId) -> Generator[asyncio.Event]:
    """Set when the run's lease was given back. (asyncio's event, because it is waited for more than once.)"""
    idle = asyncio.Event()

    def tell(_: Message) -> None:
        idle.set()

    services.inbox.expect("idle", run_id, "", tell)
    try:
        yield idle
    finally:
        services.inbox.forget("idle", run_id, "", tell)


async def _end_when_idle(services: Services, run_id: RunId) -> None:
    """Nobody may execute it now, or its process may die, or give it back, before it hears of its cancelling."""
    key = services.registry.keys(run_id).run
    with _told_of(services, run_id) as idle:
        while True:
            idle.clear()
            [holder] = await services.registry.hash(key, "holder")
            try:
                await end_idle(services, run_id, RunStatus.CANCELLED, _CANCELLED)
                return
            except RunAlive as exc:
                with anyio.move_on_after(exc.left_ms / 1000):  # unless it is renewed it is over then
                    await _until_idle((holder or b"").decode(), idle)


async def _until_idle(holder: str, idle: asyncio.Event) -> None:
    """The lease was given back, or its holder is dead."""

    async def watch() -> None:
        await until_dead(holder)
        idle.set()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await idle.wait()
        group.cancel_scope.cancel()


async def retry_letter(services: Services, letter: Letter, queue: str | None = None) -> str:
    """Has a worker resume the run of a dead letter, which is deleted; gives the queue. `RetryRefused` when the run does
    not wait for that; `LetterNotFound` when the letter is gone."""
    registry = services.registry
    queue = None if queue is None else parse_queue(queue)
    try:
        info = await registry.info(letter.run)
        graph = decode_graph(await registry.graph(letter.run, info.digest), source=f"run {letter.run}")
    except RunNotFound as exc:
        raise RetryRefused(f"run {letter.run} is gone; `orka dead drop {letter.id}` drops its letter") from exc
    program = build_program(graph, replace(services.workshop, lenient=True))
    chosen = queue or info.queue or SHARED
    task = BranchTask(
        run=letter.run,
        path=ROOT,
        digest=info.digest,
        everything=info.distributed,
        needs=facts_of(program.body, program.body.sequence).needs,
        queue=chosen,
    )
    stream = task_stream(registry.keys(letter.run).tag, chosen, RUNS)
    await DeadLetters(registry).retry(letter, stream, encode_task(task))
    return chosen


async def finish(
    run_id: str,
    *,
    take_over: bool = False,
    graph: Graph | None = None,
    settings: Settings | None = None,
    registry: Registry | None = None,
    allow_functions: bool | Iterable[str] = False,
    on_event: OnEvent | None = None,
    visits: bool = True,
    tokens: bool = False,
    trace: Trace = None,
) -> RunResult:
    """`Orchestrator.finish` for a run whose file is not at hand. `graph`: run this one instead of the stored one."""
    settings = settings or Settings.from_environment()
    async with open_services(settings, registry=registry, allow_functions=allow_functions) as services:
        options = RunOptions(on_event=on_event, tokens=tokens, trace=trace)
        return await finish_run(services, RunId(run_id), options, graph=graph, take_over=take_over, visits=visits)
