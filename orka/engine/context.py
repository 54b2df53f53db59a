"""The state of a run while it is interpreted: `Run` (shared), `Context` (what a branch or round sees), `Frame` (where it is)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio.abc
import anyio.lowlevel

from orka.agents.base import LoopView
from orka.clock import monotonic, now_ms
from orka.engine.auditing import OnVisit
from orka.engine.away import Away
from orka.engine.calls import Calls
from orka.engine.joining import seen_output
from orka.engine.layered import Layered
from orka.engine.notes import OnBegin
from orka.engine.outcome import Outcome, commit_of
from orka.engine.program import Body, Program, Step
from orka.engine.spending import Spending
from orka.engine.steps import Steps
from orka.graph.nodes import NO_OPTIONS
from orka.journal.entries import Body as EntryBody
from orka.journal.entries import Kind, Value, ValueCodec, make_entry
from orka.journal.log import RunLog
from orka.journal.paths import visit
from orka.journal.registry import Registry
from orka.journal.replay import Replay, Visit
from orka.journal.tokens import RunTokens
from orka.results import Failure, NodeResult
from orka.template.view import View
from orka.types import Json, NodeId, Path, Status

if TYPE_CHECKING:
    from orka.engine.branches import OpenFork

_SLICE = 0.002
"""Seconds that one run computes before others get their turn."""
_MOST_PENDING = 2048
"""Journal entries that a run may be ahead of the store."""


class SequenceStopped(Exception):
    """A visit failed whose node says `on_error: stop`: ends the frame. Caught where a branch, round or run begins."""

    def __init__(self, result: NodeResult) -> None:
        super().__init__(result.path)
        self.result = result


class BranchClosed(Exception):
    """The branch's join has decided without it: what it still does is refused."""


class RecallEnded(Exception):
    """What another process has executed of a branch ends here: at the visit whose path is its argument."""


@dataclass(slots=True, kw_only=True)
class Context:
    """Outputs that a sequence can see, and the results it has made. One owner task."""

    outputs: dict[str, Json] = field(default_factory=dict[str, Json])
    """By node id, of this context alone."""
    base: Mapping[str, Json] | None = None
    """What was visible where this context began."""
    results: list[NodeResult] = field(default_factory=list[NodeResult])
    """In declared order; branches enter at their join."""
    failed: dict[NodeId, Failure] = field(default_factory=dict[NodeId, Failure])
    """Nodes whose latest visit here failed."""
    forks: dict[NodeId, OpenFork] = field(default_factory=dict[NodeId, "OpenFork"])
    """The latest fork of each id."""
    loop: LoopView | None = None
    variables: Mapping[str, Json] = field(default_factory=lambda: NO_OPTIONS)
    given: tuple[Json] | None = None
    """What is seen as the input, where that is not the run's."""
    before: int = 0
    """Results around this context when it began: its steps are counted from there, whatever runs beside it."""
    inner: bool = False
    """Inside a loop, a map or a failover."""
    group: Path | None = None
    """The fork that this is a branch of."""

    def visible(self) -> Mapping[str, Json]:
        return self.outputs if self.base is None else Layered(self.outputs, self.base)

    def snapshot(self) -> dict[str, Json]:
        """What a branch that begins now will see, whatever this context does meanwhile."""
        return dict(self.outputs) if self.base is None else {**self.base, **self.outputs}

    def child(self, **changes: object) -> Context:
        """A context whose results shadow this one's, which must not change while the child lives."""
        values: dict[str, object] = {
            "base": self.visible(),
            "before": self.before + len(self.results),
            "loop": self.loop,
            "variables": self.variables,
            "given": self.given,
            "inner": self.inner,
            "group": self.group,
            **changes,
        }
        return Context(**values)  # pyright: ignore[reportArgumentType]


