"""Loops that score by judgements and by agreement, in real runs; what their past-loop templates can call."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.crash import open_bench
from support.crew import working
from support.graphs import load
from support.reference import comparable
from support.running import at, execute, said

from orka.agents.base import AgentInput
from orka.agents.registry import Registry
from orka.embedding.function import FunctionEmbedder
from orka.errors import EmbeddingError
from orka.lifecycle import start_run
from orka.settings import Settings
from orka.types import RunId

JUDGED = """
    orchestrator: {id: t, agents: [improve]}
    agents:
      - id: improve
        type: loop
        max_loops: 3
        score_threshold: 0.8
        scoring: %s
        internal_workflow:
          orchestrator: {id: inner, agents: [write, judge]}
          agents:
            - {id: write, type: template, prompt: "SCORE: 0.95"}
            - id: judge
              type: template
              prompt: >-
                {"improvement": {"better_than_previous": true, "significant_delta": {{ 'true' if loop_number > 1 else 'false' }},
                "approaching_target": true}, "stability": {"not_degrading": true, "consistent_direction": true}}
    """


@pytest.mark.parametrize(
    ("scoring", "score", "rounds"),
    [
        # first .25 + .10 + .18 + .12 = .65, then .15 more
        ("moderate", 0.8, 2),
        ("{preset: moderate, context: loop_convergence}", 0.8, 2),
        # .25 + .12 + .08 + .20 + .15
        ("{preset: lenient}", 0.8, 2),
        # .65 of 2 with 1.10 in place of .10, then .80: (1.65, 1.80) / 2
        ("{preset: moderate, custom_weights: {improvement.approaching_target: 1.1}}", 0.825, 1),
        # the judgements are of another context: the text of the first agent counts
        ("{preset: moderate, context: quality}", 0.95, 1),
        ("{mode: x}", 0.95, 1),
    ],
)
async def test_judgements_are_the_score(redis_settings: Settings, scoring: str, score: float, rounds: int) -> None:
    output: Any = at(await execute(redis_settings, JUDGED % scoring), "improve").output
    assert (output["final_score"], output["loops_completed"]) == (score, rounds)


AGREED = """
    orchestrator: {id: t, agents: [debate]}
    agents:
      - id: debate
        type: loop
        max_loops: 2
        score_threshold: 0.7
        fallback_score: 0.1
        score_extraction_config: {agreement_fallback: true}
        internal_workflow:
          orchestrator: {id: inner, agents: [one, two, three]}
          agents:
            - {id: one, type: template, prompt: "red"}
            - {id: two, type: template, prompt: "{{ 'blue' if loop_number == 1 else 'red' }}"}
            - {id: three, type: template, prompt: "%s"}
    """
COLOURS = {"red": [1.0, 0.0], "blue": [0.0, 1.0], "violet": [0.8, 0.6]}


async def debate(settings: Settings, last: str, asked: list[str], text: str = AGREED) -> Any:
    """With an embedder that knows colours, and writes down what it is asked."""

    async def embed(texts: list[str]) -> Any:
        asked.extend(texts)
        if any(word not in COLOURS for word in texts):
            raise EmbeddingError("what colour is that?")
        return np.array([COLOURS[word] for word in texts])

    async with open_bench(settings) as bench:
        services = bench.services
        tools = replace(services.workshop.tools, embedder=FunctionEmbedder(embed, name="colours", dimension=2))
        services.workshop = replace(services.workshop, tools=tools)
        graph = load(text % last)
        result = await start_run(services, services.build(graph), "x", RunId(f"agree-{last}-{len(text)}"))
        calls = len(asked)
        entries = await bench.entries(result.run_id)
        for keep in range(len(entries) - 1, 0, -1):  # the verdict of a round is not found twice
            await bench.cut(result.run_id, keep)
            again = await bench.finish(result.run_id)
            assert comparable(again.results) == comparable(result.results)
            if sum(entry.kind == "round.scored" for entry in entries[:keep]) == 2:
                assert len(asked) == calls
            calls = len(asked)
        return result


async def test_responses_that_agree_are_a_score_where_none_is_said(redis_settings: Settings) -> None:
    asked: list[str] = []
    result = await debate(redis_settings, "violet", asked)
    output: Any = at(result, "debate").output
    # red blue 0, red violet .8, blue violet .6: 1.4 / 3; then 1, .8, .8: 2.6 / 3
    assert [past["score"] for past in output["past_loops"]] == ["0.4667", "0.8667"]
    assert (output["final_score"], output["threshold_met"]) == (0.8667, True)
    assert asked[:6] == ["red", "blue", "violet", "red", "red", "violet"]


async def test_agreement_that_cannot_be_found_is_a_warning_and_the_fallback_counts(redis_settings: Settings) -> None:
    result = await debate(redis_settings, "infrared", [])
    assert at(result, "debate").output["final_score"] == 0.1  # type: ignore[index,call-overload]
    assert at(result, "debate").warnings == (
        "the agreement of the responses is not known: what colour is that?",
        "the agreement of the responses is not known: what colour is that?",
    )


async def test_a_moderator_that_says_no_score_is_not_replaced_by_agreement(redis_settings: Settings) -> None:
    asked: list[str] = []
    text = AGREED.replace("fallback_score: 0.1", "high_priority_agents: [one]")
    result = await debate(redis_settings, "violet", asked, text)
    assert at(result, "debate").output["final_score"] == 0.0  # type: ignore[index,call-overload]
    assert asked == []


async def test_past_loop_templates_can_call_every_helper(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [outer]}
        agents:
          - id: outer
            type: loop
            max_loops: 2
            score_threshold: 0.95
            score_extraction_pattern: "Q([0-9.]+)"
            past_loops_metadata:
              count: "{{ get_loop_rounds() }} {{ get_past_loops() | length }} {{ has_past_loops() }} {{ get_loop_number() }}"
              limit: "{{ get_score_threshold() }}"
              said: "{{ get_agent_response('judge') }}/{{ safe_get_response('nobody', 'none') }}"
              before: "{{ get_past_loop_data('said') }}"
              trend: "{{ reasoning_quality }} {{ convergence_trend }} {{ input }}"
              topic: "{{ format_memory_query('critic') }} {{ now() == timestamp }}"
            internal_workflow:
              orchestrator: {id: o, agents: [judge]}
              agents:
                - id: judge
                  type: template
                  prompt: '{"REASONING_QUALITY": 0.7, "CONVERGENCE_TREND": "IMPROVING"} Q0.{{ loop_number }}'
        """,
    )
    past: Any = at(result, "outer").output["past_loops"]  # type: ignore[index,call-overload]
    first, second = (said(result, f"outer[{number}]/judge") for number in (1, 2))
    assert [one["count"] for one in past] == ["Unknown 0 False 1", "1 1 True 2"]
    assert [one["limit"] for one in past] == ["0.95", "0.95"]
    assert [one["said"] for one in past] == [f"{first}/none", f"{second}/none"]
    assert [one["before"] for one in past] == ["", f"{first}/none"]
    assert [one["trend"] for one in past] == ["0.7 IMPROVING hello"] * 2
    assert past[0]["topic"] == "Critic perspective on: hello True"


