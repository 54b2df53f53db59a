"""Path executors and agents that choose, in real runs."""

from __future__ import annotations

from typing import Any

import pytest
from support import probe
from support.crash import check_kill, check_result, open_bench
from support.fleet import open_fleet
from support.graphs import load
from support.running import answer, at, execute, opened, paths, said

from orka.settings import Settings
from orka.types import RunStatus, Status

FLOW = """
    orchestrator: {id: t, agents: [topic, plan, go, report]}
    agents:
      - {id: topic, type: echo, value: {response: {text: bees}}}
      - {id: plan, type: echo, value: {response: x, decision: commit_path, target: %s}}
      - {id: go, type: path_executor, path_source: plan%s}
      - {id: search, type: template, prompt: "found {{ input }} for {{ previous_outputs.topic.response.text }}"}
      - {id: broken, type: failing, message: no luck}
      - {id: final_step, type: template, prompt: "{{ previous_outputs.search.response }}, written"}
      - id: report
        type: template
        prompt: >-
          {{ previous_outputs.go.executed_path | join('+') }} {{ previous_outputs.go.status }}
          {{ previous_outputs.go.results.final_step.result.response }}|{{ previous_outputs.go.errors | default([]) | length }}
"""


def flow(target: str = "[search, final_step]", more: str = "") -> str:
    return FLOW % (target, more)


def output(result: Any, path: str) -> dict[str, Any]:
    found = at(result, path).output
    assert isinstance(found, dict)
    return found


async def test_the_proposed_agents_run_in_order_and_see_each_other_and_what_was_before(
    redis_settings: Settings,
) -> None:
    result = await execute(redis_settings, flow())
    assert paths(result) == ["topic", "plan", "go.0/search", "go.0/final_step", "go", "report"]
    assert result.output == "search+final_step success found hello for bees, written|0"
    assert output(result, "go") == {
        "response": "found hello for bees, written",
        "executed_path": ["search", "final_step"],
        "results": {
            "search": {
                "result": {"response": "found hello for bees"},
                "response": "found hello for bees",
                "status": "success",
                "component_id": "search",
                "formatted_prompt": "found hello for bees",
            },
            "final_step": {
                "result": {"response": "found hello for bees, written"},
                "response": "found hello for bees, written",
                "status": "success",
                "component_id": "final_step",
                "formatted_prompt": "found hello for bees, written",
            },
        },
        "status": "success",
    }


async def test_the_agents_of_a_path_have_log_entries_and_no_outputs_outside(redis_settings: Settings) -> None:
    log = await opened(redis_settings, flow()).run("hello", return_logs=True)
    assert [(entry["agent_id"], entry["step"], entry.get("path_executor")) for entry in log] == [
        ("topic", 1, None),
        ("plan", 2, None),
        ("search", 3, "go"),
        ("final_step", 4, "go"),
        ("go", 5, None),
        ("report", 6, None),
    ]
    assert list(log[3]["previous_outputs"]) == ["topic", "plan", "search"]
    assert list(log[5]["previous_outputs"]) == ["topic", "plan", "go"]
    assert log[4]["event_type"] == "PathExecutorNode"


