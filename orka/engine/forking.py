"""Nodes whose branches run concurrently: fork, join and map. The fork opens, the join decides, the map does both.

A fork's tasks live in the run's task group, below a cancel scope of the fork's own. Branch outputs enter the parent at the
join, in declared order. A join's commit closes the fork before the losers are cancelled; what they still write is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import anyio

from orka.clock import monotonic
from orka.engine.context import BranchClosed, Context, Frame, Outcome, SequenceStopped, began_at
from orka.engine.joining import Branch, Verdict, decide, merge, merge_items
from orka.engine.program import Step
from orka.engine.retry import failure_of
from orka.errors import AgentError, BranchError, RunTimeout
from orka.graph.nodes import ForkNode, JoinNode, MapNode
from orka.journal.entries import Kind, NodeFinished, Opened
from orka.journal.paths import member
from orka.journal.replay import Visit
from orka.results import Failure, NodeResult
from orka.types import Json, NodeId, Path, Status

RunFrame = Callable[[Frame, Sequence[NodeId]], Awaitable[None]]

_MOST_AT_ONCE = 1000
"""Branches of one map under way at once when the file does not say."""


@dataclass(slots=True, kw_only=True)
class Settled:
    """A branch that has ended."""

    context: Context
    error: Failure | None = None
    """Why it stopped, if it did."""
    late: bool = False

    @property
    def ok(self) -> bool:
        return self.error is None and not self.context.failed


@dataclass(slots=True, kw_only=True)
class OpenFork:
    """A fork between its opening and its join. One owner: the task that runs the branches."""

    path: Path
    step: Step
    frame: Frame
    """Where it was opened."""
    branches: Sequence[tuple[NodeId, ...]]
    base: Mapping[str, Json]
    """Outputs that every branch sees."""
    at_ms: int
    items: Sequence[Json] | None = None
    """Of a map."""
    settled: dict[int, Settled] = field(default_factory=dict[int, Settled])
    order: list[tuple[int, bool]] = field(default_factory=list[tuple[int, bool]])
    """(branch, succeeded) in the order in which they ended."""
    closed: bool = False
    joined: bool = False
    merged: Json = None
    """The output of its join."""
    refused: int = 0
    """Writes of branches after the fork was closed."""
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    done: anyio.Event = field(default_factory=anyio.Event)
    changed: anyio.Event = field(default_factory=anyio.Event)
    before: int = field(init=False)
    """Where the branches count their steps from."""

    def __post_init__(self) -> None:
        self.before = self.frame.context.before + len(self.frame.context.results)

    def settle(self, index: int, settled: Settled) -> None:
        self.settled[index] = settled
        self.order.append((index, settled.ok))
        self.changed.set()
        self.changed = anyio.Event()

    async def close(self) -> None:
        """Nothing more of it is written; what still runs is cancelled and waited for."""
        self.closed = True
        self.joined = True
        if not self.done.is_set():
            self.scope.cancel()
            with anyio.CancelScope(shield=True):
                await self.done.wait()
        replay = self.frame.run.replay
        if replay is not None and any(i not in self.settled or self.settled[i].late for i in range(len(self.branches))):
            replay.closed.add(self.path)

    def branch(self, index: int, *, ended: bool = True) -> Branch:
        """What a join sees of a branch. `ended`: it had, when the join decided."""
        settled = self.settled.get(index)
        members = self.step.members[index] if self.items is None else self.branches[index]
        if settled is None or not ended:
            return Branch(members=members, outputs={}, failed=(), ended=False)
        context = settled.context
        return Branch(members=members, outputs=context.outputs, failed=tuple(context.failed), error=settled.error)


async def visit_fork(
    run_frame: RunFrame, frame: Frame, step: Step, node: ForkNode, path: Path, seen: Visit | None
) -> None:
    """Opens the branches and goes on; a nested list of `targets` is joined at once."""
    began = monotonic()
    at_ms = began_at(seen)
    fork = OpenFork(
        path=path, step=step, frame=frame, branches=node.branches, base=frame.context.snapshot(), at_ms=at_ms
    )
    if seen is None or seen.opened is None:
        frame.write(
            Kind.FORK_OPENED, path, Opened(id=node.id, node=step.digest, at_ms=at_ms, branches=len(node.branches))
        )
    agents: list[Json] = [member_id for branch in step.members for member_id in branch]
    frame.record(
        NodeResult(
            path=path,
            node_id=node.id,
            event_type=step.event_type,
            status=Status.SUCCESS,
            output={"status": "forked", "fork_group": path, "agents": agents, "mode": node.mode},
            started_ms=at_ms,
            duration_ms=round((monotonic() - began) * 1000, 3),
            group=frame.context.group,
            inner=frame.context.inner,
        )
    )
    frame.context.forks[node.id] = fork
    frame.opened.append(fork)
    frame.run.tasks.start_soon(_run_branches, run_frame, fork, node.max_concurrency, node.mode == "sequential")
    if node.awaited:
        await _close_implicitly(frame, fork)


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
        await _wait_for(fork, range(len(fork.branches)) if among is None else among)
        late = seen.finished.error is not None and seen.finished.error.kind == RunTimeout.__name__
        verdict = _decide(node, fork, among)
    else:
        with anyio.move_on_after(node.policy.timeout) as limit:
            while (verdict := _decide(node, fork)) is None:
                await fork.changed.wait()
        late = verdict is None and limit.cancelled_caught
    if verdict is None:
        settled = tuple(index for index, _ in fork.order) if among is None else among
        verdict = Verdict(satisfied=False, settled=settled, winners=tuple(sorted(settled)))
    outcome = _join_outcome(node, fork, verdict, late)
    fork.merged = outcome.output
    fork.closed = True
    _enter(frame, fork, verdict)
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
    error = None
    if late:
        left = len(fork.branches) - len(verdict.settled)
        error = Failure(
            kind=RunTimeout.__name__,
            message=f"{left} of {len(fork.branches)} branches were not done within the timeout",
        )
    elif not verdict.satisfied:
        error = Failure(kind=BranchError.__name__, message=_why(node.mode, node.min_success, fork, seen))
    return Outcome(
        output=output, error=error, fork=fork.path, settled=_compact(verdict, fork), late=_late(fork, verdict)
    )


def _why(mode: str, wanted: int | None, fork: OpenFork, seen: frozenset[int]) -> str:
    failures: list[str] = []
    for index, settled in sorted(fork.settled.items()):
        if index in seen and not settled.ok:
            failure = settled.error or next(iter(settled.context.failed.values()))
            failures.append(f"branch {index}: {failure.message}")
    need = {"all": "every branch", "any": "one branch"}.get(mode, f"{wanted or 1} branches")
    shown = "; ".join(failures[:5]) + ("; ..." if len(failures) > 5 else "")
    return f"{need} had to succeed, {len(failures)} of {len(fork.branches)} failed: {shown}"


def _compact(verdict: Verdict, fork: OpenFork) -> tuple[int, ...] | None:
    """All branches in a commit are not written: the order of their ends decides nothing then."""
    return (
        None
        if len(verdict.settled) == len(fork.branches) and len(verdict.winners) == len(fork.branches)
        else verdict.settled
    )


def _late(fork: OpenFork, verdict: Verdict) -> tuple[int, ...]:
    return tuple(index for index in verdict.settled if fork.settled[index].late)


def _enter(frame: Frame, fork: OpenFork, verdict: Verdict) -> None:
    """The branches' results, and the winners' outputs, enter the frame's context in declared order."""
    context = frame.context
    winners = frozenset(verdict.winners)
    for index in sorted(verdict.settled):
        branch = fork.settled[index].context
        context.results.extend(branch.results)
        if index in winners and fork.items is None:
            context.outputs.update(branch.outputs)


