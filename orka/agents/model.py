"""`Model`: the language model that one node asks, however its file spells the settings. What agents share that ask one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import AliasChoices, BaseModel, Field

from orka.agents.base import AgentInput, AgentTools
from orka.graph.nodes import AgentNode
from orka.llm.base import Message
from orka.results import Usage
from orka.types import Json


class ModelKeys(BaseModel):
    """Keys of every agent that asks a model: inherit them."""

    provider: str | None = Field(
        default=None,
        validation_alias=AliasChoices("provider", "llm_provider"),
        description="`openai`, `anthropic`, `ollama`, `lm_studio` or `openai_compatible`; without it, what `model_url` "
        "and the environment say.",
    )
    model: str | None = Field(
        default=None, validation_alias=AliasChoices("model", "llm_model"), description="Name of the model."
    )
    model_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("model_url", "llm_url", "url", "base_url"),
        description="Address of the server, with or without `/v1` or the call's path.",
    )
    api_key_env: str | None = Field(default=None, description="Environment variable that holds the key.")
    temperature: float | None = Field(default=None, ge=0, le=2, description="Randomness.")
    max_tokens: int | None = Field(default=None, ge=1, description="Tokens of the answer at most.")
    extra: dict[str, Any] = Field(default={}, description="Further keys of the request's body (`top_p`, `seed`).")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the model answered."""

    text: str
    """As it came."""
    fields: Mapping[str, Json] | None
    """The JSON object found in it (see `orka.llm.recovery`); None when there is none."""
    usage: Usage
    metrics: dict[str, Json]
    """`_metrics` of a result: tokens, prompt_tokens, completion_tokens, latency_ms, cost_usd, model, provider."""


class Model:
    """Made once per node; asks through the process's clients."""

    def __init__(self, keys: ModelKeys, node: AgentNode, tools: AgentTools) -> None:
        """`ConfigError` when the settings name no model that can be asked."""
        raise NotImplementedError

    async def ask(
        self,
        task: AgentInput,
        prompt: str | tuple[Message, ...],
        *,
        system: str | None = None,
        schema: Mapping[str, Json] | None = None,
    ) -> Reply:
        """One question and its answer. `schema` (JSON Schema of an object) asks for JSON of that shape, in the way the
        server takes best, and falls back to saying so in the prompt. `LLMError`."""
        raise NotImplementedError
