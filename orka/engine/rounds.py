"""Nodes that run something repeatedly: the loop in rounds, the failover through its children."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import anyio

from orka.agents.base import LoopView
from orka.clock import iso, monotonic, now_ms
from orka.engine.context import Context, Frame, RecallEnded, SequenceStopped, began_at
from orka.engine.cutting import cut_frame, cut_visit
from orka.engine.fallback import is_valid, merge_failover
from orka.engine.judging import agreement, responses_of
from orka.engine.looping import (
    JOINED,
    PAST_KEPT,
    PRIORITY,
    extract_insights,
    find_key,
    join_recent,
    score_round,
    shown_loop,
)
from orka.engine.outcome import Outcome
from orka.engine.persisting import earlier_rounds, keep_own_rounds
from orka.engine.program import Step
from orka.engine.retry import failure_of
from orka.engine.scales import score_of
from orka.engine.spending import first_unaffordable, is_unaffordable
from orka.errors import EmbeddingError, FailoverExhausted, RunTimeout, TemplateError
from orka.graph.nodes import FailoverNode, LoopNode
from orka.journal.entries import Kind, RoundScored
from orka.journal.paths import member, round_of, visit
from orka.journal.replay import Visit
from orka.results import Failure, NodeResult
from orka.template.functions import get_input
from orka.types import Json, NodeId, Path, Status

RunFrame = Callable[[Frame, Sequence[NodeId]], Awaitable[None]]
RunChild = Callable[[Frame, Sequence[NodeId], Step], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What a loop's rounds have left behind so far."""

    past: list[Json]
    """Past-loop objects that the next round sees, those of earlier runs first."""
    own: list[Json] = field(default_factory=list[Json])
    """Those of this visit."""
    notes: list[str] = field(default_factory=list[str])
    """Warnings."""

    def add(self, loop: Json) -> None:
        for loops in (self.past, self.own):
            loops.append(loop)
            del loops[:-PAST_KEPT]


async def visit_loop(
    run_frame: RunFrame, frame: Frame, step: Step, node: LoopNode, path: Path, seen: Visit | None
) -> None:
    """Rounds until the score reaches the threshold or `max_loops` is done."""
    at_ms, began = began_at(seen), monotonic()
    earlier = await earlier_rounds(frame, step, node, path, seen, at_ms)
    if isinstance(earlier, Failure):
        await frame.settle(step, path, Outcome(error=earlier), seen=seen, at_ms=at_ms, began=began)
        return
    told = _Told(past=list(earlier))
    results: dict[str, Json] = {}
    score, met, number = 0.0, False, 0
    error: Failure | None = None
    unpaid: Failure | None = None
    try:
        while number < node.max_loops and not met:
            number += 1
            found = await _run_round(run_frame, frame, step, node, path, number, told)
            if isinstance(found, Failure):  # the answer is that of the round before
                unpaid, number = found, number - 1
                break
            scored, results = found
            score, met = scored.score, scored.met
            # Expressions of the file search long texts: beside the event loop, which they must not hold up.
            insights = await anyio.to_thread.run_sync(extract_insights, node.cognition, results)
            told.add(_remember(frame, step, node, scored, results, insights, told.past))
    except TemplateError as exc:  # of a past-loop field that goes beyond the limits, the same on every replay
        error = failure_of(exc)
    error = error or await keep_own_rounds(frame, node, path, seen, told.own)
    finished = seen.finished if seen is not None else None
    warnings = tuple(told.notes) if finished is None else finished.warnings
    if error is not None:
        outcome = Outcome(error=error, warnings=warnings)
        await frame.settle(step, path, outcome, seen=seen, at_ms=at_ms, began=began)
        return
    if unpaid is not None and not number:
        outcome = Outcome(status=Status.SKIPPED, error=unpaid)
        await frame.settle(step, path, outcome, seen=seen, at_ms=at_ms, began=began)
        return
    loop: dict[str, Json] = {
        "input": frame.input,
        "result": results,
        "loops_completed": number,
        "final_score": score,
        "threshold_met": met,
        "past_loops": told.past,
    }
    outcome = Outcome(output=loop, shown=shown_loop(loop), warnings=warnings)
    await frame.settle(step, path, outcome, seen=seen, at_ms=at_ms, began=began)


