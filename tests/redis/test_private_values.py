"""Agents cannot change what is not theirs: the input, the results of others, the file's options, other runs."""

import asyncio
from typing import Any

import pytest
from support.running import at, opened, said

from orka.agents.base import AgentInput
from orka.agents.registry import Registry
from orka.settings import Settings

TEXT = """
    orchestrator: {id: t, agents: [fixed, first, touch, every, read]}
    agents:
      - {id: fixed, type: echo, value: {response: [1], deep: {more: [[2]]}}}
      - {id: first, type: echo}
      - {id: touch, type: touch, words: [a], pure: %s}
      - {id: every, type: map, items: previous_outputs.fixed.deep.more, as: one, agents: [touch]}
      - {id: read, type: read}
    """


def registry(shared: list[Any]) -> Registry:
    """`touch` changes whatever it can reach, and gives a list that it goes on changing; `read` tells what it sees."""
    made = Registry()

    def touch(task: AgentInput) -> Any:
        seen: Any = task
        seen.input["a"] = 99
        seen.input["list"].append("more")
        seen.outputs["first"]["response"]["a"] = "X"
        seen.outputs["fixed"]["response"].append("leak")
        seen.outputs["fixed"]["deep"]["more"].append("leak")
        seen.options["words"].append("leak")
        seen.options["new"] = 1
        if "one" in seen.variables:
            seen.variables["one"].append("leak")
        assert (seen.input["a"], seen.outputs["first"]["response"]["a"]) == (99, "X")  # its own are as it left them
        shared.append(len(shared))
        return shared

    made.agent("touch")(touch)
    made.agent("touch-pure", pure=True)(touch)

    @made.agent("read")
    async def read(task: AgentInput) -> Any:
        return {"response": [task.input, {name: task.outputs[name] for name in ("fixed", "first")}]}

    return made


@pytest.mark.parametrize("kind", ["touch", "touch-pure"])
async def test_an_agent_changes_neither_input_nor_results_nor_options_nor_other_runs(
    redis_settings: Settings, kind: str
) -> None:
    shared: list[Any] = []
    text = TEXT.replace("type: touch", f"type: {kind}").replace(", pure: %s", "")
    async with opened(redis_settings, text, registry=registry(shared)) as orchestrator:
        given = {"a": 1, "list": []}
        for _ in range(2):
            before = len(shared)
            result = await orchestrator.execute(given)
            fixed = {"response": [1], "deep": {"more": [[2]]}}
            assert said(result, "read") == [
                {"a": 1, "list": []},
                {"fixed": fixed, "first": {"response": {"a": 1, "list": []}}},
            ]
            assert at(result, "fixed").output == fixed
            assert said(result, "touch") == list(range(before + 1))
            assert said(result, "every.0/touch") == list(range(before + 2))
            again = await orchestrator.finish(result.run_id)  # what the journal has is what the process had
            assert again.results == result.results
            at(result, "fixed").output["response"].append("by the caller")  # type: ignore[index, union-attr]
        assert given == {"a": 1, "list": []}
        node = next(node for node in orchestrator.graph.nodes() if node.id == "touch")
        assert node.options == {"words": ["a"]}  # type: ignore[union-attr]


async def test_concurrent_runs_of_one_input_do_not_see_each_other_through_it(redis_settings: Settings) -> None:
    made = Registry()

    @made.agent("append")
    async def append(task: AgentInput) -> Any:
        seen: Any = task.input
        seen.append("x")
        await asyncio.sleep(0.01)
        return len(seen)

    given = ["given"]
    text = "orchestrator: {id: t, agents: [a, a]}\nagents:\n  - {id: a, type: append}"
    async with opened(redis_settings, text, registry=made) as orchestrator:
        assert await asyncio.gather(*(orchestrator.run(given) for _ in range(3))) == [2, 2, 2]  # type: ignore[arg-type]
    assert given == ["given"]


async def test_what_earlier_agents_gave_cannot_be_replaced(redis_settings: Settings) -> None:
    made = Registry()

    @made.agent("replace")
    async def replace(task: AgentInput) -> Any:
        outputs: Any = task.outputs
        assert (len(outputs), "first" in outputs, dict(outputs)) == (1, True, {"first": {"response": "x"}})
        assert outputs == {"first": {"response": "x"}}
        outputs["first"] = "another"

    text = """
    orchestrator: {id: t, agents: [first, second]}
    agents:
      - {id: first, type: echo}
      - {id: second, type: replace}
    """
    result = await opened(redis_settings, text, registry=made).execute("x")
    assert at(result, "second").error.kind == "TypeError"  # type: ignore[union-attr]
    assert said(result, "first") == "x"


async def test_a_large_result_is_a_copy_too(redis_settings: Settings) -> None:
    kept = [list(range(100_000))]
    made = Registry()
    made.agent("large")(lambda _task: kept)
    text = "orchestrator: {id: t, agents: [a]}\nagents:\n  - {id: a, type: large}"
    result = await opened(redis_settings, text, registry=made).execute("x")
    kept[0].clear()
    assert said(result, "a") == [list(range(100_000))]
