"""Branches under way: what a fork or a map has opened, until its join has decided.

Their tasks live in the run's task group, below a cancel scope of the fork's own. Branch outputs enter the parent at the
join, in declared order. A join's commit closes the fork before the losers are cancelled; what they still write is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from orka.engine.context import Context, Frame, RecallEnded, Run, SequenceStopped
from orka.engine.cutting import cut_frame
from orka.engine.joining import Branch, Verdict, decide
from orka.engine.program import Step
from orka.engine.steps import Steps
from orka.errors import RunTimeout
from orka.graph.nodes import ForkNode, MapNode
from orka.journal.entries import RULES, Kind, NodeFinished
from orka.journal.paths import member
from orka.results import Failure, NodeResult
from orka.types import Json, NodeId, Path

if TYPE_CHECKING:
    from orka.engine.remote import Departure

RunFrame = Callable[[Frame, Sequence[NodeId]], Awaitable[None]]


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
    changed: anyio.Event | None = None
    """Set, and gone, when a branch has ended; there while somebody waits."""
    departure: Departure | None = None
    """Of the branches that leave this process."""
    before: int = field(init=False)
    """Where the branches count their steps from."""

    def __post_init__(self) -> None:
        self.before = self.frame.context.before + len(self.frame.context.results)

    @property
    def unread(self) -> bool:
        """Of a completed run that is read again: its frame ended before it was joined, and nothing of it is asked for."""
        replay = self.frame.run.replay
        return replay is not None and replay.complete and self.path not in replay.joins

    def parked(self) -> AbstractAsyncContextManager[object]:
        """Entered while a sequence does nothing but wait for its branches."""
        away, node = self.frame.run.away, self.step.node
        here = isinstance(node, ForkNode) and node.mode == "sequential"
        return contextlib.nullcontext() if away is None or here else away.parked()

    def settle(self, index: int, settled: Settled) -> None:
        self.settled[index] = settled
        self.order.append((index, settled.ok))
        self.wake()

    def wake(self) -> None:
        """Whoever waits should look again."""
        if self.changed is not None:
            self.changed.set()
            self.changed = None

    async def wait(self) -> None:
        """Returns when a branch has ended. `RecallEnded` when none will any more."""
        if self.done.is_set() and self.frame.run.recalling:
            raise RecallEnded(self.path)
        if self.changed is None:
            self.changed = anyio.Event()
        await self.changed.wait()

    async def close(self) -> None:
        """Nothing more of it is written; what still runs is cancelled and waited for."""
        self.closed = True
        self.joined = True
        if not self.done.is_set():
            self.scope.cancel()
            with anyio.CancelScope(shield=True):
                await self.done.wait()
        if self.departure is not None:
            self.departure.close()
        replay = self.frame.run.replay
        if replay is not None and any(i not in self.settled or self.settled[i].late for i in range(len(self.branches))):
            replay.closed.add(self.path)

    def branch(self, index: int, *, ended: bool = True) -> Branch:
        """What a join sees of a fork's branch. `ended`: it had, when the join decided."""
        settled = self.settled.get(index)
        members = self.step.members[index]
        if settled is None or not ended:
            return Branch(members=members, outputs={}, failed=(), ended=False)
        context = settled.context
        return Branch(members=members, outputs=context.outputs, failed=tuple(context.failed), error=settled.error)

    def cut(self, index: int) -> Iterator[NodeResult]:
        """The records of a branch that was cut off, by time or because it was not needed."""
        parent, settled = self.frame.context, self.settled.get(index)
        context = parent.child(group=self.path, inner=parent.inner or self.items is not None)
        error = settled.error if settled is not None and settled.late else None
        return cut_frame(context, member(self.path, index), self.frame.body, self.branches[index], self.at_ms, error)


async def wait_for(fork: OpenFork, indexes: Iterable[int]) -> None:
    """Returns when these branches have ended."""
    wanted, read = set(indexes), 0
    if wanted and fork.unread:
        assert fork.frame.run.replay is not None
        raise fork.frame.run.replay.incomplete(fork.path)
    async with fork.parked():
        while True:
            wanted.difference_update(index for index, _ in fork.order[read:])
            read = len(fork.order)
            if not wanted:
                return
            await fork.wait()


def late_branch(fork: OpenFork) -> Settled:
    timeout = fork.step.node.policy.timeout or 0
    return Settled(
        context=Context(), error=Failure(kind=RunTimeout.__name__, message=f"not done within {timeout:g} s"), late=True
    )


