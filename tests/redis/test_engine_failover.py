"""Failovers in real runs."""

import time
from typing import Any

from support.running import at, execute, paths

from orka.settings import Settings
from orka.types import Status


async def test_children_are_tried_in_order_until_one_is_valid(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [f, end]}
        agents:
          - id: f
            type: failover
            children:
              - {id: broken, type: failing, on_error: stop}
              - {id: silent, type: echo, value: {response: "NONE"}}
              - {id: wrong, type: echo, value: {response: x, status: error}}
              - {id: empty, type: echo, value: {response: ""}}
              - {id: good, type: template, prompt: "{{ get_input() }} good"}
              - {id: unused, type: echo}
          - id: end
            type: template
            prompt: >-
              {{ previous_outputs.f.response }}, {{ previous_outputs.f.good.response }}, {{ get_agent_response('f') }},
              {{ previous_outputs.f.successful_child }}, {{ previous_outputs.f.result.component_id }}
        """,
    )
    assert paths(result) == ["f.0/broken", "f.1/silent", "f.2/wrong", "f.3/empty", "f.4/good", "f", "end"]
    assert at(result, "f").status is Status.SUCCESS
    assert result.output == "hello good, hello good, hello good, good, good"


async def test_when_every_child_failed_the_error_names_each_and_why(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [f, end]}
        agents:
          - id: f
            type: failover
            on_error: %s
            children:
              - {id: a, type: failing, message: no power}
              - {id: b, type: echo, value: {response: ""}}
          - {id: end, type: template, prompt: "{{ previous_outputs.f.status }} {{ previous_outputs.f.error }}"}
        """
    result = await execute(redis_settings, text % "continue")
    failed: Any = at(result, "f")
    assert failed.error.kind == "FailoverExhausted"
    assert failed.error.message == "every child failed: a: no power; b: gave no usable result"
    assert failed.output["successful_child"] is None
    assert result.output == f"error {failed.error.message}"
    result = await execute(redis_settings, text % "stop")
    assert (result.status, result.error_path) == ("failed", "f")


async def test_a_failover_in_all_has_so_much_time(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [f, end]}
        agents:
          - id: f
            type: failover
            timeout: 0.05
            children: [{id: a, type: failing}, {id: b, type: echo, delay: 30}]
          - {id: end, type: template, prompt: "{{ previous_outputs.f.error_type }}: {{ previous_outputs.f.error }}"}
        """
    started = time.perf_counter()
    result = await execute(redis_settings, text)
    assert time.perf_counter() - started < 2
    assert result.output == "RunTimeout: no child answered within 0.05 s"


async def test_children_have_their_own_timeouts_and_retries(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [f]}
        agents:
          - id: f
            type: failover
            children:
              - {id: slow, type: echo, delay: 30, timeout: 0.02}
              - {id: again, type: failing, times: 2, retry: {attempts: 3, delay: 0}, prompt: at last}
        """,
    )
    assert at(result, "f.0/slow").error.kind == "RunTimeout"  # type: ignore[union-attr]
    assert at(result, "f.1/again").attempts == 3
    assert result.output == "at last"


async def test_children_may_be_loops_failovers_and_ids_of_agents(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [f, end]}
        agents:
          - id: f
            type: failover
            children:
              - id: inner
                type: failover
                children: [{id: a, type: failing}, {id: b, type: failing}]
              - shared
          - id: shared
            type: loop
            max_loops: 1
            internal_workflow:
              orchestrator: {id: i, agents: [w]}
              agents: [{id: w, type: echo, prompt: "SCORE: 0.9"}]
          - {id: end, type: template, prompt: "{{ previous_outputs.f.shared.final_score }}"}
        """,
    )
    assert paths(result) == ["f.0/inner.0/a", "f.0/inner.1/b", "f.0/inner", "f.1/shared[1]/w", "f.1/shared", "f", "end"]
    assert result.output == "0.9"


async def test_what_a_failed_child_left_is_not_seen_by_the_next(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [f]}
        agents:
          - id: f
            type: failover
            children:
              - {id: a, type: echo, value: {response: "", secret: s}}
              - {id: b, type: template, prompt: "[{{ previous_outputs.a.secret }}]"}
        """,
    )
    assert result.output == "[]"
