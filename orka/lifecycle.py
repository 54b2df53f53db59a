"""How a run begins and goes on: what happens around the interpreter, from the services' point of view."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace

import anyio

from orka.agents.values import ensure_json
from orka.clock import now_ms
from orka.dispatch.inbox import Message
from orka.dispatch.task import BranchTask, encode_task
from orka.engine.away import Away
from orka.engine.copies import private_copy
from orka.engine.foresight import check_paths
from orka.engine.limiting import most_under_way
from orka.engine.needs import facts_of
from orka.engine.program import Program
from orka.engine.run import Assignment, execute
from orka.engine.spending import Spending
from orka.errors import JournalMismatch, OrkaError, StoreError
from orka.graph.codec import decode_graph
from orka.graph.graph import Graph
from orka.ids import digest_of
from orka.journal.entries import (
    RULES,
    Kind,
    RunResumed,
    RunStarted,
    Value,
    encode_json,
    make_entry,
)
from orka.journal.events import RunEvent
from orka.journal.holder import current_holder, describe
from orka.journal.leases import Taken
from orka.journal.log import RunLog
from orka.journal.paths import ROOT
from orka.journal.replay import Replay, build_replay
from orka.journal.terms import Reopening
from orka.journal.tokens import RunTokens
from orka.journal.watching import OnEvent, Watcher
from orka.redis.keys import RUNS, task_stream
from orka.redis.scripts import Entry
from orka.results import Failure, RunResult
from orka.services import Services
from orka.stored import no_beginning, read_end, read_visits
from orka.traces import Trace, leave_trace
from orka.types import Json, RunId, RunStatus
from orka.version import VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run is to go, beside what its graph says."""

    on_event: OnEvent | None = None
    distributed: bool = False
    """Its branches go to the shared queues."""
    session: str = ""
    tokens: bool = False
    """Its agents emit."""
    trace: Trace = None


PLAIN = RunOptions()


async def start_run(
    services: Services, program: Program, input: Json, run_id: RunId, options: RunOptions = PLAIN
) -> RunResult:
    """A new run, to its end. `AgentError` when `input` is not JSON."""
    graph, session = program.graph, options.session
    value = ensure_json(input, "input")
    everything, watched = options.distributed or graph.limits.distributed, options.tokens or graph.limits.stream
    watcher = None if options.on_event is None else Watcher(options.on_event)
    stored, values = services.codec.store(value)
    value = private_copy(value, stored, values)  # the caller may change its own, or run it again
    log = await services.leases.create(
        run_id,
        graph.digest,
        graph=program.encoded,
        entry=_start_of(graph, stored, values, session),
        fields=_fields_of(graph, value, everything, watched),
        deadline=graph.limits.deadline,
        listener=None if watcher is None else watcher.on_entry,
    )
    deadline, began_ms = graph.limits.deadline, now_ms()
    deadline_ms = None if deadline is None else began_ms + _milliseconds(deadline)
    task = Assignment(
        program=program,
        log=log,
        input=value,
        deadline_ms=deadline_ms,
        away=Away(sender=services.sender, everything=everything, deadline_ms=deadline_ms or 0),
        tokens=_tokens_of(services, log, watcher) if watched else None,
        spending=Spending(graph.limits.budget, began_ms=began_ms),
        session=session,
        audit=services.audit_of(run_id, graph.id),
    )
    return await carry_out(services, task, options.trace)


def _start_of(graph: Graph, stored: Value, values: tuple[tuple[str, bytes], ...], session: str) -> Entry:
    body = RunStarted(
        graph=graph.id,
        digest=graph.digest,
        input=stored,
        at_ms=now_ms(),
        version=VERSION,
        rules=RULES,
        session=session,
    )
    return make_entry(Kind.RUN_STARTED, "", body, values)


def _fields_of(graph: Graph, value: Json, distributed: bool, watched: bool) -> dict[str, str]:
    """Of the registry."""
    flags = {"distributed": distributed, "tokens": watched}
    fields = {"graph": graph.id, "input": _preview_of(value), "version": VERSION}
    return fields | {name: "1" for name, flag in flags.items() if flag}