async def _run_round(
    run_frame: RunFrame,
    frame: Frame,
    step: Step,
    node: LoopNode,
    path: Path,
    number: int,
    told: _Told,
) -> tuple[RoundScored, dict[str, Json]] | Failure:
    """One round and its verdict, as journaled when it was scored before; why the budget has kept it from its end."""
    round_path = round_of(path, number)
    seen = frame.seen(round_path, step)
    scored = seen.scored if seen is not None else None
    if scored is not None and scored.timed_out:
        _record_late_round(frame, step, node, round_path, scored)
        return scored, {}
    context = frame.context.child(loop=_loop_view(step, node, number, told.past), inner=True)
    inside = frame.inside(round_path, context=context, body=step.body)
    late = False
    with anyio.move_on_after(node.policy.timeout if scored is None else None) as limit:
        try:
            await run_frame(inside, inside.body.sequence)
        except SequenceStopped:
            pass  # the round's score tells how far it came
    if limit.cancelled_caught:
        late = True
        context = Context()
    results = dict(context.outputs)
    frame.context.results.extend(context.results)
    unpaid = first_unaffordable(context.results)
    if scored is None:
        if frame.run.recalling:
            raise RecallEnded(round_path)
        score = 0.0 if unpaid is not None else await _verdict(step, node, context, results, late, told.notes)
        scored = RoundScored(
            id=node.id,
            node=step.digest,
            at_ms=now_ms(),
            round=number,
            score=score,
            met=score >= node.score_threshold and unpaid is None,
            timed_out=late,
        )
        if late:
            _record_late_round(frame, step, node, round_path, scored)
        await frame.commit(Kind.ROUND_SCORED, round_path, scored)
    return (scored, results) if unpaid is None else unpaid


def _record_late_round(frame: Frame, step: Step, node: LoopNode, path: Path, scored: RoundScored) -> None:
    """A round that ran out of time: its members are cancelled, whatever they had done by then."""
    assert step.body is not None
    context = frame.context.child(inner=True)
    error = Failure(kind=RunTimeout.__name__, message=f"the round was not done within {node.policy.timeout or 0:g} s")
    frame.context.results.extend(cut_frame(context, path, step.body, step.body.sequence, scored.at_ms, error))


async def _verdict(
    step: Step, node: LoopNode, context: Context, results: Mapping[str, Json], late: bool, notes: list[str]
) -> float:
    if late:
        return score_of(node.timeout_score) or 0.0
    if not any(result.status is Status.SUCCESS for result in context.results):
        return 0.0
    score = await anyio.to_thread.run_sync(score_round, node, results)
    if score is None and not any(agent in results for agent in node.priority_agents or PRIORITY):
        score = await _agreement(step, results, notes)
    if score is None:
        return score_of(node.fallback_score) or 0.0
    return score


async def _agreement(step: Step, results: Mapping[str, Json], notes: list[str]) -> float | None:
    """How similar the responses are; None where the file does not ask for it, or fewer than two say something."""
    texts = responses_of(results)
    if step.embedder is None or len(texts) < 2:
        return None
    try:
        return agreement(await step.embedder.embed(texts))
    except EmbeddingError as exc:
        notes.append(f"the agreement of the responses is not known: {exc}")
        return None


def _loop_view(step: Step, node: LoopNode, number: int, past: list[Json]) -> LoopView:
    loops = [loop for loop in past if isinstance(loop, dict)]
    names = dict.fromkeys([*(name for name, _ in step.past), *JOINED])
    return LoopView(
        number=number,
        past=list(past),
        metadata={name: join_recent(loops, name) for name in names},
        threshold=node.score_threshold,
        scoring=node.scoring.context if node.scoring is not None else "",
    )


