"""Loops in real runs: scores, past rounds, what templates inside see, timeouts, nesting."""

from typing import Any

import pytest
from support.running import at, execute, paths, said

from orka.settings import Settings
from orka.types import Status

ROUNDS = """
    orchestrator: {id: t, agents: [improve]}
    agents:
      - id: improve
        type: loop
        max_loops: 4
        score_threshold: %s
        %s
        internal_workflow:
          orchestrator: {id: inner, agents: [write, judge]}
          agents:
            - {id: write, type: template, prompt: "draft {{ get_loop_number() }}"}
            - {id: judge, type: template, prompt: "%s"}
    """


@pytest.mark.parametrize(
    ("threshold", "rounds", "score", "met"),
    [
        ("0.5", 1, 0.5, True),
        ("0.65", 3, 0.7, True),
        ("0.8", 4, 0.8, True),
        ("0.95", 4, 0.8, False),
        ("0", 1, 0.5, True),
    ],
)
async def test_rounds_go_on_until_the_threshold_or_the_last(
    redis_settings: Settings, threshold: str, rounds: int, score: float, met: bool
) -> None:
    text = ROUNDS % (threshold, "", "SCORE: 0.{{ get_loop_number() + 4 }}")
    result = await execute(redis_settings, text)
    output: Any = at(result, "improve").output
    assert (output["loops_completed"], output["final_score"], output["threshold_met"]) == (rounds, score, met)
    assert output["result"]["write"]["response"] == f"draft {rounds}"
    assert [past["loop_number"] for past in output["past_loops"]] == [str(n + 1) for n in range(rounds)]
    assert result.output == f"SCORE: {score}"
    assert paths(result)[:2] == ["improve[1]/write", "improve[1]/judge"]


@pytest.mark.parametrize(
    ("config", "judge", "score"),
    [
        ("score_extraction_key: judge", "0.95", 0.95),
        ("score_extraction_pattern: 'Q=(.+)'", "grew 90 %. Q=0.95", 0.95),
        ("score_extraction_config: {strategies: [{type: agent_key, agents: [judge], key: response}]}", "9.5/10", 0.95),
        ("score_extraction_config: {strategies: [{type: pattern, patterns: ['(\\d+)%%']}]}", "at 95%%", 0.95),
        ("high_priority_agents: [judge]", "Rating: 95", 0.95),
        ("fallback_score: 0.95", "no number", 0.95),
        ("fallback_score: 95", "no number", 0.95),
        ("scoring: {mode: x}", "no number", 0.0),
    ],
)
async def test_scores_are_found_as_the_file_says(
    redis_settings: Settings, config: str, judge: str, score: float
) -> None:
    text = (ROUNDS % ("0.9", config, judge)).replace("%%", "%")
    output: Any = at(await execute(redis_settings, text), "improve").output
    assert output["final_score"] == pytest.approx(score)
    assert output["loops_completed"] == (1 if score else 4)