async def test_agents_are_given_the_loop_around_them_and_cannot_change_it(redis_settings: Settings) -> None:
    seen: list[Any] = []
    registry = Registry()

    def meddle(task: AgentInput) -> Any:
        loop: Any = task.loop
        seen.append(
            (loop.number, loop.threshold, loop.scoring, [past["note"] for past in loop.past], loop.metadata["note"])
        )
        for past in loop.past:
            past["note"] = "changed"
        loop.past.append({"note": "added"})
        return "done"

    registry.agent("meddle")(meddle)
    text = """
        orchestrator: {id: t, agents: [alone, improve], distributed: %s}
        agents:
          - {id: alone, type: function, function: "support.functions:loop_of"}
          - id: improve
            type: loop
            max_loops: 2
            score_threshold: 0.9
            scoring: {preset: moderate, context: quality}
            past_loops_metadata: {note: "n{{ loop_number }}"}
            internal_workflow:
              orchestrator: {id: inner, agents: [f, j, look]}
              agents:
                - {id: f, type: fork, targets: [[meddle]]}
                - {id: meddle, type: meddle}
                - {id: j, type: join, group: f}
                - {id: look, type: template, prompt: "{{ get_past_loops() | map(attribute='note') | join(',') }}"}
        """
    wanted = [(1, 0.9, "quality", [], "No note available"), (2, 0.9, "quality", ["n1"], "n1")]
    result = await execute(redis_settings, text % "false", registry=registry, allow_functions=True)
    assert (seen, said(result, "improve[2]/look"), said(result, "alone")) == (wanted, "n1", "None")
    seen.clear()
    async with working(redis_settings, registry=registry):
        result = await execute(redis_settings, text % "true", registry=registry, allow_functions=True)
    assert (seen, said(result, "improve[2]/look")) == (wanted, "n1")