async def test_the_last_agent_of_a_path_gives_the_answer(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [plan, go]}
        agents:
          - {id: plan, type: echo, value: {response: [one, two]}}
          - {id: go, type: path_executor, path_source: plan}
          - {id: one, type: echo, prompt: first}
          - {id: two, type: echo, prompt: second}
        """
    assert await answer(redis_settings, text) == "second"


async def test_a_failed_agent_is_an_error_entry_and_the_path_goes_on(redis_settings: Settings) -> None:
    result = await execute(redis_settings, flow("[broken, search, nobody, final_step]"))
    found = output(result, "go")
    assert (found["status"], found["executed_path"]) == ("partial", ["broken", "search", "final_step"])
    assert found["errors"] == ["broken: no luck", "nobody: is not defined"]
    assert found["results"]["broken"] == {
        "result": None,
        "response": None,
        "status": "error",
        "component_id": "broken",
        "error": "no luck",
        "error_type": "AgentError",
    }
    assert at(result, "go").status is Status.SUCCESS
    assert result.output == "broken+search+final_step partial found hello for bees, written|2"


async def test_abort_ends_the_path_at_the_first_failure(redis_settings: Settings) -> None:
    text = flow("[search, broken, final_step]", ", on_agent_failure: abort")
    result = await execute(redis_settings, text)
    found = output(result, "go")
    assert (found["status"], found["executed_path"], found["errors"]) == (
        "error",
        ["search", "broken"],
        ["broken: no luck"],
    )
    failure = at(result, "go").error
    assert failure is not None
    assert (failure.kind, failure.message) == ("AgentError", "broken: no luck")
    assert result.output == "search+broken error |1"
    found = output(await execute(redis_settings, flow("[nobody, search]", ", on_agent_failure: abort")), "go")
    assert (found["executed_path"], found["errors"]) == ([], ["nobody: is not defined"])


async def test_an_agent_that_says_on_error_stop_ends_the_path_and_no_more(redis_settings: Settings) -> None:
    text = flow("[broken, search]").replace("message: no luck", "message: no luck, on_error: stop")
    result = await execute(redis_settings, text)
    assert paths(result) == ["topic", "plan", "go.0/broken", "go", "report"]
    assert (result.status, output(result, "go")["status"]) == (RunStatus.COMPLETED, "error")


async def test_a_path_of_failures_fails_and_may_stop_the_run(redis_settings: Settings) -> None:
    result = await execute(redis_settings, flow("[broken]", ", on_error: stop"))
    assert (result.status, result.error_path) == (RunStatus.FAILED, "go")


async def test_without_a_proposal_the_executor_says_where_it_looked(redis_settings: Settings) -> None:
    result = await execute(redis_settings, flow().replace("path_source: plan", "path_source: plan_b.target"))
    failure = at(result, "go").error
    assert failure is not None
    assert failure.message == "nothing proposes a path under 'plan_b.target' (earlier outputs: topic, plan)"
    assert output(result, "go") == {
        "response": None,
        "executed_path": [],
        "results": {},
        "status": "error",
        "error": failure.message,
    }


async def test_control_nodes_in_a_proposal_are_left_out_with_a_warning(redis_settings: Settings) -> None:
    result = await execute(redis_settings, flow("[plan_validator, go, search, final_step]"))
    assert output(result, "go")["executed_path"] == ["search", "final_step"]
    assert at(result, "go").warnings == (
        "'plan_validator' decides what runs, and was left out of the path",
        "'go' decides what runs, and was left out of the path",
    )


async def test_agents_of_a_path_see_another_input(redis_settings: Settings) -> None:
    result = await execute(redis_settings, flow(more=", input_source: topic.response.text"))
    assert said(result, "go.0/search") == "found bees for bees"
    assert said(result, "report").startswith("search+final_step success")
    result = await execute(redis_settings, flow(more=", input_source: topic.nothing"))
    assert said(result, "go.0/search") == "found hello for bees"
    assert at(result, "go").warnings == ("there is nothing under 'topic.nothing': its agents see the run's input",)


async def test_a_path_out_of_time_keeps_what_was_done_and_names_what_was_under_way(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [plan, go, end]}
        agents:
          - {id: plan, type: echo, value: {response: [quick, slow, quick]}}
          - {id: go, type: path_executor, path_source: plan, timeout: 0.2}
          - {id: quick, type: echo, prompt: quick}
          - {id: slow, type: echo, delay: 30}
          - {id: end, type: template, prompt: "{{ previous_outputs.go.errors }} {{ previous_outputs.go.executed_path }}"}
        """
    async with opened(redis_settings, text) as orchestrator:
        result = await orchestrator.execute("hello")
        again = await orchestrator.finish(result.run_id)
    assert [(visit.path, str(visit.status)) for visit in result.results] == [
        ("plan", "success"),
        ("go.0/quick", "success"),
        ("go.0/slow", "cancelled"),
        ("go", "error"),
        ("end", "success"),
    ]
    assert result.output == """["no answer within 0.2 s, 'slow' was under way"] ["quick"]"""
    assert [(visit.path, visit.status, visit.output) for visit in again.results] == [
        (visit.path, visit.status, visit.output) for visit in result.results
    ]