def _tokens_of(services: Services, log: RunLog, watcher: Watcher | None) -> RunTokens:
    """Where the agents of a watched run emit to, as far as this process executes it."""
    tokens = services.tokens.of(log.keys, None if watcher is None else watcher.on_token)
    if watcher is not None:
        watcher.tokens = tokens
    return tokens


async def submit_run(
    services: Services,
    program: Program,
    input: Json,
    run_id: RunId,
    queue: str,
    options: RunOptions = PLAIN,
) -> None:
    """A new run, for whichever worker of `queue` takes it. Returns when it is stored. `RunExists`."""
    graph = program.graph
    value = ensure_json(input, "input")
    stored, values = services.codec.store(value)
    task = BranchTask(
        run=run_id,
        path=ROOT,
        digest=graph.digest,
        needs=facts_of(program.body, program.body.sequence).needs,
        queue=queue,
        most=most_under_way(graph, queue),
    )
    await services.leases.submit(
        run_id,
        graph.digest,
        graph=program.encoded,
        entry=_start_of(graph, stored, values, options.session),
        fields={**_fields_of(graph, value, True, options.tokens), "queue": queue},
        deadline=graph.limits.deadline,
        stream=task_stream(services.registry.keys(run_id).tag, queue, RUNS),
        task=encode_task(task),
        order=digest_of([graph.digest, stored.ref or bytes(stored.json).decode(), *filter(None, [options.session])]),
    )


async def carry_out(services: Services, task: Assignment, trace: Trace = None) -> RunResult:
    """Runs an owned run to its end, and leaves its trace. What keeps it from an end is raised, and its lease given back."""
    result = await _carry_out(services, task)
    return await leave_trace(
        result,
        graph=task.program.graph,
        input=task.input,
        session=task.session,
        settings=services.settings,
        wish=trace,
    )


async def _carry_out(services: Services, task: Assignment) -> RunResult:
    away = task.away

    def cancel(_: Message) -> None:
        task.log.cancel()

    if task.audit is not None:
        task.audit.began(task.input, task.session, resumed=isinstance(task.log.opening, Reopening))
    if away is not None and away.everything:  # else the next renewal of its lease tells
        services.inbox.expect("cancel", task.log.run_id, "", cancel)
    try:
        return await execute(
            task,
            registry=services.registry,
            calls=services.calls,
            codec=services.codec,
            retention_ms=services.journal.retention_ms,
        )
    except Exception:
        log = task.log
        if log.failure is None and log.ending is None:  # the run has no end here: somebody else may give it one
            with contextlib.suppress(StoreError):
                await services.leases.release(log)
        raise
    finally:
        services.inbox.forget("cancel", task.log.run_id, "", cancel)
        services.journal.remove(task.log)


async def end_idle(services: Services, run_id: RunId, status: RunStatus, error: Failure) -> None:
    """Ends a run that nobody executes: see `Leases.end_idle`."""
    info = await services.leases.end_idle(run_id, status, error)
    if info is not None and (audit := services.audit_of(run_id, info.graph)) is not None:
        audit.ended_idle(status, error)


async def finish_run(
    services: Services,
    run_id: RunId,
    options: RunOptions = PLAIN,
    *,
    graph: Graph | None = None,
    take_over: bool = False,
    visits: bool = True,
) -> RunResult:
    """A run that was cut off, failed or cancelled, to its end; of a completed one, its stored answer and, with `visits`,
    its results, for which this process needs the agent types of its graph. (Whether it is distributed, and its session, are
    stored with it.)"""
    watcher = None if options.on_event is None else Watcher(options.on_event)
    listener = None if watcher is None else watcher.on_entry
    taken = await services.leases.take(run_id, force=take_over, listener=listener)
    if taken is None:
        stored = await read_end(services, run_id)
        return replace(stored, results=await read_visits(services, run_id)) if visits else stored
    try:
        task = await prepare(services, taken, graph, watcher=watcher, tokens=options.tokens)
    except BaseException:
        with anyio.move_on_after(2, shield=True), contextlib.suppress(StoreError):
            await services.leases.release(taken.log)
        raise
    return await carry_out(services, task, options.trace)


