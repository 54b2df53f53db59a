"""Fork and join: the one opens branches and goes on, the other waits for them and decides."""

from __future__ import annotations

import anyio

from orka.clock import monotonic
from orka.engine.branches import (
    OpenFork,
    RunFrame,
    close_fork,
    enter_branches,
    late_of,
    wait_for,
    why_unsatisfied,
)
from orka.engine.budgeting import short_of_budget
from orka.engine.context import Frame, began_at
from orka.engine.joining import Verdict, decide, merge
from orka.engine.launching import launch
from orka.engine.outcome import Outcome
from orka.engine.program import Step
from orka.errors import BranchError, RunTimeout
from orka.graph.nodes import ForkNode, JoinNode
from orka.journal.entries import Kind, Opened
from orka.journal.replay import Visit
from orka.results import Failure, NodeResult
from orka.types import Json, Path, Status


async def visit_fork(
    run_frame: RunFrame, frame: Frame, step: Step, node: ForkNode, path: Path, seen: Visit | None
) -> None:
    """Opens the branches and goes on; one that no join of the file names is joined at once."""
    at_ms = began_at(seen)
    fork = OpenFork(
        path=path, step=step, frame=frame, branches=node.branches, base=frame.context.snapshot(), at_ms=at_ms
    )
    fresh = seen is None or seen.opened is None
    if fresh:
        await frame.commit(
            Kind.FORK_OPENED, path, Opened(id=node.id, node=step.digest, at_ms=at_ms, branches=len(node.branches))
        )
    agents: list[Json] = [member_id for branch in step.members for member_id in branch]
    result = NodeResult(
        path=path,
        node_id=node.id,
        event_type=step.event_type,
        status=Status.SUCCESS,
        output={"status": "forked", "fork_group": path, "agents": agents, "mode": node.mode},
        started_ms=at_ms,
        group=frame.context.group,
        inner=frame.context.inner,
    )
    frame.record(result)
    if fresh and frame.run.on_visit is not None:
        frame.run.on_visit(result, frame.step)
    frame.context.forks[node.id] = fork
    frame.opened.append(fork)
    launch(run_frame, fork, node.max_concurrency, node.mode == "sequential")
    if node.awaited:
        await close_fork(frame, fork)


async def visit_join(frame: Frame, step: Step, node: JoinNode, path: Path, seen: Visit | None) -> None:
    """Waits for its fork, commits the decision, brings the branches' outputs in."""
    at_ms, began = began_at(seen), monotonic()
    fork = frame.context.forks.get(node.group)
    if fork is None or fork.joined:
        await frame.settle(step, path, _nothing_to_join(node, fork), seen=seen, at_ms=at_ms, began=began)
        return
    late = False
    among: tuple[int, ...] | None = None
    verdict: Verdict | None = None
    if seen is not None and seen.finished is not None:
        among = seen.finished.settled
        await wait_for(fork, range(len(fork.branches)) if among is None else among)
        late = seen.finished.error is not None and seen.finished.error.kind == RunTimeout.__name__
        verdict = _decide(node, fork, among)
    else:
        with anyio.move_on_after(node.policy.timeout) as limit:
            async with fork.parked():
                while (verdict := _decide(node, fork)) is None:
                    await fork.wait()
        late = verdict is None and limit.cancelled_caught
    if verdict is None:
        settled = tuple(index for index, _ in fork.order) if among is None else among
        verdict = Verdict(satisfied=False, settled=settled, winners=tuple(sorted(settled)))
    outcome = _join_outcome(node, fork, verdict, late)
    fork.merged = outcome.output
    fork.closed = True
    frame.context.results.extend(enter_branches(frame, fork, verdict))
    try:
        await frame.settle(step, path, outcome, seen=seen, at_ms=at_ms, began=began)
    finally:
        await fork.close()


def _nothing_to_join(node: JoinNode, fork: OpenFork | None) -> Outcome:
    """A fork that was never opened has nothing; of one that was joined before, its join's output is given again."""
    why = "has not been opened here" if fork is None else "has been joined before"
    output = fork.merged if fork is not None else None
    return Outcome(
        output=output or {"status": "done", "merged": {}, "failed": []},
        status=Status.SKIPPED,
        warnings=(f"{node.group!r} {why}, so there is nothing to wait for",),
    )


def _decide(node: JoinNode, fork: OpenFork, among: tuple[int, ...] | None = None) -> Verdict | None:
    """`among`: the journaled order, when the join has decided before."""
    order = fork.order if among is None else [(index, fork.settled[index].ok) for index in among]
    return decide(node.mode, node.min_success, node.on_failure, len(fork.branches), order)


def _join_outcome(node: JoinNode, fork: OpenFork, verdict: Verdict, late: bool) -> Outcome:
    seen = frozenset(verdict.settled)
    output = merge([fork.branch(i, ended=i in seen) for i in range(len(fork.branches))], verdict.winners)
    error, status = None, None
    if late:
        left = len(fork.branches) - len(verdict.settled)
        error = Failure(
            kind=RunTimeout.__name__,
            message=f"{left} of {len(fork.branches)} branches were not done within the timeout",
        )
    elif not verdict.satisfied:
        unpaid = short_of_budget(fork, verdict.settled)
        message = why_unsatisfied(node.mode, node.min_success, fork, seen)
        error = unpaid or Failure(kind=BranchError.__name__, message=message)
        status = None if unpaid is None else Status.SKIPPED
    return Outcome(
        output=output,
        status=status,
        error=error,
        fork=fork.path,
        settled=_compact(verdict, fork),
        late=late_of(fork, verdict),
    )


def _compact(verdict: Verdict, fork: OpenFork) -> tuple[int, ...] | None:
    """All branches in a commit are not written: the order of their ends decides nothing then."""
    return (
        None
        if len(verdict.settled) == len(fork.branches) and len(verdict.winners) == len(fork.branches)
        else verdict.settled
    )
