"""What `orka check` says of the `scoring` of a loop."""

import pytest
from support.running import graph

from orka.agents.registry import Registry
from orka.graph.load import check_graph
from orka.graph.nodes import LoopNode, Scoring
from orka.template.environment import Environment

TEXT = """orchestrator: {id: t, agents: [l]}
agents:
  - id: l
    type: loop
    scoring: %s
    internal_workflow:
      orchestrator: {agents: [w]}
      agents: [{id: w, type: template}]
"""


@pytest.mark.parametrize(
    ("scoring", "found"),
    [
        ("moderate", Scoring(preset="moderate")),
        ("Strict", Scoring(preset="strict")),
        ("{preset: lenient}", Scoring(preset="lenient", context="loop_convergence")),
        ("{preset: lenient, context: quality, mode: any}", Scoring(preset="lenient", context="quality")),
        (
            "{preset: strict, custom_weights: {stability.not_degrading: 1, improvement.better_than_previous: '0.5'}}",
            Scoring(
                preset="strict",
                weights={"stability.not_degrading": 1.0, "improvement.better_than_previous": 0.5},
            ),
        ),
        ("{mode: any}", None),
        ("null", None),
    ],
)
def test_scoring_is_a_preset_or_a_mapping(scoring: str, found: Scoring | None) -> None:
    node = graph(TEXT % scoring).scope.nodes["l"]  # type: ignore[index]
    assert isinstance(node, LoopNode)
    assert node.scoring == found
    assert faults(scoring) == []


def faults(scoring: str) -> list[str]:
    report = check_graph(
        TEXT % scoring, source="f.yml", specs=Registry().specs(), compile_template=Environment().compile
    )
    return [fault.render().split("\n")[0] for fault in report.faults]


@pytest.mark.parametrize(
    ("scoring", "said"),
    [
        (
            "moderat",
            "f.yml:5:14: warning: there is no scoring preset 'moderat': loop 'l' does without boolean scoring"
            " (did you mean 'moderate'?)",
        ),
        (
            "{preset: strict, context: x}",
            "f.yml:5:40: warning: there is no scoring context 'x': loop 'l' does without boolean scoring"
            " (there are graphscout, quality, loop_convergence, validation)",
        ),
        (
            "{preset: strict, custom_weights: {stability.not_degradin: 1}}",
            "f.yml:5:48: warning: scoring context 'loop_convergence' has no criterion 'stability.not_degradin':"
            " loop 'l' does without boolean scoring (did you mean 'stability.not_degrading'?)",
        ),
        (
            "{preset: strict, context: quality, custom_weights: {stability.not_degrading: 1}}",
            "f.yml:5:66: warning: scoring context 'quality' has no criterion 'stability.not_degrading':"
            " loop 'l' does without boolean scoring (there are accuracy.factually_correct,"
            " accuracy.addresses_question, accuracy.no_hallucinations, completeness.comprehensive_answer,"
            " completeness.includes_examples, clarity.well_structured, clarity.easy_to_understand,"
            " relevance.stays_on_topic)",
        ),
        (
            "{preset: strict, custom_weights: {stability.not_degrading: -1}}",
            "f.yml:5:47: warning: the weight of 'stability.not_degrading' is -1.0: it must be a number from 0 on:"
            " loop 'l' does without boolean scoring",
        ),
        (
            "{custom_weights: {stability.not_degrading: 1}}",
            "f.yml:5:14: warning: 'custom_weights' of loop 'l' have no effect without a 'preset'"
            " (one of strict, moderate, lenient)",
        ),
    ],
)
def test_what_cannot_be_scored_with_is_a_warning_at_its_place(scoring: str, said: str) -> None:
    assert faults(scoring) == [said]
    node = graph(TEXT % scoring).scope.nodes["l"]  # type: ignore[index]
    assert isinstance(node, LoopNode)
    assert node.scoring is None
