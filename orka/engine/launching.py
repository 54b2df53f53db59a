"""Runs the branches of a fork or a map: those that stay in tasks of this process, the others through the shared queues."""

from __future__ import annotations

from collections.abc import Iterator

import anyio

from orka.engine.branches import OpenFork, RunFrame, branch_frame, late_branch, run_branch
from orka.engine.context import BranchClosed, RecallEnded
from orka.engine.remote import close_rest, queues_of, run_elsewhere
from orka.types import Json


async def run_branches(run_frame: RunFrame, fork: OpenFork, limit: int | None, sequential: bool) -> None:
    """Runs the branches, at most `limit` at once. A branch's failure is data; what ends the run passes."""
    total = len(fork.branches)
    replay = fork.frame.run.replay
    committed = replay.joins.get(fork.path) if replay is not None else None
    wanted = range(total) if committed is None or committed.settled is None else committed.settled
    # What has been decided is in the journal as a whole; the journal answers here.
    leaving = {} if committed is not None or sequential else queues_of(fork)
    staying = iter(wanted if not leaving else [index for index in wanted if index not in leaving])
    late = frozenset(committed.late) if committed is not None else frozenset[int]()
    carried: dict[str, Json] | None = {} if sequential else None
    try:
        if fork.unread:
            return
        if committed is not None and not sequential:
            close_rest(fork)
        with fork.scope:
            timeout = fork.step.node.policy.timeout
            if timeout is not None and committed is None:  # a decision that was made is not made again
                fork.scope.deadline = anyio.current_time() + timeout
            async with anyio.create_task_group() as group:
                if leaving:
                    group.start_soon(run_elsewhere, run_frame, fork, leaving, limit)
                for _ in range(min(1 if sequential else limit or total, total - len(leaving))):
                    group.start_soon(_run_some, run_frame, fork, staying, late, carried)
        if not fork.closed and fork.scope.cancelled_caught:
            for index in range(total):
                if index not in fork.settled:
                    fork.settle(index, late_branch(fork))
    finally:
        fork.done.set()
        fork.wake()


async def _run_some(
    run_frame: RunFrame,
    fork: OpenFork,
    wanted: Iterator[int],
    late: frozenset[int],
    carried: dict[str, Json] | None,
) -> None:
    """Takes branches one after another. `carried` collects what later branches of a sequential fork see."""
    for index in wanted:
        if index in late:
            fork.settle(index, late_branch(fork))
            continue
        frame = branch_frame(fork, index, fork.base if carried is None else {**fork.base, **carried})
        try:
            settled = await run_branch(run_frame, fork, index, frame)
        except (BranchClosed, RecallEnded):  # of a recalled branch: it was cut off here
            return
        if carried is not None:
            carried.update(frame.context.outputs)
        fork.settle(index, settled)