async def visit_map(
    run_frame: RunFrame, frame: Frame, step: Step, node: MapNode, path: Path, seen: Visit | None
) -> None:
    """Runs its sequence once per item, and gives `{results, failed}` in the list's order."""
    at_ms, began = began_at(seen), monotonic()
    if seen is not None and seen.finished is not None and seen.opened is None:
        outcome = Outcome(error=seen.finished.error, status=seen.finished.status)
        await frame.settle(step, path, outcome, seen=seen, at_ms=at_ms, began=began)
        return
    try:
        items = await _items_of(frame, step, node, path, seen, at_ms)
    except AgentError as exc:
        await frame.settle(step, path, Outcome(error=failure_of(exc)), seen=seen, at_ms=at_ms, began=began)
        return
    fork = OpenFork(
        path=path,
        step=step,
        frame=frame,
        branches=_Repeated(node.sequence, len(items)),
        base=frame.context.snapshot(),
        at_ms=at_ms,
        items=items,
    )
    frame.opened.append(fork)
    limit = node.max_concurrency or _MOST_AT_ONCE
    frame.run.tasks.start_soon(_run_branches, run_frame, fork, limit, False)
    await _wait_for(fork, range(len(items)))
    verdict = decide("all", None, node.on_failure, len(items), fork.order)
    assert verdict is not None
    fork.closed = True
    _enter(frame, fork, verdict)
    output = merge_items([fork.branch(index) for index in range(len(items))])
    error = None
    if not verdict.satisfied:
        error = Failure(kind=BranchError.__name__, message=_why("all", None, fork, frozenset(verdict.settled)))
    outcome = Outcome(output=output, error=error, fork=path, late=_late(fork, verdict))
    try:
        await frame.settle(step, path, outcome, seen=seen, at_ms=at_ms, began=began)
    finally:
        await fork.close()


