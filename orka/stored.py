"""Runs as their journals have them: how one ended, and what its visits gave. Nothing is executed here."""

from __future__ import annotations

import contextlib

from orka.engine.answer import response_of
from orka.engine.run import Assignment, read_again
from orka.engine.spending import Spending
from orka.errors import JournalMismatch
from orka.graph.codec import decode_graph
from orka.journal.entries import NodeFinished, RunEnded, Value, decode_body
from orka.journal.feed import read_feed
from orka.journal.log import RunLog
from orka.journal.paths import ROOT
from orka.journal.replay import build_replay
from orka.results import NodeResult, RunResult, Usage
from orka.services import Services
from orka.types import Json, Path, RunId, RunStatus


async def read_end(services: Services, run_id: RunId) -> RunResult:
    """The end of a run that has ended, and its answer, read from the entries it is in."""
    ended, began_ms, last_ms = RunEnded(), 0, 0
    responses: dict[str, Value] = {}
    usages, status = dict[str, Usage](), RunStatus.COMPLETED
    async for entry_id, kind, path, data in services.registry.entries(run_id):
        last_ms = int(entry_id.split("-")[0])
        began_ms = began_ms or last_ms
        body = decode_body(kind, data, run_id=run_id, path=path)
        if isinstance(body, RunEnded):
            ended, status = body, RunStatus(kind.removeprefix("run."))
        elif isinstance(body, NodeFinished):
            responses[path] = body.output
            if body.usage is not None:
                usages[path] = body.usage
    values = [response_of(await services.registry.load(run_id, responses[path])) for path in ended.answers]
    output: Json = values if ended.many else (values[0] if values else None)
    return RunResult(
        run_id=run_id,
        status=status,
        output=output,
        results=(),
        usage=sum(usages.values(), Usage()),
        duration_ms=float(last_ms - began_ms),
        error=ended.error,
        error_path=Path(ended.path) or None,
        warnings=ended.warnings,
    )


async def await_run(services: Services, run_id: RunId) -> RunResult:
    """The end of a run that another process executes, without its visits."""
    feed = read_feed(services.registry, services.router, run_id, follow=True, tokens=False)
    async with contextlib.aclosing(feed) as events:
        async for _ in events:
            pass
    return await read_end(services, run_id)


async def read_visits(services: Services, run_id: RunId) -> tuple[NodeResult, ...]:
    """The results of a completed run, made again by the interpreter from its journal."""
    info = await services.registry.info(run_id)
    replay = build_replay(run_id, await services.registry.history(run_id))
    if replay.started is None:
        raise no_beginning(run_id)
    program = services.build(decode_graph(await services.registry.graph(run_id, info.digest), source=f"run {run_id}"))
    log = RunLog(
        run_id=run_id,
        keys=services.registry.keys(run_id),
        digest=info.digest,
        lease="",
        seq=replay.entries,
        wake=lambda _: None,
    )
    log.fail(replay.incomplete(ROOT))  # whatever would be written
    value = await services.registry.load(run_id, replay.started.input)
    task = Assignment(
        program=program,
        log=log,
        input=value,
        replay=replay,
        session=replay.started.session,
        spending=Spending(usages=replay.usages),
    )
    result = await read_again(task, registry=services.registry, calls=services.calls, codec=services.codec)
    return result.results


def no_beginning(run_id: RunId) -> JournalMismatch:
    return JournalMismatch(f"the journal of run {run_id} has no beginning", run_id=run_id)
