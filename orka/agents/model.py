"""`Model`: the language model that one node asks, however its file spells the settings. What agents share that ask one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, TypeVar

import anyio.to_thread
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

from orka.agents.base import AgentInput, AgentTools
from orka.errors import ConfigError, LLMError
from orka.graph.nodes import AgentNode
from orka.llm.address import OPENAI, provider_name
from orka.llm.base import Answer, Form, Message, OnToken, Question, Tool
from orka.llm.recovery import find_object
from orka.llm.structure import coerce, describe_schema
from orka.llm.target import DEFAULT_MODELS, Target, Wanted, choose_target
from orka.results import Usage
from orka.types import Json

Mode: TypeAlias = Literal["auto", "json_schema", "model_json", "tool_call", "prompt"]
_Way: TypeAlias = Literal["schema", "object", "tool", "prompt"]
_WAYS: Mapping[Mode, tuple[_Way, ...]] = {
    "auto": ("schema", "object", "prompt"),
    "json_schema": ("schema", "object", "prompt"),
    "model_json": ("object", "prompt"),
    "tool_call": ("tool", "object", "prompt"),
    "prompt": ("prompt",),
}
"""How JSON is asked for, the best way first: a server that refuses one is asked in the next."""
_EMIT = "emit"
"""Name of the tool that stands for a form."""
_REFUSED = frozenset({400, 404, 415, 422, 500, 501})
"""HTTP statuses with which servers refuse a form that they do not know."""
_LONG = 20_000
"""Characters of an answer whose JSON is looked for beside the event loop."""
T = TypeVar("T")


class ModelKeys(BaseModel):
    """Keys of every agent that asks a model: inherit them."""

    model_config = ConfigDict(populate_by_name=True)

    provider: str | None = Field(
        default=None,
        validation_alias=AliasChoices("provider", "llm_provider"),
        description="`openai`, `anthropic`, `ollama`, `lm_studio`, `vllm`, `llama_cpp` or `openai_compatible`; without it, "
        "what `model_url` and the environment say.",
    )
    model: str | None = Field(
        default=None, validation_alias=AliasChoices("model", "llm_model"), description="Name of the model."
    )
    model_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("model_url", "llm_url", "base_url", "url"),
        description="Address of the server, with or without `/v1` or the path of the call.",
    )
    api_key_env: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Environment variable that holds the key for this server.",
    )
    temperature: float | None = Field(default=None, ge=0, le=2, description="Randomness.")
    max_tokens: int | None = Field(default=None, ge=1, description="Tokens of the answer at most.")
    extra: dict[str, Any] = Field(default={}, description="Further keys of the request's body (`top_p`, `seed`).")

    @field_validator("provider")
    @classmethod
    def _known(cls, provider: str | None) -> str | None:
        return None if provider is None else provider_name(provider)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the model answered."""

    text: str
    """As it came."""
    fields: Mapping[str, Json] | None
    """The JSON object found in it (see `orka.llm.recovery`), coerced to the schema asked for; None when there is none."""
    usage: Usage
    metrics: dict[str, Json]
    """`_metrics` of a result: tokens, prompt_tokens, completion_tokens, latency_ms, cost_usd, model, provider."""