def branch_frame(fork: OpenFork, index: int, base: Mapping[str, Json], run: Run | None = None) -> Frame:
    """The frame of one branch. `run`: in place of the fork's own."""
    parent = fork.frame
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
    if run is not None:
        frame.run, frame.replaying, frame.item = run, True, None
    elif fork.items is not None:
        frame.item = Steps()
    return frame


async def run_branch(run_frame: RunFrame, fork: OpenFork, index: int, frame: Frame) -> Settled:
    """One branch to its end; a failure that stopped it is data."""
    error = None
    try:
        await run_frame(frame, fork.branches[index])
    except SequenceStopped as stopped:
        error = stopped.result.error
    return Settled(context=frame.context, error=error)


async def close_forks(frame: Frame) -> None:
    """The forks that a frame left open are joined at its end, in the order in which they were opened."""
    for fork in frame.opened:
        if not fork.joined:
            await close_fork(frame, fork)


async def abandon_forks(frame: Frame) -> None:
    """The frame ends by a failure or a cancellation: what it left open ends with it."""
    for fork in frame.opened:
        fork.closed = True
        fork.scope.cancel()
    for fork in frame.opened:
        if not fork.joined:
            cut = [result for index in range(len(fork.branches)) for result in fork.cut(index)]
            _place_behind(frame.context.results, fork.path, cut)
        await fork.close()


async def close_fork(frame: Frame, fork: OpenFork) -> None:
    """Joins all branches without a join node; its commit is a second entry under the fork's own path."""
    run, step = frame.run, fork.step
    committed = run.replay.joins.get(fork.path) if run.replay is not None else None
    await wait_for(fork, range(len(fork.branches)))
    verdict = decide("all", None, "continue", len(fork.branches), fork.order)
    assert verdict is not None
    if committed is None:
        late = late_of(fork, verdict)
        entry = NodeFinished(
            id=step.node.id, node=step.digest, at_ms=fork.at_ms, ms=0, fork=fork.path, late=late, rules=RULES
        )
        await frame.commit(Kind.NODE_FINISHED, fork.path, entry)
    _place_behind(frame.context.results, fork.path, enter_branches(frame, fork, verdict))
    for index in range(len(fork.branches)):  # no join has taken them in; the first failure stands in a join's message
        frame.context.failed.update(fork.settled[index].context.failed)
    await fork.close()


def enter_branches(frame: Frame, fork: OpenFork, verdict: Verdict) -> list[NodeResult]:
    """The winners' outputs enter the frame's context in declared order. Gives the branches' results, which do not yet."""
    winners, ended = frozenset(verdict.winners), frozenset(verdict.settled)
    results: list[NodeResult] = []
    for index in range(len(fork.branches)):
        if index not in ended or fork.settled[index].late:
            results.extend(fork.cut(index))
            continue
        branch = fork.settled[index].context
        results.extend(branch.results)
        if index in winners and fork.items is None:
            frame.context.outputs.update(branch.outputs)
    return results


def _place_behind(results: list[NodeResult], path: Path, branches: Sequence[NodeResult]) -> None:
    """A fork that no join waits for has its branches right behind it: nothing else says where they stand. Done at the end
    of a frame, when no step is counted by its results any more."""
    for place in range(len(results), 0, -1):
        if results[place - 1].path == path:
            results[place:place] = branches
            return
    results.extend(branches)  # a map that was cut off has no record yet


def late_of(fork: OpenFork, verdict: Verdict) -> tuple[int, ...]:
    """The branches that ran out of time, for the commit."""
    return tuple(index for index in verdict.settled if fork.settled[index].late)


def why_unsatisfied(mode: str, wanted: int | None, fork: OpenFork, seen: frozenset[int]) -> str:
    """What was asked of the branches in `seen`, and what failed."""
    failures: list[str] = []
    for index, settled in sorted(fork.settled.items()):
        if index in seen and not settled.ok:
            failure = settled.error or next(iter(settled.context.failed.values()))
            failures.append(f"branch {index}: {failure.message}")
    need = {"all": "every branch", "any": "one branch"}.get(mode, f"{wanted or 1} branches")
    shown = "; ".join(failures[:5]) + ("; ..." if len(failures) > 5 else "")
    return f"{need} had to succeed, {len(failures)} of {len(fork.branches)} failed: {shown}"
