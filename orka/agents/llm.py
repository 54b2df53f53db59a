"""Agents that ask a language model and give its answer: `llm`, and the names under which OrKa 0.9 knew it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from msgspec.structs import replace
from pydantic import AliasChoices, Field, field_validator

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType
from orka.agents.model import Model, ModelKeys, Reply
from orka.agents.structured import Structure, StructuredOutput, json_schema_of, structure_of
from orka.agents.tooling.options import ToolEntry
from orka.agents.tooling.rounds import Rounds
from orka.graph.nodes import AgentNode
from orka.llm.recovery import without_thoughts
from orka.llm.structure import missing_fields
from orka.results import Failure
from orka.types import Json

_JSON_ANSWER: Final = (
    "Answer with one JSON object and nothing else. Its fields: `response` (your answer, as text), `confidence` (a number "
    "from 0 to 1: how sure you are) and `internal_reasoning` (how you came to it, in a sentence or two)."
)
_ANSWER_SCHEMA: Final[Mapping[str, Json]] = {
    "required": ["response"],
    "optional": {"confidence": "number", "internal_reasoning": "string"},
}
"""What structured output asks for where the file gives no schema."""


Build: TypeAlias = "Callable[[AgentNode, AgentTools], Agent]"


class AnswerOptions(ModelKeys):
    """Keys of the agents that OrKa 0.9 knew."""

    system: str | None = Field(
        default=None,
        validation_alias=AliasChoices("system", "system_prompt"),
        description="Template of what the model is told before the prompt.",
    )
    structured_output: StructuredOutput | None = Field(
        default=None, description="The answer is a JSON object: see [structured output](agents.md#structured-output)."
    )

    @field_validator("structured_output", mode="before")
    @classmethod
    def _switched(cls, value: object) -> object:
        return {"enabled": value} if isinstance(value, bool) else value


class LLMOptions(AnswerOptions):
    """Keys of an `llm` node."""

    tools: list[ToolEntry] = Field(
        default=[],
        description="What the model may call: functions (`module:name`), registered tools (a name) and `mcp` servers: see "
        "[tools](models.md#tools).",
    )
    max_rounds: int = Field(
        default=8, ge=1, le=100, description="Turns in which the model may call tools; then it must answer."
    )
    tool_timeout: float = Field(default=60.0, gt=0, description="Seconds for one call of a tool.")

    output_schema: dict[str, Any] | None = Field(
        default=None,
        validation_alias=AliasChoices("schema", "output_schema"),
        serialization_alias="schema",
        description="Short form of `structured_output.schema`.",
    )

    @field_validator("output_schema")
    @classmethod
    def _usable(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is not None:
            json_schema_of(schema, strict=False)
        return schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What tells one of these types from another."""

    provider: str | None = None
    """Where the file gives none."""
    model: str | None = None
    temperature: float | None = None
    instruction: str | None = None
    """Added to the prompt where no structured output is asked for."""
    confidence: str | None = None
    """Of a text that is no JSON; None: the result has no such field."""
    fields: Mapping[str, Json] = field(default_factory=lambda: _ANSWER_SCHEMA)


class AnswerAgent:
    """One question, one answer."""

    def __init__(self, model: Model, style: Style, structure: Structure | None, rounds: Rounds | None) -> None:
        """`rounds`: of the tools that the model may call."""
        self._model = model
        self._style = style
        self._structure = structure
        self._rounds = rounds

    async def run(self, task: AgentInput, /) -> AgentOutput:
        if self._rounds is None:
            return self._output(await self._asked(task))
        structure, system = self._structure, task.options.get("system")
        reply, calls = await self._rounds.ask(
            task,
            task.text,
            system=system if isinstance(system, str) else None,
            schema=None if structure is None else structure.schema,
            coerces=structure is None or structure.coerces,
        )
        output = self._output(reply)
        return replace(output, fields={**output.fields, "tool_calls": calls})

    async def _asked(self, task: AgentInput) -> Reply:
        style, structure = self._style, self._structure
        text, system = task.text, task.options.get("system")
        if structure is None and style.instruction is not None:
            text = f"{text}\n\n{style.instruction}"
        return await self._model.ask(
            task,
            text,
            system=system if isinstance(system, str) else None,
            schema=None if structure is None else structure.schema,
            coerces=structure is None or structure.coerces,
            on_token=task.emit,
        )

    def _output(self, reply: Reply) -> AgentOutput:
        style, structure = self._style, self._structure
        if structure is not None:
            return structured_answer(reply, structure, style)
        return plain_answer(reply) if style.confidence is None else parsed_answer(reply, style.confidence)


def plain_answer(reply: Reply) -> AgentOutput:
    """The text, without what a reasoning model thinks aloud."""
    said = without_thoughts(reply.text) or reply.text
    return AgentOutput(response=said, fields={"_metrics": reply.metrics}, usage=reply.usage)


