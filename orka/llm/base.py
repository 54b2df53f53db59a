"""What a model is asked and what it answers, as data, and the protocol of whoever carries it. No transport lives here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from orka.graph.nodes import NO_OPTIONS
from orka.results import Usage
from orka.types import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where models are asked. Equal endpoints share one client, with its connections and its limit."""

    provider: str
    """`openai` (also every server that speaks its protocol), `ollama` (its own protocol) or `anthropic`."""
    url: str | None = None
    """Base address, without the part that names the call; None: the provider's own."""
    key: str | None = field(default=None, repr=False)
    """API key, sent to this address alone."""
    native: bool = False
    """The provider's own, or what the environment names in its place: headers that the provider's library finds in the
    environment are for it, and for no other."""

    @property
    def label(self) -> str:
        """For messages: the address, or the provider's name."""
        return self.url or self.provider


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool that the model wants to be called."""

    id: str
    name: str
    arguments: str
    """JSON text, as the model wrote it: it may be none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    calls: tuple[ToolCall, ...] = ()
    """Of an assistant's turn: what it wants to be called."""
    call_id: str = ""
    """Of a tool's turn: the call that it answers."""
    tool: str = ""
    """Of a tool's turn: its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """What a model may call."""

    name: str
    description: str
    parameters: Mapping[str, Json]
    """JSON Schema of the arguments, an object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The server is to make the answer one JSON object."""

    schema: Mapping[str, Json] | None = None
    """JSON Schema that it must match (`json_schema`); None: any object (`json_object`)."""
    name: str = "answer"
    strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request."""

    model: str
    messages: tuple[Message, ...]
    temperature: float | None = None
    max_tokens: int | None = None
    form: Form | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    """`auto`, `required`, `none`, or the name of the one tool that must be called."""
    timeout: float | None = None
    """Seconds until the answer must be there whole, repetitions included; None: the client's own."""
    extra: Mapping[str, Json] = field(default_factory=lambda: NO_OPTIONS)
    """Further keys of the request's body, as the server takes them (`top_p`, `seed`, `stop`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    model: str = ""
    """As the server names it."""
    usage: Usage = field(default_factory=Usage)
    """Tokens, and what they cost (US dollars)."""
    priced: bool = False
    """What they cost is known."""
    finish: str = ""
    """Why the model stopped: `stop`, `length`, `tool_calls`, ..."""
    latency_ms: float = 0.0


OnToken = Callable[[str], None]
"""Called with every piece of the text as it comes."""


class LLMClient(Protocol):
    """Asks the models of one endpoint. Any number of questions at once."""

    async def ask(self, question: Question, /, *, on_token: OnToken | None = None) -> Answer:
        """With `on_token` the answer is streamed. `LLMError`; cancelling closes the request's connection."""
        ...


class LLMAccess(Protocol):
    """The clients of this process."""

    def client(self, endpoint: Endpoint, /) -> LLMClient:
        """`ConfigError` when the library that it needs is not installed."""
        ...
