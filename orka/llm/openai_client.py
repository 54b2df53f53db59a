"""The OpenAI protocol, by OpenAI's own library: OpenAI and every server that speaks as it does."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import msgspec

from orka.clock import monotonic
from orka.errors import ConfigError, LLMError
from orka.llm.base import Answer, Endpoint, Message, OnToken, Question, ToolCall
from orka.llm.faults import broken, label_of, late, lost, refusal, transport_errors, unreadable
from orka.llm.library import Opened
from orka.llm.refused import STATUSES, refused_parameter, without_refused
from orka.logs import get_logger
from orka.results import Usage

if TYPE_CHECKING:
    from openai import AsyncOpenAI

OPENAI_URL = "https://api.openai.com/v1"
_NO_KEY = "none"
"""Sent where no key is given: the library insists on one, and local servers ignore it."""


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Turn(msgspec.Struct):
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    message: _Turn | None = None
    delta: _Turn | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: float | None = None
    completion_tokens: float | None = None


class Completion(msgspec.Struct):
    """The part of an answer, or of a piece of one, that is read."""

    choices: list[_Choice] | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(Completion)
_log = get_logger()


class OpenAIClient:
    """One pool of connections. `retries`: of one request that fails in a way that may pass; the library honours
    `Retry-After` up to two minutes."""

    def __init__(self, endpoint: Endpoint, *, timeout: float, retries: int) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._library = Opened(partial(_open, endpoint, timeout, retries))
        self._refused: dict[str, frozenset[str]] = {}
        """Parameters that a model does not take."""

    async def aclose(self) -> None:
        await self._library.aclose()

    async def ask(self, question: Question, /, *, on_token: OnToken | None = None) -> Answer:
        """What the server refuses, but can do without, it is asked without from then on."""
        client = await self._library.client()
        began, model = monotonic(), question.model
        body = _body(question)
        if on_token is not None:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        refused, first = self._refused.get(model, frozenset[str]()), None
        while True:
            try:
                answer = await self._send(client, question, without_refused(body, refused), on_token)
            except LLMError as exc:
                name = refused_parameter(body, str(exc)) if exc.status in STATUSES else None
                if name is None or name in refused:
                    raise first or exc from exc
                refused, first = refused | {name}, first or exc
                continue
            if first is not None:
                self._refused[model] = self._refused.get(model, frozenset()) | refused
                _log.warning("llm.parameters_refused", endpoint=label_of(self._endpoint), model=model, names=[*refused])
            return replace(answer, latency_ms=round((monotonic() - began) * 1000, 3))

    async def _send(
        self, client: AsyncOpenAI, question: Question, body: dict[str, Any], on_token: OnToken | None
    ) -> Answer:
        import openai

        endpoint, seconds = self._endpoint, question.timeout or self._timeout
        try:
            if on_token is not None and body.get("stream"):
                return await self._stream(client, question, body, seconds, on_token)
            calls: Any = client.chat.completions
            raw = await calls.with_raw_response.create(**{**body, "stream": False}, timeout=seconds)
            answer = read_completion(endpoint, question, raw.http_response.content)
            if on_token is not None and answer.text:
                on_token(answer.text)
            return answer
        except openai.APITimeoutError as exc:
            source = exc.__cause__ and exc.__cause__.__cause__
            if source is not None and not isinstance(source, TimeoutError):
                # What the transport over aiohttp calls a timeout is a refused or lost connection, too.
                raise lost(endpoint, exc) from exc
            raise late(endpoint, question.model, seconds) from exc
        except openai.APIStatusError as exc:
            after = _seconds(exc.response.headers.get("retry-after"))
            said = exc.body if exc.body is not None else exc.response.content
            raise refusal(endpoint, question.model, exc.status_code, said, retry_after=after) from exc
        except openai.APIConnectionError as exc:
            raise lost(endpoint, exc) from exc
        except openai.APIError as exc:  # in the middle of a stream
            raise broken(endpoint, exc.message) from exc
        except transport_errors() as exc:
            raise broken(endpoint, str(exc)) from exc

    async def _stream(
        self, client: AsyncOpenAI, question: Question, body: dict[str, Any], seconds: float, on_token: OnToken
    ) -> Answer:
        """Pieces as they come. A server that cannot stream answers at once, and that is one piece."""
        gathered, calls = Gathered(), cast("Any", client.chat.completions)
        async with calls.with_streaming_response.create(**body, timeout=seconds) as response:
            if "json" in response.headers.get("content-type", ""):
                answer = read_completion(self._endpoint, question, await response.read())
                if answer.text:
                    on_token(answer.text)
                return answer
            async for line in response.iter_lines():
                data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                if data and data != "[DONE]":
                    gathered.add(self._piece(question, data), on_token)
        if not gathered.begun:
            raise unreadable(self._endpoint, question.model, b"")
        return gathered.answer()

    def _piece(self, question: Question, data: str) -> Completion:
        try:
            piece = _decoder.decode(data)
        except msgspec.MsgspecError as exc:
            raise unreadable(self._endpoint, question.model, data.encode()) from exc
        if piece.error:
            raise refusal(self._endpoint, question.model, 500, {"error": piece.error})
        return piece


class Gathered:
    """The pieces of a streamed answer, put together."""

    def __init__(self) -> None:
        self.begun = False
        self._texts: list[str] = []
        self._calls: list[tuple[int, list[str]]] = []
        """Index, and id, name and arguments so far."""
        self._open: dict[int, list[str]] = {}
        """The latest call of each index."""
        self._model = self._finish = ""
        self._usage = Usage()

    def add(self, piece: Completion, on_token: OnToken) -> None:
        self.begun = True
        self._model = piece.model or self._model
        if piece.usage is not None:
            self._usage = _usage_of(piece.usage)
        for choice in (piece.choices or [])[:1]:
            self._finish = choice.finish_reason or self._finish
            turn = choice.delta or choice.message
            if turn is None:
                continue
            if text := _text_of(turn):
                self._texts.append(text)
                on_token(text)
            for call in turn.tool_calls or ():
                self._add_call(call)

    def _add_call(self, call: _Call) -> None:
        """A piece belongs to the latest call of its index. Servers that give all calls one index, or none, are known by the
        name and another id with which each begins."""
        index, function = call.index or 0, call.function or _Function()
        parts = self._open.get(index)
        if parts is None or (call.id and function.name and parts[0] not in ("", call.id)):
            parts = self._open[index] = ["", "", ""]
            self._calls.append((index, parts))
        parts[0] = call.id or parts[0]
        parts[1] = function.name or parts[1]
        parts[2] += _arguments(function)

    def answer(self) -> Answer:
        calls = tuple(
            ToolCall(id=parts[0] or f"call_{number}", name=parts[1], arguments=parts[2])
            for number, (_, parts) in enumerate(sorted(self._calls, key=lambda call: call[0]))
        )
        return Answer(text="".join(self._texts), calls=calls, model=self._model, usage=self._usage, finish=self._finish)


def read_completion(endpoint: Endpoint, question: Question, body: bytes) -> Answer:
    """The body of a whole answer. `LLMBadAnswer` for anything else."""
    try:
        found = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise unreadable(endpoint, question.model, body) from exc
    if found.error and not found.choices:
        raise refusal(endpoint, question.model, 500, {"error": found.error})
    turn = (found.choices[0].message or found.choices[0].delta) if found.choices else None
    if turn is None or not found.choices:
        raise unreadable(endpoint, question.model, body)
    calls = tuple(
        ToolCall(id=call.id or f"call_{index}", name=call.function.name or "", arguments=_arguments(call.function))
        for index, call in enumerate(turn.tool_calls or ())
        if call.function is not None
    )
    return Answer(
        text=_text_of(turn),
        calls=calls,
        model=found.model or "",
        usage=_usage_of(found.usage),
        finish=found.choices[0].finish_reason or "",
    )


def _body(question: Question) -> dict[str, Any]:
    body: dict[str, Any] = {"model": question.model, "messages": [_message(message) for message in question.messages]}
    if question.temperature is not None:
        body["temperature"] = question.temperature
    if question.max_tokens is not None:
        body["max_tokens"] = question.max_tokens
    form = question.form
    if form is not None and form.schema is None:
        body["response_format"] = {"type": "json_object"}
    elif form is not None:
        wanted = {"name": form.name, "schema": form.schema, "strict": form.strict}
        body["response_format"] = {"type": "json_schema", "json_schema": wanted}
    if question.tools:
        body["tools"] = [
            {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.parameters}}
            for t in question.tools
        ]
        named = question.tool_choice not in ("auto", "required", "none")
        body["tool_choice"] = (
            {"type": "function", "function": {"name": question.tool_choice}} if named else question.tool_choice
        )
    if question.extra:
        body["extra_body"] = dict(question.extra)
    return body


def _message(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.calls
        ]
    if message.role == "tool":
        turn["tool_call_id"] = message.call_id
    return turn


def _text_of(turn: _Turn) -> str:
    if isinstance(turn.content, list):  # parts of texts and other things
        return "".join(part["text"] for part in turn.content if isinstance(part.get("text"), str))
    return turn.content or ""


def _arguments(function: _Function) -> str:
    """Some servers give them decoded."""
    given = function.arguments
    return given if isinstance(given, str) else "" if given is None else msgspec.json.encode(given).decode()


def _usage_of(usage: _Usage | None) -> Usage:
    if usage is None:
        return Usage()
    return Usage(prompt_tokens=int(usage.prompt_tokens or 0), completion_tokens=int(usage.completion_tokens or 0))


def _seconds(header: str | None) -> float | None:
    try:
        return None if header is None else max(0.0, float(header))
    except ValueError:
        return None


def _open(endpoint: Endpoint, timeout: float, retries: int) -> AsyncOpenAI:
    try:
        from openai import AsyncOpenAI, DefaultAioHttpClient
    except ImportError as exc:
        raise ConfigError("asking a language model needs the library `openai`: pip install 'orka[llm]'") from exc
    parts = urlsplit(endpoint.url or OPENAI_URL)  # never the library's own look at the environment
    try:
        # The library's other transport looks at every connection for every request: at 200 questions at once that was a
        # third of the time.
        transport = DefaultAioHttpClient(timeout=timeout)
    except RuntimeError as exc:  # aiohttp is an extra of the library
        raise ConfigError("asking a language model needs the library `aiohttp`: pip install 'orka[llm]'") from exc
    client = AsyncOpenAI(
        api_key=endpoint.key or _NO_KEY,
        base_url=urlunsplit(parts._replace(query="")),
        default_query=dict(parse_qsl(parts.query)) or None,
        timeout=timeout,
        max_retries=retries,
        http_client=transport,
    )
    if not endpoint.native:  # OPENAI_CUSTOM_HEADERS may hold secrets, and graph files name any host
        client.organization = client.project = None
        client._custom_headers = {}  # pyright: ignore[reportPrivateUsage]
    return client
