"""`validate_and_structure`: has a model judge an answer, and gives it as an object that a memory agent stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import msgspec
from pydantic import Field

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType
from orka.agents.model import Model, ModelKeys, Reply
from orka.agents.payload import parse_object
from orka.graph.nodes import AgentNode
from orka.results import Failure
from orka.types import Json

_TASK: Final = (
    "Judge whether the answer below is right and answers the question, as far as the context can tell. Then put what is "
    "worth remembering of it into an object."
)
_SCHEMA: Final[Mapping[str, Json]] = {
    "type": "object",
    "properties": {
        "valid": {"type": "boolean"},
        "reason": {"type": "string"},
        "memory_object": {"type": ["object", "null"]},
    },
    "required": ["valid", "reason", "memory_object"],
}
_MOST_TEXT: Final = 20_000
"""Characters of each text that is judged or judged by."""


class ValidationOptions(ModelKeys):
    """Keys of a `validate_and_structure` node."""

    store_structure: str | None = Field(
        default=None, description="Template of the form that `memory_object` is to have: JSON, or said in words."
    )
    context_from: str = Field(default="context-collector", description="Id of the agent whose output is the context.")
    answer_from: str = Field(default="answer-builder", description="Id of the agent whose answer is judged.")


class ValidationAgent:
    """One question to the model."""

    def __init__(self, options: ValidationOptions, model: Model) -> None:
        self._options = options
        self._model = model

    async def run(self, task: AgentInput, /) -> AgentOutput:
        prompt = self._prompt(task)
        reply = await self._model.ask(task, prompt, schema=_SCHEMA)
        verdict = read_judgement(reply)
        fields: dict[str, Json] = {
            **verdict,
            "prompt": prompt,
            "raw_llm_output": reply.text,
            "_metrics": reply.metrics,
        }
        if reply.fields is None:
            fields["parse_error"] = True
        return AgentOutput(response=verdict, fields=fields, usage=reply.usage)

    def _prompt(self, task: AgentInput) -> str:
        options = self._options
        parts = [
            task.prompt or _TASK,
            f"Question:\n{question_of(task.input)}",
            f"Context:\n{_said(task.outputs, options.context_from) or 'NONE'}",
            f"Answer:\n{_said(task.outputs, options.answer_from) or 'NONE'}",
        ]
        structure = task.options.get("store_structure")
        if isinstance(structure, str) and structure.strip():
            parts.append(f"`memory_object` has this form:\n{structure.strip()}")
        parts.append("`memory_object` is null when the answer is not valid.")
        return "\n\n".join(parts)


def read_judgement(reply: Reply) -> dict[str, Json]:
    """What cannot be read is not valid, and says so."""
    if reply.fields is None:
        return {"valid": False, "reason": "the model's answer is not JSON", "memory_object": None}
    found = reply.fields
    memory, reason = found.get("memory_object"), found.get("reason", "")
    if isinstance(memory, str):  # the object as JSON text
        memory = parse_object(memory)
    return {
        "valid": found.get("valid") is True,
        "reason": reason if isinstance(reason, str) else str(reason),
        "memory_object": memory if isinstance(memory, dict) else None,
    }


def question_of(value: Json) -> str:
    """The text of a run's input."""
    if isinstance(value, dict) and "input" in value:
        value = value["input"]
    return _text(value)


def _said(outputs: Mapping[str, Json], name: str) -> str:
    output = outputs.get(name)
    for key in ("response", "response", "result"):  # one answer may stand inside another
        if isinstance(output, dict) and key in output:
            output = output[key]
    return "" if output is None else _text(output)


def _text(value: Json) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 1]}…"


def _failed(failure: Failure, _at_ms: int) -> Mapping[str, Json]:
    verdict = {"valid": False, "reason": failure.message, "memory_object": None}
    return {"response": cast("Json", verdict), **verdict}


def _build(node: AgentNode, tools: AgentTools) -> Agent:
    keys = ValidationOptions.model_validate(dict(node.options))
    return ValidationAgent(keys, Model(keys, node, tools))


TYPE: Final = AgentType(
    name="validate_and_structure",
    event_type="ValidationAndStructuringAgent",
    options=ValidationOptions,
    build=_build,
    on_failure=_failed,
    trusted=True,
    templates=frozenset({"store_structure"}),
    summary="Has a model judge an answer against its context, and puts it into an object to be stored.",
)
