"""Maps in real runs: where the items come from, order, bounds, failures."""

import time
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from support.running import answer, at, execute, opened, paths

from orka.agents.base import AgentInput
from orka.agents.registry import Registry
from orka.settings import Settings
from orka.types import Status

EACH = """
    orchestrator: {id: t, agents: [a, m]}
    agents:
      - {id: a, type: echo, value: {response: [7, {x: 8}], rows: [p]}}
      - {id: m, type: map, items: %s, agents: [one]}
      - {id: one, type: template, prompt: "{{ index }}:{{ item }}"}
    """


@pytest.mark.parametrize(
    ("items", "given", "responses"),
    [
        ("input", [1, "b"], ["0:1", "1:b"]),
        ("input.tasks", {"tasks": ["x"]}, ["0:x"]),
        ("'{{ input.tasks }}'", {"tasks": ["x"]}, ["0:x"]),
        ("\"input['items']\"", {"items": ["x"]}, ["0:x"]),
        ("previous_outputs.a.response", "", ["0:7", '1:{"x":8}']),
        ("previous_outputs.a.rows", "", ["0:p"]),
        ('"input | length | string | list"', "abc", ["0:3"]),
        ("\"input.split(',')\"", "x,y", ["0:x", "1:y"]),
        ("range(3)", "", ["0:0", "1:1", "2:2"]),
        ("[p, 2, true]", "", ["0:p", "1:2", "2:True"]),
        ("[]", "", []),
        ("input", [], []),
    ],
)
async def test_items_come_from_expressions_outputs_input_and_the_file(
    redis_settings: Settings, items: str, given: Any, responses: list[str]
) -> None:
    assert await answer(redis_settings, EACH % items, given) == responses


@pytest.mark.parametrize(
    ("items", "given", "what"),
    [
        ("input", "text", "a str"),
        ("input", {"a": 1}, "a dict"),
        ("input", 5, "a int"),
        ("input", None, "nothing"),
        ("previous_outputs.gone.list", "", "nothing"),
        ("previous_outputs.a", "", "a dict"),
    ],
)
async def test_what_is_no_list_fails_the_map_and_says_what_it_is(
    redis_settings: Settings, items: str, given: Any, what: str
) -> None:
    result = await execute(redis_settings, EACH % items, given)
    failed = at(result, "m")
    assert failed.status is Status.ERROR
    assert failed.error is not None
    assert (failed.error.kind, failed.error.message) == ("ItemsNotList", f"`items: {items}` gives {what}, not a list")


async def test_the_result_of_an_item_is_what_ran_also_behind_a_router_or_a_fork(redis_settings: Settings) -> None:
    routed = """
        orchestrator: {id: t, agents: [m, end]}
        agents:
          - {id: m, type: map, items: "[1, 2]", agents: [x, r]}
          - {id: x, type: template, prompt: "x{{ item }}"}
          - {id: r, type: router, decision_key: x, routing_map: {x1: y, default: []}}
          - {id: y, type: template, prompt: "y{{ item }}"}
          - {id: end, type: template, prompt: "{{ previous_outputs.m.results | map(attribute='response') | join }}"}
        """
    assert await answer(redis_settings, routed) == "y1x2"
    assert await answer(redis_settings, routed.replace("[m, end]", "[m]")) == ["y1", "x2"]
    forked = routed.replace("[x, r]", "[x, f]").replace("id: r, type: router", "id: f, type: fork, targets: [y]")
    forked = forked.replace(", decision_key: x, routing_map: {x1: y, default: []}", "")
    assert await answer(redis_settings, forked) == "y1y2"


async def test_results_keep_the_order_of_the_items_whoever_is_first(redis_settings: Settings) -> None:
    registry = Registry()

    @registry.agent("later_first", pure=True)
    async def later_first(task: AgentInput) -> Any:
        await anyio.sleep(0.03 - 0.01 * task.variables["index"])  # type: ignore[operator]
        return task.variables["item"]

    text = """
        orchestrator: {id: t, agents: [m]}
        agents:
          - {id: m, type: map, items: input, agents: [one]}
          - {id: one, type: later_first}
        """
    result = await execute(redis_settings, text, ["a", "b", "c"], registry=registry)
    assert result.output == ["a", "b", "c"]
    assert at(result, "m").output == {
        "results": [{"response": "a"}, {"response": "b"}, {"response": "c"}],
        "failed": [],
    }
    assert paths(result) == ["m.0/one", "m.1/one", "m.2/one", "m"]