async def test_rounds_see_the_ones_before_and_outer_outputs_as_fall_back(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [outer, write, improve, after]}
        agents:
          - {id: outer, type: echo, prompt: OUT}
          - {id: write, type: echo, prompt: outer write}
          - id: improve
            type: loop
            max_loops: 2
            score_threshold: 0.99
            score_extraction_pattern: "Q([0-9.]+)"
            past_loops_metadata:
              note: "r{{ loop_number }} {{ score }} {{ previous_outputs.judge.response }}"
              nothing: "{{ previous_outputs.judge.bogus.deep }}{{ unknown }}"
            internal_workflow:
              orchestrator: {id: inner, agents: [peek, write, judge]}
              agents:
                - {id: peek, type: template, prompt: "{{ previous_outputs.write.response }}/{{ previous_outputs.outer.response }}"}
                - {id: write, type: template, prompt: "write {{ loop_number }}"}
                - id: judge
                  type: template
                  prompt: >-
                    {{ get_loop_number() }} {{ has_past_loops() }} {{ get_past_loops() | length }} {{ get_score_threshold() }}
                    {{ get_past_loops()[-1].note }} [{{ past_loops_metadata.note }}] {{ get_input() }} {{ previous_outputs.write.response }} Q0.7
          - id: after
            type: template
            prompt: >-
              {{ get_loop_number() }} {{ previous_outputs.write.response }} {{ previous_outputs.improve.result.write.response }}
              {{ previous_outputs.improve.response.loops_completed }} {{ previous_outputs.improve.final_score }}
              {{ get_loop_output('improve').result.peek.response }} {{ safe_get_response('improve.write') }} {{ get_loop_rounds() }}
        """,  # noqa: E501
    )
    assert said(result, "improve[1]/peek") == "outer write/OUT"
    first, second = said(result, "improve[1]/judge"), said(result, "improve[2]/judge")
    assert first == "1 False 0 0.99  [No note available] hello write 1 Q0.7"
    note = f"r1 0.7 {first}"
    assert second == f"2 True 1 0.99 {note} [{note}] hello write 2 Q0.7"
    assert said(result, "after") == "1 outer write write 2 2 0.7 outer write/OUT write 2 2"
    past: Any = at(result, "improve").output["past_loops"]  # type: ignore[index,call-overload]
    assert [sorted(one) for one in past] == [["loop_number", "note", "nothing", "score", "timestamp"]] * 2
    assert (past[0]["note"], past[0]["nothing"], past[0]["loop_number"], past[0]["score"]) == (note, "", 1, 0.7)
    assert at(result, "improve[1]/peek").inner


async def test_inside_a_loop_the_input_is_the_text_and_the_mapping_stays_reachable(redis_settings: Settings) -> None:
    prompt = "{{ input }}|{{ get_input() }}|{{ input.task }}|{{ input.loop_number }}|{{ input.past_loops_metadata.score }}|{{ input.previous_outputs.o.response }} 0.7"  # noqa: E501
    text = f"""
        orchestrator: {{id: t, agents: [o, improve]}}
        agents:
          - {{id: o, type: echo, prompt: O}}
          - id: improve
            type: loop
            max_loops: 2
            score_threshold: 0.9
            past_loops_metadata: {{score: "{{{{ score }}}}", given: "{{{{ input }}}}"}}
            internal_workflow:
              orchestrator: {{id: inner, agents: [w]}}
              agents:
                - {{id: w, type: template, prompt: "{prompt}"}}
        """
    result = await execute(redis_settings, text, {"input": "the text", "task": "T"})
    assert said(result, "improve[2]/w") == "the text|the text|T|2|0.7|O 0.7"
    past: Any = at(result, "improve").output["past_loops"]  # type: ignore[index,call-overload]
    assert [one["given"] for one in past] == ["the text", "the text"]


async def test_insights_of_earlier_rounds_are_handed_on(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        r"""
        orchestrator: {id: t, agents: [improve]}
        agents:
          - id: improve
            type: loop
            max_loops: 3
            score_threshold: 0.9
            cognitive_extraction: {enabled: true, extract_patterns: {mistakes: ['mistake:\s*(.+?)(?:\n|$)']}}
            internal_workflow:
              orchestrator: {id: inner, agents: [w]}
              agents:
                - id: w
                  type: template
                  prompt: "{{ past_loops_metadata.mistakes }}; {{ get_past_loops()[-1].mistakes }}\nmistake: too long in round {{ loop_number }}"
        """,  # noqa: E501
    )
    assert said(result, "improve[3]/w").splitlines()[0] == (
        "too long in round 2 | too long in round 1; too long in round 2"
    )


async def test_a_round_that_runs_out_of_time_has_the_score_for_that(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [improve]}
        agents:
          - id: improve
            type: loop
            max_loops: 2
            timeout: 0.05
            timeout_score: 0.3
            score_threshold: 0.9
            internal_workflow:
              orchestrator: {id: inner, agents: [w]}
              agents: [{id: w, type: echo, delay: 30, prompt: "SCORE: 1"}]
        """,
    )
    output: Any = at(result, "improve").output
    assert (output["loops_completed"], output["final_score"], output["result"]) == (2, 0.3, {})


