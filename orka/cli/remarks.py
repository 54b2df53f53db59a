"""What whoever reads the answer of a completed run should know: failures that it went on after, and warnings. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from orka.journal.paths import parents, readable
from orka.results import NodeResult
from orka.types import Path

MOST = 5
"""Told one by one, of failures and of warnings each."""
_INSIDE = re.compile(r"[.\[](\d+)")
"""The item or round, behind the path of the map or loop."""


def remarks(results: Sequence[NodeResult], run_id: str) -> list[str]:
    """One line each, without their "warning: "."""
    return [
        *_capped([*_failures(results)], "more failed", run_id),
        *_capped([*dict.fromkeys(_warnings(results))], "more warnings", run_id),
    ]


def _capped(lines: list[str], rest: str, run_id: str) -> list[str]:
    if len(lines) <= MOST:
        return lines
    return [*lines[:MOST], f"{len(lines) - MOST} {rest}; see orka runs show {run_id}"]


def _warnings(results: Sequence[NodeResult]) -> list[str]:
    """Those of rounds and items, which are alike, only the first time."""
    first: dict[tuple[str, str], str] = {}
    for result in results:
        for text in result.warnings:
            first.setdefault((result.node_id, text), f"{readable(result.path)}: {text}")
    return list(first.values())


def _failures(results: Sequence[NodeResult]) -> list[str]:
    """Visits that failed; of what failed inside a loop, a map or a path one line. A failover tells itself whether it failed."""
    visits = {result.path: result for result in results}
    inside: dict[Path, list[NodeResult]] = {}
    lines: dict[Path, str] = {}
    for result in results:
        if result.error is None:  # cut off for its time has one, cut off because it was not needed has none
            continue
        if not result.inner:
            lines[result.path] = f"{readable(result.path)} failed: {_why(result)}"
            continue
        around = [visits[path] for path in parents(result.path) if path in visits]
        if any(visit.event_type == "FailoverNode" for visit in around):
            continue
        outermost = next((visit for visit in reversed(around) if not visit.inner and _repeats(visit)), None)
        if outermost is not None and outermost.error is None:
            inside.setdefault(outermost.path, []).append(result)
            lines.setdefault(outermost.path, "")
    for path, failed in inside.items():
        lines[path] = _summary(visits[path], failed)
    return list(lines.values())


def _repeats(visit: NodeResult) -> bool:
    return visit.event_type in {"LoopNode", "MapNode", "PathExecutorNode"}


def _summary(visit: NodeResult, failed: Sequence[NodeResult]) -> str:
    output = visit.output if isinstance(visit.output, dict) else {}
    numbers = {match[1] for result in failed if (match := _INSIDE.match(result.path, len(visit.path)))}
    first = f"(first: {readable(failed[0].path)}: {_why(failed[0])})"
    if visit.event_type == "LoopNode":
        return f"{readable(visit.path)}: failures in {len(numbers)} of {output.get('loops_completed')} rounds {first}"
    if visit.event_type == "PathExecutorNode":
        errors, ran = output.get("errors"), output.get("executed_path")
        count = len(errors) if isinstance(errors, list) else 0
        return (
            f"{readable(visit.path)}: {count} failures among {len(ran) if isinstance(ran, list) else 0} agents {first}"
        )
    items, lost = output.get("results"), output.get("failed")
    count = len(items) if isinstance(items, list) else 0
    if isinstance(lost, list) and lost:
        return f"{readable(visit.path)}: {len(lost)} of {count} items failed {first}"
    return f"{readable(visit.path)}: failures in {len(numbers)} of {count} items {first}"


def _why(result: NodeResult) -> str:
    assert result.error is not None
    return f"{result.error.kind}: {result.error.message}"
