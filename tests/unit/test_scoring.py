"""Boolean scoring, with numbers worked out by hand from the tables of workflow-format 11.2."""

import math
from typing import Any

import pytest

from orka.scoring import CONTEXTS, PRESETS, BooleanScoreCalculator

ACCURATE = {
    "accuracy": {"factually_correct": True, "addresses_question": True, "no_hallucinations": False},
    "completeness": {"comprehensive_answer": True, "includes_examples": False},
    "clarity": {"well_structured": True},
    "relevance": {"stays_on_topic": True},
}


def test_the_score_is_the_weight_of_what_is_met() -> None:
    result: Any = BooleanScoreCalculator(preset="moderate", context="quality").calculate(ACCURATE)
    # .22 + .18 + .18 + .10 + .05
    assert result["score"] == 0.73
    assert result["assessment"] == "NEEDS_IMPROVEMENT"
    assert (result["total_criteria"], result["passed_count"], result["failed_count"]) == (8, 5, 3)
    assert result["passed_criteria"] == [
        "accuracy.factually_correct",
        "accuracy.addresses_question",
        "completeness.comprehensive_answer",
        "clarity.well_structured",
        "relevance.stays_on_topic",
    ]
    assert result["failed_criteria"] == [
        "accuracy.no_hallucinations",
        "completeness.includes_examples",
        "clarity.easy_to_understand",
    ]


def test_every_criterion_and_dimension_is_accounted_for() -> None:
    result: Any = BooleanScoreCalculator("moderate", "quality").calculate(ACCURATE)
    assert result["breakdown"]["accuracy.factually_correct"] == {"weight": 0.22, "passed": True, "status": "Y"}
    assert result["breakdown"]["accuracy.no_hallucinations"] == {"weight": 0.12, "passed": False, "status": "N"}
    assert result["breakdown"]["clarity.easy_to_understand"] == {"weight": 0.07, "passed": False, "status": "?"}
    assert result["dimension_scores"]["clarity"] == {
        "score": 0.1,
        "max_score": 0.17,
        "percentage": 58.82,  # 10 / 17
        "breakdown": {
            "well_structured": {"weight": 0.1, "passed": True, "status": "Y"},
            "easy_to_understand": {"weight": 0.07, "passed": False, "status": "?"},
        },
    }


@pytest.mark.parametrize(
    ("preset", "context", "met", "score", "assessment"),
    [
        # everything but handles_edge_cases: 1 - .08
        ("moderate", "graphscout", "all but completeness.handles_edge_cases", 0.92, "APPROVED"),
        # 1 - .10
        ("strict", "graphscout", "all but completeness.handles_edge_cases", 0.90, "APPROVED"),
        # 1 - .20
        ("strict", "graphscout", "all but completeness.has_all_required_steps", 0.80, "NEEDS_IMPROVEMENT"),
        # 1 - .15, exactly what a lenient one wants
        ("lenient", "graphscout", "all but completeness.has_all_required_steps", 0.85, "APPROVED"),
        ("moderate", "loop_convergence", "all but stability.not_degrading", 0.82, "NEEDS_IMPROVEMENT"),
        ("lenient", "loop_convergence", "all but improvement.better_than_previous", 0.75, "APPROVED"),
        ("strict", "validation", "all but format.well_formed", 0.90, "NEEDS_IMPROVEMENT"),
        ("lenient", "validation", "only schema_compliance.matches_schema", 0.20, "REJECTED"),
        ("strict", "quality", "only accuracy.factually_correct", 0.25, "REJECTED"),
    ],
)
def test_presets_weigh_and_judge_differently(
    preset: str, context: str, met: str, score: float, assessment: str
) -> None:
    how, _, path = met.rpartition(" ")
    given: dict[str, Any] = {name: (name == path) == (how == "only") for name in CONTEXTS[context].weights}
    result = BooleanScoreCalculator(preset, context).calculate(given)
    assert (result["score"], result["assessment"]) == (score, assessment)


def test_the_default_is_the_moderate_judgement_of_paths() -> None:
    calculator = BooleanScoreCalculator()
    assert (calculator.preset, calculator.context) == ("moderate", "graphscout")
    assert calculator.weights["completeness.has_all_required_steps"] == 0.18


@pytest.mark.parametrize("context", list(CONTEXTS))
@pytest.mark.parametrize("preset", PRESETS)
def test_weights_of_every_preset_sum_to_one(preset: str, context: str) -> None:
    assert math.fsum(BooleanScoreCalculator(preset, context).weights.values()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("value", [True, "true", "YES", " pass ", "Passed", "1", 1, {"passed": True, "reason": "r"}])
def test_these_values_count_as_met(value: object) -> None:
    given = {"accuracy": {"factually_correct": value}}
    assert BooleanScoreCalculator("strict", "quality").calculate(given)["score"] == 0.25


@pytest.mark.parametrize("value", [False, "false", "no", "failed", "", 0, 0.9, None, [], {}, {"reason": "yes"}])
def test_these_values_do_not(value: object) -> None:
    given = {"accuracy": {"factually_correct": value}}
    assert BooleanScoreCalculator("strict", "quality").calculate(given)["score"] == 0.0


def test_weights_of_ones_own_replace_and_all_are_rescaled() -> None:
    calculator = BooleanScoreCalculator("moderate", "quality", {"accuracy.factually_correct": 1.22})
    # 1.22 in place of .22 makes the sum 2
    assert calculator.weights["accuracy.factually_correct"] == pytest.approx(0.61)
    assert calculator.weights["accuracy.addresses_question"] == pytest.approx(0.09)
    result = calculator.calculate({"accuracy": {"factually_correct": True, "addresses_question": True}})
    assert result["score"] == 0.7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "harsh"}, "no scoring preset 'harsh'; there are strict, moderate, lenient"),
        ({"context": "x"}, "no scoring context 'x'; there are graphscout, quality, loop_convergence, validation"),
        (
            {"custom_weights": {"safety.validate_inputs": 1}},
            r"no criterion 'safety.validate_inputs' \(did you mean 'safety.validates_inputs'\?\); there are completeness",
        ),
        ({"custom_weights": {"safety.validates_inputs": -1}}, "weight of 'safety.validates_inputs' is -1"),
        ({"custom_weights": {"safety.validates_inputs": float("nan")}}, "must be a number from 0 on"),
        ({"custom_weights": dict.fromkeys(CONTEXTS["graphscout"].weights, 0)}, "together are 0"),
    ],
)
def test_what_cannot_be_scored_with_is_told_with_the_choices(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BooleanScoreCalculator(**arguments)
