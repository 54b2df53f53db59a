"""Anthropic's Messages API, by Anthropic's own library (extra `anthropic`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec

from orka.clock import monotonic
from orka.errors import ConfigError
from orka.llm.base import Answer, Endpoint, Message, OnToken, Question, ToolCall
from orka.llm.faults import broken, late, lost, refusal, transport_errors, unreadable
from orka.llm.library import Opened
from orka.results import Usage

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

ANTHROPIC_URL = "https://api.anthropic.com"
_TOKENS = 4096
"""Of an answer at most, where the file does not say: the API wants a number."""


class AnthropicClient:
    """One pool of connections. `retries` as in `OpenAIClient`."""

    def __init__(self, endpoint: Endpoint, *, timeout: float, retries: int) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._library = Opened(partial(_open, endpoint, timeout, retries))

    async def aclose(self) -> None:
        await self._library.aclose()

    async def ask(self, question: Question, /, *, on_token: OnToken | None = None) -> Answer:
        client = await self._library.client()
        import anthropic

        began, endpoint, seconds = monotonic(), self._endpoint, question.timeout or self._timeout
        try:
            if on_token is None:
                calls: Any = client.messages
                raw = await calls.with_raw_response.create(**_body(question), timeout=seconds)
                answer = _answer_of(endpoint, question, raw.http_response.content)
            else:
                answer = await self._stream(client, question, seconds, on_token)
        except anthropic.APITimeoutError as exc:
            raise late(endpoint, question.model, seconds) from exc
        except anthropic.APIStatusError as exc:
            header = exc.response.headers.get("retry-after", "")
            after = float(header) if header.replace(".", "", 1).isdigit() else None
            raise refusal(endpoint, question.model, exc.status_code, exc.body, retry_after=after) from exc
        except anthropic.APIConnectionError as exc:
            raise lost(endpoint, exc) from exc
        except anthropic.APIError as exc:
            raise broken(endpoint, exc.message) from exc
        except transport_errors() as exc:
            raise broken(endpoint, str(exc)) from exc
        except ValueError as exc:  # a piece of a stream that is no JSON
            raise unreadable(endpoint, question.model, str(exc).encode()) from exc
        return replace(answer, latency_ms=round((monotonic() - began) * 1000, 3))

    async def _stream(self, client: AsyncAnthropic, question: Question, seconds: float, on_token: OnToken) -> Answer:
        gathered, calls = _Gathered(), cast("Any", client.messages)
        stream = await calls.create(**_body(question), timeout=seconds, stream=True)
        async with stream:
            async for event in stream:
                gathered.add(event, on_token)
        if not gathered.model:
            raise unreadable(self._endpoint, question.model, b"")
        return gathered.answer(question)


@dataclass(slots=True)
class _Gathered:
    """The events of a streamed answer, put together."""

    model: str = ""
    finish: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    texts: list[str] = field(default_factory=list[str])
    calls: dict[int, list[str]] = field(default_factory=dict[int, list[str]])

    def add(self, event: Any, on_token: OnToken) -> None:
        match event.type:
            case "message_start":
                self.model = event.message.model
                self.prompt_tokens = event.message.usage.input_tokens
            case "content_block_start" if event.content_block.type == "tool_use":
                self.calls[event.index] = [event.content_block.id, event.content_block.name, ""]
            case "content_block_delta" if event.delta.type == "text_delta":
                self.texts.append(event.delta.text)
                on_token(event.delta.text)
            case "content_block_delta" if event.delta.type == "input_json_delta":
                self.calls[event.index][2] += event.delta.partial_json
            case "message_delta":
                self.finish = event.delta.stop_reason or ""
                self.completion_tokens = event.usage.output_tokens
            case _:
                pass

    def answer(self, question: Question) -> Answer:
        calls = (
            ToolCall(id=id, name=name, arguments=text or "{}") for _, (id, name, text) in sorted(self.calls.items())
        )
        usage = Usage(prompt_tokens=self.prompt_tokens, completion_tokens=self.completion_tokens)
        return _settled(question, "".join(self.texts), tuple(calls), self.model, usage, self.finish)


class _Block(msgspec.Struct):
    type: str
    text: str = ""
    id: str = ""
    name: str = ""
    input: Any = None


class _Tokens(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0


class _Message(msgspec.Struct):
    """The part of an answer that is read."""

    content: list[_Block]
    model: str = ""
    usage: _Tokens = msgspec.field(default_factory=_Tokens)
    stop_reason: str | None = None


_decoder = msgspec.json.Decoder(_Message)


def _answer_of(endpoint: Endpoint, question: Question, body: bytes) -> Answer:
    try:
        message = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise unreadable(endpoint, question.model, body) from exc
    calls = tuple(
        ToolCall(id=block.id, name=block.name, arguments=msgspec.json.encode(block.input or {}).decode())
        for block in message.content
        if block.type == "tool_use"
    )
    text = "".join(block.text for block in message.content if block.type == "text")
    usage = Usage(prompt_tokens=message.usage.input_tokens, completion_tokens=message.usage.output_tokens)
    return _settled(question, text, calls, message.model, usage, message.stop_reason or "")


def _settled(
    question: Question, text: str, calls: tuple[ToolCall, ...], model: str, usage: Usage, finish: str
) -> Answer:
    """The call that stands for the form is the answer's text."""
    if question.form is not None:
        formed = next((call.arguments for call in calls if call.name == question.form.name), None)
        if formed is not None:
            text, calls = formed, ()
    return Answer(text=text, calls=calls, model=model, usage=usage, finish=finish)


