"""The invariant validator: what it finds in a dump, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from orka.agents.invariants import CATEGORIES, InvariantOptions, check_invariants, parse_data
from orka.errors import AgentError
from orka.testing import example_task, run_agent

GOOD: dict[str, Any] = {
    "nodes_executed": ["a", "gate", "b"],
    "fork_groups": {"f": {"has_join": True, "branches": ["x", "y"], "completed_branches": ["y", "x"]}},
    "router_decisions": {"gate": {"chosen_target": "b"}},
    "graph_structure": {"nodes": ["a", "gate", "b"], "edges": [{"src": "gate", "dst": "b"}]},
    "tool_calls": [{"node_id": "a", "status": "error", "error_handled": True, "execution_continued_after_error": True}],
    "structured_outputs": {"a": {"schema_valid": True}},
    "graphscout_candidates": [{"path": ["a", "b"]}],
}


def verdict(options: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return check_invariants({**GOOD, **changes}, InvariantOptions(**(options or {})))


def test_what_holds_passes() -> None:
    found = verdict({"max_depth": 3})
    assert all(found[name]["status"] == "PASS" and found[name]["violations"] == [] for name in CATEGORIES)
    assert found["critical_failures_detected"] is False
    assert found["validation_summary"] == {
        "total_violations": 0,
        "critical_count": 0,
        "warning_count": 0,
        "categories_failed": [],
        "validator_config": {"max_depth": 3, "strict_tool_errors": True, "allow_reentrant_nodes": []},
    }


@pytest.mark.parametrize(
    ("category", "changes", "violation"),
    [
        (
            "fork_join_integrity",
            {"fork_groups": {"f": {"has_join": False, "branches": [], "completed_branches": []}}},
            "fork 'f' has no join",
        ),
        (
            "fork_join_integrity",
            {"fork_groups": {"f": {"has_join": True, "branches": ["x", "y"], "completed_branches": ["y"]}}},
            "fork 'f' lacks branches: x",
        ),
        (
            "routing_integrity",
            {"router_decisions": {"gate": {"chosen_target": "z"}}},
            "router 'gate' chose 'z', which is not in the graph",
        ),
        ("cycle_detection", {"nodes_executed": ["a", "b", "a"]}, "node 'a' ran 2 times"),
        (
            "tool_integrity",
            {
                "tool_calls": [
                    {"node_id": "a", "status": "error", "error_handled": False, "execution_continued_after_error": True}
                ]
            },
            "an error of 'a' was not handled, and the execution went on",
        ),
        (
            "schema_compliance",
            {"structured_outputs": {"a": {"schema_valid": False}}},
            "the output of 'a' does not fit its schema",
        ),
        (
            "depth_compliance",
            {"graphscout_candidates": [{"path": ["a", "b", "c"]}]},
            "path a -> b -> c has 3 nodes, at most 2 may",
        ),
    ],
)
def test_one_violation(category: str, changes: dict[str, Any], violation: str) -> None:
    found = verdict({"max_depth": 2}, **changes)
    assert found[category]["violations"] == [violation]
    assert [name for name in CATEGORIES if found[name]["status"] == "FAIL"] == [category]
    assert found["critical_failures_detected"] is True
    assert found["validation_summary"]["categories_failed"] == [category]


def test_a_route_without_an_edge_is_a_warning() -> None:
    found = verdict(router_decisions={"gate": {"chosen_target": "a"}})
    assert found["routing_integrity"] == {
        "status": "PASS",
        "violations": ["router 'gate' chose 'a', to which no edge leads from it"],
    }
    assert (found["critical_failures_detected"], found["validation_summary"]["warning_count"]) == (False, 1)


def test_options_allow_more() -> None:
    swallowed = [{"node_id": "a", "status": "error", "execution_continued_after_error": True}]
    options = {"allow_reentrant_nodes": ["a"], "strict_tool_errors": False}
    found = verdict(options, nodes_executed=["a", "a"], tool_calls=swallowed)
    assert found["critical_failures_detected"] is False
    assert found["cycle_detection"]["cycles_found"] == []


def test_data_as_json_and_as_a_python_literal() -> None:
    assert parse_data(' {"nodes_executed": ["a"]} and more') == {"nodes_executed": ["a"]}
    assert parse_data("{'nodes_executed': ['a'], 'x': None}") == {"nodes_executed": ["a"], "x": None}
    for bad in ("", "[1]", "__import__('os')", "{" * 5000, 3, None):
        assert parse_data(bad) is None


async def test_the_agent_reads_its_prompt() -> None:
    output = await run_agent("invariant_validator", 'Check.\nEXECUTION_DATA_JSON:\n{"nodes_executed": ["a", "a"]}')
    assert output.response == "1 violations: cycle_detection"
    assert output.fields["cycle_detection"] == {
        "status": "FAIL",
        "violations": ["node 'a' ran 2 times"],
        "cycles_found": ["a"],
    }
    for bad, said in (("EXECUTION_DATA_JSON: nothing", "no JSON object"), ("no mark", "there are no execution data")):
        with pytest.raises(AgentError, match=said) as caught:  # a verdict that is missing must not read like a good one
            await run_agent("invariant_validator", bad)
        assert caught.value.output is not None
        assert caught.value.output["facts"] == []
    task = example_task(None, options={"execution_data": {"nodes_executed": ["a"]}})
    assert (await run_agent("invariant_validator", task)).response == "every invariant holds"
