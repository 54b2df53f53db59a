"""What the test server was asked and what it is to answer, as data; which rule answers which request."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(kw_only=True)
class Asked:
    """One request, as it came."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: dict[str, Any]
    dialect: str
    """`openai`, `anthropic`, `ollama` (`/api/chat`), `generate` (`/api/generate`), `models` or `tags` (lists of models)."""
    system: str = ""
    prompt: str = ""
    """Text of the last turn of the user."""
    at: float = 0.0
    """Seconds on the event loop's clock."""
    gone: bool = False
    """The client closed the connection before the answer was out."""

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    @property
    def messages(self) -> list[dict[str, Any]]:
        return list(self.body.get("messages", ()))

    @property
    def stream(self) -> bool:
        # Ollama streams unless it is told not to.
        return bool(self.body.get("stream", self.dialect in ("ollama", "generate")))

    @property
    def form(self) -> str:
        """The kind of `response_format`: `json_object`, `json_schema`, or nothing."""
        return str((self.body.get("response_format") or {}).get("type", ""))

    @property
    def forced_tool(self) -> str:
        """Name of the tool that the answer must call; `any` when it may choose."""
        match self.body.get("tool_choice"):
            case {"function": {"name": str(name)}} | {"type": "tool", "name": str(name)}:
                return name
            case "required" | {"type": "any"}:
                tools = [tool.get("function", tool)["name"] for tool in self.body.get("tools", ())]
                return tools[0] if len(tools) == 1 else "any"
            case _:
                return ""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A tool that the model wants to be called; `arguments` of a text are sent as they are, JSON or not."""

    name: str
    arguments: dict[str, Any] | str = field(default_factory=dict)
    id: str = ""
    """Empty: `call_1`, `call_2`, ..."""

    @property
    def text(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What is sent. With a forced tool, `text` becomes the arguments of its call unless `calls` are given."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    status: int = 200
    error: str = "scripted error"
    """Message of an answer whose status is not 200."""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before the first byte."""
    pause: float = 0.0
    """Seconds between the pieces of a stream."""
    cut: bool = False
    """The connection breaks in the middle of the body."""
    closed: bool = False
    """The connection is closed without an answer."""
    body: bytes | None = None
    """Sent instead of an answer, with `status`."""
    finish: str = ""
    """Why the model stopped; empty: `stop`, or `tool_calls`."""
    tokens: tuple[int, int] | None = None
    """Of the prompt and of the answer; None: their words. (-1, -1): the answer says nothing about its usage."""
    stamp: bool = False
    """The first piece of a stream is the monotonic clock in nanoseconds, read when it leaves."""


Script: TypeAlias = "str | dict[str, Any] | Reply | Callable[[Asked], Any]"
"""A text, an object that is sent as JSON, a whole reply, or what makes one of these from the request."""
Rule: TypeAlias = "str | Callable[[Asked], object]"
"""A text contained in the prompt or the system's text, or a predicate."""


def echo(asked: Asked) -> dict[str, Any]:
    return {"response": asked.prompt, "confidence": 0.9, "internal_reasoning": "The last message, repeated."}


def reply_of(script: Script, asked: Asked) -> Reply:
    if callable(script):
        return reply_of(script(asked), asked)
    if isinstance(script, Reply):
        return script
    return Reply(text=script if isinstance(script, str) else json.dumps(script, ensure_ascii=False))


def fits(rule: Rule, asked: Asked) -> bool:
    return rule in asked.prompt or rule in asked.system if isinstance(rule, str) else bool(rule(asked))


class Book:
    """Who answers what. `replies` come first, one request each; then the first of the rules that fits; then `default`."""

    def __init__(self) -> None:
        self.replies: deque[Script] = deque()
        self.default: Script = echo
        self.refuses: set[str] = set()
        """Answered with 400: `json_schema`, `json_object`, `tools`, `stream`, `stream_options`, or any key of a body."""
        self._rules: list[tuple[Rule, deque[Script]]] = []

    def reset(self) -> None:
        """Forgets replies and rules."""
        self.replies.clear()
        self._rules.clear()
        self.default = echo

    def when(self, rule: Rule, *scripts: Script) -> None:
        """The replies come one after another; the last one stays."""
        self._rules.append((rule, deque(scripts)))

    def refusal(self, asked: Asked) -> Reply | None:
        used = {asked.form} | {key for key, value in asked.body.items() if value}
        refused = sorted(self.refuses & used)
        return Reply(status=400, error=f"{refused[0]} is not supported by this model") if refused else None

    def choose(self, asked: Asked) -> Reply:
        if (refused := self.refusal(asked)) is not None:
            return refused
        if self.replies:
            return reply_of(self.replies.popleft(), asked)
        for rule, scripts in self._rules:
            if fits(rule, asked):
                return reply_of(scripts.popleft() if len(scripts) > 1 else scripts[0], asked)
        return reply_of(self.default, asked)