async def test_maps_inside_maps_see_both_items(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [outer]}
        agents:
          - {id: outer, type: map, items: input, as: row, agents: [inner, sum]}
          - {id: inner, type: map, items: row, as: cell, agents: [one]}
          - {id: one, type: template, prompt: "{{ index }}{{ cell }}/{{ row | length }}"}
          - {id: sum, type: template, prompt: "{{ index }}:{{ previous_outputs.inner.results | map(attribute='response') | join(' ') }}"}
        """  # noqa: E501
    result = await execute(redis_settings, text, [["a", "b"], ["c"], []])
    assert result.output == ["0:0a/2 1b/2", "1:0c/1", "2:"]


async def test_a_failed_item_is_named_and_fails_the_map_only_when_asked(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [m, end]}
        agents:
          - {id: m, type: map, items: "[1, 2, 3]", agents: [gate, bad, done]%s}
          - {id: gate, type: template, prompt: "{{ item }}"}
          - {id: bad, type: odd, on_error: stop}
          - {id: done, type: template, prompt: "done {{ item }}"}
          - {id: end, type: template, prompt: "{{ previous_outputs.m.failed }} {{ previous_outputs.m.error }}"}
        """
    registry = Registry()

    @registry.agent("odd", pure=True)
    async def odd(task: AgentInput) -> str:
        if task.variables["item"] == 2:
            raise ValueError("two is not odd")
        return "odd"

    result = await execute(redis_settings, text % "", registry=registry)
    assert at(result, "m").status is Status.SUCCESS
    assert at(result, "m").output["results"] == [  # type: ignore[index,call-overload]
        {"response": "done 1", "formatted_prompt": "done 1"},
        {"error": "two is not odd", "error_type": "ValueError", "status": "error"},
        {"response": "done 3", "formatted_prompt": "done 3"},
    ]
    assert result.output == "[1] "
    result = await execute(redis_settings, text % ", on_failure: fail", registry=registry)
    assert at(result, "m").status is Status.ERROR
    assert result.output == "[1] every branch had to succeed, 1 of 3 failed: branch 1: two is not odd"


async def test_a_map_that_runs_out_of_time_keeps_what_is_done(redis_settings: Settings) -> None:
    registry = Registry()

    @registry.agent("slow_one", pure=True)
    async def slow_one(task: AgentInput) -> Any:
        await anyio.sleep(30 if task.variables["item"] == "slow" else 0)
        return task.variables["item"]

    text = """
        orchestrator: {id: t, agents: [m]}
        agents:
          - {id: m, type: map, timeout: 0.1, items: input, agents: [one]}
          - {id: one, type: slow_one}
        """
    result = await execute(redis_settings, text, ["a", "slow", "c"], registry=registry)
    assert at(result, "m").output == {
        "results": [
            {"response": "a"},
            {"error": "not done within 0.1 s", "error_type": "RunTimeout", "status": "error"},
            {"response": "c"},
        ],
        "failed": [1],
    }


async def test_items_are_isolated_from_each_other_and_do_not_reach_the_parent(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [m, end]}
        agents:
          - {id: m, type: map, items: "['a', 'b']", agents: [x, y], max_concurrency: 1}
          - {id: x, type: template, prompt: "{{ item }}{{ previous_outputs.x.response }}{{ previous_outputs.y.response }}"}
          - {id: y, type: template, prompt: "{{ previous_outputs.x.response }}!"}
          - {id: end, type: template, prompt: "[{{ previous_outputs.x.response }}{{ item }}]"}
        """
    result = await execute(redis_settings, text)
    assert at(result, "m").output["results"][1]["response"] == "b!"  # type: ignore[index,call-overload]
    assert result.output == "[]"


@pytest.mark.parametrize(("limit", "most"), [(", max_concurrency: 40", 40), ("", 1000)])
async def test_five_thousand_items_run_quickly_and_within_their_bound(
    redis_settings: Settings, limit: str, most: int
) -> None:
    registry, seen = Registry(), {"now": 0, "most": 0}

    @registry.agent("count", pure=True)
    async def count(task: AgentInput) -> Any:
        seen["now"] += 1
        seen["most"] = max(seen["most"], seen["now"])
        await anyio.lowlevel.checkpoint()
        seen["now"] -= 1
        return task.variables["item"]

    text = f"""
        orchestrator: {{id: t, agents: [m]}}
        agents:
          - {{id: m, type: map, items: range(5000), agents: [one]{limit}}}
          - {{id: one, type: count}}
        """
    async with opened(redis_settings, text, registry=registry) as orchestrator:
        started = time.perf_counter()
        assert await orchestrator.run("") == list(range(5000))
        assert time.perf_counter() - started < 8
    assert 1 < seen["most"] <= most


async def test_in_strict_mode_a_list_that_reads_what_is_not_there_fails_the_map(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [every, end], strict_templates: true}
        agents:
          - {id: every, type: map, items: "previous_outputs.nobody.list", as: item, agents: [end]}
          - {id: end, type: template, prompt: "on"}
        """,
    )
    assert at(result, "every").error.kind == "TemplateError"  # type: ignore[union-attr]
    assert (result.status, result.output) == ("completed", "on")
