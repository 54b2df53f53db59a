"""The score of a round, and what is remembered of it: workflow-format 8.5."""

from typing import Any

import pytest

from orka.engine.looping import (
    extract_insights,
    find_key,
    join_recent,
    normalise,
    score_round,
    shown_loop,
)
from orka.graph.nodes import Cognition, LoopNode, Scope, ScoreStrategy


def loop(*strategies: ScoreStrategy, priority: tuple[str, ...] = ()) -> LoopNode:
    return LoopNode(
        id="l",  # type: ignore[arg-type]
        body=Scope(sequence=(), nodes={}),
        strategies=strategies,
        priority_agents=priority,  # type: ignore[arg-type]
    )


def said(text: Any) -> dict[str, Any]:
    return {"judge": {"response": text}}


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("SCORE: 0.85", 0.85),
        ("score = 85", 0.85),
        ("Rating: 8/10", 0.8),
        ("score: .9", 0.9),
        ("Confidence: 90%", 0.9),
        ("Agreement - 0.7", 0.7),
        ("consensus:1", 1.0),
        ("I give it 7 / 10.", 0.7),
        ("7 out of 10", 0.7),
        ("about 65 % done", 0.65),
        ("95 points", 0.95),
        ("I would say 0.75 overall", 0.75),
        ("somewhere near 0.42", 0.42),
        ("SCORE: 85/100", 0.85),
        ("Score: 150", 1.0),
        ("Score: 12/10", 1.0),
        ("Score: 110%", 1.0),
        ("Score: 0", 0.0),
        ("no number at all", None),
        ("", None),
        # only what stands right next to the number makes it a percentage
        ("Sales grew 90 %. SCORE: 0.9", 0.9),
        ("SCORE: 0.9. Sales grew 90 %.", 0.9),
    ],
)
def test_the_usual_wordings_of_a_score_are_understood(text: str, score: float | None) -> None:
    found = score_round(loop(), said(text))
    assert found is None if score is None else found == pytest.approx(score)


@pytest.mark.parametrize(
    ("text", "right", "whole", "score"),
    [
        ("0.9", "", "0.9", 0.9),
        ("9", "/10", "9", 0.9),
        ("9", "", "9/10", 0.9),
        ("9", " out of 10", "9", 0.9),
        ("90", "%", "90", 0.9),
        ("90%", "", "90%", 0.9),
        ("90", " % of", "90", 0.9),
        ("55", "", "55", 0.55),
        ("1", "", "1", 1.0),
        ("1.5", "", "1.5", 0.015),
        ("101", "", "101", 1.0),
        ("-3", "", "-3", 0.0),
        ("nine", "", "nine", None),
        ("inf", "", "inf", None),
        ("nan", "", "nan", None),
    ],
)
def test_numbers_become_zero_to_one(text: str, right: str, whole: str, score: float | None) -> None:
    found = normalise(text, right, whole)
    assert found is None if score is None else found == pytest.approx(score)


def test_a_pattern_gives_its_first_group_or_the_whole_match() -> None:
    grouped = ScoreStrategy(type="pattern", patterns=(r"Q=([0-9.]+)",))
    whole = ScoreStrategy(type="pattern", patterns=(r"\d\.\d+",))
    assert score_round(loop(grouped), said("Q=0.4 SCORE: 0.9")) == 0.4
    assert score_round(loop(whole), said("it is 0.35")) == 0.35


def test_configured_patterns_replace_the_usual_wordings() -> None:
    only = ScoreStrategy(type="pattern", patterns=(r"Q=([0-9.]+)",))
    assert score_round(loop(only), said("SCORE: 0.9")) is None


def test_patterns_read_response_result_output_and_data_of_every_member_in_order() -> None:
    strategy = ScoreStrategy(type="pattern", patterns=(r"S(\d\.\d)",))
    for key in ("response", "result", "output", "data"):
        assert score_round(loop(strategy), {"a": {"other": "S0.1"}, "b": {key: "S0.6"}, "c": "S0.7"}) == 0.6
    assert score_round(loop(strategy), {"a": "S0.2", "b": {"response": "S0.6"}}) == 0.2