class Model:
    """Made once per node; asks through the process's clients."""

    def __init__(
        self,
        keys: ModelKeys,
        node: AgentNode,
        tools: AgentTools,
        *,
        provider: str | None = None,
        model: str | None = None,
        mode: Mode = "auto",
    ) -> None:
        """`provider` and `model`: of the agent's type, where the file gives none. `mode`: how JSON is asked for first."""
        self._keys = keys
        self._owner = node.id
        self._tools = tools
        self._timeout = node.policy.timeout or tools.settings.llm_timeout
        if provider == OPENAI:  # wherever the file sends it: OrKa 0.9 took the model's name from the environment
            model = model or tools.settings.openai_model or DEFAULT_MODELS[OPENAI]
        self._wanted = Wanted(
            provider=keys.provider or provider,
            model=keys.model or model,
            url=keys.model_url,
            key_env=keys.api_key_env,
        )
        self._target: Target | None = None
        self._ways: tuple[_Way, ...] = _WAYS[mode]

    @property
    def target(self) -> Target:
        """Where it asks. `LLMError` when the file and the environment name no model."""
        if self._target is None:
            tools = self._tools
            self._target = choose_target(self._wanted, tools.settings, owner=self._owner, keyless=tools.scripted)
        return self._target

    async def ask(
        self,
        task: AgentInput,
        prompt: str | tuple[Message, ...],
        *,
        system: str | None = None,
        schema: Mapping[str, Json] | None = None,
        coerces: bool = True,
        on_token: OnToken | None = None,
    ) -> Reply:
        """One question and its answer. `schema` (JSON Schema of an object) asks for JSON of that shape, in the way the
        server takes best, and says so in the prompt, too; `coerces`: fields become of its types. `LLMError`."""
        messages = prompt if isinstance(prompt, tuple) else (Message(role="user", content=prompt),)
        if system:
            messages = (Message(role="system", content=system), *messages)
        if schema is None:
            answer = await self.send(self.question(messages), on_token=on_token)
        else:
            answer = await self.formed(with_description(messages, schema), schema, on_token)
        return await self.reply(answer, schema if coerces else None)

    def question(self, messages: tuple[Message, ...], *, tools: tuple[Tool, ...] = ()) -> Question:
        """One question, as the node's settings say."""
        return Question(
            model=self.target.model,
            messages=messages,
            temperature=self._keys.temperature,
            max_tokens=self._keys.max_tokens,
            tools=tools,
            timeout=self._timeout,
            extra=self._keys.extra,
        )

    async def send(self, question: Question, *, on_token: OnToken | None = None) -> Answer:
        """`LLMError`; `ConfigError` when a library is missing."""
        access = self._tools.llm
        if access is None:
            raise ConfigError(f"agent {self._owner!r} asks a model, and this process has opened no clients for any")
        return await access.client(self.target.endpoint).ask(question, on_token=on_token)

    async def reply(self, answer: Answer, schema: Mapping[str, Json] | None = None) -> Reply:
        """An answer, read: the JSON in it is coerced to `schema`."""
        text = answer.text
        fields = await beside(text, find_object, text)
        if fields is not None and schema is not None:
            fields = coerce(fields, schema)
        usage = answer.usage
        metrics: dict[str, Json] = {
            "tokens": usage.prompt_tokens + usage.completion_tokens,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "latency_ms": answer.latency_ms,
            "cost_usd": usage.cost_usd if answer.priced else None,
            "model": answer.model or self.target.model,
            "provider": self.target.provider,
        }
        return Reply(text=text, fields=fields, usage=usage, metrics=metrics)

    async def formed(
        self, messages: tuple[Message, ...], schema: Mapping[str, Json], on_token: OnToken | None
    ) -> Answer:
        """An answer that is to be JSON of the schema, asked for in the first way that the server does not refuse; the next
        question begins with that one. The messages are sent as they are: see `with_description`."""
        plain, first = self.question(messages), None
        ways = self._ways  # other questions of this node may shorten them meanwhile
        for place, way in enumerate(ways):
            try:
                answer = await self.send(_in_way(plain, way, schema), on_token=on_token)
            except LLMError as exc:
                last = place == len(ways) - 1
                if last or exc.status not in _REFUSED:
                    raise first or exc from exc
                first = first or exc
                continue
            self._ways = min(self._ways, ways[place:], key=len)
            given = next((call.arguments for call in answer.calls if call.name == _EMIT), "") if way == "tool" else ""
            return replace(answer, text=given) if given.strip() else answer
        raise AssertionError("the last way returns or raises")


def with_description(messages: tuple[Message, ...], schema: Mapping[str, Json]) -> tuple[Message, ...]:
    """The last message says what the schema wants: servers may drop a form without a word, and models follow one better when
    they were told."""
    last = messages[-1]
    return (*messages[:-1], replace(last, content=f"{last.content}\n\n{describe_schema(schema)}"))


def _in_way(question: Question, way: _Way, schema: Mapping[str, Json]) -> Question:
    match way:
        case "schema":
            return replace(question, form=Form(schema=schema))
        case "object":
            return replace(question, form=Form())
        case "tool":
            tool = Tool(name=_EMIT, description="Gives the answer.", parameters=schema)
            return replace(question, tools=(tool,), tool_choice=_EMIT)
        case "prompt":
            return question


async def beside(text: str, function: Callable[..., T], *args: object) -> T:
    """Reads a long text in a worker thread, so that the event loop turns meanwhile, and a short one in place."""
    if len(text) <= _LONG:
        return function(*args)
    return await anyio.to_thread.run_sync(function, *args)