async def test_a_round_in_which_everything_failed_scores_nothing(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [improve]}
        agents:
          - id: improve
            type: loop
            max_loops: 2
            fallback_score: 0.95
            internal_workflow:
              orchestrator: {id: inner, agents: [w]}
              agents: [{id: w, type: failing, message: boom}]
        """,
    )
    output: Any = at(result, "improve").output
    assert (output["loops_completed"], output["final_score"]) == (2, 0.0)
    assert (result.status, result.error_path) == ("failed", "improve[2]/w")


async def test_a_member_that_stops_ends_its_round_not_the_loop(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [improve]}
        agents:
          - id: improve
            type: loop
            max_loops: 2
            score_threshold: 0.9
            internal_workflow:
              orchestrator: {id: inner, agents: [a, bad, never]}
              agents:
                - {id: a, type: echo, prompt: "SCORE: 0.7"}
                - {id: bad, type: failing, on_error: stop}
                - {id: never, type: echo, prompt: "SCORE: 1.0"}
        """,
    )
    assert paths(result) == ["improve[1]/a", "improve[1]/bad", "improve[2]/a", "improve[2]/bad", "improve"]
    assert result.output == "SCORE: 0.7"


async def test_loops_inside_loops_keep_their_rounds_apart(redis_settings: Settings) -> None:
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
            past_loops_metadata: {kept: "o{{ loop_number }}"}
            internal_workflow:
              orchestrator: {id: o, agents: [inner, judge]}
              agents:
                - id: inner
                  type: loop
                  max_loops: 2
                  score_threshold: 0.9
                  score_extraction_pattern: "Q([0-9.]+)"
                  past_loops_metadata: {kept: "i{{ loop_number }}"}
                  internal_workflow:
                    orchestrator: {id: i, agents: [k]}
                    agents:
                      - {id: k, type: template, prompt: "{{ loop_number }} {{ get_past_loops() | map(attribute='kept') | join(',') }} {{ get_score_threshold() }} Q0.8"}
                - {id: judge, type: template, prompt: "{{ loop_number }} {{ get_past_loops() | map(attribute='kept') | join(',') }} {{ get_score_threshold() }} {{ previous_outputs.inner.loops_completed }} Q0.7"}
        """,  # noqa: E501
    )
    assert paths(result) == [
        "outer[1]/inner[1]/k",
        "outer[1]/inner[2]/k",
        "outer[1]/inner",
        "outer[1]/judge",
        "outer[2]/inner[1]/k",
        "outer[2]/inner[2]/k",
        "outer[2]/inner",
        "outer[2]/judge",
        "outer",
    ]
    assert said(result, "outer[2]/inner[2]/k") == "2 i1 0.9 Q0.8"
    assert said(result, "outer[2]/judge") == "2 o1 0.95 2 Q0.7"


async def test_an_undefined_member_is_skipped_and_says_so(redis_settings: Settings) -> None:
    text = (ROUNDS % ("0.5", "", "SCORE: 0.9")).replace("[write, judge]", "[write, nobody, judge]")
    result = await execute(redis_settings, text)
    assert at(result, "improve[1]/nobody").status is Status.SKIPPED
    assert at(result, "improve[1]/nobody").warnings == ("'nobody' is not defined",)
    assert result.output == "SCORE: 0.9"


async def test_only_the_last_twenty_rounds_are_remembered(redis_settings: Settings) -> None:
    text = (ROUNDS % ("0.95", "past_loops_metadata: {n: '{{ loop_number }}'}", "0.7")).replace(
        "max_loops: 4", "max_loops: 25"
    )
    past: Any = at(await execute(redis_settings, text), "improve").output["past_loops"]  # type: ignore[index,call-overload]
    assert [one["n"] for one in past] == [str(n) for n in range(6, 26)]


async def test_a_past_loop_field_beyond_the_limits_fails_the_loop_and_the_run_goes_on(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [refine, end]}
        agents:
          - id: refine
            type: loop
            max_loops: 2
            score_threshold: 0.9
            past_loops_metadata: {much: "{% for i in range(100000) %}{% for j in range(1000) %}a{% endfor %}{% endfor %}"}
            internal_workflow:
              orchestrator: {id: inner, agents: [judge]}
              agents: [{id: judge, type: template, prompt: "SCORE: 0.5"}]
          - {id: end, type: template, prompt: "on"}
        """,
    )
    assert at(result, "refine").error.kind == "TemplateError"  # type: ignore[union-attr]
    assert paths(result) == ["refine[1]/judge", "refine", "end"]
    assert (result.status, result.output) == ("completed", "on")