@pytest.mark.parametrize(
    ("key", "results", "score"),
    [
        ("score", {"judge": {"response": "x", "score": 0.7}}, 0.7),
        ("score", {"judge": {"score": "85%"}}, 0.85),
        ("score", {"score": {"response": "0.6"}}, 0.6),
        ("score", {"score": 75}, 0.75),
        ("judge.score", {"other": {"score": 0.1}, "judge": {"score": 0.4}}, 0.4),
        ("judge.quality.value", {"judge": {"response": {"quality": {"value": 0.3}}}}, 0.3),
        ("score", {"a": {"score": None}, "b": {"score": 0.5}}, 0.5),
        ("score", {"a": {"score": True}}, None),
        ("score", {"a": {"score": "good"}, "b": {"score": 0.5}}, 0.5),
        ("score", {"a": {"response": "SCORE: 0.9"}}, None),
        ("score", {"a": {"score": 0}}, 0.0),
    ],
)
def test_a_direct_key_is_a_path_or_a_key_of_any_member(key: str, results: Any, score: float | None) -> None:
    assert score_round(loop(ScoreStrategy(type="direct_key", key=key)), results) == score


def test_an_agent_key_reads_one_field_of_the_agents_it_names() -> None:
    results: Any = {"a": {"response": "SCORE: 0.1"}, "b": {"verdict": "rated 8/10"}, "c": {"verdict": 0.3}}
    by_text = ScoreStrategy(type="agent_key", agents=("b",), key="verdict")  # type: ignore[arg-type]
    by_number = ScoreStrategy(type="agent_key", agents=("c",), key="verdict")  # type: ignore[arg-type]
    by_default = ScoreStrategy(type="agent_key", agents=("a",))  # type: ignore[arg-type]
    nobody = ScoreStrategy(type="agent_key", agents=("z",))  # type: ignore[arg-type]
    assert score_round(loop(by_text), results) == pytest.approx(0.8)
    assert score_round(loop(by_number), results) == 0.3
    assert score_round(loop(by_default), results) == 0.1
    assert score_round(loop(nobody), results) is None


def test_strategies_are_tried_in_the_order_of_the_file() -> None:
    first = ScoreStrategy(type="direct_key", key="missing")
    second = ScoreStrategy(type="direct_key", key="score")
    third = ScoreStrategy(type="pattern", patterns=(r"(\d\.\d)",))
    results: Any = {"a": {"response": "0.1", "score": 0.7}}
    assert score_round(loop(first, second, third), results) == 0.7
    assert score_round(loop(first, third, second), results) == 0.1


def test_priority_members_are_searched_before_everything_else() -> None:
    results: Any = {"a": {"response": "SCORE: 0.95"}, "boss": {"response": "SCORE: 0.3"}}
    assert score_round(loop(priority=("boss",)), results) == 0.3
    assert score_round(loop(priority=("gone",)), results) == 0.95
    moderated: Any = {"a": {"response": "SCORE: 0.95"}, "agreement_moderator": {"response": "AGREEMENT: 0.4"}}
    assert score_round(loop(), moderated) == 0.4  # one of those that the format names by default
    assert score_round(loop(priority=("a",)), moderated) == 0.95


def test_a_huge_text_is_searched_only_so_far() -> None:
    assert score_round(loop(), said("x" * 30_000 + " SCORE: 0.9 " + "x" * 30_000)) is None
    assert score_round(loop(), said("x" * 30_000 + " SCORE: 0.9")) == 0.9  # verdicts stand at the end
    assert score_round(loop(), said("SCORE: 0.9 " + "x" * 30_000)) == 0.9


def test_a_plain_wording_counts_before_any_decimal_of_another_member() -> None:
    results: Any = {"draft": {"response": "Output grew by 1.5 in 2024."}, "judge": {"response": "Fine. SCORE: 0.85"}}
    assert score_round(loop(), results) == 0.85
    own = ScoreStrategy(type="pattern", patterns=(r"VERDICT (\d\.\d)", r"(\d\.\d)"))
    assert score_round(loop(own), {"a": "about 0.3", "b": "VERDICT 0.7"}) == 0.7


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("SCORE: 0.85.", 0.85),
        ("The score: 8/10.", 0.8),
        ("SCORE: 85.%", 0.85),
        ("SCORE: ... none yet", None),
        ("SCORE: 1.", 1.0),
    ],
)
def test_a_pattern_may_take_a_full_stop_along(text: str, score: float | None) -> None:
    strategy = ScoreStrategy(type="pattern", patterns=(r"(?i)score:\s*([0-9.]+)",))
    assert score_round(loop(strategy), said(text)) == score


