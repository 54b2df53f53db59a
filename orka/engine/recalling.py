"""How the answer of a branch that another process has executed becomes a settled branch here.

The branch is interpreted once more over its entries, with nothing left to execute.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import anyio
import msgspec

from orka.dispatch.sender import Answer
from orka.dispatch.task import decode_reply
from orka.engine.branches import OpenFork, RunFrame, Settled, branch_frame, run_branch
from orka.engine.context import RecallEnded, Run
from orka.engine.needs import facts_of
from orka.errors import BudgetExceeded, JournalMismatch, RunError, StepsExceeded, sole_error
from orka.journal.entries import BranchFinished, Row, decode_body
from orka.journal.paths import member, named_in
from orka.journal.replay import Replay, build_replay
from orka.results import Failure, NodeResult
from orka.types import Path, RunId, Status


async def entries_of(run: Run, answer: Answer) -> list[Row]:
    if answer.entries:
        return [
            Row(kind, Path(path), decode_body(kind, bytes(data), run_id=run.run_id, path=path))
            for kind, path, data in decode_reply(answer.entries)
        ]
    return await run.registry.branch_history(RunId(run.run_id), answer.path, answer.first, answer.last)


async def recall(run_frame: RunFrame, fork: OpenFork, index: int, entries: Iterable[Row], run: Run) -> Settled | None:
    """The branch that these entries are the whole of. `run` interprets them and nothing else. None when they are not,
    although it came to its end: the server was killed and has lost what a branch of its own had handed over."""
    path = member(fork.path, index)
    replay = build_replay(run.run_id, entries, whole=True)
    finished = replay.branches.get(path)
    if finished is None:
        return None
    raise_if_fatal(run, path, finished)
    run.replay, run.steps, run.tasks = replay, 0, None
    settled, ended = await recall_frame(run_frame, fork, index, run)
    if ended is not None and finished.error is None:
        return None
    _fail(fork, path, settled, ended, finished.error, replay)
    if fork.items is None:
        fork.frame.counter.steps += finished.steps
    return settled


async def recall_given_up(run_frame: RunFrame, fork: OpenFork, index: int) -> Settled | None:
    """A branch whose task was given up, as the journal of the run being resumed has it. None for any other branch."""
    path, replay = member(fork.path, index), fork.frame.run.replay
    error = None if replay is None else replay.given_up(path)
    if replay is None or error is None:
        return None
    replay.elsewhere.add(path)  # what was under way beside the visit at which it ended is not asked for
    run = dataclasses.replace(fork.frame.run, recalling=True, away=None, tasks=None)
    settled, ended = await recall_frame(run_frame, fork, index, run)
    _fail(fork, path, settled, ended, error, replay)
    return settled


async def recall_frame(run_frame: RunFrame, fork: OpenFork, index: int, run: Run) -> tuple[Settled, Path | None]:
    """A branch interpreted over its entries, and the visit at which they end, if that is not its own end."""
    frame = branch_frame(fork, index, fork.base, run)
    settled = Settled(context=frame.context)
    try:
        if facts_of(frame.body, tuple(fork.branches[index])).branches:
            async with anyio.create_task_group() as run.tasks:
                settled = await run_branch(run_frame, fork, index, frame)
        else:
            settled = await run_branch(run_frame, fork, index, frame)
    except RecallEnded as ended:
        return settled, Path(ended.args[0])
    except BaseExceptionGroup as group:
        error = sole_error(group)
        if not isinstance(error, RecallEnded):
            raise error from group
        return settled, Path(error.args[0])
    return settled, None


def _fail(
    fork: OpenFork, path: Path, settled: Settled, ended: Path | None, error: Failure | None, replay: Replay
) -> None:
    """`error` is why the branch stopped. If its entries just end, the member that was under way there has failed with it:
    else no log would tell of it."""
    settled.error = settled.error or error
    if ended is None or error is None:
        return
    at, name = named_in(path, ended)
    context, visit, step = settled.context, replay.visits.get(at), fork.frame.body.steps[name]
    context.failed[name] = error
    for place, result in enumerate(context.results):
        if result.path == at:  # a fork that waits for its branches
            context.results[place] = msgspec.structs.replace(result, status=Status.ERROR, error=error)
            return
    failed = NodeResult(
        path=at,
        node_id=name,
        event_type=step.event_type,
        status=Status.ERROR,
        error=error,
        attempts=1 + (0 if visit is None else visit.attempts),
        started_ms=visit.at_ms if visit is not None and visit.at_ms else fork.at_ms,
        group=context.group,
        inner=context.inner,
    )
    context.results.append(failed)


def incomplete(run: Run, path: Path) -> JournalMismatch:
    message = f"run {run.run_id}: the journal does not tell the whole of branch {path!r}, however often it is executed"
    return JournalMismatch(message, run_id=run.run_id, path=path)


def raise_if_fatal(run: Run, path: Path, finished: BranchFinished) -> None:
    """What went wrong in the branch is the whole run's failure."""
    if finished.fatal and finished.error is not None:
        kinds = {kind.__name__: kind for kind in (StepsExceeded, BudgetExceeded)}
        kind = kinds.get(finished.error.kind, RunError)
        raise kind(finished.error.message, run_id=run.run_id, path=path)