def _body(question: Question) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": question.model,
        "max_tokens": question.max_tokens or _TOKENS,
        "messages": list(_turns(question.messages)),
    }
    if systems := [message.content for message in question.messages if message.role == "system"]:
        body["system"] = "\n\n".join(systems)
    tools: list[dict[str, Any]] = [
        {"name": t.name, "description": t.description, "input_schema": t.parameters} for t in question.tools
    ]
    choice = question.tool_choice
    if question.form is not None and question.form.schema is not None:
        # The API has no response format: a tool that must be called stands for it.
        tools.append({"name": question.form.name, "description": "The answer.", "input_schema": question.form.schema})
        choice = question.form.name
    if not tools:
        # It wants every conversation in which tools were called to declare some.
        called = dict.fromkeys(call.name for message in question.messages for call in message.calls)
        tools, choice = [{"name": name, "input_schema": {"type": "object"}} for name in called], "none"
    if tools:
        kinds = {"auto": "auto", "required": "any", "none": "none"}
        body["tools"] = tools
        body["tool_choice"] = {"type": kinds[choice]} if choice in kinds else {"type": "tool", "name": choice}
    # Newer versions of the library have no parameter for the temperature; the API takes it as ever.
    heat = {} if question.temperature is None else {"temperature": min(1.0, question.temperature)}
    if heat or question.extra:
        body["extra_body"] = {**heat, **question.extra}
    return body


def _turns(messages: tuple[Message, ...]) -> Iterator[dict[str, Any]]:
    """Results of tools are parts of one turn of the user."""
    results: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "tool":
            results.append({"type": "tool_result", "tool_use_id": message.call_id, "content": message.content})
            continue
        if results:
            yield {"role": "user", "content": results}
            results = []
        if message.role == "system":
            continue
        if message.calls:
            parts: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content else []
            parts += (
                {"type": "tool_use", "id": call.id, "name": call.name, "input": _table(call.arguments)}
                for call in message.calls
            )
            yield {"role": "assistant", "content": parts}
        else:
            yield {"role": message.role, "content": message.content}
    if results:
        yield {"role": "user", "content": results}


def _table(arguments: str) -> dict[str, Any]:
    """What a model wrote that is no object was answered with an error; the API takes nothing else."""
    try:
        return msgspec.json.decode(arguments, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}


def _open(endpoint: Endpoint, timeout: float, retries: int) -> AsyncAnthropic:
    try:
        from anthropic import AsyncAnthropic
    except ImportError as exc:
        raise ConfigError(
            "asking Anthropic's models needs the library `anthropic`: pip install 'orka[anthropic]'"
        ) from exc
    url = endpoint.url or ANTHROPIC_URL
    client = AsyncAnthropic(api_key=endpoint.key or "none", base_url=url, timeout=timeout, max_retries=retries)
    if not endpoint.native:  # ANTHROPIC_CUSTOM_HEADERS may hold secrets, and graph files name any host
        client._custom_headers = {}  # pyright: ignore[reportPrivateUsage]
    return client
