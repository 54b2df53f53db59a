"""One run from its first visit to its last entry: what surrounds the interpreter."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import anyio

from orka.clock import monotonic, now_ms
from orka.engine.answer import Answer, find_answer
from orka.engine.auditing import RunAudit
from orka.engine.away import Away
from orka.engine.calls import Calls
from orka.engine.context import Context, Frame, Run, SequenceStopped
from orka.engine.executor import run_frame
from orka.engine.notes import watcher
from orka.engine.program import Program
from orka.engine.retry import failure_of
from orka.engine.spending import Spending, warnings_of
from orka.errors import BudgetExceeded, OrkaError, RunCancelled, RunTimeout, StepsExceeded, sole_error
from orka.journal.entries import Kind, RunEnded, ValueCodec, make_entry
from orka.journal.log import FAREWELL, RunLog
from orka.journal.paths import ROOT
from orka.journal.registry import Registry
from orka.journal.replay import Replay
from orka.journal.terms import Ending
from orka.journal.tokens import RunTokens
from orka.results import Failure, NodeResult, RunResult
from orka.types import Json, Path, RunStatus, Status

_CANCELLED = Failure(kind=RunCancelled.__name__, message="somebody else cancelled it (`orka cancel`)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What one process is to run, with the lease in its hands."""

    program: Program
    log: RunLog
    input: Json
    deadline_ms: int | None = None
    """Absolute, milliseconds since the epoch."""
    replay: Replay | None = None
    away: Away | None = None
    """How branches get to other processes; None: they stay in this one."""
    tokens: RunTokens | None = None
    """Where agents emit to; None: nobody watches."""
    spending: Spending = field(default_factory=Spending)
    session: str = ""
    """That the caller has given; empty: none."""
    audit: RunAudit | None = None
    """Told how it ends, and of visits; None: nobody is."""


async def execute(
    task: Assignment, *, registry: Registry, calls: Calls, codec: ValueCodec, retention_ms: int
) -> RunResult:
    """Runs to the end and writes it. A failed run is a result; raised is what keeps a run from ending at all:
    `LeaseLost`, `JournalUnavailable`, `JournalMismatch`. Cancelling writes `run.cancelled`, unless the
    end was being written already: a run has one end."""
    began, context = monotonic(), Context()
    log = task.log
    try:
        result = await _to_the_end(task, context, began, registry, calls, codec, retention_ms)
    except anyio.get_cancelled_exc_class():
        # The cancellation goes on, whatever becomes of the farewell.
        with anyio.move_on_after(FAREWELL, shield=True), contextlib.suppress(OrkaError):
            if log.ending is not None:
                await log.barrier()
            elif log.failure is None:
                await _end(task, context, RunStatus.CANCELLED, began, retention_ms)
        if task.audit is not None and isinstance(log.ending, Ending) and log.over:
            task.audit.ended(_result(task, context, RunStatus(log.ending.status), began))
        raise
    if task.audit is not None:
        task.audit.ended(result)
    return result


async def _to_the_end(
    task: Assignment,
    context: Context,
    began: float,
    registry: Registry,
    calls: Calls,
    codec: ValueCodec,
    retention_ms: int,
) -> RunResult:
    log = task.log
    stopped: NodeResult | None = None
    unwanted = False
    inside = None if task.away is None else task.away.inside
    try:
        with _scope(task) as scope:

            def cancel() -> None:
                nonlocal unwanted
                unwanted = True
                scope.cancel()

            log.on_failure, log.on_cancel = scope.cancel, cancel
            try:
                async with contextlib.nullcontext() if inside is None else inside():
                    await _interpret(task, context, registry=registry, calls=calls, codec=codec)
            except SequenceStopped as exc:
                stopped = exc.result
        if log.failure is not None:
            raise log.failure
        if scope.cancelled_caught and unwanted:
            return await _end(task, context, RunStatus.CANCELLED, began, retention_ms, error=_CANCELLED)
        if scope.cancelled_caught:
            error: Failure | None = Failure(kind=RunTimeout.__name__, message=_overdue(task))
            return await _end(task, context, RunStatus.FAILED, began, retention_ms, error=error)
        error, path = _why_failed(stopped, context.results)
        if error is not None:
            return await _end(task, context, RunStatus.FAILED, began, retention_ms, error=error, path=path)
        answer = find_answer(context.results)
        return await _end(task, context, RunStatus.COMPLETED, began, retention_ms, answer=answer)
    except (StepsExceeded, BudgetExceeded) as exc:
        return await _end(task, context, RunStatus.FAILED, began, retention_ms, error=failure_of(exc))


