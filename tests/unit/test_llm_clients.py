"""Models are asked over real HTTP, in three protocols: answers, streams, tools, faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import msgspec
import pytest
from support.openai_server import Call, Reply, Server, started

from orka.errors import LLMBadAnswer, LLMError, LLMRateLimited, LLMTimeout
from orka.llm.address import endpoint_at
from orka.llm.base import Answer, Endpoint, Form, LLMClient, Message, Question, Tool, ToolCall
from orka.llm.costs import LocalCost, Prices, is_local
from orka.llm.openai_client import Completion, Gathered
from orka.llm.pool import LLMPool

PLACES = {
    "openai": ("openai_compatible", "/v1/chat/completions", "openai"),
    "anthropic": ("anthropic", "/v1/messages", "anthropic"),
    "ollama": ("ollama", "/api/generate", "generate"),
    "chat": ("ollama", "/api/chat", "ollama"),
}
EVERY = pytest.mark.parametrize("place", PLACES)
SCHEMA = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}


def question(text: str = "Hello", **changes: object) -> Question:
    return replace(Question(model="m", messages=(Message(role="user", content=text),)), **changes)  # type: ignore[arg-type]


def at(server: Server, place: str, key: str | None = "sk-test-key") -> Endpoint:
    provider, path, _ = PLACES[place]
    return endpoint_at(provider, server.url + path, key)


@asynccontextmanager
async def pool(**changes: float) -> AsyncIterator[LLMPool]:
    settings = {"timeout": 10.0, "concurrency": 100, "retries": 2, **changes}
    opened = LLMPool(prices=Prices(LocalCost(policy="zero_legacy")), **settings)  # type: ignore[arg-type]
    try:
        yield opened
    finally:
        await opened.aclose()


@asynccontextmanager
async def asking(place: str, **changes: float) -> AsyncIterator[tuple[Server, LLMClient]]:
    async with started() as server, pool(**changes) as opened:
        yield server, opened.client(at(server, place))


@EVERY
async def test_an_answer_with_its_usage(place: str) -> None:
    async with asking(place) as (server, client):
        server.default = "Good day to you"
        answer = await client.ask(question(temperature=0.5, max_tokens=50))
        assert (answer.text, answer.calls) == ("Good day to you", ())
        assert answer.usage.completion_tokens == 4
        assert answer.usage.prompt_tokens == 1
        assert answer.latency_ms > 0
        asked = server.last
        assert (asked.dialect, asked.prompt, asked.model, asked.stream) == (PLACES[place][2], "Hello", "m", False)
        settings = asked.body.get("options", asked.body)
        assert settings["temperature"] == 0.5
        assert settings.get("max_tokens", settings.get("num_predict")) == 50


@EVERY
async def test_a_system_prompt_is_told_apart(place: str) -> None:
    async with asking(place) as (server, client):
        await client.ask(question(messages=(Message(role="system", content="Be brief."), *question().messages)))
        assert (server.last.system, server.last.prompt) == ("Be brief.", "Hello")


@pytest.mark.parametrize(("place", "native"), [("openai", False), ("openai", True), ("anthropic", False)])
async def test_headers_of_the_environment_are_for_the_provider_s_own_host(
    place: str, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "hidden")
    for name in ("OPENAI_CUSTOM_HEADERS", "ANTHROPIC_CUSTOM_HEADERS"):
        monkeypatch.setenv(name, "X-Token: hidden")
    async with started() as server, pool() as opened:
        await opened.client(replace(at(server, place), native=native)).ask(question())
        assert ("hidden" in server.last.headers.values()) is native


@EVERY
async def test_a_streamed_answer_comes_in_pieces(place: str) -> None:
    async with asking(place) as (server, client):
        server.default = Reply(text="one two three four", pause=0.01)
        pieces: list[str] = []
        answer = await client.ask(question(), on_token=pieces.append)
        assert answer.text == "".join(pieces) == "one two three four"
        assert len(pieces) > 1
        assert answer.usage.completion_tokens == 4
        assert server.last.stream


@pytest.mark.parametrize("place", ["openai", "anthropic", "chat"])
@pytest.mark.parametrize("streams", [False, True])
async def test_tools_are_offered_and_called(place: str, streams: bool) -> None:
    tool = Tool(name="add", description="Adds.", parameters=SCHEMA)
    async with asking(place) as (server, client):
        server.default = Reply(calls=(Call(name="add", arguments={"n": 1}), Call(name="add", arguments={"n": 2})))
        pieces: list[str] = []
        answer = await client.ask(question(tools=(tool,)), on_token=pieces.append if streams else None)
        assert [(call.name, call.arguments.replace(" ", "")) for call in answer.calls] == [
            ("add", '{"n":1}'),
            ("add", '{"n":2}'),
        ]
        assert len({call.id for call in answer.calls}) == 2
        calls = (ToolCall(id=answer.calls[0].id, name="add", arguments='{"n":1}'),)
        turns = (
            *question().messages,
            Message(role="assistant", calls=calls),
            Message(role="tool", content="3", call_id=calls[0].id),
        )
        server.default = "It is 3."
        assert (await client.ask(question(messages=turns, tools=(tool,)))).text == "It is 3."
        assert len(server.last.messages) == 3


@EVERY
async def test_json_of_a_schema_is_asked_for_in_the_protocol_s_own_way(place: str) -> None:
    async with asking(place) as (server, client):
        server.default = {"n": 1}
        answer = await client.ask(question(form=Form(schema=SCHEMA)))
        assert answer.text.replace(" ", "") == '{"n":1}'
        assert answer.calls == ()
        body = server.last.body
        sent = {
            "openai": lambda: body["response_format"]["json_schema"]["schema"],
            "anthropic": lambda: body["tools"][0]["input_schema"],
        }.get(place, lambda: body["format"])()
        assert sent == SCHEMA


@EVERY
async def test_what_may_pass_is_tried_again_after_the_time_it_asks_for(place: str) -> None:
    async with asking(place) as (server, client):
        server.replies.extend(
            [Reply(status=429, headers={"Retry-After": "0.05"}), Reply(status=503, headers={"Retry-After": "0.05"})]
        )
        server.default = "at last"
        assert (await client.ask(question())).text == "at last"
        assert len(server.asked) == 3


@EVERY
async def test_a_limit_that_stays_says_for_how_long(place: str) -> None:
    async with asking(place, retries=1) as (server, client):
        server.default = Reply(status=429, headers={"Retry-After": "0.05"}, error="slow down")
        with pytest.raises(LLMRateLimited, match="slow down") as caught:
            await client.ask(question())
        assert (caught.value.retry_after, caught.value.status) == (0.05, 429)
        assert len(server.asked) == 2


@EVERY
@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "refuses the question"),
        (401, "the key is not valid"),
        (404, "no model 'm'"),
        (422, "refuses the question"),
    ],
)
async def test_refusals_are_not_repeated_and_say_what_to_do(place: str, status: int, words: str) -> None:
    async with asking(place) as (server, client):
        server.default = Reply(status=status, error="no good: sk-test-key")
        with pytest.raises(LLMError, match=words) as caught:
            await client.ask(question())
        assert caught.value.status == status
        assert "sk-test-key" not in str(caught.value)
        assert len(server.asked) == 1


@EVERY
async def test_a_slow_server_is_a_timeout(place: str) -> None:
    async with asking(place, retries=0) as (server, client):
        server.default = Reply(text="late", delay=30)
        with pytest.raises(LLMTimeout, match=r"no answer within 0\.2 s"):
            await client.ask(question(timeout=0.2))


@EVERY
async def test_nobody_at_the_address(place: str, unused_tcp_port: int) -> None:
    provider, path, _ = PLACES[place]
    async with pool(retries=0) as opened:
        client = opened.client(endpoint_at(provider, f"http://127.0.0.1:{unused_tcp_port}{path}", None))
        with pytest.raises(LLMError, match="cannot be reached"):
            await client.ask(question())


@EVERY
@pytest.mark.parametrize("reply", [Reply(body=b"<html>hello</html>"), Reply(body=b""), Reply(body=b"{}")])
async def test_what_is_no_answer_says_so(place: str, reply: Reply) -> None:
    async with asking(place, retries=0) as (server, client):
        server.default = reply
        with pytest.raises(LLMError) as caught:
            await client.ask(question())
        assert isinstance(caught.value, LLMBadAnswer) or "cannot be reached" in str(caught.value)


@EVERY
@pytest.mark.parametrize("reply", [Reply(text="one two three", cut=True), Reply(closed=True)])
@pytest.mark.parametrize("streams", [False, True])
async def test_a_connection_that_breaks_is_an_error(place: str, reply: Reply, streams: bool) -> None:
    async with asking(place, retries=0) as (server, client):
        server.default = reply
        with pytest.raises(LLMError):
            await client.ask(question(), on_token=(lambda _: None) if streams else None)


@EVERY
async def test_cancelling_closes_the_connection(place: str) -> None:
    async with asking(place) as (server, client):
        server.default = Reply(text="late", delay=30)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.ask, question())
            with anyio.fail_after(5):
                await server.until(lambda: server.asked)
            tasks.cancel_scope.cancel()
        with anyio.fail_after(5):
            await server.until(lambda: server.last.gone)
        server.default = "still there"
        assert (await client.ask(question())).text == "still there"


async def test_a_server_that_cannot_stream_answers_in_one_piece() -> None:
    async with asking("openai") as (server, client):
        body = b'{"choices": [{"message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}]}'
        server.default = Reply(body=body, headers={"Content-Type": "application/json"})
        pieces: list[str] = []
        assert (await client.ask(question(), on_token=pieces.append)).text == "whole"
        assert pieces == ["whole"]


@EVERY
@pytest.mark.parametrize("reply", [Reply(text="late", delay=30), Reply(text="and so on " * 100, pause=0.05)])
async def test_a_timeout_bounds_the_whole_question(place: str, reply: Reply) -> None:
    async with asking(place) as (server, client):
        server.default = reply
        with anyio.fail_after(5), pytest.raises(LLMTimeout, match=r"no answer within 0\.4 s"):
            await client.ask(question(timeout=0.4), on_token=lambda _: None)
        assert len(server.asked) == 1


@EVERY
async def test_an_answer_that_breaks_off_is_not_begun_again_for_who_has_heard_it(place: str) -> None:
    async with asking(place) as (server, client):
        server.replies.append(Reply(text="one two three four five six", cut=True))
        pieces: list[str] = []
        with pytest.raises(LLMError, match="broke its answer off"):
            await client.ask(question(), on_token=pieces.append)
        assert "one two three four five six".startswith("".join(pieces))
        assert len(server.asked) == 1


@pytest.mark.parametrize("refused", ["stream_options", "stream", "max_tokens", "temperature"])
async def test_what_a_server_refuses_and_can_do_without_is_left_out(refused: str) -> None:
    async with asking("openai") as (server, client):
        server.refuses, server.default = {refused}, "Good day"
        pieces: list[str] = []
        for _ in range(2):
            answer = await client.ask(question(max_tokens=50, temperature=0.5), on_token=pieces.append)
            assert answer.text == "Good day"
        assert "".join(pieces) == "Good day" * 2
        assert len(server.asked) == 3  # the second question knows
        assert server.last.body.get("max_completion_tokens") == (50 if refused == "max_tokens" else None)
        assert not server.last.body.get(refused)


async def test_a_value_that_a_server_refuses_stays() -> None:
    async with asking("openai") as (server, client):
        server.default = Reply(status=400, error="temperature must be at most 1")
        with pytest.raises(LLMError, match="must be at most 1"):
            await client.ask(question(temperature=2))
        assert len(server.asked) == 1


@pytest.mark.parametrize("index", [0, None])
def test_calls_of_one_index_are_told_apart(index: int | None) -> None:
    gathered = Gathered()
    for identity, word in (("c1", "rain"), ("c2", "snow")):
        whole = {"name": "weather", "arguments": f'{{"of": "{word}'}
        rest = {"arguments": '"}'}
        for call in ({"index": index, "id": identity, "function": whole}, {"index": index, "function": rest}):
            piece = {"choices": [{"delta": {"tool_calls": [call]}}]}
            gathered.add(msgspec.convert(piece, Completion), lambda _: None)
    assert gathered.answer().calls == (
        ToolCall(id="c1", name="weather", arguments='{"of": "rain"}'),
        ToolCall(id="c2", name="weather", arguments='{"of": "snow"}'),
    )


async def test_counts_that_are_no_integers_count() -> None:
    async with asking("openai") as (server, client):
        usage = b'"usage": {"prompt_tokens": 3.0, "completion_tokens": 2.0}'
        server.default = Reply(body=b'{"choices": [{"message": {"content": "x"}}], %s}' % usage)
        answer = await client.ask(question())
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 2)


async def test_questions_beyond_the_limit_wait() -> None:
    async with started() as server, pool(concurrency=3) as opened:
        server.default = Reply(text="ok", delay=0.02)
        client = opened.client(at(server, "openai"))
        answers = await asyncio.gather(*(client.ask(question()) for _ in range(20)))
        assert len(answers) == 20
        assert server.most_at_once == 3
        assert opened.statistics()._asdict() == {"asked": 20, "running": 0, "waiting": 0, "failed": 0}
        assert opened.client(at(server, "openai")) is client


async def test_two_hundred_at_once() -> None:
    async with started() as server, pool(concurrency=256) as opened:
        server.default = Reply(text="ok", delay=0.1)
        client = opened.client(at(server, "openai"))
        answers = await asyncio.gather(*(client.ask(question()) for _ in range(200)))
        assert {answer.text for answer in answers} == {"ok"}


async def test_prices_are_those_of_the_list() -> None:
    prices = Prices(LocalCost())
    openai = Endpoint(provider="openai", url="https://api.openai.com/v1")
    usage = Answer(text="").usage.__class__(prompt_tokens=1000, completion_tokens=100)
    assert await prices.cost(openai, "gpt-4o", usage, 500) == pytest.approx(0.0035)  # 2.5 and 10 dollars a million
    assert await prices.cost(openai, "a-model-of-nobody", usage, 500) is None


async def test_a_machine_of_one_s_own_costs_electricity_and_hardware() -> None:
    home = Endpoint(provider="openai", url="http://localhost:1234/v1")
    cost = LocalCost(rate=0.3, hardware=2628.0, gpu_watts=300.0, cpu_watts=100.0)
    # An hour: 300 x 0.8 + 100 x 0.3 = 270 W, 0.081 dollars; a 26,280th of the hardware, 0.1 dollars.
    usage = Answer(text="").usage
    assert await Prices(cost).cost(home, "m", usage, 3_600_000) == pytest.approx(0.181)
    assert await Prices(replace(cost, policy="zero_legacy")).cost(home, "m", usage, 3_600_000) == 0
    assert await Prices(replace(cost, policy="null_fail")).cost(home, "m", usage, 3_600_000) is None


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("gpu-box", True),
        ("10.1.2.3", True),
        ("172.17.0.1", True),
        ("[::1]", True),
        ("nas.local", True),
        ("10.example.com", False),
        ("8.8.8.8", False),
    ],
)
def test_machines_of_one_s_own_are_known_by_their_address(host: str, ours: bool) -> None:
    assert is_local(Endpoint(provider="openai", url=f"http://{host}:8000/v1")) is ours