async def prepare(
    services: Services,
    taken: Taken,
    changed: Graph | None,
    away: Away | None = None,
    *,
    watcher: Watcher | None = None,
    tokens: bool = False,
) -> Assignment:
    """Reads the journal and checks that the graph fits it. That the run goes on is written with its first new entry."""
    log, info = taken.log, taken.info
    history = await services.registry.history(info.run_id)
    replay = build_replay(info.run_id, history)
    if replay.started is None:
        raise no_beginning(info.run_id)
    graph = changed
    if graph is None:
        graph = decode_graph(await services.registry.graph(info.run_id, info.digest), source=f"run {info.run_id}")
    program = services.build(graph)
    _check_fit(replay, program)
    if graph.digest != info.digest:  # the run would find out only after its branches have begun to write
        check_paths(program, build_replay(info.run_id, history))
    value = await services.registry.load(info.run_id, replay.started.input)
    holder = describe(current_holder())
    deadline_ms, left = info.deadline_ms, None
    if changed is not None:
        left = _milliseconds(changed.limits.deadline)
        deadline_ms = now_ms() + left if left else None
    if away is None:
        everything = info.distributed or graph.limits.distributed
        away = Away(sender=services.sender, everything=everything, deadline_ms=deadline_ms or 0)
    if taken.fresh and changed is None:
        services.leases.begin(taken)
    else:
        body = RunResumed(digest=graph.digest, at_ms=now_ms(), version=VERSION, holder=holder, rules=RULES)
        services.leases.reopen(taken, graph.digest, program.encoded, encode_json(body), deadline_ms=left)
    return Assignment(
        program=program,
        log=log,
        input=value,
        replay=replay,
        deadline_ms=deadline_ms,
        away=away,
        tokens=_tokens_of(services, log, watcher) if tokens or info.watched or graph.limits.stream else None,
        spending=Spending(
            graph.limits.budget,
            began_ms=replay.began_ms if graph.digest == replay.digest else now_ms(),
            usages=replay.usages,
        ),
        session=replay.started.session,
        audit=services.audit_of(info.run_id, graph.id),
    )


def _milliseconds(deadline: float | None) -> int:
    """0: there is none."""
    return 0 if deadline is None else max(1, int(deadline * 1000))


def _check_fit(replay: Replay, program: Program) -> None:
    """Every visit in the journal belongs to a node that the graph still defines in the same way."""
    for path, visit in replay.visits.items():
        node_id = _id_of(visit.finished or visit.opened or visit.scored)
        if node_id is not None and (node_id, visit.node) not in program.digests:
            raise JournalMismatch(
                f"run {replay.run_id} cannot go on with this graph: {path!r} is in the journal, and node {node_id!r}"
                " has changed or vanished since; undo that change, or start a new run",
                run_id=replay.run_id,
                path=path,
            )


def _id_of(entry: object) -> str | None:
    return getattr(entry, "id", None)


async def host_run(
    services: Services,
    program: Program,
    input: Json,
    run_id: RunId,
    started: asyncio.Future[None],
    session: str = "",
) -> None:
    """A run that nobody awaits. Its end, good or bad, is in its journal; why it could not be created, in `started`."""

    def begun(_: RunEvent) -> None:
        if not started.done():
            started.set_result(None)

    try:
        await start_run(services, program, input, run_id, RunOptions(on_event=begun, session=session, tokens=True))
    except OrkaError as exc:
        if not started.done():
            started.set_exception(exc)
    finally:
        started.cancel()  # by the end of the services: nothing to read


def _preview_of(value: Json) -> str:
    """The first 200 characters of an input, for the registry."""
    text = value if isinstance(value, str) else encode_json(value).decode()
    return text if len(text) <= 200 else f"{text[:199]}…"
