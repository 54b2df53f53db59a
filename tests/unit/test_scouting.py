"""How a graph scout chooses: the numbers of every step, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from orka.agents.scouting.asking import Opinion, read_opinions
from orka.agents.scouting.budget import estimate, is_affordable
from orka.agents.scouting.deciding import Scored, decide, margin_for, rank
from orka.agents.scouting.paths import Route, make_paths, required_in
from orka.agents.scouting.profile import Profile, profiles_of, proposes_only
from orka.agents.scouting.relevance import flows, modality, overlap, readiness, relevance
from orka.agents.scouting.remembering import remembered
from orka.agents.scouting.safety import Safety, is_safe, judge_safety
from orka.agents.scouting.scoring import (
    DEFAULT_WEIGHTS,
    REFUSED,
    Bar,
    Facts,
    adjusted,
    components_of,
    confidence_of,
    evaluate,
    numeric_score,
    prior,
    refused,
    share_held,
)
from orka.graph.graph import Site
from orka.graph.nodes import AgentNode, FailoverNode, Node, PathNode, RouterNode
from orka.scoring import BooleanScoreCalculator
from orka.types import NodeId


def profile(name: str, **more: Any) -> Profile:
    return Profile(id=NodeId(name), type=more.pop("type", "echo"), **more)


def agent(name: str, kind: str = "echo", **options: Any) -> AgentNode:
    return AgentNode(id=NodeId(name), type=kind, options=options)


def site(*nodes: Node, listed: tuple[str, ...] = (), loops: tuple[str, ...] = ()) -> Site:
    return Site(
        nodes={node.id: node for node in nodes},
        sequence=tuple(map(NodeId, listed)),
        loops=tuple(map(NodeId, loops)),
    )


AGENTS = {
    agent.id: agent
    for agent in (
        profile("search", capabilities=frozenset({"web_search"})),
        profile("recall", type="memory", role="reader"),
        profile("keep", type="memory", role="writer"),
        profile(
            "analysis", capabilities=frozenset({"reasoning"}), prompt="Judge {{ previous_outputs.search.response }}"
        ),
        profile("final_answer", role="builder"),
    )
}


def test_candidates_are_the_agents_that_work_and_have_not_run() -> None:
    graph = site(
        agent("scout", "graph-scout"),
        agent("other", "graph-scout"),
        agent("search", "duckduckgo", capabilities=["web_search"]),
        agent("done"),
        agent("path_validator"),
        agent("judge", "plan_validator"),
        agent("input_classifier"),
        agent("my_router"),
        agent("notes", "memory", config={"operation": "write"}),
        agent("writer", "local_llm", capabilities=["answer_emit"], provider="lm_studio"),
        FailoverNode(id=NodeId("spare"), children=()),
        RouterNode(id=NodeId("gate"), decision_key="x", routes=()),
        listed=("scout", "writer", "done"),
    )
    found = profiles_of(graph, NodeId("scout"), ["done"])
    assert list(found) == ["writer", "notes", "search"]  # what is listed, then by name
    assert (found[NodeId("notes")].role, found[NodeId("writer")].role) == ("writer", "builder")
    assert found[NodeId("writer")].local


def test_a_scout_whose_proposal_others_run_only_proposes() -> None:
    scout = agent("scout", "graph-scout")
    follow = PathNode(id=NodeId("go"), source="scout.target")
    loop = PathNode(id=NodeId("go"), source="refine")
    judge = agent("judge", "plan_validator")
    assert not proposes_only(scout, site(scout, judge, listed=("scout",)))
    assert proposes_only(scout, site(scout, follow))
    assert proposes_only(scout, site(scout, loop, loops=("refine",)))
    assert not proposes_only(scout, site(scout, loop))
    assert proposes_only(scout, site(scout, judge, listed=("scout", "judge")))
    assert not proposes_only(agent("scout", "graph-scout", reroute=True), site(scout, follow))
    assert proposes_only(agent("scout", "graph-scout", reroute=False), site(scout))


def paths(**more: Any) -> list[Route]:
    options: dict[str, Any] = {"max_depth": 1, "terminal": True, **more}
    return make_paths(tuple(options.pop("ranked", AGENTS)), AGENTS, **options)


def test_paths_end_with_the_answer_and_have_readers_first_and_writers_last() -> None:
    assert paths() == [
        ("search", "final_answer"),
        ("recall", "final_answer"),
        ("keep", "final_answer"),
        ("analysis", "final_answer"),
        ("final_answer",),
    ]
    assert paths(terminal=False, ranked=[NodeId("keep"), NodeId("search")], max_depth=2) == [
        ("keep",),
        ("search",),
        ("search", "keep"),
    ]
    assert paths(ranked=[NodeId("search"), NodeId("recall"), NodeId("final_answer")], max_depth=2) == [
        ("search", "final_answer"),
        ("recall", "final_answer"),
        ("final_answer",),
        ("recall", "search", "final_answer"),
    ]


def test_what_is_required_is_a_path_of_its_own_and_there_are_at_most_fifty() -> None:
    assert paths(required=[NodeId("analysis"), NodeId("search"), NodeId("nobody")])[0] == (
        "analysis",
        "search",
        "final_answer",
    )
    many = {NodeId(f"a{n}"): profile(f"a{n}") for n in range(20)}
    found = make_paths(list(many), many, max_depth=3, terminal=True)
    assert (len(found), found[0], found[19], found[20]) == (50, ("a0",), ("a19",), ("a0", "a1"))


def test_directives_in_the_prompt() -> None:
    assert required_in("REQUIRED_AGENTS: [search, 'analysis']\nGo.") == ("search", "analysis")
    assert required_in("Use this.\nREQUIRED PATH STRUCTURE:\n  search -> analysis → final_answer\nThanks") == (
        "search",
        "analysis",
        "final_answer",
    )
    assert required_in("nothing of that kind") == ()


def test_tokens_and_time_of_a_path() -> None:
    use = estimate([profile("a", prompt="x" * 800), profile("b", local=True), profile("c", model="gpt-4o")])
    assert use.tokens == pytest.approx(200 * 1.2 + 100 * 1.2 + 100 * 1.5)  # 510
    assert use.latency_ms == 2500
    assert use.cost_usd == pytest.approx(0.00102)
    assert is_affordable(use, tokens=510.1, latency_ms=2500)
    assert not is_affordable(use, tokens=500, latency_ms=2500)
    assert not is_affordable(use, tokens=600, latency_ms=2400)


@pytest.mark.parametrize(
    ("question", "guard", "score", "safe"),
    [
        ("how are you", "default", 1.0, True),
        ("my card is 4111 1111 1111 1111", "default", (0.5 + 2) / 3, True),
        ("what dosage", "default", (0.75 + 2) / 3, True),
        ("what dosage", "strict", 2 / 3, False),
        ("how to make a bomb", "default", 2 / 3, False),
    ],
)
def test_safety_of_a_question(question: str, guard: Any, score: float, safe: bool) -> None:
    found = judge_safety(question, [profile("a")], guard=guard, preview_tokens=10)
    assert found.score == pytest.approx(score)
    assert is_safe(found, 0.2) is safe


def test_safety_of_agents() -> None:
    wild = profile("a", capabilities=frozenset({"code_execution"}))
    assert judge_safety("", [wild], guard="default", preview_tokens=10).score == 1
    found = judge_safety("", [wild] * 6, guard="moderate", preview_tokens=10)
    assert found.score == pytest.approx((1 + 0 + 0.5) / 3)
    assert found.reasons == ("capability code_execution", "6 agents")
    hidden = profile("a", prompt="x" * 40 + " ransomware")
    assert judge_safety("", [hidden], guard="default", preview_tokens=10).score == 1
    assert judge_safety("", [hidden], guard="default", preview_tokens=20).score == pytest.approx(2 / 3)


def test_how_near_an_agent_is_to_a_question() -> None:
    search = AGENTS[NodeId("search")]
    assert overlap("search the web", search) == 1.0  # its words: search, web
    assert overlap("search", search) == 0.5
    assert overlap("search", search, 0.7) == 0.7
    assert relevance("the latest news", [search], {}) == pytest.approx(0.3 + 0.4)
    assert relevance("search the web", [search, AGENTS[NodeId("final_answer")]], {}) == pytest.approx(0.3 + 0.3 + 0.4)


def test_inputs_at_hand() -> None:
    search, analysis = AGENTS[NodeId("search")], AGENTS[NodeId("analysis")]
    assert analysis.reads == {"search"}
    assert readiness([search], ()) == 0.9
    assert readiness([analysis], ()) == 0.0
    assert readiness([search, analysis], ()) == pytest.approx((0.9 + 1) / 2)
    assert flows([search, analysis], ())
    assert not flows([analysis, search], ())


def test_pictures_need_an_agent_that_sees() -> None:
    assert modality("a question", [profile("a")]) == 0.7
    assert modality("what is in this photo", [profile("a")]) == 0.3
    assert modality("what is in this photo", [profile("a", capabilities=frozenset({"vision"}))]) == 0.9


def test_the_prior_of_a_length() -> None:
    assert [prior(n, (2, 3)) for n in range(1, 10)] == pytest.approx([0.5, 0.9, 0.9, 0.7, 0.6, 0.5, 0.4, 0.3, 0.3])


def facts(path: tuple[str, ...] = ("search", "final_answer"), **more: Any) -> Facts:
    agents = tuple(AGENTS[NodeId(name)] for name in path)
    values: dict[str, Any] = {"relevance": 0.8, "safety": Safety(score=1.0), "use": estimate(agents), **more}
    return Facts(path=tuple(map(NodeId, path)), agents=agents, **values)


def test_the_numeric_score_of_a_path() -> None:
    parts = components_of(facts(), "search", best_length=(2, 3))
    # overlap: search .5, final_answer 0: mean .25
    assert parts == pytest.approx(
        {
            "llm": 0.8,
            "heuristics": 0.3 * 0.9 + 0.3 * 0.7 + 0.2 * 0.25 + 0.2 * 0.9,  # .71
            "prior": 0.9,
            "cost": 1 - 0.00048 / 0.1,  # .9952
            "latency": 0.8,
        }
    )
    score = 0.45 * 0.8 + 0.2 * 0.71 + 0.2 * 0.9 + 0.1 * 0.9952 + 0.05 * 0.8  # .82152
    assert numeric_score(parts, DEFAULT_WEIGHTS) == pytest.approx(score)
    assert numeric_score(parts, DEFAULT_WEIGHTS, boost=0.1) == pytest.approx(score + 0.1)
    assert numeric_score(parts, DEFAULT_WEIGHTS, boost=0.9) == 1.0
    assert confidence_of({"a": 1.0, "b": 0.0}) == pytest.approx(0.5 - 0.25)
    assert confidence_of({"a": 0.8, "b": 0.8}) == pytest.approx(0.8)


def test_a_path_without_what_is_required_is_refused() -> None:
    parts = components_of(facts(required=frozenset({NodeId("analysis")})), "search", best_length=(2, 3))
    assert parts["compliance"] == 0.0
    assert numeric_score(parts, DEFAULT_WEIGHTS) == REFUSED
    whole = components_of(facts(required=frozenset({NodeId("search")})), "search", best_length=(2, 3))
    assert numeric_score(whole, {"compliance": 0.5, "llm": 0.5}) == pytest.approx(0.5 + 0.4)


def test_boolean_criteria_of_a_path() -> None:
    bar = Bar()
    found = evaluate(facts(), "search", bar, AGENTS)
    held = {f"{dimension}.{name}" for dimension, criteria in found.items() for name, ok in criteria.items() if ok}
    assert 15 - len(held) == 1
    assert "safety.has_timeout_protection" not in held
    score = BooleanScoreCalculator("moderate", "graphscout").calculate(found)["score"]
    assert score == pytest.approx(1 - 0.03)
    assert share_held(found) == pytest.approx(14 / 15)
    assert not refused(found, bar)
    assert BooleanScoreCalculator("moderate").calculate(adjusted(found, Bar(nice=False)))["score"] == pytest.approx(1.0)


def test_boolean_scoring_refuses_what_is_critical_and_strictly_what_is_important() -> None:
    broken = evaluate(facts(("analysis",)), "search", Bar(), AGENTS)
    assert not broken["coherence"]["proper_data_flow"]
    assert refused(broken, Bar())
    assert not refused(broken, Bar(require_critical=False))
    poor = evaluate(facts(relevance=0.1), "other things", Bar(cost_usd=0, latency_ms=0), AGENTS)
    assert not refused(poor, Bar())
    assert refused(poor, Bar(strict=True))


def scored(*given: tuple[float, float, bool] | tuple[float, float]) -> list[Scored]:
    found = []
    for number, one in enumerate(given):
        path = (NodeId(f"p{number}"),)
        found.append(Scored(path=path, score=one[0], confidence=one[1], terminal=len(one) > 2 and bool(one[2])))
    return rank(found, 3)


@pytest.mark.parametrize(
    ("given", "word", "confidence"),
    [
        ([(0.5, 0.5, True)], "commit_path", 0.5),
        ([(0.9, 0.9), (0.5, 0.5, True)], "commit_path", 0.5),
        ([(0.9, 0.8, True), (0.75, 0.8, True)], "commit_path", 0.8 + 0.15 / 2),
        ([(0.9, 0.8, True), (0.8, 0.6, True)], "shortlist", 0.7 - 0.2),
        ([(0.7, 0.6)], "commit_next", 0.6),
        ([(0.69, 0.9)], "shortlist", 0.7),
        ([(0.9, 0.59)], "shortlist", 0.39),
        ([(0.8, 0.9), (0.6, 0.7)], "commit_next", 1.0),
        ([(0.8, 0.9), (0.7, 0.7), (0.6, 0.5), (0.1, 0.1)], "shortlist", 0.7 - 0.2),
    ],
)
def test_decisions(given: list[Any], word: str, confidence: float) -> None:
    found = decide(scored(*given), 0.15)
    assert (found.word, found.status) == (word, "success")
    assert found.confidence == pytest.approx(confidence)


def test_the_margin_follows_the_kind_of_question() -> None:
    assert margin_for({}, 0.15) == 0.15
    for word, margin in {"factual": 0.08, "Analytical.": 0.15, "technical": 0.12, "creative": 0.20, "odd": 0.3}.items():
        assert margin_for({"input_classifier": {"response": word}}, 0.3) == margin


def test_learned_paths() -> None:
    assert remembered((NodeId("a"), NodeId("b")), [(("a", "b"), 0.8), (("a",), 0.9)]) == pytest.approx(0.8)
    assert remembered((NodeId("a"), NodeId("b")), [(("a",), 0.9)]) == pytest.approx(0.45)
    assert remembered((NodeId("a"),), []) == 0.0


def test_the_answer_of_a_model() -> None:
    one, two, three = (NodeId("a"),), (NodeId("a"), NodeId("b")), (NodeId("c"),)
    answer: dict[str, Any] = {
        "recommended_path": "a -> b",
        "confidence": "80%",
        "reasoning": "why not",
        "path_evaluations": [
            {"path": ["a"], "score": 0.4, "pros": ["quick"], "cons": "shallow", "expected_outcome": "little"},
            {"path": ["x"], "score": 1.0},
            {"path": "c", "score": "35%"},
            "nonsense",
        ],
    }
    assert read_opinions(answer, [one, two, three]) == {
        one: Opinion(score=0.4, expected="little", pros=("quick",), cons=("shallow",)),
        two: Opinion(score=0.8, recommended=True, reasoning="why not"),
        three: Opinion(score=0.35),
    }
    assert read_opinions(None, [one]) is None
    assert read_opinions({"recommended_path": ["z"]}, [one]) is None
