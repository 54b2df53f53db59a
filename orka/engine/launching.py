"""Runs the branches of a fork or a map: those that stay in tasks of this process, the others through the shared queues."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import anyio

from orka.engine.branches import OpenFork, RunFrame, branch_frame, late_branch, run_branch
from orka.engine.context import BranchClosed, RecallEnded
from orka.engine.recalling import recall_given_up
from orka.engine.remote import Departure, close_rest, queues_of
from orka.journal.entries import NodeFinished
from orka.types import Json


def launch(run_frame: RunFrame, fork: OpenFork, limit: int | None, sequential: bool) -> None:
    """Starts the branches, at most `limit` at once. What leaves is on its way with the entry that opened the fork."""
    total = len(fork.branches)
    replay = fork.frame.run.replay
    committed = replay.joins.get(fork.path) if replay is not None else None
    # What has been decided is in the journal as a whole; the journal answers here.
    leaving = {} if committed is not None or sequential else queues_of(fork)
    if leaving:
        fork.departure = Departure(fork, leaving, limit)
        if replay is None:
            fork.departure.send_some()
    wanted = range(total) if committed is None or committed.settled is None else committed.settled
    staying = wanted if not leaving else [index for index in wanted if index not in leaving]
    at_once = min(1 if sequential else limit or total, total - len(leaving))
    fork.frame.run.start(_run_branches, run_frame, fork, staying, at_once, sequential, committed)


async def _run_branches(
    run_frame: RunFrame,
    fork: OpenFork,
    staying: Iterable[int],
    at_once: int,
    sequential: bool,
    committed: NodeFinished | None,
) -> None:
    """A branch's failure is data; what ends the run passes."""
    waiting = iter(staying)
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
            if fork.departure is not None and not at_once:
                await fork.departure.run(run_frame)
            else:
                async with anyio.create_task_group() as group:
                    if fork.departure is not None:
                        group.start_soon(fork.departure.run, run_frame)
                    for _ in range(at_once):
                        group.start_soon(_run_some, run_frame, fork, waiting, late, carried)
        if not fork.closed and fork.scope.cancelled_caught:
            for index in range(len(fork.branches)):
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
            settled = await recall_given_up(run_frame, fork, index) or await run_branch(run_frame, fork, index, frame)
        except (BranchClosed, RecallEnded):  # of a recalled branch: it was cut off here
            return
        if carried is not None:
            carried.update(frame.context.outputs)
        fork.settle(index, settled)