def _remember(
    frame: Frame,
    step: Step,
    node: LoopNode,
    scored: RoundScored,
    results: Mapping[str, Json],
    insights: Mapping[str, str],
    past: list[Json],
) -> dict[str, Json]:
    """The past-loop object: every template rendered, and the three fields that are always there."""
    timestamp = iso(scored.at_ms)
    view, inside = frame.view(node.id, scored.at_ms), _loop_view(step, node, scored.round, past)
    view.variables = {
        **frame.context.variables,
        "loop_number": scored.round,
        "score": scored.score,
        "timestamp": timestamp,
        "input": get_input(view)[:200],
        **insights,
        "reasoning_quality": find_key(results, "REASONING_QUALITY", 0.0),
        "convergence_trend": find_key(results, "CONVERGENCE_TREND", "STABLE"),
    }
    view.outputs = results
    view.loop_number = scored.round
    view.past_loops, view.past_loops_metadata, view.score_threshold = inside.past, inside.metadata, inside.threshold
    view.strict = False  # a field that reads what this round did not produce is empty, by the format
    loop: dict[str, Json] = {name: template.render(view) for name, template in step.past}
    for name, value in (("loop_number", scored.round), ("score", scored.score), ("timestamp", timestamp)):
        loop.setdefault(name, value)
    return loop


async def visit_failover(
    run_frame: RunChild, frame: Frame, step: Step, node: FailoverNode, path: Path, seen: Visit | None
) -> None:
    """Children in turn until one gives a valid result."""
    at_ms, began = began_at(seen), monotonic()
    finished = seen.finished if seen is not None else None
    if finished is None:
        outcome = await _try_children(run_frame, frame, step, path, node.policy.timeout)
    else:
        gone = finished.child if finished.status is Status.ERROR else None
        outcome = await _try_children(run_frame, frame, step, path, None, gone)
        if finished.error is not None and finished.status is Status.ERROR:
            outcome = Outcome(output=_exhausted(finished.error), error=finished.error, child=gone)
    if outcome.error is not None and outcome.child is not None:  # cut off by the timeout
        child = step.children[outcome.child]
        at = visit(member(path, outcome.child), child.escaped, 1)
        context = frame.context.child(inner=True)
        frame.context.results.append(cut_visit(context, at, child, child.node.id, at_ms, outcome.error))
    await frame.settle(step, path, outcome, seen=seen, at_ms=at_ms, began=began)


async def _try_children(
    run_frame: RunChild, frame: Frame, step: Step, path: Path, timeout: float | None, gone: int | None = None
) -> Outcome:
    """`gone`: the child that ran out of time when this was visited before; its visits are not used."""
    reasons: list[str] = []
    index = 0
    with anyio.move_on_after(timeout):
        for index, child in enumerate(step.children[:gone]):
            context = frame.context.child(inner=True)
            inside = frame.inside(member(path, index), context=context)
            inside.consumes = True
            stopped: NodeResult | None = None
            try:
                await run_frame(inside, (), child)
            except SequenceStopped as exc:
                stopped = exc.result  # the failover's to handle
            frame.context.results.extend(context.results)
            at = visit(inside.path, child.escaped, 1)
            result = next(r for r in context.results if r.path == at)
            if stopped is None and is_valid(result):
                return Outcome(output=merge_failover(result), child=index)
            if is_unaffordable(result):
                return Outcome(status=Status.SKIPPED, error=result.error)
            error = stopped.error if stopped is not None else result.error
            reasons.append(f"{child.node.id}: {error.message if error is not None else 'gave no usable result'}")
        error = Failure(kind=FailoverExhausted.__name__, message=f"every child failed: {'; '.join(reasons)}")
        return Outcome(output=_exhausted(error), error=error)
    error = Failure(kind=RunTimeout.__name__, message=f"no child answered within {timeout:g} s")
    return Outcome(output=_exhausted(error), error=error, child=index)


def _exhausted(error: Failure | None) -> dict[str, Json]:
    """The output of a failover none of whose children answered."""
    message = error.message if error is not None else ""
    return {"result": f"All children failed: {message}", "status": "failed", "successful_child": None, "error": message}
