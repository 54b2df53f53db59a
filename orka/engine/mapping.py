"""Map: one branch for every item of a list, opened and joined by the same visit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from orka.clock import monotonic
from orka.engine.answer import item_output
from orka.engine.branches import (
    OpenFork,
    RunFrame,
    enter_branches,
    late_of,
    wait_for,
    why_unsatisfied,
)
from orka.engine.budgeting import short_of_budget
from orka.engine.context import Frame, began_at
from orka.engine.joining import decide
from orka.engine.launching import launch
from orka.engine.outcome import Outcome
from orka.engine.program import Step
from orka.engine.retry import failure_of
from orka.errors import AgentError, BranchError, TemplateError
from orka.graph.nodes import MapNode
from orka.journal.entries import Kind, Opened
from orka.journal.replay import Visit
from orka.results import Failure
from orka.types import Json, NodeId, Path, Status

_MOST_AT_ONCE: Final = 1000
"""Branches of one map under way at once when the file does not say."""


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
    except (AgentError, TemplateError) as exc:
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
    launch(run_frame, fork, limit, False)
    await wait_for(fork, range(len(items)))
    verdict = decide("all", None, node.on_failure, len(items), fork.order)
    assert verdict is not None
    fork.closed = True
    frame.context.results.extend(enter_branches(frame, fork, verdict))
    ended = [fork.settled[index] for index in range(len(items))]
    output: dict[str, Json] = {
        "results": [item_output(item.context.results, item.error) for item in ended],
        "failed": [index for index, item in enumerate(ended) if not item.ok],
    }
    error, status = None, None
    if not verdict.satisfied:
        unpaid = short_of_budget(fork, verdict.settled)
        message = why_unsatisfied("all", None, fork, frozenset(verdict.settled))
        error = unpaid or Failure(kind=BranchError.__name__, message=message)
        status = None if unpaid is None else Status.SKIPPED
    outcome = Outcome(output=output, status=status, error=error, fork=path, late=late_of(fork, verdict))
    try:
        await frame.settle(step, path, outcome, seen=seen, at_ms=at_ms, began=began)
    finally:
        await fork.close()


async def _items_of(frame: Frame, step: Step, node: MapNode, path: Path, seen: Visit | None, at_ms: int) -> list[Json]:
    """The list, as journaled when the map was opened before. `AgentError`, `TemplateError` if it is none."""
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
    await frame.commit(
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
