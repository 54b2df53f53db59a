"""The tests' own model server answers as the servers do that it stands for."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.openai_server import Asked, Call, Reply, Server, started

ROOT = Path(__file__).resolve().parents[2]
CHAT = "/v1/chat/completions"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with started() as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=5) as client:
        yield client


def body(prompt: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": prompt}], **more}


async def lines(client: httpx.AsyncClient, path: str, asked: dict[str, Any]) -> list[str]:
    async with client.stream("POST", path, json=asked) as response:
        assert response.status_code == 200
        return [line async for line in response.aiter_lines() if line]


async def chunks(client: httpx.AsyncClient, asked: dict[str, Any]) -> list[dict[str, Any]]:
    found = await lines(client, CHAT, asked)
    assert found[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in found[:-1]]


async def test_without_a_script_the_last_message_comes_back(server: Server, client: httpx.AsyncClient) -> None:
    answer = (await client.post("/some/prefix" + CHAT, json=body("a b c"))).json()
    assert json.loads(answer["choices"][0]["message"]["content"])["response"] == "a b c"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["prompt_tokens"] == 3
    assert (server.last.path, server.last.model, server.last.prompt) == ("/some/prefix" + CHAT, "m", "a b c")
    assert (await client.get("/v1/models")).json()["data"][0]["id"] == "test-model"


async def test_rules_and_lists_of_replies(server: Server, client: httpx.AsyncClient) -> None:
    server.when("critic", "first", {"score": 0.5})
    server.when(lambda asked: asked.model == "big", lambda asked: asked.prompt.upper())
    server.replies.append(Reply(text="before all", tokens=(7, 8)))
    texts: list[str] = []
    for asked in (body("critic"), body("critic"), body("critic"), body("critic"), body("x") | {"model": "big"}):
        texts.append((await client.post(CHAT, json=asked)).json()["choices"][0]["message"]["content"])
    assert texts == ["before all", "first", '{"score": 0.5}', '{"score": 0.5}', "X"]


async def test_streams_in_pieces_with_the_usage_at_the_end(server: Server, client: httpx.AsyncClient) -> None:
    server.default = "one two three"
    found = await chunks(client, body("p q", stream=True, stream_options={"include_usage": True}))
    texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in found if chunk["choices"]]
    assert texts == ["", "one ", "two ", "three", ""]
    assert found[-1]["choices"] == []
    assert found[-1]["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    assert all("usage" not in chunk for chunk in await chunks(client, body("p q", stream=True)))


async def test_tools_and_forced_tools(server: Server, client: httpx.AsyncClient) -> None:
    tool = {"type": "function", "function": {"name": "emit", "parameters": {"type": "object"}}}
    forced = {"type": "function", "function": {"name": "emit"}}
    server.replies += [Reply(calls=(Call(name="look", arguments={"q": 1}),)), {"a": 1}, {"a": "x y"}]
    chosen = (await client.post(CHAT, json=body("p", tools=[tool]))).json()["choices"][0]
    assert chosen["finish_reason"] == "tool_calls"
    assert chosen["message"]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"q": 1}'}
    emitted = (await client.post(CHAT, json=body("p", tools=[tool], tool_choice=forced))).json()["choices"][0]
    assert emitted["message"]["tool_calls"][0]["function"] == {"name": "emit", "arguments": '{"a": 1}'}
    deltas = [
        call["function"]["arguments"]
        for chunk in await chunks(client, body("p", tools=[tool], tool_choice="required", stream=True))
        for call in chunk["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert "".join(deltas) == '{"a": "x y"}'


async def test_refuses_what_it_is_told_to_refuse(server: Server, client: httpx.AsyncClient) -> None:
    server.refuses.add("json_schema")
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}
    refused = await client.post(CHAT, json=body("p", response_format=schema))
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
    assert (await client.post(CHAT, json=body("p", response_format={"type": "json_object"}))).status_code == 200


async def test_faults(server: Server, client: httpx.AsyncClient) -> None:
    server.replies += [
        Reply(status=429, headers={"Retry-After": "3"}),
        Reply(body=b"{no json"),
        Reply(text="long enough", cut=True),
        Reply(closed=True),
        Reply(text="a b c d e f", cut=True),
    ]
    busy = await client.post(CHAT, json=body("p"))
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "3")
    assert (await client.post(CHAT, json=body("p"))).text == "{no json"
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(CHAT, json=body("p"))
    with pytest.raises(httpx.RemoteProtocolError):
        await lines(client, CHAT, body("p", stream=True))
    assert (await client.post("/nowhere", json={})).status_code == 404
    assert (await client.post(CHAT, content=b"{")).status_code == 400


async def test_delays_before_the_first_byte_and_between_the_pieces(server: Server, client: httpx.AsyncClient) -> None:
    server.default = Reply(text="a b c", delay=0.1, pause=0.05, stamp=True)
    began, times, stamp = time.monotonic(), list[float](), 0
    async with client.stream("POST", CHAT, json=body("p", stream=True)) as response:
        async for line in response.aiter_lines():
            times.append(time.monotonic() - began)
            if found := re.search(r'"content": "(\d+) "', line):
                stamp = int(found[1])
    assert times[0] >= 0.1
    assert times[-1] >= 0.1 + 6 * 0.05
    assert began < stamp / 1e9 < time.monotonic()


async def test_sees_a_client_that_goes_away(server: Server, client: httpx.AsyncClient) -> None:
    server.default = Reply(delay=60)
    asking = asyncio.create_task(client.post(CHAT, json=body("p")))
    async with asyncio.timeout(5):
        await server.until(lambda: server.asked)
        assert not server.last.gone
        asking.cancel()
        await server.until(lambda: server.last.gone)
    assert server.at_once == 0


async def test_speaks_the_protocols_of_ollama(server: Server, client: httpx.AsyncClient) -> None:
    server.default = "one two"
    told = {"model": "m", "prompt": "a b", "system": "s"}
    assert (await client.post("/api/generate", json=told | {"stream": False})).json()["response"] == "one two"
    assert (server.last.prompt, server.last.system) == ("a b", "s")
    found = [json.loads(line) for line in await lines(client, "/api/generate", told)]
    assert [line["response"] for line in found] == ["one ", "two", ""]
    assert (found[-1]["done"], found[-1]["prompt_eval_count"], found[-1]["eval_count"]) == (True, 3, 2)
    answer = (await client.post("/api/chat", json=body("a", stream=False))).json()
    assert answer["message"] == {"role": "assistant", "content": "one two"}
    chat = [json.loads(line)["message"]["content"] for line in await lines(client, "/api/chat", body("a"))]
    assert chat == ["one ", "two", ""]


async def test_speaks_the_protocol_of_anthropic(server: Server, client: httpx.AsyncClient) -> None:
    server.default = Reply(text="one two", calls=(Call(name="look", arguments={"q": 1}),))
    asked = body("a b", max_tokens=10, system="s")
    answer = (await client.post("/v1/messages", json=asked)).json()
    assert [block["type"] for block in answer["content"]] == ["text", "tool_use"]
    assert (answer["stop_reason"], answer["usage"]) == ("tool_use", {"input_tokens": 3, "output_tokens": 4})
    found = await lines(client, "/v1/messages", asked | {"stream": True})
    events = [json.loads(line.removeprefix("data: ")) for line in found if line.startswith("data: ")]
    assert [e["type"] for e in events][:3] == ["message_start", "content_block_start", "content_block_delta"]
    assert [e["type"] for e in events][-2:] == ["message_delta", "message_stop"]
    texts = [event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta"]
    assert "".join(texts) == "one two"
    server.replies.append(Reply(status=529, error="overloaded"))
    assert (await client.post("/v1/messages", json=asked)).json()["error"]["message"] == "overloaded"


async def test_two_hundred_connections_at_once(server: Server) -> None:
    server.default = lambda asked: Reply(text=asked.prompt, delay=0.1)
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=10) as client:

        async def ask(number: int) -> str:
            answers = [await client.post(CHAT, json=body(f"{number}.{turn}")) for turn in range(2)]
            return ",".join(answer.json()["choices"][0]["message"]["content"] for answer in answers)

        found = await asyncio.gather(*(ask(number) for number in range(200)))
    assert found == [f"{number}.0,{number}.1" for number in range(200)]
    assert server.most_at_once > 100
    assert server.accepted < 400


async def test_runs_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "tests.support.openai_server", "--delay", "0.05", "--text", "hello"]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        url = (await asyncio.wait_for(process.stdout.readline(), 10)).decode().strip()
        async with httpx.AsyncClient(base_url=url, timeout=5) as client:
            answer = (await client.post(CHAT, json=body("p"))).json()
        assert answer["choices"][0]["message"]["content"] == "hello"
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 5) == 0


def test_a_predicate_sees_the_whole_request() -> None:
    asked = Asked(method="POST", path=CHAT, headers={}, body=body("p", tool_choice="auto"), dialect="openai")
    assert (asked.stream, asked.form, asked.forced_tool) == (False, "", "")
