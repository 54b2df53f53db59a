"""The path executor: runs the list of ids that an earlier output proposes, in a frame of its own.

The list is journaled before its first visit. What its agents gave is in their own entries, so the output of the node is
made again from these when the run is resumed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import anyio

from orka.clock import monotonic
from orka.engine.answer import find_response
from orka.engine.context import Context, Frame, SequenceStopped, began_at
from orka.engine.cutting import cut_visit
from orka.engine.joining import seen_output
from orka.engine.outcome import Outcome
from orka.engine.program import Step
from orka.engine.proposals import find_proposal
from orka.engine.routing import read_path
from orka.engine.spending import UNAFFORDABLE
from orka.errors import AgentError, RunTimeout
from orka.graph.nodes import PathNode
from orka.journal.entries import Kind, NodeFinished, Opened
from orka.journal.paths import frame_of, member, named_in, parents, visit
from orka.journal.replay import Visit
from orka.results import Failure, NodeResult
from orka.types import Json, NodeId, Path, Status

RunFrame = Callable[[Frame, Sequence[NodeId]], Awaitable[None]]


@dataclass(slots=True)
class _Walk:
    """How far a path has come."""

    context: Context
    place: int = 0
    """Of the id under way."""
    number: int = 1
    """The how-manieth visit of that id it is."""
    executed: list[str] = field(default_factory=list[str])
    results: dict[str, Json] = field(default_factory=dict[str, Json])
    errors: list[str] = field(default_factory=list[str])
    worked: int = 0
    """Visits that succeeded."""
    aborted: bool = False
    short: bool = False
    """The budget of the run was used up on the way."""
    kept: int = 0
    """Results of the visits that are done."""


async def visit_path(
    run_frame: RunFrame, frame: Frame, step: Step, node: PathNode, path: Path, seen: Visit | None
) -> None:
    """Finds the list, or reads it in the journal, and visits it in order."""
    at_ms, began = began_at(seen), monotonic()
    finished = seen.finished if seen is not None else None
    opened = seen.opened if seen is not None else None
    warnings: list[str] = []
    if opened is not None:
        ids = [NodeId(str(name)) for name in cast("list[Json]", await frame.run.load(opened.items))]
    else:
        error, ids = (
            (finished.error, ()) if finished is not None else await _open(frame, step, node, path, at_ms, warnings)
        )
        if not ids:
            outcome = Outcome(output=_nothing(error), error=error, warnings=_kept(finished, warnings))
            await frame.settle(step, path, outcome, seen=seen, at_ms=at_ms, began=began)
            return
    context = frame.context.child(inner=True)
    _choose_input(frame, node, context, warnings)
    inside = frame.inside(member(path, 0), context=context)
    inside.consumes = True
    late = finished.child if finished is not None else None
    walk = _Walk(context)
    with anyio.move_on_after(node.policy.timeout if finished is None else None) as limit:
        await _follow(run_frame, inside, node, ids[:late], walk)
    if limit.cancelled_caught:
        late = walk.place
        if frame.run.replay is not None:
            frame.run.replay.closed.add(path)
    if late is not None:
        if not limit.cancelled_caught:
            walk.kept, walk.number = len(context.results), inside.counts.get(ids[late], 0) + 1
        _cut(inside, ids[late], walk, at_ms, node.policy.timeout or 0)
    frame.context.results.extend(context.results)
    outcome = _outcome(walk, path, late, _kept(finished, warnings))
    await frame.settle(step, path, outcome, seen=seen, at_ms=at_ms, began=began)


async def _open(
    frame: Frame, step: Step, node: PathNode, path: Path, at_ms: int, warnings: list[str]
) -> tuple[Failure | None, Sequence[NodeId]]:
    """Finds the list and journals it; or why there is none."""
    nodes = {name: other.node for name, other in frame.body.steps.items()}
    around = frozenset(named_in(frame_of(at), at)[1] for at in parents(path))
    proposal = find_proposal(frame.context.visible(), node.source, nodes, around)
    warnings += [f"{name!r} decides what runs, and was left out of the path" for name in proposal.dropped]
    if proposal.problem:
        return Failure(kind="PathNotFound", message=proposal.problem), ()
    stored, values = frame.run.codec.store(list[Json](proposal.ids))
    entry = Opened(id=node.id, node=step.digest, at_ms=at_ms, branches=1, items=stored)
    await frame.commit(Kind.PATH_OPENED, path, entry, values)
    return None, proposal.ids


def _kept(finished: NodeFinished | None, warnings: Sequence[str]) -> tuple[str, ...]:
    return tuple(warnings) if finished is None else finished.warnings


def _choose_input(frame: Frame, node: PathNode, context: Context, warnings: list[str]) -> None:
    if node.input_source is None:
        return
    found = read_path(frame.context.visible(), node.input_source)
    if found is None:
        warnings.append(f"there is nothing under {node.input_source!r}: its agents see the run's input")
    else:
        context.given = (cast(Json, found),)


async def _follow(run_frame: RunFrame, inside: Frame, node: PathNode, ids: Sequence[NodeId], walk: _Walk) -> None:
    for place, name in enumerate(ids):
        walk.place, walk.number, walk.kept = place, inside.counts.get(name, 0) + 1, len(walk.context.results)
        stopped = False
        if (step := inside.body.steps.get(name)) is None:
            walk.errors.append(f"{name}: is not defined")
        else:
            at = visit(inside.path, step.escaped, walk.number)
            try:
                await run_frame(inside, (name,))
            except SequenceStopped:
                stopped = True
            result = next(one for one in walk.context.results[walk.kept :] if one.path == at)
            walk.executed.append(name)
            walk.results[name] = _envelope(result)
            if result.error is None and not stopped:
                walk.worked += 1
                continue
            if result.status is Status.SKIPPED and result.error is not None and result.error.kind == UNAFFORDABLE:
                walk.short = True
            why = result.error.message if result.error is not None else "what it chose to run failed"
            walk.errors.append(f"{name}: {why}")
        if stopped or (node.on_failure == "abort" and not walk.short):
            walk.aborted = True
            return


def _envelope(result: NodeResult) -> Json:
    output = seen_output(result.output, None, bare=result.bare)
    envelope: dict[str, Json] = {
        "result": output,
        "response": output.get("response", output) if isinstance(output, dict) else output,
        "status": str(result.status),
        "component_id": result.node_id,
    }
    if result.error is not None:
        envelope |= {"error": result.error.message, "error_type": result.error.kind}
    if result.prompt is not None:
        envelope["formatted_prompt"] = result.prompt
    return envelope


def _cut(inside: Frame, name: NodeId, walk: _Walk, at_ms: int, seconds: float) -> None:
    """The path ran out of time in this visit: how far it had come is not told."""
    results = walk.context.results
    del results[walk.kept :]
    walk.errors.append(f"no answer within {seconds:g} s, {name!r} was under way")
    if (step := inside.body.steps.get(name)) is not None:
        error = Failure(kind=RunTimeout.__name__, message=f"the path was not done within {seconds:g} s")
        at = visit(inside.path, step.escaped, walk.number)
        results.append(cut_visit(walk.context, at, step, name, at_ms, error))


def _outcome(walk: _Walk, path: Path, late: int | None, warnings: tuple[str, ...]) -> Outcome:
    """`error` when the path was not gone to its end, or nothing in it succeeded."""
    failed = late is not None or walk.aborted or not (walk.worked or walk.short)
    output: dict[str, Json] = {
        "response": find_response(walk.context.results),
        "executed_path": list[Json](walk.executed),
        "results": dict(walk.results),
        "status": "error" if failed else "partial" if walk.errors else "success",
    }
    error = None
    if walk.errors:
        output["errors"] = list[Json](walk.errors)
    if failed:
        kind = RunTimeout.__name__ if late is not None else AgentError.__name__
        error = Failure(kind=kind, message="; ".join(walk.errors[:5]))
    return Outcome(output=output, error=error, fork=path, child=late, warnings=warnings)


def _nothing(error: Failure | None) -> dict[str, Json]:
    """The output of an executor that found nothing to run."""
    message = error.message if error is not None else ""
    return {"response": None, "executed_path": [], "results": {}, "status": "error", "error": message}
