"""A model that calls tools: what it is told, what the visit keeps, and when it ends."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from support import tools as functions

from orka.agents.base import AgentInput, AgentOutput, AgentTools
from orka.agents.registry import Registry
from orka.errors import AgentError, ConfigError, LLMTimeout
from orka.llm.base import Answer, Message
from orka.results import Usage
from orka.testing import HashEmbedder, ScriptedLLM, example_task, run_agent, tool_calls

HERE = "support.tools"


async def asked(
    llm: ScriptedLLM, *names: str | dict[str, Any], allowed: bool | frozenset[str] = True, **options: Any
) -> AgentOutput:
    listed = [f"{HERE}:{name}" if isinstance(name, str) else name for name in names]
    tools = AgentTools(embedder=HashEmbedder(), llm=llm, scripted=True, allow_functions=allowed)
    return await run_agent("llm", example_task("How is it?", options={"tools": listed, **options}), tools=tools)


def told(llm: ScriptedLLM, question: int = -1) -> list[str]:
    """What the tools gave, as the model saw it."""
    return [message.content for message in llm.asked[question].question.messages if message.role == "tool"]


async def test_model_calls_a_tool_and_answers_with_what_it_gave() -> None:
    llm = ScriptedLLM([tool_calls(("weather", {"city": "Bern"}), text="Let me see."), "It is warm."])
    output = await asked(llm, "weather", system="Be short.")
    assert output.response == "It is warm."
    first, second = (one.question for one in llm.asked)
    assert [tool.name for tool in first.tools] == [tool.name for tool in second.tools] == ["weather"]
    assert (first.tool_choice, second.tool_choice) == ("auto", "auto")
    wanted = (
        *first.messages,
        Message(role="assistant", content="Let me see.", calls=tool_calls(("weather", {"city": "Bern"})).calls),
        Message(role="tool", content='{"city":"Bern","degrees":21.5}', call_id="call_0", tool="weather"),
    )
    assert second.messages == wanted
    (record,) = output.fields["tool_calls"]  # type: ignore[misc]
    assert 0 <= record.pop("ms") < 1000
    assert record == {
        "name": "weather",
        "arguments": {"city": "Bern"},
        "status": "success",
        "result": '{"city":"Bern","degrees":21.5}',
    }


async def test_usage_and_metrics_are_those_of_all_rounds() -> None:
    def spent(answer: Answer, tokens: int, cost: float, *, priced: bool = True) -> Answer:
        usage = Usage(prompt_tokens=tokens, completion_tokens=1, cost_usd=cost)
        return Answer(text=answer.text, calls=answer.calls, usage=usage, priced=priced, latency_ms=10.5, model="m")

    call, answer = tool_calls(("weather", {"city": "Bern"})), Answer(text="Warm.")
    output = await asked(
        ScriptedLLM([spent(call, 10, 0.5), spent(call, 20, 0.25), spent(answer, 30, 0.125)]), "weather"
    )
    assert output.usage == Usage(prompt_tokens=60, completion_tokens=3, cost_usd=0.875)
    metrics: Any = output.fields["_metrics"]
    assert (metrics["tokens"], metrics["latency_ms"], metrics["cost_usd"]) == (63, 31.5, 0.875)
    output = await asked(ScriptedLLM([spent(call, 10, 0.0, priced=False), spent(answer, 30, 0.125)]), "weather")
    assert output.fields["_metrics"]["cost_usd"] is None  # type: ignore[index, call-overload]


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        (
            "weather",
            {"town": "Bern"},
            "the arguments do not fit: city: Field required; town: Extra inputs are not permitted",
        ),
        ("weather", "Bern", "the arguments are not JSON: write one JSON object"),
        ("whether", {}, "there is no tool 'whether': there are weather, broken, leaves, odd, gone, slow"),
        ("broken", {"why": "no such place"}, "LookupError: no such place"),
        ("broken", {}, "LookupError"),
        ("leaves", {}, "SystemExit: 3"),
        (
            "odd",
            {},
            "it gave a value of type object, which cannot be told as JSON: Unable to serialize unknown type: <class 'object'>",
        ),
        ("gone", {}, "it was cancelled by its own code"),
        ("slow", {}, "no result within 0.05 s"),
    ],
)
async def test_error_of_a_tool_is_told_to_the_model(name: str, arguments: Any, error: str) -> None:
    llm = ScriptedLLM([tool_calls((name, arguments)), "I cannot know."])
    output = await asked(llm, "weather", "broken", "leaves", "odd", "gone", "slow", tool_timeout=0.05)
    assert output.response == "I cannot know."
    assert told(llm) == [f"error: {error}"]
    (record,) = output.fields["tool_calls"]  # type: ignore[misc]
    assert (record["status"], record["error"], record["arguments"]) == ("error", error, arguments)


async def test_calls_of_one_turn_run_at_once_and_are_answered_in_their_order() -> None:
    wanted = tool_calls(("slow", {"seconds": 0.2}), ("weather", {"city": "a"}), ("slow", {"seconds": 0.1}))
    llm = ScriptedLLM([wanted, "Done."])
    began = anyio.current_time()
    output = await asked(llm, "slow", "weather")
    assert anyio.current_time() - began < 0.29
    assert [message.call_id for message in llm.asked[1].question.messages if message.role == "tool"] == [
        "call_0",
        "call_1",
        "call_2",
    ]
    assert [record["name"] for record in output.fields["tool_calls"]] == ["slow", "weather", "slow"]  # type: ignore


async def test_calls_of_one_turn_are_bounded() -> None:
    running = most = 0
    registry = Registry()

    async def count(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.005)
        running -= 1
        return number

    registry.toolbox.add(count)
    llm = ScriptedLLM([tool_calls(*(("count", {"number": number}) for number in range(70))), "Done."])
    tools = AgentTools(embedder=HashEmbedder(), llm=llm, scripted=True, toolbox=registry.toolbox)
    await run_agent("llm", example_task("x", options={"tools": ["count"]}), tools=tools)
    assert most == 8
    assert told(llm)[:64] == [str(number) for number in range(64)]
    assert set(told(llm)[64:]) == {"error: more than 64 calls in one turn: call it again in the next one"}


async def test_after_the_last_round_the_model_must_answer() -> None:
    llm = ScriptedLLM().when(lambda question: question.tool_choice == "none", "Enough.")
    llm.when("How", tool_calls(("weather", {"city": "Bern"})))
    output = await asked(llm, "weather", max_rounds=3)
    assert output.response == "Enough."
    assert [one.question.tool_choice for one in llm.asked] == ["auto", "auto", "auto", "none"]
    assert len(output.fields["tool_calls"]) == 3  # type: ignore[arg-type]


async def test_model_that_does_not_stop_calling_fails_the_visit() -> None:
    llm = ScriptedLLM(default=tool_calls(("weather", {"city": "Bern"})))
    with pytest.raises(AgentError, match=r"still calls tools after 2 rounds.*raise `max_rounds`") as caught:
        await asked(llm, "weather", max_rounds=2)
    assert caught.value.kind == "TooManyRounds"
    assert caught.value.usage == Usage(completion_tokens=3)


async def test_answer_that_fits_the_schema_needs_no_further_question() -> None:
    llm = ScriptedLLM([tool_calls(("weather", {"city": "Bern"})), 'Well: {"degrees": "21.5"}'])
    output = await asked(llm, "weather", schema={"degrees": "number"})
    assert (output.response, output.fields["degrees"]) == ({"degrees": 21.5}, 21.5)
    assert len(llm.asked) == 2
    assert "- degrees: number" in llm.asked[0].prompt
    assert llm.asked[1].question.form is None


async def test_answer_without_the_fields_is_asked_for_once_more_in_the_form() -> None:
    llm = ScriptedLLM([tool_calls(("weather", {"city": "Bern"})), "It is warm.", {"degrees": 21.5}])
    output = await asked(llm, "weather", schema={"degrees": "number"})
    assert output.response == {"degrees": 21.5}
    last = llm.asked[2].question
    assert last.form is not None
    assert (last.tools, last.messages[-2].content) == ((), "It is warm.")
    assert "- degrees: number" in last.messages[-1].content


async def test_with_a_schema_the_question_after_the_last_round_is_the_formed_one() -> None:
    llm = ScriptedLLM([tool_calls(("weather", {"city": "Bern"})), {"degrees": 21.5}])
    output = await asked(llm, "weather", schema={"degrees": "number"}, max_rounds=1)
    assert output.response == {"degrees": 21.5}
    assert [one.question.form is None for one in llm.asked] == [True, False]


async def test_every_answer_is_streamed() -> None:
    pieces: list[str] = []
    llm = ScriptedLLM([tool_calls(("weather", {"city": "Bern"}), text="Let me see. "), "It is warm."])
    tools = AgentTools(embedder=HashEmbedder(), llm=llm, scripted=True, allow_functions=True)
    given = example_task("How?", options={"tools": [f"{HERE}:weather"]})
    fields = {name: getattr(given, name) for name in given.__struct_fields__}
    output = await run_agent("llm", AgentInput(**{**fields, "emit": pieces.append}), tools=tools)
    assert "".join(pieces) == "Let me see. It is warm."
    assert output.response == "It is warm."


async def test_failure_in_a_later_round_keeps_its_kind_and_the_usage_so_far() -> None:
    llm = ScriptedLLM([tool_calls(("weather", {"city": "Bern"})), LLMTimeout("no answer", provider="p")])
    with pytest.raises(AgentError, match="no answer") as caught:
        await asked(llm, "weather")
    assert (caught.value.kind, caught.value.usage) == ("LLMTimeout", Usage(completion_tokens=1))
    assert isinstance(caught.value.__cause__, LLMTimeout)
    with pytest.raises(LLMTimeout):
        await asked(ScriptedLLM([LLMTimeout("at once", provider="p")]), "weather")


async def test_key_of_a_call_is_that_of_the_same_call_when_the_visit_is_repeated() -> None:
    async def keys() -> list[str]:
        functions.called.clear()
        llm = ScriptedLLM(
            [tool_calls(("book", {"seat": "4a"}), ("book", {"seat": "4b"})), tool_calls(("book", {"seat": "4a"})), "ok"]
        )
        await asked(llm, "book")
        return sorted(given[1] for _, given in functions.called)

    first, again = await keys(), await keys()
    assert first == again
    assert len(set(first)) == 3
    assert all(key.startswith("test:example:book:") for key in first)
    assert sum(key.endswith(":2") for key in first) == 1


async def test_long_results_are_cut_for_the_model_and_shorter_for_the_journal() -> None:
    llm = ScriptedLLM([tool_calls(("long", {}), ("half", {})), "ok"])
    output = await asked(llm, "long", "half")
    whole, half = told(llm)
    assert whole == "x" * 50_000 + "\n[10,000 more characters are left out]"
    assert half == "half ? of one"
    records: Any = output.fields["tool_calls"]
    assert records[0]["result"] == "x" * 4_000 + "\n[56,000 more characters are left out]"


@pytest.mark.parametrize("allowed", [False, frozenset({"support.functions"}), frozenset({"mcp:support.tools"})])
async def test_function_that_is_not_permitted_fails_the_visit_before_the_model_is_asked(
    allowed: bool | frozenset[str],
) -> None:
    llm = ScriptedLLM(["never"])
    with pytest.raises(AgentError, match=r"--allow-functions=support.tools") as caught:
        await asked(llm, "weather", allowed=allowed)
    assert (caught.value.kind, llm.asked) == ("FunctionNotAllowed", [])


async def test_registered_tools_need_no_permission() -> None:
    registry = Registry()
    registry.toolbox.tool(description="How it is.")(functions.weather)
    llm = ScriptedLLM([tool_calls(("sky", {"city": "Bern"})), "ok"])
    tools = AgentTools(embedder=HashEmbedder(), llm=llm, scripted=True, toolbox=registry.toolbox)
    listed = [{"tool": "weather", "name": "sky"}]
    await run_agent("llm", example_task("x", options={"tools": listed}), tools=tools)
    assert told(llm) == ['{"city":"Bern","degrees":21.5}']
    assert [tool.name for tool in llm.asked[0].question.tools] == ["sky"]
    with pytest.raises(
        AgentError, match=r"no tool 'fog' is registered \(there are weather\): register it with `@orka.tool"
    ):
        await run_agent("llm", example_task("x", options={"tools": ["fog"]}), tools=tools)


async def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(
        AgentError, match=r"tool 'weather' is given by function 'support.tools:weather' and by"
    ) as caught:
        await asked(ScriptedLLM(), "weather", {"function": f"{HERE}:slow", "name": "weather"})
    assert caught.value.kind == "ToolClash"


async def test_function_of_which_no_tool_can_be_made_fails_the_visit() -> None:
    with pytest.raises(AgentError, match=r"function 'support.tools:many': tool 'many' takes \*numbers") as caught:
        await asked(ScriptedLLM(), "many")
    assert caught.value.kind == "ToolUnusable"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "give one of `function`, `tool` and `mcp`"),
        ({"tool": "a", "function": "b:c"}, "give one of"),
        ("os:_exit", "module:name"),
        ({"tool": "a", "only": ["b"]}, "`only` and `prefix` are for `mcp` servers"),
        ({"mcp": {}}, "give either `command` or `url`"),
        ({"mcp": {"command": "a", "url": "http://b"}}, "give either `command` or `url`"),
        ({"mcp": {"url": "http://b", "args": ["c"]}}, "a server at a `url` takes no `args`"),
        ({"mcp": {"command": "a", "token_env": "B"}}, "a server started by `command` takes no `token_env`"),
        ({"mcp": {"url": "ftp://b"}}, "must begin with http"),
        ({"mcp": {"command": "a"}, "name": "b"}, "names and descriptions of their own"),
    ],
)
async def test_entry_that_makes_no_sense_is_refused(entry: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        await run_agent("llm", example_task("x", options={"tools": [entry]}), llm=ScriptedLLM())


async def test_rehearsal_tells_names_and_imports_and_starts_nothing() -> None:
    llm = ScriptedLLM()
    tools = AgentTools(embedder=HashEmbedder(), llm=llm, scripted=True, rehearsal=True)
    entries = ["no_such_module.at_all:weather", "fog", {"mcp": {"command": "nope", "args": ["-q", "x/units.py"]}}]
    output = await run_agent("llm", example_task("x", options={"tools": entries}), tools=tools)
    assert [tool.name for tool in llm.asked[0].question.tools] == ["weather", "fog", "units.py:*"]
    assert (output.response, output.fields["tool_calls"]) == ("(dry run) x", [])


async def test_cancelling_a_visit_cancels_its_calls() -> None:
    functions.called.clear()
    ended: list[str] = []

    async def patient() -> str:
        try:
            functions.called.append(("patient", None))
            await anyio.sleep(60)
        finally:
            ended.append("patient")
        return ""

    registry = Registry()
    registry.toolbox.add(patient)
    llm = ScriptedLLM([tool_calls(("patient", {}), ("patient", {}))])
    tools = AgentTools(embedder=HashEmbedder(), llm=llm, scripted=True, toolbox=registry.toolbox)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: run_agent("llm", example_task("x", options={"tools": ["patient"]}), tools=tools))
            while len(functions.called) < 2:  # noqa: ASYNC110  # the tools run as any user's would
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
    assert ended == ["patient", "patient"]
