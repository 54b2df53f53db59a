"""`loop_validator` and `plan_validator` in real runs, asked over real HTTP or of a scripted model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.openai_server import Reply, Server, started
from support.running import at, execute, paths, said

from orka.agents.base import LoopView
from orka.agents.loop_validator import fill
from orka.agents.plan_validator import find_proposal
from orka.agents.registry import Registry
from orka.graph.load import check_graph
from orka.results import RunResult
from orka.scoring import CONTEXTS
from orka.settings import Settings
from orka.template.environment import Environment
from orka.testing import ScriptedLLM, example_task, run_agent
from orka.types import Status

LOOP_CRITERIA = list(CONTEXTS["loop_convergence"].weights)
PATH_CRITERIA = list(CONTEXTS["graphscout"].weights)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with started() as one:
        yield one


def judged(criteria: list[str], *unmet: str, **more: Any) -> dict[str, Any]:
    """An answer in which everything but `unmet` is met."""
    answer: dict[str, Any] = {}
    for path in criteria:
        dimension, _, name = path.partition(".")
        answer.setdefault(dimension, {})[name] = name not in unmet
    return {**answer, **more}


def agent(server: Server, kind: str, **keys: Any) -> dict[str, Any]:
    return {"id": "check", "type": kind, "llm_model": "m", "provider": "lm_studio", "model_url": server.url, **keys}


async def check(
    settings: Settings, validator: dict[str, Any], *before: dict[str, Any], given: Any = "topic"
) -> RunResult:
    nodes = [*(before or ({"id": "write", "type": "template", "prompt": "the work"},)), validator]
    names = [node["id"] for node in nodes]
    return await execute(settings, json.dumps({"orchestrator": {"id": "t", "agents": names}, "agents": nodes}), given)


async def test_loop_validator_gives_the_plain_share_of_its_criteria(redis_settings: Settings, server: Server) -> None:
    server.default = judged(LOOP_CRITERIA, "significant_delta", "within_tolerance", rationale="still short")
    result = await check(redis_settings, agent(server, "loop_validator", evaluation_target="write"))
    output: Any = at(result, "check").output
    metrics = output.pop("_metrics")
    assert output == {
        "response": "APPROVED, score: 0.7143. Not met: improvement.significant_delta, convergence.within_tolerance.",
        "boolean_evaluations": {
            "improvement": {"better_than_previous": True, "significant_delta": False, "approaching_target": True},
            "stability": {"not_degrading": True, "consistent_direction": True},
            "convergence": {"delta_decreasing": True, "within_tolerance": False},
        },
        "validation_score": 0.7143,  # 5 / 7
        "passed_criteria": [
            "improvement.better_than_previous",
            "improvement.approaching_target",
            "stability.not_degrading",
            "stability.consistent_direction",
            "convergence.delta_decreasing",
        ],
        "failed_criteria": ["improvement.significant_delta", "convergence.within_tolerance"],
        "overall_assessment": "APPROVED",
        "rationale": "still short",
    }
    assert metrics["model"] == "m"
    assert at(result, "check").event_type == "LoopValidatorNode"
    assert server.last.body["temperature"] == 0.1
    assert server.last.form == "json_schema"
    assert all(path.partition(".")[2] in server.last.prompt for path in LOOP_CRITERIA)
    assert '"response": "the work"' in server.last.prompt
    assert result.output == "the work"  # a judge does not give the answer


@pytest.mark.parametrize(
    ("keys", "criteria"),
    [
        ({}, LOOP_CRITERIA),
        ({"scoring_context": "quality"}, LOOP_CRITERIA),
        ({"scoring_context": "loop_convergence"}, LOOP_CRITERIA),
        ({"scoring_context": "GraphScout"}, PATH_CRITERIA),
        ({"scoring_context": "path_validation"}, PATH_CRITERIA),
        ({"mode": "path"}, PATH_CRITERIA),
        ({"scoring_context": "graphscout", "mode": "loop"}, LOOP_CRITERIA),
    ],
)
async def test_criteria_of_a_loop_validator_follow_its_context_and_mode(
    redis_settings: Settings, server: Server, keys: dict[str, Any], criteria: list[str]
) -> None:
    server.default = judged(criteria)
    output: Any = at(await check(redis_settings, agent(server, "loop_validator", **keys)), "check").output
    assert (output["passed_criteria"], output["validation_score"]) == (criteria, 1.0)
    assert output["response"] == "APPROVED, score: 1. Everything is met."


@pytest.mark.parametrize("preset", ["strict", "moderate", "Lenient"])
async def test_every_preset_of_a_loop_validator_works(redis_settings: Settings, server: Server, preset: str) -> None:
    server.default = judged(LOOP_CRITERIA, "better_than_previous", "not_degrading", "delta_decreasing")
    validator = agent(server, "loop_validator", scoring_preset=preset)
    output: Any = at(await check(redis_settings, validator), "check").output
    assert (output["validation_score"], output["overall_assessment"]) == (0.5714, "REJECTED")  # 4 / 7
    assert f"Be {'fair' if preset == 'moderate' else preset.lower()}" in server.last.prompt


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("better_than_previous: true\nnot_degrading = yes\nwithin_tolerance: false", 2),
        ("It is better than previous? Yes, clearly. Not degrading: it is met.", 2),
        ("I cannot say.", 0),
    ],
)
async def test_answers_without_json_are_read_as_far_as_they_go(
    redis_settings: Settings, server: Server, text: str, passed: int
) -> None:
    server.default = text
    output: Any = at(await check(redis_settings, agent(server, "loop_validator")), "check").output
    assert len(output["passed_criteria"]) == passed
    assert output["validation_score"] == round(passed / 7, 4)
    assert output.get("parse_error", False) == (passed == 0)
    assert output["rationale"] == text


async def test_a_model_that_cannot_be_asked_is_an_error_with_the_form_of_a_verdict(
    redis_settings: Settings, server: Server
) -> None:
    server.default = Reply(status=401, error="no such key")
    result = await check(redis_settings, agent(server, "loop_validator"))
    visit, output = at(result, "check"), at(result, "check").output
    assert visit.status is Status.ERROR
    assert isinstance(output, dict)
    assert (output["overall_assessment"], output["validation_score"]) == ("ERROR", 0.0)
    result = await check(redis_settings, agent(server, "plan_validator"))
    output = at(result, "check").output
    assert isinstance(output, dict)
    assert (output["overall_assessment"], output["validation_score"]) == ("REJECTED", 0.0)
    assert "no such key" in str(output["response"])


async def test_a_target_without_an_output_is_an_error(redis_settings: Settings, server: Server) -> None:
    visit = at(await check(redis_settings, agent(server, "loop_validator", evaluation_target="nobody")), "check")
    assert visit.error is not None
    assert "'nobody' (evaluation_target) has given no output" in visit.error.message
    assert not server.asked


@pytest.mark.parametrize(
    ("prompt", "filled"),
    [
        ("Judge {content}!", "Judge it}}!"),
        ("Judge.", "Judge.\n\nit}}"),
        ('Judge {content} as {{"a": {{"b": true}}}}', 'Judge it}} as {"a": {"b": true}}'),
        ('Judge {content} as {"a": {"b": true}}', 'Judge it}} as {"a": {"b": true}}'),
        ("{content} and {content}", "it}} and it}}"),
    ],
)
def test_a_prompt_of_ones_own_has_a_place_for_what_is_judged(prompt: str, filled: str) -> None:
    assert fill(prompt, "it}}") == filled


async def test_a_custom_prompt_replaces_the_question_but_not_the_criteria(
    redis_settings: Settings, server: Server
) -> None:
    server.default = judged(LOOP_CRITERIA)
    await check(
        redis_settings, agent(server, "loop_validator", evaluation_target="write", custom_prompt="Is {content} ok?")
    )
    assert server.last.prompt.startswith('Is {"response": "the work"} ok?\n\nBe fair')
    assert "- within_tolerance" in server.last.prompt


SCOUT = {
    "id": "graph_scout",
    "type": "echo",
    "value": {"response": "go", "decision": "commit_path", "target": ["a", "b"]},
}


async def test_plan_validator_weighs_its_criteria(redis_settings: Settings, server: Server) -> None:
    server.default = judged(PATH_CRITERIA, "handles_edge_cases", "optimizes_cost", rationale="no edge cases")
    validator = agent(server, "plan_validator", scoring_preset="strict", scoring_context="graphscout")
    result = await check(redis_settings, validator, {"id": "x", "type": "template", "prompt": "noise"}, SCOUT)
    output: Any = at(result, "check").output
    # 1 - .10 - .04
    assert (output["validation_score"], output["overall_assessment"]) == (0.86, "NEEDS_IMPROVEMENT")
    assert output["failed_criteria"] == ["completeness.handles_edge_cases", "efficiency.optimizes_cost"]
    assert output["breakdown"]["completeness.handles_edge_cases"] == {"weight": 0.1, "passed": False, "status": "N"}
    assert output["dimension_scores"]["efficiency"]["score"] == 0.2
    assert (output["rationale"], output["scoring_preset"]) == ("no edge cases", "strict")
    assert output["boolean_evaluations"]["safety"]["validates_inputs"] is True
    assert output["response"].startswith("NEEDS_IMPROVEMENT, score: 0.86. Not met: completeness.handles_edge_cases,")
    assert at(result, "check").event_type == "PlanValidatorAgent"
    assert server.last.path == "/v1/chat/completions"
    assert server.last.body["temperature"] == 0.2
    assert "The query:\ntopic" in server.last.prompt
    assert '"target": ["a", "b"]' in server.last.prompt
    assert "noise" not in server.last.prompt


async def test_criteria_that_the_answer_leaves_out_have_failed(redis_settings: Settings, server: Server) -> None:
    server.default = {"completeness": {"has_all_required_steps": True}}
    output: Any = at(await check(redis_settings, agent(server, "plan_validator"), SCOUT), "check").output
    assert (output["validation_score"], output["overall_assessment"]) == (0.18, "REJECTED")
    assert output["breakdown"]["safety.validates_inputs"]["status"] == "?"
    assert output["boolean_evaluations"] == {"completeness": {"has_all_required_steps": True}}


async def test_weights_of_a_plan_validator_are_rescaled(redis_settings: Settings, server: Server) -> None:
    server.default = {"completeness": {"has_all_required_steps": True}}
    weights = {"completeness.has_all_required_steps": 1.18, "accuracy.factually_correct": 9}
    validator = agent(server, "plan_validator", custom_weights=weights)
    output: Any = at(await check(redis_settings, validator, SCOUT), "check").output
    assert output["validation_score"] == 0.59  # 1.18 / 2; what is of another context does not count


async def test_wordings_stand_in_for_the_criteria_of_loops(redis_settings: Settings, server: Server) -> None:
    server.default = "The plan is better than before and stable, in a consistent direction."
    validator = agent(server, "plan_validator", scoring_context="loop_convergence")
    output: Any = at(await check(redis_settings, validator, SCOUT), "check").output
    # .25 + .18 + .12
    assert output["validation_score"] == 0.55


async def test_structured_output_can_be_switched_off(redis_settings: Settings, server: Server) -> None:
    server.default = judged(PATH_CRITERIA)
    output: Any = at(
        await check(redis_settings, agent(server, "plan_validator", structured_output={"enabled": False}), SCOUT),
        "check",
    ).output
    assert (output["validation_score"], server.last.form) == (1.0, "")
    await check(redis_settings, agent(server, "plan_validator", structured_output={"mode": "model_json"}), SCOUT)
    assert server.last.form == "json_object"


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        ({"a": {"response": "x"}, "plan_proposer": "p", "path_proposer": ["q"]}, ["q"]),
        ({"a": {"response": "x"}, "b": {"response": {"path": [1]}}, "c": {"decision": 1}}, {"response": {"path": [1]}}),
        ({"a": {"result": {"target": 1}}}, {"result": {"target": 1}}),
        ({"a": {"response": "x"}, "b": ["y"]}, {"a": {"response": "x"}, "b": ["y"]}),
        ({}, None),
    ],
)
def test_a_proposal_is_found_by_name_or_by_what_it_says(outputs: Any, found: Any) -> None:
    assert find_proposal(outputs) == found


async def test_without_anything_proposed_the_model_is_not_asked(redis_settings: Settings, server: Server) -> None:
    result = await execute(
        redis_settings,
        json.dumps({"orchestrator": {"id": "t", "agents": ["check"]}, "agents": [agent(server, "plan_validator")]}),
    )
    error = at(result, "check").error
    assert error is not None
    assert "no proposed path" in error.message
    assert not server.asked


LOOP = """
orchestrator: {id: t, agents: [refine]}
agents:
  - id: refine
    type: loop
    max_loops: 3
    score_threshold: 0.8
    scoring: {preset: moderate, context: loop_convergence}
    internal_workflow:
      orchestrator: {id: inner, agents: [write, check]}
      agents:
        - {id: write, type: template, prompt: "draft {{ loop_number }}; {{ get_past_loops() | length }}"}
        - {id: check, type: KIND, model: m, provider: lm_studio, model_url: URL, evaluation_target: write}
