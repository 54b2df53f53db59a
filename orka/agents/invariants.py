"""`invariant_validator`: deterministic checks of a dump of what an execution did."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, cast

from pydantic import BaseModel, Field

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType
from orka.errors import AgentError
from orka.graph.nodes import AgentNode
from orka.types import Json

_MARK: Final = "EXECUTION_DATA_JSON:"
_MOST_TEXT: Final = 1_000_000
CATEGORIES: Final = (
    "fork_join_integrity",
    "routing_integrity",
    "cycle_detection",
    "tool_integrity",
    "schema_compliance",
    "depth_compliance",
)


class InvariantOptions(BaseModel):
    """Keys of an `invariant_validator` node."""

    max_depth: int = Field(
        default=10, ge=1, description="Nodes that may run, or stand in a path of a scout, one after another."
    )
    strict_tool_errors: bool = Field(default=True, description="A tool error that nothing has handled is a violation.")
    allow_reentrant_nodes: list[str] = Field(default=[], description="Ids that may run more than once.")
    execution_data: dict[str, Any] | str | None = Field(
        default=None, description="The dump; without it, what stands after `EXECUTION_DATA_JSON:` in the prompt."
    )


class InvariantAgent:
    """Looks at nothing but its data: the same data give the same verdict."""

    def __init__(self, options: InvariantOptions) -> None:
        self._options = options

    async def run(self, task: AgentInput, /) -> AgentOutput:
        given: object = self._options.execution_data
        if given is None:
            _, mark, given = (task.prompt or "").partition(_MARK)
            if not mark:
                raise _refused(f"there are no execution data: neither `execution_data` nor {_MARK!r} in the prompt")
        data = parse_data(given)
        if data is None:
            raise _refused("the execution data are no JSON object and no Python mapping")
        verdict = check_invariants(data, self._options)
        found = cast("dict[str, Json]", verdict["validation_summary"])
        failed = cast("list[Json]", found["categories_failed"])
        total = found["total_violations"]
        response = "every invariant holds" if not failed else f"{total} violations: {', '.join(map(str, failed))}"
        return AgentOutput(response=response, fields=verdict)


def _refused(error: str) -> AgentError:
    return AgentError(error, kind="BadExecutionData", output={"response": error, "facts": []})


def parse_data(given: object) -> dict[str, Any] | None:
    """A mapping, or text that is one as JSON or as a Python literal."""
    if isinstance(given, Mapping):
        return dict(cast("Mapping[str, Any]", given))
    text = given.strip() if isinstance(given, str) else ""
    if text.startswith("```"):
        text = text.strip("`").removeprefix("json").strip()
    if not text or len(text) > _MOST_TEXT:
        return None
    value: object = None
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def check_invariants(data: Mapping[str, Any], options: InvariantOptions) -> dict[str, Json]:
    """Six categories, each `{status, violations}`, `critical_failures_detected` and `validation_summary`."""
    cycles = _cycles(data, options)
    errors: dict[str, list[str]] = {
        "fork_join_integrity": _forks(data),
        "routing_integrity": [],
        "cycle_detection": [f"node {name!r} ran {times} times" for name, times in cycles.items()],
        "tool_integrity": _tools(data) if options.strict_tool_errors else [],
        "schema_compliance": [
            f"the output of {name!r} does not fit its schema"
            for name, output in _tables(data, "structured_outputs")
            if output.get("schema_valid") is False
        ],
        "depth_compliance": _depths(data, options.max_depth),
    }
    warnings: list[str] = []
    _routes(data, errors["routing_integrity"], warnings)
    found: dict[str, Json] = {}
    for name in CATEGORIES:
        noted = [*errors[name], *(warnings if name == "routing_integrity" else [])]
        found[name] = {"status": "FAIL" if errors[name] else "PASS", "violations": list[Json](noted)}
    cast("dict[str, Json]", found["cycle_detection"])["cycles_found"] = list[Json](cycles)
    critical = sum(map(len, errors.values()))
    found["critical_failures_detected"] = critical > 0
    found["validation_summary"] = {
        "total_violations": critical + len(warnings),
        "critical_count": critical,
        "warning_count": len(warnings),
        "categories_failed": [name for name in CATEGORIES if errors[name]],
        "validator_config": {
            "max_depth": options.max_depth,
            "strict_tool_errors": options.strict_tool_errors,
            "allow_reentrant_nodes": list[Json](options.allow_reentrant_nodes),
        },
    }
    return found


def _forks(data: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for name, fork in _tables(data, "fork_groups"):
        if not fork.get("has_join"):
            found.append(f"fork {name!r} has no join")
        done = set(_texts(fork.get("completed_branches")))
        missing = [branch for branch in _texts(fork.get("branches")) if branch not in done]
        if missing:
            found.append(f"fork {name!r} lacks branches: {', '.join(missing)}")
    return found


def _routes(data: Mapping[str, Any], errors: list[str], warnings: list[str]) -> None:
    structure = cast("object", data.get("graph_structure"))
    graph: Mapping[str, Any] = cast("Mapping[str, Any]", structure) if isinstance(structure, Mapping) else {}
    nodes = {*_texts(graph.get("nodes")), *(str(node.get("id")) for node in _items(graph.get("nodes")))}
    edges = {(str(edge.get("src")), str(edge.get("dst"))) for edge in _items(graph.get("edges"))}
    for name, decision in _tables(data, "router_decisions"):
        target = decision.get("chosen_target")
        if target is None:
            continue
        if str(target) not in nodes:
            errors.append(f"router {name!r} chose {target!r}, which is not in the graph")
        elif (name, str(target)) not in edges:
            warnings.append(f"router {name!r} chose {target!r}, to which no edge leads from it")


def _cycles(data: Mapping[str, Any], options: InvariantOptions) -> dict[str, int]:
    counts = Counter(_texts(data.get("nodes_executed")))
    return {name: times for name, times in counts.items() if times > 1 and name not in options.allow_reentrant_nodes}


def _tools(data: Mapping[str, Any]) -> list[str]:
    """Errors that were swallowed: not handled, and the execution went on."""
    return [
        f"an error of {call.get('node_id')!r} was not handled, and the execution went on"
        for call in _items(data.get("tool_calls"))
        if call.get("status") == "error"
        and not call.get("error_handled")
        and call.get("execution_continued_after_error")
    ]


def _depths(data: Mapping[str, Any], most: int) -> list[str]:
    found: list[str] = []
    ran = len(set(_texts(data.get("nodes_executed"))))
    paths = [_texts(candidate.get("path")) for candidate in _items(data.get("graphscout_candidates"))]
    if ran > most and not paths:
        found.append(f"{ran} nodes ran, at most {most} may")
    found += [
        f"path {' -> '.join(path)} has {len(path)} nodes, at most {most} may" for path in paths if len(path) > most
    ]
    return found


def _tables(data: Mapping[str, Any], key: str) -> list[tuple[str, Mapping[str, Any]]]:
    value = cast("object", data.get(key))
    if not isinstance(value, Mapping):
        return []
    entries = cast("Mapping[object, object]", value)
    return [(str(name), cast("Mapping[str, Any]", item)) for name, item in entries.items() if isinstance(item, Mapping)]


def _items(value: object) -> list[Mapping[str, Any]]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Mapping[str, Any]", item) for item in items if isinstance(item, Mapping)]


def _texts(value: object) -> list[str]:
    items = cast("list[object]", value) if isinstance(value, list | tuple) else []
    return [item for item in items if isinstance(item, str)]


def _build(node: AgentNode, _tools_given: AgentTools) -> Agent:
    return InvariantAgent(InvariantOptions.model_validate(dict(node.options)))


TYPE = AgentType(
    name="invariant_validator",
    event_type="InvariantValidatorAgent",
    options=InvariantOptions,
    build=_build,
    pure=True,
    plain=True,
    trusted=True,
    summary="Checks by fixed rules whether an execution kept its forks, routes, schemas and bounds.",
)
