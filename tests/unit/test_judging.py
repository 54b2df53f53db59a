"""The score of a round by judgements among its results, and by the agreement of its responses."""

from typing import Any

import numpy as np
import pytest

from orka.engine.judging import agreement, judge_round, responses_of
from orka.engine.looping import score_round
from orka.graph.nodes import LoopNode, Scope, ScoreStrategy, Scoring

MODERATE = Scoring(preset="moderate")
HALF = {
    "improvement": {"better_than_previous": True, "significant_delta": False},
    "stability": {"not_degrading": True, "consistent_direction": "yes"},
}
"""Four of the seven criteria: .25 + .18 + .12 = .55"""
TEXT = '{"improvement": {"better_than_previous": true, "significant_delta": true}, "stability": {"not_degrading": true, "consistent_direction": false}}'  # noqa: E501
"""The same four: .25 + .15 + .18 = .58"""


@pytest.mark.parametrize(
    ("results", "score"),
    [
        ({"v": {"boolean_evaluations": HALF}}, 0.55),
        ({"v": {"response": {"boolean_evaluations": HALF}}}, 0.55),
        ({"v": {"boolean_evaluations": HALF, "validation_score": 0.1}}, 0.55),
        # too few criteria, or of another context: its own score counts
        ({"v": {"boolean_evaluations": {"improvement": {"better_than_previous": True}}, "validation_score": 0.1}}, 0.1),
        ({"v": {"boolean_evaluations": {"a": {"b": True}, "c": {"d": True}}, "validation_score": "85%"}}, 0.85),
        ({"v": {"boolean_evaluations": [1], "validation_score": 0}}, 0.0),
        ({"v": {"validation_score": 72}}, 0.72),
        ({"v": {"validation_score": True}}, None),
        # no judgement of its own: JSON of booleans in the text of the response
        ({"v": {"response": f"I think:\n```json\n{TEXT}\n```"}}, 0.58),
        ({"v": TEXT}, 0.58),
        ({"v": {"response": "fine", **HALF}}, 0.55),
        ({"v": {"response": '{"better_than_previous": true, "not_degrading": true}'}}, None),
        ({"v": {"response": "better_than_previous: true, not_degrading: true, within_tolerance: true"}}, None),
        # members in order
        ({"a": {"response": "SCORE: 0.9"}, "b": {"validation_score": 0.2}, "c": {"boolean_evaluations": HALF}}, 0.2),
        ({"a": {"response": TEXT}, "b": {"boolean_evaluations": HALF}}, 0.58),
        ({"a": ["x"], "b": None, "c": {"error": "boom"}}, None),
        ({}, None),
    ],
)
def test_the_first_member_that_judges_gives_the_score(results: Any, score: float | None) -> None:
    assert judge_round(MODERATE, results) == score


def test_preset_context_and_weights_of_the_file_count() -> None:
    given: Any = {"v": {"boolean_evaluations": {"accuracy": {"factually_correct": True, "addresses_question": False,
                  "no_hallucinations": True}, "clarity": {"well_structured": True}}}}  # fmt: skip
    assert judge_round(Scoring(preset="strict", context="quality"), given) == 0.48  # .25 + .15 + .08
    assert judge_round(Scoring(preset="lenient", context="quality"), given) == 0.42  # .20 + .10 + .12
    heavy = Scoring(preset="lenient", context="quality", weights={"accuracy.factually_correct": 1.2})
    assert judge_round(heavy, given) == 0.71  # (1.2 + .10 + .12) / 2


def loop(**fields: Any) -> LoopNode:
    return LoopNode(id="l", body=Scope(sequence=(), nodes={}), **fields)  # type: ignore[arg-type]


def test_judgements_come_before_everything_else() -> None:
    results: Any = {
        "score_moderator": {"response": "SCORE: 0.9"},
        "x": {"response": "Q=0.4", "boolean_evaluations": HALF},
    }
    strategy = ScoreStrategy(type="pattern", patterns=("Q=([0-9.]+)",))
    assert score_round(loop(scoring=MODERATE, strategies=(strategy,)), results) == 0.55
    assert score_round(loop(strategies=(strategy,)), results) == 0.4
    assert score_round(loop(), results) == 0.9


def test_a_field_of_an_agent_is_read_in_the_order_of_the_agents() -> None:
    strategy = ScoreStrategy(type="agent_key", agents=("a", "b"), key="grade")  # type: ignore[arg-type]
    assert score_round(loop(strategies=(strategy,)), {"b": {"grade": 0.3}, "a": {"grade": "8/10"}}) == 0.8
    assert score_round(loop(strategies=(strategy,)), {"b": {"grade": 0.3}, "a": {"grade": "none"}}) == 0.3
    assert score_round(loop(strategies=(strategy,)), {"b": {"grade": True}}) is None


def test_agreement_is_the_mean_cosine_of_all_pairs() -> None:
    # 0.8 between the first two, 0 and 0.6 to the third: 1.4 / 3
    rows = np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 1, 0]], dtype=np.float32)
    assert agreement(rows) == 0.4667
    assert agreement(rows[:2]) == 0.8
    assert agreement(np.array([[1, 0], [-1, 0]], dtype=np.float32)) == 0.0
    assert agreement(np.array([[1, 0], [1, 0], [0, 0]], dtype=np.float32)) == 0.3333
    assert agreement(np.ones((3, 1), dtype=np.float32)) == 1.0


def test_only_texts_take_part_in_the_agreement() -> None:
    results: Any = {"a": {"response": "one"}, "b": "two", "c": {"response": " "}, "d": {"response": {"response": "x"}},
                    "r": ["a"], "e": {"error": "boom", "status": "error"}, "n": None}  # fmt: skip
    assert responses_of(results) == ["one", "two"]
