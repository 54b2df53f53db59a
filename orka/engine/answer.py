"""What a run answers or raises, and its log: made from the results, in declared order. Pure. Workflow-format 6.2 and 6.4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Final, cast

from orka.clock import iso
from orka.engine.joining import failed_output, seen_output
from orka.engine.looping import shown_loop
from orka.errors import (
    AgentError,
    BranchError,
    BudgetExceeded,
    FailoverExhausted,
    RouteNotFound,
    RunCancelled,
    RunError,
    RunTimeout,
    StepsExceeded,
)
from orka.journal.paths import frame_of, parents
from orka.results import Failure, NodeResult, RunResult
from orka.types import Json, Path, RunStatus, Status

_SILENT = frozenset({"RouterNode", "ForkNode", "JoinNode", "Unknown"})
"""Kinds of nodes that never give the answer."""
_MARKERS = _SILENT - {"JoinNode"}
"""Kinds of nodes whose output says what runs, not what came of it."""
_QUIET = frozenset(
    {
        "DuckDuckGoTool",
        "GraphScoutAgent",
        "IngestAgent",
        "InvariantValidatorAgent",
        "LoopValidatorNode",
        "MemoryReaderNode",
        "MemoryWriterNode",
        "PlanValidatorAgent",
        "ValidationAndStructuringAgent",
    }
)
"""Kinds of nodes that give the answer only where nothing else does, or where the file marks them."""
_COUNTS: Final = frozenset(
    {"tokens", "prompt_tokens", "completion_tokens", "total_tokens", "latency_ms", "cost_usd", "status_code"}
)
"""Keys of `_metrics` that are numbers."""
_AROUND = frozenset({"LoopNode", "FailoverNode", "MapNode", "PathExecutorNode"})
"""Kinds of nodes whose visit has others as its parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The value of a run and the visits that it comes from."""

    value: Json
    paths: tuple[Path, ...]
    many: bool = False
    """The value is the list of the visits' responses."""


def find_answer(results: Sequence[NodeResult]) -> Answer | None:
    """The response of the last node marked `is_terminal`, else of the last node that gave one. Of a loop: the best
    response of its last round; of a failover: its child's; of a path executor: the last one of its agents'; of a map: the
    list of its items' responses."""
    outer = [result for result in results if not result.inner]
    for candidates in (
        [result for result in results if result.terminal],
        [result for result in outer if result.event_type not in _QUIET],
        outer,
    ):
        for result in reversed(candidates):
            if (answer := _answer_of(result, results)) is not None:
                return answer
    return None


def find_response(results: Sequence[NodeResult]) -> Json:
    """The answer of visits that are part of one node."""
    for result in _preferred(results):
        if (answer := _answer_of(result, results)) is not None:
            return answer.value
    return None


def response_of(output: Json) -> Json:
    """The `response` in an output, one level of nesting unwrapped; None when it has none."""
    if isinstance(output, dict) and "response" in output:
        response = output["response"]
        if isinstance(response, dict) and set(response) >= {"response"}:
            return response["response"]
        return response
    return None


def _preferred(visits: Sequence[NodeResult]) -> list[NodeResult]:
    """The last one first; what only stores, looks up or judges after all others."""
    backwards = list(reversed(visits))
    said = [visit for visit in backwards if visit.event_type not in _QUIET]
    return [*said, *(visit for visit in backwards if visit.event_type in _QUIET)]


def _answer_of(result: NodeResult, results: Sequence[NodeResult]) -> Answer | None:
    if result.status is not Status.SUCCESS or result.event_type in _SILENT:
        return None
    if result.event_type == "MapNode":
        return _items_answer(result, results)
    if result.event_type in {"LoopNode", "FailoverNode", "PathExecutorNode"}:
        rounds = result.output.get("loops_completed") if isinstance(result.output, dict) else None
        prefix = f"{result.path}[{rounds}]/" if result.event_type == "LoopNode" else f"{result.path}."
        for inner in _preferred([one for one in results if one.path.startswith(prefix)]):
            if (answer := _answer_of(inner, results)) is not None:
                return answer
        return None
    value = response_of(result.output)
    return None if value is None else Answer(value=value, paths=(result.path,))