def test_scores_in_a_models_thoughts_do_not_count() -> None:
    assert score_round(loop(), said("<think>score: 0.2? rather 0.3</think>\nSCORE: 0.9")) == 0.9
    assert score_round(loop(), said("<think>SCORE: 0.4</think>")) == 0.4


def test_a_range_between_a_label_and_its_number_is_passed_over() -> None:
    assert score_round(loop(), said("Score (0-1): 0.77")) == 0.77
    assert score_round(loop(), said("Rating(out of ten): 7/10")) == 0.7


def test_a_score_that_a_member_gives_as_a_field_counts_when_no_text_says_one() -> None:
    assert score_round(loop(), {"w": {"response": "fine", "score": 0.66}}) == 0.66
    assert score_round(loop(), {"w": {"response": "fine", "score": "8/10"}}) == 0.8
    configured = ScoreStrategy(type="pattern", patterns=(r"SCORE (\d)",))
    assert score_round(loop(configured), {"w": {"response": "fine", "score": 0.66}}) is None


PAST: Any = [
    {"loop_number": str(n), "score": str(n / 10), "insights": f"i{n}" if n != 3 else "  ", "mistakes": ""}
    for n in range(1, 8)
]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("insights", "i7 | i6 | i5 | i4"),  # of the last five, the third was empty
        ("mistakes", "No mistakes available"),
        ("improvements", "No improvements available"),
        ("score", "0.7"),
        ("other", "No other available"),
    ],
)
def test_metadata_joins_the_last_five_or_takes_the_last(name: str, text: str) -> None:
    assert join_recent(PAST, name) == text
    assert join_recent([], name) == f"No {name} available"


def test_insights_are_cut_cleaned_and_told_once() -> None:
    cognition = Cognition(
        patterns={"insights": (r"insight:\s*(.+?)(?:\n|$)",), "mistakes": (r"mistake:\s*(.+?)(?:\n|$)",)}, max_length=40
    )
    results: Any = {
        "a": {"response": "Insight:  caching   helps a lot\nINSIGHT: short\nmistake: forgot the error handling"},
        "b": {"response": "insight: Caching helps a LOT\ninsight: batching helps as well"},
        "c": {"response": "insight: too short"},
    }
    found = extract_insights(cognition, results)
    assert found["insights"] == "caching helps a lot | batching helps as ..."
    assert found["mistakes"] == "forgot the error handling"
    assert found["improvements"] == ""
    assert extract_insights(None, results) == {"insights": "", "improvements": "", "mistakes": ""}


def test_keys_of_a_round_are_found_in_results_and_in_their_json_text() -> None:
    results: Any = {"a": {"response": '{"REASONING_QUALITY": 0.8, "CONVERGENCE_TREND": "RISING"}'}, "b": {"X": 1}}
    assert find_key(results, "REASONING_QUALITY", 0.0) == 0.8
    assert find_key(results, "CONVERGENCE_TREND", "STABLE") == "RISING"
    assert find_key(results, "X", None) == 1
    assert find_key(results, "NOTHING", "STABLE") == "STABLE"
    assert find_key({"a": '{"K": 1.2.3}'}, "K", None) == 1.2
    assert find_key({"a": '{"K": -0.5}'}, "K", None) == -0.5
    assert find_key({"a": '{"K": -}'}, "K", 0.0) == 0.0


def test_a_loop_is_seen_with_its_output_as_its_response() -> None:
    output: Any = {"result": {"a": 1}, "loops_completed": 2, "final_score": 0.5, "threshold_met": False}
    assert shown_loop(output) == {
        **output,
        "response": output,
        "confidence": 1.0,
        "internal_reasoning": "",
        "status": "success",
    }