def parsed_answer(reply: Reply, confidence: str) -> AgentOutput:
    """Every field of the JSON in the answer; its text where there is none, or none called `response`."""
    found = reply.fields or {}
    fields = {name: value for name, value in found.items() if name != "response"}
    fields["confidence"] = _said(found.get("confidence"), confidence if reply.fields is None else "0.0")
    fields["internal_reasoning"] = _said(found.get("internal_reasoning"), "")
    response = found.get("response")
    response = reply.text if response is None else response
    return AgentOutput(response=response, fields={**fields, "_metrics": reply.metrics}, usage=reply.usage)


def _said(value: Json, default: str) -> str:
    return default if value is None else value if isinstance(value, str) else str(value)


def structured_answer(reply: Reply, structure: Structure, style: Style) -> AgentOutput:
    """The fields as the schema wants them. Where they are not to be had, the raw text, and a word about it."""
    metrics: dict[str, Json] = {"_metrics": reply.metrics}
    if reply.fields is None:
        fault: dict[str, Json] = {
            "parse_error": True,
            "error": "json_parse_failed",
            "message": "there is no JSON object in the answer",
        }
        return AgentOutput(response=reply.text, fields={**fault, **metrics}, usage=reply.usage)
    fields: dict[str, Json] = {name: value for name, value in reply.fields.items() if name != "response"}
    if lacking := missing_fields(reply.fields, structure.schema):
        fields |= {"parse_error": True, "message": f"the answer lacks {', '.join(lacking)}"}
    if "response" in reply.fields:
        response = reply.fields["response"]
    else:
        response = dict(reply.fields) if style.confidence is None else reply.text
    return AgentOutput(response=response, fields={**fields, **metrics}, usage=reply.usage)


def answer_builder(style: Style, options: type[AnswerOptions]) -> Build:
    def build(node: AgentNode, tools: AgentTools) -> Agent:
        keys = options.model_validate(dict(node.options))
        if keys.temperature is None and style.temperature is not None:
            keys = keys.model_copy(update={"temperature": style.temperature})
        own = keys.structured_output
        short = keys.output_schema if isinstance(keys, LLMOptions) else None
        if short is not None:
            own = (own or StructuredOutput()).model_copy(update={"schema_": short})
        structure = structure_of(own, tools.graph, style.fields, owner=node.id)
        mode = "auto" if structure is None else structure.mode
        model = Model(keys, node, tools, provider=style.provider, model=style.model, mode=mode)
        rounds = None
        if isinstance(keys, LLMOptions) and keys.tools:
            rounds = Rounds(model, keys.tools, tools, owner=node.id, most=keys.max_rounds, timeout=keys.tool_timeout)
        return AnswerAgent(model, style, structure, rounds)

    return build


def failed_answer(event_type: str) -> Callable[[Failure, int], Mapping[str, Json]]:
    """What templates print of a visit that failed: workflow-format 9.1."""

    def output(failure: Failure, _at_ms: int) -> Mapping[str, Json]:
        return {
            "response": f"[{event_type} error: {failure.message}]",
            "confidence": "0.0",
            "internal_reasoning": "",
            "_metrics": {"error": True},
        }

    return output


def model_agent_type(
    name: str, event_type: str, options: type[AnswerOptions], build: Build, summary: str, *, prompt: str | None = None
) -> AgentType:
    """The registry entry of an agent that asks a model one question. `prompt`: its template where the file gives none."""
    return AgentType(
        name=name,
        event_type=event_type,
        options=options,
        build=build,
        on_failure=failed_answer(event_type),
        plain=True,
        trusted=True,
        templates=frozenset({"system"}),
        prompt_default=prompt,
        summary=summary,
    )


def _type(
    name: str, event_type: str, style: Style, summary: str, *, options: type[AnswerOptions] = AnswerOptions
) -> AgentType:
    prompt = "Input: {{ input }}" if name == "local_llm" else None
    return model_agent_type(name, event_type, options, answer_builder(style, options), summary, prompt=prompt)


TYPES: Final = (
    _type(
        "llm", "LLMAgent", Style(), "Asks a language model; gives its text, or JSON of a schema.", options=LLMOptions
    ),
    _type(
        "local_llm",
        "LocalLLMAgent",
        Style(model="llama3.2:latest", temperature=0.7, instruction=_JSON_ANSWER, confidence="0.0"),
        "Asks a model on a server of one's own; its answer is JSON with `response`, `confidence` and more.",
    ),
    _type(
        "openai-answer",
        "OpenAIAnswerBuilder",
        Style(provider="openai", confidence="0.5"),
        "Asks a model of OpenAI, or of OPENAI_BASE_URL.",
    ),
    _type(
        "openai-gpt-4",
        "OpenAIAnswerBuilder",
        Style(provider="openai", model="gpt-4", confidence="0.5"),
        "`openai-answer` with the model `gpt-4`.",
    ),
    _type(
        "anthropic",
        "AnthropicAgent",
        Style(provider="anthropic", confidence="0.5"),
        "Asks a model of Anthropic.",
    ),
)
