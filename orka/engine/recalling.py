"""How the answer of a branch that another process has executed becomes a settled branch here.

The branch is interpreted once more over its entries, with nothing left to execute.
"""

from __future__ import annotations

from collections.abc import Iterable

import anyio

from orka.dispatch.sender import Answer
from orka.dispatch.task import decode_reply
from orka.engine.branches import OpenFork, RunFrame, Settled, branch_frame, run_branch
from orka.engine.context import RecallEnded, Run
from orka.engine.needs import facts_of
from orka.errors import JournalMismatch, RunError, StepsExceeded, sole_error
from orka.journal.entries import BranchFinished, Row, decode_body
from orka.journal.paths import member
from orka.journal.replay import build_replay
from orka.types import Path, RunId


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
    settled, whole = await recall_frame(run_frame, fork, index, run)
    if not whole and finished.error is None:
        return None
    if settled.error is None:
        settled.error = finished.error
    if fork.items is None:
        fork.frame.counter.steps += finished.steps
    return settled


async def recall_frame(run_frame: RunFrame, fork: OpenFork, index: int, run: Run) -> tuple[Settled, bool]:
    """A branch interpreted over its entries; where they end, it ends. Also whether they reach to its end."""
    frame = branch_frame(fork, index, fork.base, run)
    settled = Settled(context=frame.context)
    try:
        if facts_of(frame.body, tuple(fork.branches[index])).branches:
            async with anyio.create_task_group() as run.tasks:
                settled = await run_branch(run_frame, fork, index, frame)
        else:
            settled = await run_branch(run_frame, fork, index, frame)
    except RecallEnded:
        return settled, False
    except BaseExceptionGroup as group:
        error = sole_error(group)
        if not isinstance(error, RecallEnded):
            raise error from group
        return settled, False
    return settled, True


def incomplete(run: Run, path: Path) -> JournalMismatch:
    message = f"run {run.run_id}: the journal does not tell the whole of branch {path!r}, however often it is executed"
    return JournalMismatch(message, run_id=run.run_id, path=path)


def raise_if_fatal(run: Run, path: Path, finished: BranchFinished) -> None:
    """What went wrong in the branch is the whole run's failure."""
    if finished.fatal and finished.error is not None:
        kind = StepsExceeded if finished.error.kind == StepsExceeded.__name__ else RunError
        raise kind(finished.error.message, run_id=run.run_id, path=path)