@dataclass(slots=True, kw_only=True)
class Frame:
    """A sequence under way: names its visits."""

    run: Run
    path: Path
    body: Body
    context: Context
    replaying: bool
    """The journal may still answer for this frame."""
    fences: tuple[OpenFork, ...] = ()
    """Forks that this frame is inside of, as far as this process runs them."""
    consumes: bool = False
    """Failures are taken in by the frame's owner at once (a failover's child)."""
    item: Steps | None = None
    """Counts the steps in place of the run: this frame is in an item of a map."""
    opened: list[OpenFork] = field(default_factory=list["OpenFork"])
    counts: dict[NodeId, int] = field(default_factory=dict[NodeId, int])

    def inside(self, path: Path, *, context: Context | None = None, body: Body | None = None) -> Frame:
        """A frame below this one."""
        return Frame(
            run=self.run,
            path=path,
            body=body or self.body,
            context=context or self.context,
            replaying=self.run.replay is not None,
            fences=self.fences,
            consumes=self.consumes,
            item=self.item,
        )

    @property
    def step(self) -> int:
        """Of the visit that was recorded last."""
        return self.context.before + len(self.context.results)

    @property
    def counter(self) -> Steps | Run:
        return self.item or self.run

    @property
    def input(self) -> Json:
        """What agents and templates of this frame see as the run's input."""
        given = self.context.given
        return self.run.input if given is None else given[0]

    def next_path(self, step: Step) -> Path:
        node_id = step.node.id
        number = self.counts.get(node_id, 0) + 1
        self.counts[node_id] = number
        return visit(self.path, step.escaped, number)

    def seen(self, path: Path, step: Step) -> Visit | None:
        """What the journal knows of a visit. `JournalMismatch` if it belongs to another node."""
        if not self.replaying or self.run.replay is None:
            return None
        return self.run.replay.answer(path, step.digest)

    def write(self, kind: str, path: Path, body: EntryBody, values: tuple[tuple[str, bytes], ...] = ()) -> None:
        """Appends an entry. `BranchClosed` once a join has decided without this frame; `JournalMismatch` when the
        journal holds visits of this frame that nobody asked for."""
        if self.run.recalling:
            raise RecallEnded(path)
        for fork in self.fences:
            if fork.closed:
                fork.refused += 1
                raise BranchClosed(path)
        if self.replaying and self.run.replay is not None:
            self.replaying = self.run.replay.at_frontier(self.path)
        self.run.log.append(make_entry(kind, path, body, values))

    async def commit(self, kind: str, path: Path, body: EntryBody, values: tuple[tuple[str, bytes], ...] = ()) -> None:
        """`write` for what others follow from: with `durability: strict` it returns when that is stored."""
        self.write(kind, path, body, values)
        if self.run.strict:
            await self.run.log.barrier()

    def view(self, node_id: str, at_ms: int) -> View:
        run, context, loop = self.run, self.context, self.context.loop
        view = View(
            input=self.input,
            outputs=context.visible(),
            agent_id=node_id,
            run_id=run.run_id,
            session_id=run.session or run.run_id,
            step=context.before + len(context.results) + 1,
            now_ms=at_ms,
            members=run.program.members,
            variables=context.variables,
            strict=run.program.graph.limits.strict_templates,
        )
        if loop is not None:
            view.loop_number = loop.number
            view.past_loops = loop.past
            view.past_loops_metadata = loop.metadata
            view.score_threshold = loop.threshold
            view.scoring_context = loop.scoring
        return view

    def record(self, result: NodeResult, shown: Json = None) -> None:
        """The result enters the context, where templates see its output (or `shown`)."""
        context = self.context
        context.results.append(result)
        if result.error is not None:
            context.failed[result.node_id] = result.error
        elif context.failed:
            context.failed.pop(result.node_id, None)
        seen = shown if shown is not None else seen_output(result.output, result.error, bare=result.bare)
        if shown is None and result.error is None and result.prompt is not None and isinstance(seen, dict):
            seen = {**seen, "formatted_prompt": result.prompt}
        context.outputs[result.node_id] = seen

    def stop_if_failed(self, step: Step, result: NodeResult) -> None:
        if result.status is Status.ERROR and step.node.policy.on_error == "stop":
            raise SequenceStopped(result)

    async def settle(
        self, step: Step, path: Path, outcome: Outcome, *, seen: Visit | None, at_ms: int, began: float
    ) -> NodeResult:
        """Commits a visit: result into the context, entry into the journal unless it is there already."""
        finished = seen.finished if seen is not None else None
        if outcome.usage is not None:
            self.run.spending.note(path, outcome.usage)
        status = Status.SUCCESS if outcome.error is None else Status.ERROR
        result = NodeResult(
            path=path,
            node_id=step.node.id,
            event_type=step.event_type,
            status=outcome.status or status,
            output=outcome.output,
            error=outcome.error,
            attempts=outcome.attempts,
            started_ms=at_ms,
            duration_ms=finished.ms if finished is not None else round((monotonic() - began) * 1000, 3),
            usage=outcome.usage,
            prompt=outcome.prompt,
            group=self.context.group,
            inner=self.context.inner,
            terminal=step.terminal,
            bare=step.bare,
            warnings=outcome.warnings,
        )
        if finished is None:
            goes_on = self.consumes or step.node.policy.on_error == "continue"
            await self.commit(Kind.NODE_FINISHED, path, commit_of(step, result, outcome, goes_on), outcome.values)
        self.record(result, outcome.shown)
        if finished is None and self.run.on_visit is not None:
            self.run.on_visit(result, self.step)
        self.stop_if_failed(step, result)
        return result


@dataclass(slots=True, kw_only=True)
class Run:
    """What all frames of one run share."""

    run_id: str
    program: Program
    input: Json
    log: RunLog
    codec: ValueCodec
    registry: Registry
    calls: Calls
    tasks: anyio.abc.TaskGroup | None
    """Open forks live here; it ends with the run. None for a graph that opens none: a task group costs a step's time."""
    replay: Replay | None = None
    away: Away | None = None
    """How branches get to other processes; None: they stay here."""
    recalling: bool = False
    """The journal has everything that is visited: what it has not is not executed."""
    on_begin: OnBegin | None = None
    """Told of pure agents that begin."""
    on_visit: OnVisit | None = None
    """Told of visits that were executed here and are finished."""
    tokens: RunTokens | None = None
    """Where agents emit to; None: nobody watches."""
    spending: Spending = field(default_factory=Spending)
    session: str = ""
    """That the caller has given; empty: none."""
    steps: int = 0
    """Taken so far, those in items of maps excepted."""
    sliced: float = field(default_factory=monotonic)

    @property
    def strict(self) -> bool:
        """Every step waits until it is stored."""
        return self.program.graph.limits.durability == "strict"

    def start(self, function: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        """Runs `function` beside the sequence that opened it."""
        assert self.tasks is not None, "the program says that it opens no forks"
        self.tasks.start_soon(function, *args)

    async def give_way(self) -> None:
        """Before a visit: lets other tasks run now and then, and keeps the journal's buffer bounded."""
        if len(self.log.pending) >= _MOST_PENDING:
            await self.log.barrier()
        elif monotonic() - self.sliced > _SLICE:
            await anyio.lowlevel.checkpoint()
            self.sliced = monotonic()

    async def load(self, value: Value) -> Json:
        """A journaled value, fetched when it is stored beside its entry."""
        return await self.registry.load(self.log.run_id, value)


def began_at(seen: Visit | None) -> int:
    """The visit's time: as journaled, else now (milliseconds since the epoch)."""
    return seen.at_ms if seen is not None and seen.at_ms else now_ms()
