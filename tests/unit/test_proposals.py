"""Which ids a path executor reads out of what earlier nodes gave: every accepted form, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from orka.engine.proposals import find_proposal, is_runnable, looks_like_control
from orka.graph.nodes import AgentNode, FailoverNode, ForkNode, Node, PathNode, RouterNode
from orka.types import Json, NodeId

DECIDED = "'plan': the decision is {!r}, with which nothing is to run"


def agent(name: str, kind: str = "echo") -> AgentNode:
    return AgentNode(id=NodeId(name), type=kind)


NODES: dict[NodeId, Node] = {
    NodeId(name): agent(name) for name in ("search", "analyse", "answer", "explorer", "input_classifier")
} | {
    NodeId("spare"): FailoverNode(id=NodeId("spare"), children=()),
    NodeId("gate"): RouterNode(id=NodeId("gate"), decision_key="x", routes=()),
    NodeId("spread"): ForkNode(id=NodeId("spread"), branches=()),
    NodeId("again"): PathNode(id=NodeId("again"), source="x"),
    NodeId("finder"): agent("finder", "graph-scout"),
}


def ids(outputs: dict[str, Any], source: str = "plan") -> list[str]:
    proposal = find_proposal(outputs, source, NODES)
    assert proposal.problem == ""
    return list(proposal.ids)


@pytest.mark.parametrize(
    "value",
    [
        ["search", "answer"],
        {"response": ["search", "answer"]},
        {"result": {"path": ["search", "answer"]}},
        {"payload": {"target": ["search", "answer"]}},
        {"decision": "commit_path", "target": ["search", "answer"], "confidence": 0.8},
        {"response": {"decision": "commit_path", "target": ["search", "answer"]}},
        [{"node_id": "search"}, {"node_id": "answer", "why": "last"}],
        [{"path": ["search"]}, "answer"],
        '["search", "answer"]',
        {"response": '```json\n{"decision": "commit_path", "target": ["search", "answer"]}\n```'},
        {"response": "Here it is:\n```\n- search\n- answer\n```\nGood luck."},
        {"response": "target:\n  - search\n  - answer\n"},
        {"response": "search -> answer"},
        {"response": "search → `answer`"},
        {
            "decision": "shortlist",
            "target": [
                {"node_id": "analyse", "path": ["analyse"], "score": 0.6},
                {"node_id": "search", "path": ["search", "answer"], "score": 0.7},
                {"node_id": "explorer", "path": ["explorer"], "score": 0.7},
            ],
        },
        [{"path": ["analyse"], "score": 0.1}, {"path": ["search", "answer"], "score": 0.9}],
    ],
)
def test_a_path_is_read_out_of(value: Any) -> None:
    assert ids({"plan": value}) == ["search", "answer"]


def test_commit_next_is_the_first_alone() -> None:
    assert ids({"plan": {"decision": "commit_next", "target": "search"}}) == ["search"]
    assert ids({"plan": {"decision": "commit_next", "target": ["analyse", "answer"]}}) == ["analyse"]


def test_a_shortlist_without_paths_runs_the_best_node() -> None:
    target = [{"node_id": "search", "score": 0.2}, {"node_id": "analyse", "score": 0.3}]
    assert ids({"plan": {"decision": "shortlist", "target": target}}) == ["analyse"]


@pytest.mark.parametrize(
    "source",
    [
        "planner.response.target",
        "planner.target",
        "planner.result.target",
        "planner.response",
        "planner",
        "planner.response.result.target",
    ],
)
def test_response_and_result_in_the_dotted_path_may_be_there_or_not(source: str) -> None:
    assert ids({"planner": {"response": {"target": ["search", "answer"]}}}, source) == ["search", "answer"]


def test_a_loop_gives_the_first_proposal_of_its_last_round() -> None:
    result: dict[str, Json] = {
        "notes": {"response": "search would be nice"},
        "scout": {"decision": "commit_path", "target": ["search", "answer"], "response": "ok"},
        "judge": {"validation_score": 0.9, "path": ["analyse"]},
    }
    loop: dict[str, Json] = {"loops_completed": 2, "result": result, "past_loops": []}
    shown = {**loop, "response": dict(loop)}
    assert ids({"refine": shown}, "refine") == ["search", "answer"]
    assert ids({"refine": shown}, "refine.response.result.scout") == ["search", "answer"]
    assert ids({"refine": shown}, "refine.result.judge") == ["analyse"]


def test_a_loop_whose_model_wrote_its_proposal_as_text() -> None:
    inner = {"proposal": {"response": '{"decision": "commit_next", "target": "analyse"}'}}
    assert ids({"refine": {"loops_completed": 1, "result": inner}}, "refine") == ["analyse"]


def test_control_nodes_are_left_out_and_unknown_ids_are_kept() -> None:
    path = ["gate", "search", "nobody", "spread", "finder", "input_classifier", "path_validator", "spare", "again"]
    proposal = find_proposal({"plan": path}, "plan", NODES, frozenset({NodeId("explorer")}))
    assert proposal.ids == ("search", "nobody", "spare")
    assert proposal.dropped == ("gate", "spread", "finder", "input_classifier", "path_validator", "again")


def test_what_the_executor_lies_in_is_left_out() -> None:
    proposal = find_proposal({"plan": ["spare", "search"]}, "plan", NODES, frozenset({NodeId("spare")}))
    assert (proposal.ids, proposal.dropped) == (("search",), ("spare",))


@pytest.mark.parametrize(
    ("outputs", "problem"),
    [
        ({}, "nothing proposes a path under 'plan' (earlier outputs: none)"),
        ({"a": 1, "b": 2}, "nothing proposes a path under 'plan' (earlier outputs: a, b)"),
        ({"plan": {"response": "I would rather not."}}, "what is under 'plan' holds no ids of agents"),
        ({"plan": []}, "what is under 'plan' holds no ids of agents"),
        ({"plan": {"decision": "fallback", "target": None}}, DECIDED.format("fallback")),
        ({"plan": {"decision": "human_gate", "target": ["search"]}}, DECIDED.format("human_gate")),
        ({"plan": {"decision": "shortlist", "target": []}}, "what is under 'plan' holds no ids of agents"),
        ({"plan": ["gate", "spread"]}, "'plan' proposes control nodes alone: gate, spread"),
    ],
)
def test_nothing_to_run(outputs: dict[str, Any], problem: str) -> None:
    proposal = find_proposal(outputs, "plan", NODES)
    assert (proposal.ids, proposal.problem) == ((), problem)


def test_texts_that_are_too_long_or_hostile_hold_no_path() -> None:
    for text in ("[" * 10_000, "&a [*a, *a]", "x" * 30_000 + " -> y", "{" * 500, "!!python/object:os.system x"):
        assert find_proposal({"plan": {"response": text}}, "plan", NODES).ids == ()


def test_words_that_look_like_control_nodes() -> None:
    for name in ("graph_scout", "graphscout_2", "path-proposer", "my_router", "routing", "loop1", "pre_fork", "join"):
        assert looks_like_control(name)
    for name in ("explorer", "rejoinder", "forklift", "looper", "search", "router2go"):
        assert looks_like_control(name) == (name == "router2go")
    assert not is_runnable(NODES[NodeId("finder")])
    assert is_runnable(NODES[NodeId("spare")])