async def _items_of(frame: Frame, step: Step, node: MapNode, path: Path, seen: Visit | None, at_ms: int) -> list[Json]:
    """The list, as journaled when the map was opened before. `AgentError` if it is none."""
    if seen is not None and seen.opened is not None:
        items = await frame.run.load(seen.opened.items)
        assert isinstance(items, list)
        return items
    assert step.items is not None
    items = step.items.evaluate(frame.view(node.id, at_ms))
    if not isinstance(items, list):
        shown = "nothing" if items is None else f"a {type(items).__name__}"
        raise AgentError(f"`items: {node.items}` gives {shown}, not a list", kind="ItemsNotList")
    stored, values = frame.run.codec.store(items)
    frame.write(
        Kind.MAP_OPENED,
        path,
        Opened(id=node.id, node=step.digest, at_ms=at_ms, branches=len(items), items=stored),
        values,
    )
    return items


class _Repeated(Sequence[tuple[NodeId, ...]]):
    """One sequence, many times."""

    def __init__(self, sequence: tuple[NodeId, ...], times: int) -> None:
        self._sequence = sequence
        self._times = times

    def __getitem__(self, index: int) -> tuple[NodeId, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._sequence

    def __len__(self) -> int:
        return self._times


async def _wait_for(fork: OpenFork, indexes: Sequence[int]) -> None:
    wanted = set(indexes)
    while not wanted <= fork.settled.keys():
        await fork.changed.wait()


async def _run_branches(run_frame: RunFrame, fork: OpenFork, limit: int | None, sequential: bool) -> None:
    """Runs the branches, at most `limit` at once. A branch's failure is data; what ends the run passes."""
    total = len(fork.branches)
    replay = fork.frame.run.replay
    committed = replay.joins.get(fork.path) if replay is not None else None
    wanted = iter(range(total) if committed is None or committed.settled is None else committed.settled)
    late = frozenset(committed.late) if committed is not None else frozenset[int]()
    carried: dict[str, Json] | None = {} if sequential else None
    try:
        with fork.scope:
            timeout = fork.step.node.policy.timeout
            if timeout is not None and committed is None:  # a decision that was made is not made again
                fork.scope.deadline = anyio.current_time() + timeout
            async with anyio.create_task_group() as group:
                for _ in range(min(1 if sequential else limit or total, total)):
                    group.start_soon(_run_some, run_frame, fork, wanted, late, carried)
        if not fork.closed and fork.scope.cancelled_caught:
            for index in range(total):
                if index not in fork.settled:
                    fork.settle(index, _late_branch(fork))
    finally:
        fork.done.set()


def _late_branch(fork: OpenFork) -> Settled:
    timeout = fork.step.node.policy.timeout or 0
    return Settled(
        context=Context(), error=Failure(kind=RunTimeout.__name__, message=f"not done within {timeout:g} s"), late=True
    )


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
            fork.settle(index, _late_branch(fork))
            continue
        parent = fork.frame
        base = fork.base if carried is None else {**fork.base, **carried}
        context = parent.context.child(base=base, before=fork.before, group=fork.path)
        if fork.items is not None:
            assert isinstance(fork.step.node, MapNode)
            context.variables = {
                **parent.context.variables,
                fork.step.node.name: fork.items[index],
                "index": index,
            }
            context.inner = True
        frame = parent.inside(member(fork.path, index), context=context)
        frame.fences = (*parent.fences, fork)
        error = None
        try:
            await run_frame(frame, fork.branches[index])
        except SequenceStopped as stopped:
            error = stopped.result.error
        except BranchClosed:
            return
        if carried is not None:
            carried.update(context.outputs)
        fork.settle(index, Settled(context=context, error=error))


async def close_forks(frame: Frame) -> None:
    """The forks that a frame left open are joined at its end, in the order in which they were opened."""
    for fork in frame.opened:
        if not fork.joined:
            await _close_implicitly(frame, fork)


async def abandon_forks(frame: Frame) -> None:
    """The frame ends by a failure or a cancellation: what it left open ends with it."""
    for fork in frame.opened:
        fork.closed = True
        fork.scope.cancel()
    for fork in frame.opened:
        await fork.close()


async def _close_implicitly(frame: Frame, fork: OpenFork) -> None:
    """Joins all branches without a join node; its commit is a second entry under the fork's own path."""
    run, step = frame.run, fork.step
    committed = run.replay.joins.get(fork.path) if run.replay is not None else None
    await _wait_for(fork, range(len(fork.branches)))
    verdict = decide("all", None, "continue", len(fork.branches), fork.order)
    assert verdict is not None
    if committed is None:
        frame.write(
            Kind.NODE_FINISHED,
            fork.path,
            NodeFinished(
                id=step.node.id, node=step.digest, at_ms=fork.at_ms, ms=0, fork=fork.path, late=_late(fork, verdict)
            ),
        )
    _enter(frame, fork, verdict)
    for settled in fork.settled.values():  # no join has taken them in
        frame.context.failed.update(settled.context.failed)
    await fork.close()
