"""The records of visits that were cut off: by a join that had seen enough, a timeout, or a frame that ended early.

How far such a visit came depends on the moment, so its record does not tell: every member that the file names in what
was cut off is `cancelled`, finished or not. Its outputs are not used. That follows from the graph and from what the cut
itself has journaled, and a resumed run gives the same records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from orka.engine.context import Context, Frame
from orka.engine.program import Body, Step
from orka.graph.nodes import ForkNode
from orka.journal.paths import escape, member, visit
from orka.results import Failure, NodeResult
from orka.types import NodeId, Path, Status


def cut_visit(
    context: Context, path: Path, step: Step | None, node_id: NodeId, at_ms: int, error: Failure | None = None
) -> NodeResult:
    """One visit, of a step or (in a loop's list) of an id that nobody defines. `error`: what cut it off, if that was no
    decision."""
    return NodeResult(
        path=path,
        node_id=node_id,
        event_type=step.event_type if step is not None else "Unknown",
        status=Status.CANCELLED,
        error=error,
        attempts=0,
        started_ms=at_ms,
        group=context.group,
        inner=context.inner,
    )


def cut_frame(
    context: Context, frame: Path, body: Body, ids: Sequence[NodeId], at_ms: int, error: Failure | None = None
) -> Iterator[NodeResult]:
    """The members of a frame in declared order, those of nested lists of `targets` included. `context` says what the
    frame is inside of."""
    counts = Counter[NodeId]()
    for node_id in ids:
        step = body.steps.get(node_id)
        counts[node_id] += 1
        path = visit(frame, step.escaped if step is not None else escape(node_id), counts[node_id])
        yield cut_visit(context, path, step, node_id, at_ms, error)
        if step is not None and isinstance(step.node, ForkNode) and step.node.awaited:
            below = context.child(group=path)
            for index, branch in enumerate(step.node.branches):
                yield from cut_frame(below, member(path, index), body, branch, at_ms, error)


def cut_step(frame: Frame, path: Path, step: Step, at_ms: int) -> None:
    """The visit under way when its frame is cancelled; a fork that waits for its branches has its record already."""
    results = frame.context.results
    if not any(result.path == path for result in reversed(results)):
        results.append(cut_visit(frame.context, path, step, step.node.id, at_ms))
