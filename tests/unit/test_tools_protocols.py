"""Conversations with tools in the three protocols, over real HTTP: what the server is sent in each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from support.openai_server import Call, Reply, Server, started

from orka.agents.base import AgentInput, AgentOutput, AgentTools
from orka.llm.costs import LocalCost, Prices
from orka.llm.pool import LLMPool
from orka.testing import HashEmbedder, example_task, run_agent

PROVIDERS = ["openai_compatible", "ollama", "anthropic"]


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    async with started() as one:
        yield one


async def asked(server: Server, provider: str, *, emit: Any = None, **options: Any) -> AgentOutput:
    pool = LLMPool(timeout=10, concurrency=8, prices=Prices(LocalCost()))
    tools = AgentTools(embedder=HashEmbedder(), llm=pool, allow_functions=True)
    model = {"provider": provider, "model": "m", "model_url": server.url}
    listed = ["support.tools:weather", "support.tools:thread"]
    given = example_task("How is it?", options={"tools": listed, **model, **options})
    fields = {name: getattr(given, name) for name in given.__struct_fields__}
    try:
        return await run_agent("llm", AgentInput(**{**fields, "emit": emit}), tools=tools)
    finally:
        await pool.aclose()


def wants(*calls: Call, text: str = "") -> Reply:
    return Reply(text=text, calls=calls, tokens=(10, 5))


BERN = Call(name="weather", arguments={"city": "Bern"}, id="a1")
THREAD = Call(name="thread", arguments={"schema": 1}, id="a2")
SUNNY = '{"city":"Bern","degrees":21.5}'


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_two_calls_of_one_turn_are_answered(server: Server, provider: str, streamed: bool) -> None:
    server.replies.extend([wants(BERN, THREAD, text="Let me see."), Reply(text="It is warm.", tokens=(20, 3))])
    pieces: list[str] = []
    output = await asked(server, provider, emit=pieces.append if streamed else None)
    assert output.response == "It is warm."
    assert "".join(pieces) == ("Let me see.It is warm." if streamed else "")
    assert output.fields["_metrics"]["tokens"] == 38  # type: ignore[index, call-overload]
    assert [record["result"] for record in output.fields["tool_calls"]] == [SUNNY, "1 None False"]  # type: ignore
    first, second = server.asked
    offered = first.body["tools"]
    assert [tool.get("function", tool)["name"] for tool in offered] == ["weather", "thread"]
    assert second.body["tools"] == offered
    assert second.messages[-3 if provider != "anthropic" else -2 :] == TURNS[provider]


TURNS: dict[str, list[dict[str, Any]]] = {
    "openai_compatible": [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {"id": "a1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}},
                {"id": "a2", "type": "function", "function": {"name": "thread", "arguments": '{"schema": 1}'}},
            ],
        },
        {"role": "tool", "content": SUNNY, "tool_call_id": "a1"},
        {"role": "tool", "content": "1 None False", "tool_call_id": "a2"},
    ],
    "ollama": [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {"function": {"name": "weather", "arguments": {"city": "Bern"}}},
                {"function": {"name": "thread", "arguments": {"schema": 1}}},
            ],
        },
        {"role": "tool", "content": SUNNY, "tool_name": "weather"},
        {"role": "tool", "content": "1 None False", "tool_name": "thread"},
    ],
    "anthropic": [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "a1", "name": "weather", "input": {"city": "Bern"}},
                {"type": "tool_use", "id": "a2", "name": "thread", "input": {"schema": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a1", "content": SUNNY},
                {"type": "tool_result", "tool_use_id": "a2", "content": "1 None False"},
            ],
        },
    ],
}


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_after_the_last_round_no_tool_may_be_called(server: Server, provider: str) -> None:
    server.replies.extend([wants(BERN), Reply(text="Enough.")])
    assert (await asked(server, provider, max_rounds=1)).response == "Enough."
    body = server.last.body
    if provider == "ollama":
        assert "tools" not in body
    else:
        none = "none" if provider == "openai_compatible" else {"type": "none"}
        assert (body["tool_choice"], len(body["tools"])) == (none, 2)


@pytest.mark.parametrize("mode", ["auto", "tool_call", "model_json", "prompt"])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_formed_answer_after_calls_is_had_in_every_way(server: Server, provider: str, mode: str) -> None:
    server.replies.extend([wants(BERN), Reply(text="It is warm."), Reply(text='{"degrees": 21.5}')])
    structured = {"mode": mode, "schema": {"degrees": "number"}}
    output = await asked(server, provider, structured_output=structured)
    assert (output.response, output.fields["degrees"]) == ({"degrees": 21.5}, 21.5)
    body = server.last.body
    if provider == "anthropic":  # it refuses a conversation with calls that declares no tools
        assert body["tools"]
        assert body["tool_choice"]["type"] == ("tool" if mode in ("auto", "tool_call") else "none")


async def test_arguments_that_are_no_json_are_told(server: Server) -> None:
    server.replies.extend([wants(Call(name="weather", arguments="Bern", id="a1")), Reply(text="I cannot.")])
    assert (await asked(server, "openai_compatible")).response == "I cannot."
    assert server.last.messages[-1]["content"] == "error: the arguments are not JSON: write one JSON object"