"""


async def test_a_loop_goes_on_until_its_validator_is_content(redis_settings: Settings, server: Server) -> None:
    server.replies.append(judged(LOOP_CRITERIA, "better_than_previous", "significant_delta", "approaching_target"))
    server.replies.append(judged(LOOP_CRITERIA, "significant_delta"))
    result = await execute(redis_settings, LOOP.replace("KIND", "loop_validator").replace("URL", server.url))
    output: Any = at(result, "refine").output
    # weighted by the loop: 1 - .25 - .15 - .10, then 1 - .15; the validator's own are 4/7 and 6/7
    assert [past["score"] for past in output["past_loops"]] == ["0.5", "0.85"]
    assert output["threshold_met"]
    assert said(result, "refine[2]/check").startswith("APPROVED, score: 0.8571")
    assert result.output == "draft 2; 1"
    assert "This is the first round" in server.prompts[0]
    assert "Earlier rounds:\nLoop 1 (score 0.5)" in server.prompts[1]
    assert "Round 2; the loop ends at a score of 0.8." in server.prompts[1]


async def test_a_plan_validator_judges_by_what_its_loop_scores_by(redis_settings: Settings, server: Server) -> None:
    server.replies.append(judged(LOOP_CRITERIA, "not_degrading", rationale="worse in part"))
    text = LOOP.replace("KIND", "plan_validator").replace("URL", server.url).replace(", evaluation_target: write", "")
    result = await execute(redis_settings, text)
    check_: Any = at(result, "refine[1]/check").output
    assert (check_["scoring_context"], check_["validation_score"]) == ("loop_convergence", 0.82)
    assert at(result, "refine").output["final_score"] == 0.82  # type: ignore[index,call-overload]


async def test_a_validator_whose_model_fails_scores_its_round_nothing(redis_settings: Settings, server: Server) -> None:
    server.default = Reply(status=400, error="no")
    text = LOOP.replace("KIND", "loop_validator").replace("URL", server.url).replace("max_loops: 3", "max_loops: 2")
    result = await execute(redis_settings, text)
    output: Any = at(result, "refine").output
    assert (output["loops_completed"], output["final_score"]) == (2, 0.0)
    assert (str(result.status), result.output) == ("completed", "draft 2; 1")
    assert paths(result)[-1] == "refine"


def faults(kind: str, keys: str) -> list[str]:
    text = f"orchestrator: {{id: t, agents: [a]}}\nagents:\n  - {{id: a, type: {kind}, {keys}}}\n"
    report = check_graph(text, source="f.yml", specs=Registry().specs(), compile_template=Environment().compile)
    return [fault.render().split("\n")[0] for fault in report.faults]


def test_what_a_validator_cannot_use_is_told_at_load() -> None:
    assert faults("loop_validator", "scoring_preset: harsh, model: m") == [
        "f.yml:3:51: error: 'scoring_preset' of agent 'a' (loop_validator) must be 'strict', 'moderate' or 'lenient', not 'harsh'"
    ]
    assert faults("plan_validator", "model: m, custom_weights: {safety.validate_inputs: 1}") == [
        "f.yml:3:62: warning: unknown key 'safety.validate_inputs' in 'custom_weights' of agent 'a'"
        " (did you mean 'safety.validates_inputs'?)"
    ]
    assert faults("plan-validator", "llm_model: m, scoring_context: Quality, structured_output: true") == []


async def test_a_validator_can_be_tried_without_a_graph() -> None:
    llm = ScriptedLLM([judged(LOOP_CRITERIA, "within_tolerance")])
    view = LoopView(number=2, past=[{"loop_number": 1, "score": 0.4, "note": "thin"}], metadata={}, threshold=0.8)
    task = example_task(input="topic", outputs={"write": {"response": "text"}}, loop=view)
    output = await run_agent("loop_validator", task, llm=llm)
    assert output.fields["validation_score"] == 0.8571
    assert "Loop 1 (score 0.4); note: thin" in llm.asked[0].prompt
