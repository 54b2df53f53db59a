"""Agents whose model chooses: one of several options (`openai-classification`), or yes or no (`openai-binary`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import AliasChoices, ConfigDict, Field

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools
from orka.agents.llm import AnswerOptions, model_agent_type
from orka.agents.model import Model, Reply
from orka.agents.structured import Structure, structure_of
from orka.graph.nodes import AgentNode
from orka.llm.recovery import without_thoughts
from orka.types import Json

NONE_OF_THEM: Final = "not-classified"
_YES: Final = r"(?:yes|true|correct|right|affirmative)\b"
_NOT: Final = r"(?:\b(?:not|never|cannot)|n['’]t)"
_VERDICT: Final = re.compile(
    rf"(?P<no>\b(?:no|false|incorrect|wrong|negative)\b|{_NOT}\s+(?:\w+\s+){{0,2}}{_YES}|\bnot\W*$)|\b(?P<yes>{_YES})",
    re.IGNORECASE,
)
_BINARY_FIELDS: Final[Mapping[str, Json]] = {
    "required": ["result"],
    "optional": {"confidence": "number", "reasoning": "string"},
    "types": {"result": "boolean"},
}
_CLASS_FIELDS: Final[Mapping[str, Json]] = {
    "required": ["category", "confidence"],
    "optional": {"reasoning": "string", "alternatives": "array"},
    "types": {"confidence": "number"},
}


class ClassificationOptions(AnswerOptions):
    """Keys of an `openai-classification` node."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    choices: list[str] = Field(
        default=[],
        validation_alias=AliasChoices("options", "categories"),
        serialization_alias="options",
        description="What the model chooses from (`categories` is another name).",
    )


class ChoosingAgent:
    """Asks, and reads the choice out of the answer."""

    def __init__(self, model: Model, structure: Structure | None, choices: Sequence[str] | None) -> None:
        """`choices`: None for yes or no."""
        self._model = model
        self._structure = structure
        self._choices = choices

    async def run(self, task: AgentInput, /) -> AgentOutput:
        system = task.options.get("system")
        reply = await self._model.ask(
            task,
            f"{task.text}\n\n{self._instruction()}",
            system=system if isinstance(system, str) else None,
            schema=None if self._structure is None else self._structure.schema,
            coerces=self._structure is None or self._structure.coerces,
        )
        response: Json = read_verdict(reply) if self._choices is None else read_choice(reply, self._choices)
        found = {
            name: value for name, value in (reply.fields or {}).items() if name != "response" and value is not None
        }
        fields: dict[str, Json] = {"confidence": "0.5", "internal_reasoning": "", **found, "_metrics": reply.metrics}
        return AgentOutput(response=response, fields=fields, usage=reply.usage)

    def _instruction(self) -> str:
        if self._choices is None:
            return "Answer with true or false."
        if not self._choices:
            return "Answer with the name of the category alone."
        return f"Answer with exactly one of these options: {', '.join(self._choices)}."


def read_choice(reply: Reply, choices: Sequence[str]) -> str:
    """The option that the answer names: as its field or its whole text, whatever the case, else the one option that occurs
    in it as a word. Without options, the answer itself."""
    fields = reply.fields or {}
    named = next((fields[key] for key in ("category", "response", "result", "label") if key in fields), None)
    if isinstance(named, int | float) and not isinstance(named, bool):
        named = str(named)
    said = named if isinstance(named, str) else without_thoughts(reply.text) or reply.text
    if not choices:
        return said.strip()
    for flat in (str.lower, _spaced):  # the second for those who write `small talk` for small_talk
        word = _bare(flat(said))
        for choice in choices:
            if _bare(flat(choice)) == word:
                return choice
    text = _spaced(said)
    found = [choice for choice in choices if re.search(rf"(?<!\w){re.escape(_spaced(choice))}(?!\w)", text)]
    longest = [one for one in found if not any(one != other and one.lower() in other.lower() for other in found)]
    return longest[0] if len(longest) == 1 else NONE_OF_THEM


def read_verdict(reply: Reply) -> bool:
    """A boolean field of the answer, else the first word in it that says yes or no; without one, no."""
    fields = reply.fields or {}
    named = next((fields[key] for key in ("result", "response", "answer") if key in fields), None)
    if isinstance(named, bool):
        return named
    said = named if isinstance(named, str) else without_thoughts(reply.text) or reply.text
    return said_verdict(said) is True


def said_verdict(text: str) -> bool | None:
    """What the first word in a text that says yes or no says; None when there is none."""
    match = _VERDICT.search(text)
    return None if match is None else match["yes"] is not None


def _bare(text: str) -> str:
    return text.strip().strip("\"'`.!*").strip()


def _spaced(text: str) -> str:
    return re.sub(r"[\s_-]+", " ", text.lower())


def _build_classification(node: AgentNode, tools: AgentTools) -> Agent:
    keys = ClassificationOptions.model_validate(dict(node.options))
    return choosing_agent(keys, node, tools, keys.choices)


def _build_binary(node: AgentNode, tools: AgentTools) -> Agent:
    return choosing_agent(AnswerOptions.model_validate(dict(node.options)), node, tools, None)


def choosing_agent(
    keys: AnswerOptions,
    node: AgentNode,
    tools: AgentTools,
    choices: Sequence[str] | None,
    *,
    provider: str | None = "openai",
) -> ChoosingAgent:
    """`choices`: None for yes or no. `provider`: of the agent's type, where the file gives none."""
    fields = _BINARY_FIELDS if choices is None else _CLASS_FIELDS
    structure = structure_of(keys.structured_output, tools.graph, fields, owner=node.id)
    mode = "auto" if structure is None else structure.mode
    return ChoosingAgent(Model(keys, node, tools, provider=provider, mode=mode), structure, choices)


CLASSIFICATION: Final = model_agent_type(
    "openai-classification",
    "OpenAIClassificationAgent",
    ClassificationOptions,
    _build_classification,
    "Has a model choose one of several options.",
)
BINARY: Final = model_agent_type(
    "openai-binary", "OpenAIBinaryAgent", AnswerOptions, _build_binary, "Has a model say yes or no."
)