async def read_again(task: Assignment, *, registry: Registry, calls: Calls, codec: ValueCodec) -> RunResult:
    """A completed run as it was: the journal answers for every visit, nothing is executed and nothing written.
    `JournalMismatch` when it does not have them all."""
    began, context = monotonic(), Context()
    assert task.replay is not None
    task.replay.complete = True
    await _interpret(task, context, registry=registry, calls=calls, codec=codec)
    return _result(task, context, RunStatus.COMPLETED, began, answer=find_answer(context.results))


def _scope(task: Assignment) -> anyio.CancelScope:
    if task.deadline_ms is None:
        return anyio.CancelScope()
    left = max(0.0, (task.deadline_ms - now_ms()) / 1000)
    return anyio.CancelScope(deadline=anyio.current_time() + left)


def _overdue(task: Assignment) -> str:
    deadline = task.program.graph.limits.deadline
    return f"the run's deadline of {deadline:g} s has passed" if deadline else "the run's deadline has passed"


async def _interpret(
    task: Assignment, context: Context, *, registry: Registry, calls: Calls, codec: ValueCodec
) -> None:
    """Walks the graph in a task group for its forks; of several errors at once the first is raised alone."""
    try:
        async with anyio.create_task_group() if task.program.forks else contextlib.nullcontext() as tasks:
            run = Run(
                run_id=task.log.run_id,
                program=task.program,
                input=task.input,
                log=task.log,
                codec=codec,
                registry=registry,
                calls=calls,
                tasks=tasks,
                replay=task.replay,
                away=task.away,
                on_begin=watcher(),
                on_visit=None if task.audit is None else task.audit.on_visit,
                tokens=task.tokens,
                spending=task.spending,
                session=task.session,
            )
            frame = Frame(
                run=run, path=ROOT, body=task.program.body, context=context, replaying=task.replay is not None
            )
            await run_frame(frame, task.program.body.sequence)
    except BaseExceptionGroup as group:
        raise sole_error(group) from group
    if task.replay is not None:
        task.replay.at_end()


def _why_failed(stopped: NodeResult | None, results: Sequence[NodeResult]) -> tuple[Failure, Path] | tuple[None, None]:
    """A run fails when a visit stopped it, or when nothing answered and something failed."""
    if stopped is not None and stopped.error is not None:
        return stopped.error, stopped.path
    if find_answer(results) is None:
        for result in reversed(results):
            if result.status is Status.ERROR and result.error is not None:
                return result.error, result.path
    return None, None


async def _end(
    task: Assignment,
    context: Context,
    status: RunStatus,
    began: float,
    retention_ms: int,
    *,
    answer: Answer | None = None,
    error: Failure | None = None,
    path: Path | None = None,
) -> RunResult:
    completed = status is RunStatus.COMPLETED
    warnings = warnings_of(task.spending, context.results, now_ms()) if completed else ()
    body = RunEnded(
        answers=answer.paths if answer is not None else (),
        many=answer.many if answer is not None else False,
        error=error,
        path=path or "",
        warnings=warnings,
    )
    kind = {
        RunStatus.COMPLETED: Kind.RUN_COMPLETED,
        RunStatus.FAILED: Kind.RUN_FAILED,
        RunStatus.CANCELLED: Kind.RUN_CANCELLED,
    }[status]
    await task.log.end(make_entry(kind, "", body), Ending(status=str(status), retention_ms=retention_ms))
    result = _result(task, context, status, began, answer=answer, error=error, path=path)
    return replace(result, warnings=warnings) if warnings else result


def _result(
    task: Assignment,
    context: Context,
    status: RunStatus,
    began: float,
    *,
    answer: Answer | None = None,
    error: Failure | None = None,
    path: Path | None = None,
) -> RunResult:
    return RunResult(
        run_id=task.log.run_id,
        status=status,
        output=answer.value if answer is not None else None,
        results=tuple(context.results),
        usage=task.spending.total,
        duration_ms=round((monotonic() - began) * 1000, 3),
        error=error,
        error_path=path,
    )