async def test_a_loop_proposes_and_the_executor_runs_it(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [refine, go]}
        agents:
          - id: refine
            type: loop
            max_loops: 2
            score_threshold: 0.9
            internal_workflow:
              orchestrator: {agents: [propose, judge]}
              agents:
                - {id: propose, type: template, prompt: '{"path": ["one", "{{ "two" if get_loop_number() == 2 else "x" }}"]}'}
                - {id: judge, type: template, prompt: "SCORE: 0.{{ 5 + get_loop_number() }}"}
          - {id: go, type: path_executor, path_source: refine}
          - {id: one, type: echo, prompt: first}
          - {id: two, type: echo, prompt: second}
        """
    result = await execute(redis_settings, text)
    assert (output(result, "go")["executed_path"], result.output) == (["one", "two"], "second")


async def test_what_an_agent_chooses_once_is_not_run_again_where_it_waits(redis_settings: Settings) -> None:
    text = """
        orchestrator: {agents: [pick, a, b, c, b]}
        agents:
          - {id: pick, type: probe, goes: [x, b], once: %s}
          - {id: a, type: probe}
          - {id: b, type: probe}
          - {id: c, type: probe}
          - {id: x, type: probe}
        """
    registry = probe.registry()
    once = await execute(redis_settings, text % "true", registry=registry)
    assert paths(once) == ["pick", "x", "b", "a", "c", "b#2"]
    more = await execute(redis_settings, text % "false", registry=registry)
    assert paths(more) == ["pick", "x", "b", "a", "b#2", "c", "b#3"]


DEEP = """
orchestrator: {agents: [stuff, spread, rounds, gather, plan, go, pick, last, end]}
agents:
  - {id: spread, type: fork, targets: [[plan, go, one], [pick, last, two]]}
  - {id: plan, type: probe, proposes: [one, spare, each, nobody, three, one]}
  - {id: go, type: path_executor, path_source: plan}
  - {id: one, type: probe, pure: false, reads: [plan]}
  - {id: two, type: probe, pure: false, reads: [last]}
  - {id: three, type: probe, fails: 1, retry: {attempts: 2, delay: 0}, pure: false, reads: [one, spare]}
  - {id: spare, type: failover, children: [{id: bad, type: probe, fails: 99}, {id: good, type: probe, reads: [one]}]}
  - {id: stuff, type: probe, size: 2}
  - {id: each, type: map, items: previous_outputs.stuff.items, agents: [work]}
  - {id: work, type: probe, pure: false, prompt: "do {{ item }}"}
  - {id: pick, type: probe, goes: [two, last], once: true, pure: false}
  - {id: last, type: probe, reads: [two], pure: false}
  - id: rounds
    type: loop
    max_loops: 2
    score_threshold: 0.8
    score_extraction_key: score
    internal_workflow:
      orchestrator: {agents: [judge, plan, go, pick, last]}
      agents:
        - {id: judge, type: probe, base: 0.5, prompt: "round {{ get_loop_number() }}"}
  - {id: gather, type: join, group: spread}
  - {id: end, type: probe, reads: [go, rounds, gather, two, last]}
"""


async def test_paths_and_choices_survive_a_kill_after_every_entry(redis_settings: Settings) -> None:
    async with open_bench(redis_settings) as bench:
        graph = load(DEEP)
        probe.CALLS.clear()
        run_id = (await bench.run(graph)).run_id
        calls = list(probe.CALLS)
        points = range(len(await bench.entries(run_id)) - 1, 0, -1)
        for keep in points:
            await check_kill(bench, graph, run_id, keep, calls)
    assert len(points) > 80


async def test_paths_and_choices_on_workers_are_those_of_one_process(redis_settings: Settings) -> None:
    async with open_fleet(redis_settings, 2) as bench:
        graph = load(DEEP)
        result = await bench.run(graph)
        entries = await bench.entries(result.run_id)
        check_result(graph, result, entries)
        assert {entry.path for entry in entries if entry.kind == "branch.finished"} >= {
            "spread.0",
            "spread.1",
            "spread.0/go.0/each.0",
        }
        await bench.check_empty()


@pytest.mark.parametrize("abort", ["abort", "continue"])
async def test_a_resumed_failure_tries_the_path_again_behind_what_succeeded(
    redis_settings: Settings, abort: str
) -> None:
    text = f"""
orchestrator: {{agents: [plan, go]}}
agents:
  - {{id: plan, type: probe, proposes: [fine, bad]}}
  - {{id: go, type: path_executor, path_source: plan, on_agent_failure: {abort}, on_error: stop}}
  - {{id: fine, type: probe, pure: false, fails: {0 if abort == "abort" else 99}}}
  - {{id: bad, type: probe, fails: 99, pure: false}}
"""
    async with open_bench(redis_settings) as bench:
        result = await bench.run(load(text))
        assert (str(result.status), result.error_path) == ("failed", "go")
        probe.CALLS.clear()
        probe.CURED.update({"fine", "bad"})
        try:
            result = await bench.finish(result.run_id)
        finally:
            probe.CURED.clear()
    expected = ["go.0/bad"] if abort == "abort" else ["go.0/fine", "go.0/bad"]
    assert [call.path for call in probe.CALLS] == expected
    assert str(result.status) == "completed"