def _items_answer(result: NodeResult, results: Sequence[NodeResult]) -> Answer | None:
    """The answer of each item, found among its own visits. Of no items, no responses. A map inside an item gives its
    last response: answers are not nested."""
    if isinstance(result.output, dict) and result.output.get("results") == []:
        return Answer(value=[], paths=(), many=True)
    prefix = f"{result.path}."
    items: dict[int, list[NodeResult]] = {}
    for inner in results:
        if inner.path.startswith(prefix):
            index, slash, _ = inner.path[len(prefix) :].partition("/")
            if slash and index.isdigit():
                items.setdefault(int(index), []).append(inner)
    found: list[Answer] = []
    for _, visits in sorted(items.items()):
        for inner in _preferred(visits):
            if (answer := _answer_of(inner, visits)) is not None and not answer.many:
                found.append(answer)
                break
    if not found:
        return None
    return Answer(
        value=[one.value for one in found], paths=tuple(path for one in found for path in one.paths), many=True
    )


def item_output(visits: Sequence[NodeResult], error: Failure | None) -> Json:
    """What a map gives for one item: the output of the visit that would be the answer if the item were a run, where a
    join counts, too. Of an item that has none: its last output. `error`: what stopped the item."""
    if error is not None:
        return failed_output(error)
    own = _outermost(visits)
    for result in (*(visit for visit in reversed(visits) if visit.terminal), *_preferred(own[::-1])):
        joined = result.event_type == "JoinNode" and result.status is Status.SUCCESS
        if joined or _answer_of(result, visits) is not None:
            return _shown(result)
    return _shown(own[0]) if own else None


def _outermost(visits: Sequence[NodeResult]) -> list[NodeResult]:
    """The visits with an output that are not part of another one's, the last one first."""
    found: list[NodeResult] = []
    around: set[Path] = set()
    for result in reversed(visits):
        if around and not around.isdisjoint(parents(result.path)):
            continue
        if result.event_type in _AROUND:
            around.add(result.path)
        if result.event_type not in _MARKERS and result.status is not Status.CANCELLED:
            found.append(result)
    return found


def _shown(result: NodeResult) -> Json:
    """An output as templates see it, with the prompt that it was the answer to."""
    output = _seen_by_templates(result)
    if result.prompt is not None and result.error is None and isinstance(output, dict):
        return {**output, "formatted_prompt": result.prompt}
    return output


def log_entries(results: Sequence[NodeResult], run_id: str) -> list[dict[str, Json]]:
    """What `run(return_logs=True)` returns: one entry per visit that is not part of another node's entry. The
    agents of a path have entries of their own, before that of their path executor."""
    entries: list[dict[str, Json]] = []
    outputs: dict[str, Json] = {}
    followed = {f"{one.path}.0": one for one in results if one.event_type == "PathExecutorNode" and not one.inner}
    within: dict[str, dict[str, Json]] = {}
    """What the agents of a path have given so far: they see it, nobody else does."""
    for result in results:
        executor = followed.get(frame_of(result.path)) if followed and result.inner else None
        if result.inner and executor is None:
            continue
        own = {} if executor is None else within.setdefault(executor.path, {})
        entry = entry_of(result, len(entries) + 1, run_id)
        entry["previous_outputs"] = {**outputs, **own}
        if executor is not None:
            entry["path_executor"] = executor.node_id
        entries.append(entry)
        (outputs if executor is None else own).update(seen_after(result))
    return entries


def entry_of(result: NodeResult, step: int, run_id: str) -> dict[str, Json]:
    """One entry of the log, without `previous_outputs`."""
    entry: dict[str, Json] = {
        "agent_id": result.node_id,
        "event_type": result.event_type,
        "timestamp": iso(result.started_ms),
        "step": step,
        "run_id": run_id,
        "payload": _payload(result, run_id),
    }
    if result.group is not None:
        entry["fork_group_id"] = result.group
    return entry


