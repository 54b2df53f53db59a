"""One branch of somebody else's run, from its task to its answer: what surrounds the interpreter in a worker."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import msgspec

from orka.agents.base import LoopView
from orka.clock import monotonic, now_ms
from orka.dispatch.task import BranchTask, Seen, encode_reply
from orka.engine.auditing import OnVisit
from orka.engine.away import Away
from orka.engine.calls import Calls
from orka.engine.context import Context, Frame, Run, SequenceStopped
from orka.engine.executor import run_frame, visit_step
from orka.engine.needs import facts_of
from orka.engine.program import Body, Program, Step
from orka.engine.retry import failure_of
from orka.engine.spending import Spending
from orka.errors import JournalMismatch, LeaseLost, OrkaError, RunTimeout, StoreError, sole_error
from orka.journal.entries import RULES, BranchFinished, Kind, ValueCodec, decode_json, make_entry
from orka.journal.log import RunLog
from orka.journal.paths import FRAME_SUFFIX, frame_of, unescape
from orka.journal.registry import Registry
from orka.journal.replay import Replay
from orka.journal.terms import Handover
from orka.journal.tokens import RunTokens
from orka.results import Failure
from orka.types import Json, NodeId, Path


class BranchAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker is to execute, with the claim in its hands."""

    task: BranchTask
    program: Program
    seen: Seen
    input: Json
    log: RunLog
    away: Away
    worker: str
    replay: Replay | None = None
    """Of the branch alone, when it was executed before."""
    tokens: RunTokens | None = None
    """Where agents emit to; None: nobody watches."""
    on_visit: OnVisit | None = None
    """Told of visits that were executed here."""


async def execute_branch(
    assignment: BranchAssignment, scope: anyio.CancelScope, *, registry: Registry, calls: Calls, codec: ValueCodec
) -> BranchFinished | None:
    """Runs the branch to its end and appends that; it is stored once the log's barrier lets through. None when the
    branch was cut off, by `scope` or because its log can write no more. A failure is a result."""
    began, task, log = monotonic(), assignment.task, assignment.log
    error: Failure | None = None
    fatal = False
    run = _run_of(assignment, registry, calls, codec)
    with scope:
        log.on_failure = scope.cancel
        if task.deadline_ms:
            scope.deadline = anyio.current_time() + max(0.0, (task.deadline_ms - now_ms()) / 1000)
        try:
            if assignment.away.inside is None:
                await _interpret(run, assignment)
            else:
                async with assignment.away.inside():
                    await _interpret(run, assignment)
        except SequenceStopped as stopped:
            error = stopped.result.error
        except (LeaseLost, StoreError):
            if log.failure is None:
                raise
        except OrkaError as exc:
            error, fatal = failure_of(exc), True
    if log.failure is not None:
        return None
    if scope.cancelled_caught:
        if not task.deadline_ms or now_ms() < task.deadline_ms:
            return None
        error = Failure(kind=RunTimeout.__name__, message="the run's deadline has passed")
    return BranchFinished(
        worker=assignment.worker,
        ms=round((monotonic() - began) * 1000, 3),
        error=error,
        fatal=fatal,
        steps=run.steps - task.steps,
        rules=RULES,
    )


async def hand_over(log: RunLog, path: Path, finished: BranchFinished) -> None:
    """Commits a branch: its end, its answer, and the task off its stream. Returns when that is stored."""
    entry = make_entry(Kind.BRANCH_FINISHED, path, finished)
    whole = log.written
    reply = b"" if whole is None else encode_reply([*whole, entry])
    await log.end(entry, Handover(reply=reply))


def _run_of(assignment: BranchAssignment, registry: Registry, calls: Calls, codec: ValueCodec) -> Run:
    task, replay = assignment.task, assignment.replay
    return Run(
        run_id=task.run,
        program=assignment.program,
        input=assignment.input,
        log=assignment.log,
        codec=codec,
        registry=registry,
        calls=calls,
        tasks=None,
        replay=replay,
        away=assignment.away,
        tokens=assignment.tokens,
        on_visit=assignment.on_visit,
        spending=Spending(
            assignment.program.graph.limits.budget,
            began_ms=task.began_ms,
            before=task.spent,
            usages=None if replay is None else replay.usages,
        ),
        steps=task.steps,
        session=assignment.seen.session,
    )


async def _interpret(run: Run, assignment: BranchAssignment) -> None:
    task = assignment.task
    path = frame_of(task.path) if task.visit else task.path
    place = find_place(assignment.program, path)
    if place is None:
        raise JournalMismatch(
            f"run {task.run}: the graph does not lead to {task.path!r}", run_id=task.run, path=task.path
        )
    body, children = place
    frame = Frame(
        run=run,
        path=path,
        body=body,
        context=_context_of(task, assignment.seen),
        replaying=assignment.replay is not None,
        consumes=assignment.seen.consumes,
    )
    if task.visit:
        await _visit(frame, children, task)
    elif not facts_of(body, task.sequence).branches:
        await run_frame(frame, task.sequence)
    else:
        try:
            async with anyio.create_task_group() as run.tasks:
                await run_frame(frame, task.sequence)
        except BaseExceptionGroup as group:
            raise sole_error(group) from group


async def _visit(frame: Frame, children: Sequence[Step], task: BranchTask) -> None:
    """One agent's visit, named as the frame that it belongs to would name it."""
    node_id = task.sequence[0]
    frame.counts[node_id] = task.visit - 1
    step = next((child for child in children if child.node.id == node_id), None) or frame.body.steps[node_id]
    await visit_step(frame, step)


def _context_of(task: BranchTask, seen: Seen) -> Context:
    variables: dict[str, Json] = dict(seen.variables)
    if task.name:
        variables |= {task.name: decode_json(msgspec.Raw(task.item)), "index": task.index}
    loop = seen.loop
    return Context(
        base=seen.outputs,
        loop=None
        if loop is None
        else LoopView(
            number=loop.number,
            past=loop.past,
            metadata=loop.metadata,
            threshold=loop.threshold,
            scoring=loop.scoring,
        ),
        variables=variables,
        before=seen.before,
        inner=seen.inner or bool(task.name),
        group=Path(seen.group),
    )


def find_place(program: Program, frame: Path) -> tuple[Body, Sequence[Step]] | None:
    """The body in whose steps the ids of a frame are looked up, that of the innermost loop around it, and before them
    the children of the failover whose child the frame is. None for a path that the graph does not have."""
    body = program.body
    children: Sequence[Step] = ()
    for segment in frame.split("/") if frame else ():
        name = FRAME_SUFFIX.sub("", segment)
        node_id = NodeId(unescape(name.rpartition("#")[0] or name))
        step = next((child for child in children if child.node.id == node_id), None) or body.steps.get(node_id)
        if step is None:
            return None
        if segment.endswith("]"):
            if step.body is None:
                return None
            body = step.body
        children = step.children
    return body, children
