"""Ollama's own protocol over HTTP: `/api/generate` for one question, `/api/chat` for conversations and tools. Source: docs/api.md
of Ollama. (At `/v1` it speaks OpenAI's, and `openai_client` asks it.)"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import anyio
import httpx
import msgspec

from orka.clock import monotonic
from orka.llm.address import CHAT, GENERATE
from orka.llm.base import Answer, Endpoint, Message, OnToken, Question, ToolCall
from orka.llm.faults import late, lost, refusal, unreadable
from orka.results import Usage
from orka.types import Json

_PAUSE = 0.5
"""Seconds before a second attempt; twice as long before each further one."""
_LONGEST_PAUSE = 60.0
_PASSING = frozenset({429, 500, 502, 503, 504})


class _Function(msgspec.Struct):
    name: str = ""
    arguments: Any = None


class _Call(msgspec.Struct):
    function: _Function


class _Turn(msgspec.Struct):
    content: str = ""
    tool_calls: list[_Call] | None = None


class _Piece(msgspec.Struct):
    response: str | None = None
    message: _Turn | None = None
    model: str = ""
    done: bool = False
    done_reason: str = ""
    prompt_eval_count: int = 0
    eval_count: int = 0
    error: str | None = None


_decoder = msgspec.json.Decoder(_Piece)


class OllamaClient:
    """One pool of connections."""

    def __init__(self, endpoint: Endpoint, *, timeout: float, retries: int) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._retries = retries
        parts = urlsplit(endpoint.url or "http://localhost:11434")
        path = parts.path.rstrip("/")
        self._chats = path.endswith(CHAT)
        base = path.removesuffix(CHAT).removesuffix(GENERATE)
        self._base = urlunsplit(parts._replace(path=base))
        local = (parts.hostname or "") in ("localhost", "127.0.0.1", "::1")
        limits = httpx.Limits(max_connections=1000, max_keepalive_connections=100)
        # No context for TLS where none is needed: making one takes long.
        self._http = httpx.AsyncClient(limits=limits, trust_env=not local, verify=parts.scheme == "https")

    async def aclose(self) -> None:
        await self._http.aclose()

    async def ask(self, question: Question, /, *, on_token: OnToken | None = None) -> Answer:
        began, attempt, heard = monotonic(), 0, False
        seconds = question.timeout or self._timeout

        def hear(text: str) -> None:
            nonlocal heard
            heard = True
            if on_token is not None:
                on_token(text)

        while True:
            try:
                return await self._attempt(question, seconds, None if on_token is None else hear, began)
            except httpx.TimeoutException as exc:
                raise late(self._endpoint, question.model, seconds) from exc
            except _Refused as exc:
                if exc.status not in _PASSING or attempt >= self._retries:
                    raise refusal(self._endpoint, question.model, exc.status, exc.body, retry_after=exc.after) from exc
                pause = exc.after
            except httpx.HTTPError as exc:
                if heard or attempt >= self._retries:  # what was heard cannot be taken back
                    raise lost(self._endpoint, exc) from exc
                pause = None
            await anyio.sleep(min(_LONGEST_PAUSE, _PAUSE * 2**attempt if pause is None else pause))
            attempt += 1

    async def _attempt(self, question: Question, seconds: float, on_token: OnToken | None, began: float) -> Answer:
        chats = self._chats or len(question.messages) > 2 or bool(question.tools) or _is_conversation(question)
        body = _body(question, chats=chats, stream=on_token is not None)
        headers = {"Authorization": f"Bearer {self._endpoint.key}"} if self._endpoint.key else {}
        texts: list[str] = []
        last, calls = _Piece(), list[ToolCall]()
        address = f"{self._base}{CHAT if chats else GENERATE}"
        async with self._http.stream("POST", address, json=body, headers=headers, timeout=seconds) as response:
            if response.status_code != 200:
                raise _Refused(response.status_code, await response.aread(), response.headers.get("retry-after"))
            async for line in _lines(response):
                last = self._piece(question, line)
                if text := last.response or (last.message.content if last.message else ""):
                    texts.append(text)
                    if on_token is not None:
                        on_token(text)
                for call in (last.message.tool_calls if last.message else None) or ():
                    arguments = msgspec.json.encode(call.function.arguments or {}).decode()
                    calls.append(ToolCall(id=f"call_{len(calls)}", name=call.function.name, arguments=arguments))
        if last.response is None and last.message is None and not last.done:
            raise unreadable(self._endpoint, question.model, b"")
        return Answer(
            text="".join(texts),
            calls=tuple(calls),
            model=last.model,
            usage=Usage(prompt_tokens=last.prompt_eval_count, completion_tokens=last.eval_count),
            finish="tool_calls" if calls else last.done_reason,
            latency_ms=round((monotonic() - began) * 1000, 3),
        )

    def _piece(self, question: Question, line: str) -> _Piece:
        try:
            piece = _decoder.decode(line)
        except msgspec.MsgspecError as exc:
            raise unreadable(self._endpoint, question.model, line.encode()) from exc
        if piece.error:
            raise refusal(self._endpoint, question.model, 500, {"error": piece.error})
        return piece


class _Refused(Exception):
    def __init__(self, status: int, body: bytes, after: str | None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.after = float(after) if after is not None and after.replace(".", "", 1).isdigit() else None


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """A whole answer may be spread over lines, a streamed one has a piece on each."""
    if "ndjson" in response.headers.get("content-type", ""):
        async for line in response.aiter_lines():
            if line.strip():
                yield line
    else:
        for line in _split((await response.aread()).decode("utf-8", "replace")):
            yield line


def _split(text: str) -> list[str]:
    try:
        msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return [line for line in text.splitlines() if line.strip()] or [text]
    return [text]


def _is_conversation(question: Question) -> bool:
    return any(message.role not in ("system", "user") for message in question.messages)


def _body(question: Question, *, chats: bool, stream: bool) -> dict[str, Any]:
    options: dict[str, Json] = dict(question.extra)
    if question.temperature is not None:
        options["temperature"] = question.temperature
    if question.max_tokens is not None:
        options["num_predict"] = question.max_tokens
    body: dict[str, Any] = {"model": question.model, "stream": stream, "options": options}
    if question.form is not None:
        body["format"] = question.form.schema or "json"
    if not chats:
        systems = [message.content for message in question.messages if message.role == "system"]
        body["prompt"] = "\n\n".join(message.content for message in question.messages if message.role == "user")
        return body | ({"system": "\n\n".join(systems)} if systems else {})
    body["messages"] = [_message(message) for message in question.messages]
    if question.tools and question.tool_choice != "none":  # the protocol cannot say that none is to be called
        body["tools"] = [
            {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.parameters}}
            for t in question.tools
        ]
    return body


def _message(message: Message) -> Mapping[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        turn["tool_calls"] = [
            {"function": {"name": call.name, "arguments": _table(call.arguments)}} for call in message.calls
        ]
    if message.tool:
        turn["tool_name"] = message.tool
    return turn


def _table(arguments: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(arguments, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}
