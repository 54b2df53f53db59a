"""`ScriptedLLM`: a model that says what it is told to, for tests and dry runs."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import anyio
import msgspec

from orka.llm.base import Answer, Endpoint, LLMClient, OnToken, Question, Tool, ToolCall
from orka.results import Usage
from orka.types import Json

Said: TypeAlias = "str | Mapping[str, Json] | Answer | Exception"
"""A text, an object (its JSON is the text), a whole answer, or an error that is raised."""
Rule: TypeAlias = "Callable[[Question], Said | None]"
_WORD = re.compile(r"\S+")
_TRUE_DEFAULTS: Mapping[str, Json] = {
    "string": "(dry run)",
    "number": 0.5,
    "integer": 1,
    "boolean": True,
    "array": [],
    "object": {},
}


@dataclass(slots=True, kw_only=True)
class Asked:
    """One question that was asked, and where."""

    endpoint: Endpoint
    question: Question
    at: float
    """Of the clock of the event loop."""

    @property
    def prompt(self) -> str:
        """The last turn of the user."""
        return next((m.content for m in reversed(self.question.messages) if m.role == "user"), "")


@dataclass(slots=True)
class ScriptedLLM:
    """Stands for every endpoint. What is said comes from the first of: a rule of `when` that fits; the `answers`, one after
    the other; the `default`. Every word counts as a token.

    `ScriptedLLM(["first", {"response": "second"}])`; `.when("critic", "No.")` answers every prompt with that word in it;
    `latency` seconds pass before each answer and `per_token` between its words when it is streamed.
    """

    answers: Iterable[Said] = ()
    default: Said | None = None
    """None: an answer that fits the question's form, else a text that quotes the prompt."""
    latency: float = 0.0
    per_token: float = 0.0
    asked: list[Asked] = field(default_factory=list[Asked])
    """Everything that was asked, oldest first."""
    on_ask: Callable[[Asked], None] | None = None
    rehearsal: bool = False
    """A dry run: tools are told as the file names them, and none is imported, started or called."""
    running: int = 0
    most_at_once: int = 0
    _queue: deque[Said] = field(init=False)
    _rules: list[Rule] = field(default_factory=list[Rule], init=False)

    def __post_init__(self) -> None:
        self._queue = deque(self.answers)

    def when(self, fits: str | Callable[[Question], bool], *says: Said) -> ScriptedLLM:
        """Answers questions whose text holds `fits`, or for which it is true; of several answers each is given once, the
        last one again and again."""
        waiting = deque(says)

        def rule(question: Question) -> Said | None:
            if not (fits in _text_of(question) if isinstance(fits, str) else fits(question)):
                return None
            return waiting.popleft() if len(waiting) > 1 else waiting[0]

        self._rules.append(rule)
        return self

    def client(self, endpoint: Endpoint, /) -> LLMClient:
        return _Client(self, endpoint)

    async def ask(self, endpoint: Endpoint, question: Question, on_token: OnToken | None) -> Answer:
        """One question at one endpoint."""
        asked = Asked(endpoint=endpoint, question=question, at=anyio.current_time())
        self.asked.append(asked)
        if self.on_ask is not None:
            self.on_ask(asked)
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            await anyio.sleep(self.latency)
            answer = _answer_of(self._next(question), question)
            if on_token is not None:
                await self._stream(answer.text, on_token)
            return answer
        finally:
            self.running -= 1

    def _next(self, question: Question) -> Said:
        for rule in self._rules:
            if (said := rule(question)) is not None:
                return said
        if self._queue:
            return self._queue.popleft()
        return _fitting(question) if self.default is None else self.default

    async def _stream(self, text: str, on_token: OnToken) -> None:
        end = 0
        for word in _WORD.finditer(text):
            on_token(text[end : word.end()])
            end = word.end()
            await anyio.sleep(self.per_token)
        if end < len(text):
            on_token(text[end:])


@dataclass(frozen=True, slots=True)
class _Client:
    script: ScriptedLLM
    endpoint: Endpoint

    async def ask(self, question: Question, /, *, on_token: OnToken | None = None) -> Answer:
        return await self.script.ask(self.endpoint, question, on_token)


def tool_calls(*wanted: tuple[str, Mapping[str, Json] | str], text: str = "") -> Answer:
    """An answer that wants tools to be called: names and arguments (a text is sent as it is, JSON or not)."""
    calls = tuple(
        ToolCall(
            id=f"call_{number}",
            name=name,
            arguments=given if isinstance(given, str) else msgspec.json.encode(given).decode(),
        )
        for number, (name, given) in enumerate(wanted)
    )
    words = len(text.split()) + sum(len(call.arguments.split()) for call in calls)
    return Answer(text=text, calls=calls, usage=Usage(completion_tokens=words), finish="tool_calls", priced=True)


def _answer_of(said: Said, question: Question) -> Answer:
    if isinstance(said, Exception):
        raise said
    if isinstance(said, Answer):
        return said
    text = said if isinstance(said, str) else msgspec.json.encode(said).decode()
    usage = Usage(prompt_tokens=len(_text_of(question).split()), completion_tokens=len(text.split()))
    forced = question.tool_choice not in ("auto", "required", "none")
    if forced and question.tools:  # the one tool that the answer is to be given through
        call = ToolCall(id="call_0", name=question.tool_choice, arguments=text)
        return Answer(text="", calls=(call,), model=question.model, usage=usage, finish="tool_calls", priced=True)
    return Answer(text=text, model=question.model, usage=usage, finish="stop", priced=True)


def _fitting(question: Question) -> Said:
    schema = question.form.schema if question.form is not None else _forced_schema(question.tools, question.tool_choice)
    if schema is not None:
        return cast("Mapping[str, Json]", example_of(schema))
    prompt = next((m.content for m in reversed(question.messages) if m.role == "user"), "")
    shown = " ".join(prompt.split())
    return f"(dry run) {shown if len(shown) <= 120 else shown[:119] + '…'}"


def _forced_schema(tools: tuple[Tool, ...], choice: str) -> Mapping[str, Json] | None:
    return next((tool.parameters for tool in tools if tool.name == choice), None)


def example_of(schema: Mapping[str, Json], depth: int = 8) -> Json:
    """A value that fits a JSON Schema of the common kinds: the first choice, else a plain value of the type."""
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    if "const" in schema:
        return schema["const"]
    union = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(union, list) and isinstance(union[0], dict) and not {"type", "properties"} & schema.keys():
        return example_of(union[0], depth - 1) if depth > 0 else None
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    properties = schema.get("properties")
    if (kind == "object" or isinstance(properties, dict)) and depth > 0:
        rules = properties if isinstance(properties, dict) else {}
        return {name: example_of(rule, depth - 1) for name, rule in rules.items() if isinstance(rule, dict)}
    items, count = schema.get("items"), schema.get("minItems")
    if kind == "array" and isinstance(items, dict) and isinstance(count, int) and depth > 0:
        return [example_of(items, depth - 1) for _ in range(min(count, 20 if depth > 5 else 1))]
    least = schema.get("minimum")
    if kind in ("number", "integer") and isinstance(least, int | float):
        return least
    return _TRUE_DEFAULTS.get(kind, "(dry run)") if isinstance(kind, str) else "(dry run)"


def _text_of(question: Question) -> str:
    return "\n".join(message.content for message in question.messages)