def seen_after(result: NodeResult) -> dict[str, Json]:
    """What templates see from a visit on, by id. Of a join: its members, too."""
    if result.status is Status.CANCELLED:
        return {}
    seen: dict[str, Json] = {result.node_id: _shown(result)}
    if result.event_type == "JoinNode" and isinstance(result.output, dict):
        seen.update(cast("dict[str, Json]", result.output.get("merged") or {}))
    return seen


def _seen_by_templates(result: NodeResult) -> Json:
    output = result.output
    if result.error is None and result.event_type == "LoopNode" and isinstance(output, dict):
        return shown_loop(output)
    return seen_output(output, result.error, bare=result.bare)


def _payload(result: NodeResult, run_id: str) -> dict[str, Json]:
    payload: dict[str, Json] = {}
    output = result.output
    if isinstance(output, dict) and "response" in output:
        payload.update(output)
        if "confidence" in output:
            payload["confidence"] = _number(output["confidence"])
        if isinstance(metrics := output.get("_metrics"), dict):
            payload["_metrics"] = {key: _number(item) if key in _COUNTS else item for key, item in metrics.items()}
    payload |= {
        "agent_id": result.node_id,
        "result": seen_output(output, None, bare=result.bare),
        "status": str(result.status),
        "error": result.error.message if result.error is not None else None,
        "response": output.get("response", output) if isinstance(output, dict) else output,
        "execution_time_ms": result.duration_ms,
        "trace_id": run_id,
        "attempts": result.attempts,
    }
    if result.error is not None:
        payload["error_type"] = result.error.kind
    if result.prompt is not None:
        payload["formatted_prompt"] = result.prompt
    if result.usage is not None:
        payload["token_usage"] = _usage(asdict(result.usage))
        payload["cost_usd"] = result.usage.cost_usd
    if result.warnings:
        payload["warnings"] = list(result.warnings)
    _by_kind(result, payload)
    return payload


def _by_kind(result: NodeResult, payload: dict[str, Json]) -> None:
    """What existing readers expect of loops and forks beside the common keys."""
    output = result.output
    if result.event_type == "LoopNode" and isinstance(output, dict):
        payload |= {key: output[key] for key in ("loops_completed", "final_score", "threshold_met", "past_loops")}
        payload |= {"response": output, "result": output["result"], "confidence": 1.0}
    elif result.event_type == "ForkNode" and result.status is Status.SUCCESS:
        payload |= {"fork_group_id": result.path, "fork_execution_status": "initiated"}


def _usage(usage: Mapping[str, Json]) -> dict[str, Json]:
    return dict(usage)


def _number(value: Json) -> int | float:
    """What models and old files write as text, as a number; 0.0 where it is none."""
    if isinstance(value, (int, float)):
        return value if not isinstance(value, bool) else float(value)
    try:
        number = float(value) if isinstance(value, str) else 0.0
    except ValueError:
        return 0.0
    return number if isfinite(number) else 0.0


def value_of(result: RunResult, return_logs: bool) -> Json:
    """What `run()` gives: the answer or the log. A failed or cancelled run raises."""
    if return_logs and result.status is RunStatus.COMPLETED:
        return list[Json](log_entries(result.results, result.run_id))
    if result.status is RunStatus.COMPLETED:
        return result.output
    if result.status is RunStatus.CANCELLED:
        why = result.error.message if result.error is not None else "its process was stopped"
        raise RunCancelled(f"run {result.run_id} was cancelled: {why}", run_id=result.run_id)
    raise _error_of(result.error, result.run_id, result.error_path)


def _error_of(failure: Failure | None, run_id: str, path: Path | None) -> RunError:
    """The failure that ended a run, as the exception that its kind names; of an agent's own kind, an `AgentError`."""
    kind, why = (failure.kind, failure.message) if failure is not None else ("RunError", "it did not complete")
    message = f"run {run_id} failed{f' at {path!r}' if path else ''}: {why}"
    for own in (RunTimeout, StepsExceeded, BudgetExceeded, BranchError, FailoverExhausted, RouteNotFound):
        if kind == own.__name__:
            return own(message, run_id=run_id, path=path)
    return AgentError(message, kind=kind, run_id=run_id, path=path)
