"""What agents share that have a model judge by criteria: how they ask, and how they read what comes back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from orka.agents.base import AgentInput
from orka.agents.model import Reply, beside
from orka.scoring.reading import Criteria, Reading, read_object, read_text
from orka.types import Json

MOST_SHOWN: Final = 40_000
"""Characters of what is judged that a model is shown."""
STRICTNESS: Final[Mapping[str, str]] = {
    "strict": "Be strict: true only where the evidence for it is plain and complete. In doubt, false.",
    "moderate": "Be fair: true where a criterion is met in substance, though not in every detail.",
    "lenient": "Be lenient: true where a criterion is met at least in part; false for clear failures alone.",
}
"""What a preset means to the model."""


def schema_of(criteria: Criteria) -> dict[str, Json]:
    """JSON Schema of the judgements, by dimension, with a rationale."""
    properties: dict[str, Json] = {}
    for dimension, names in criteria.items():
        inside: dict[str, Json] = {name: {"type": "boolean"} for name in names}
        properties[dimension] = {
            "type": "object",
            "properties": inside,
            "required": list[Json](names),
            "additionalProperties": False,
            "description": f"true or false for each of {', '.join(names)}",
        }
    properties["rationale"] = {"type": "string", "description": "what decided, in a few sentences"}
    return {
        "type": "object",
        "properties": properties,
        "required": list[Json](properties),
        "additionalProperties": False,
    }


def questions(criteria: Criteria) -> str:
    """The criteria as a list for a prompt, and the form of the answer."""
    lines: list[str] = []
    for dimension, names in criteria.items():
        lines.append(f"{dimension.replace('_', ' ').capitalize()}:")
        lines += [f"- {name} ({name.replace('_', ' ')}?)" for name in names]
    form = {dimension: dict.fromkeys(names, "<true or false>") for dimension, names in criteria.items()}
    example = json.dumps({**form, "rationale": "<why>"}).replace('"<true or false>"', "<true or false>")
    return "\n".join((*lines, "", f"Answer with JSON of this form: {example}"))


async def read_reply(reply: Reply, criteria: Criteria) -> Reading:
    """The judgements in an answer: those of its JSON, else of its words."""
    if reply.fields is not None and (found := read_object(reply.fields, criteria)):
        return Reading(found, "json")
    return await beside(reply.text, read_text, reply.text, criteria)


def rationale_of(reply: Reply) -> str:
    """Why, in the model's words."""
    fields = reply.fields or {}
    said = next((fields[key] for key in ("rationale", "reasoning", "reason") if fields.get(key)), None)
    if said is None:
        return "" if reply.fields is not None else reply.text.strip()[:2000]
    return said if isinstance(said, str) else shown(said)


def shown(value: Json) -> str:
    """A value for a prompt: text as it is, else JSON, without what an agent notes about itself, and not too long."""
    if isinstance(value, str):
        text = value
    else:
        text = json.dumps(_plain(value), ensure_ascii=False)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]} ... ({len(text) - MOST_SHOWN:,} characters more)"


def _plain(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if key not in {"_metrics", "formatted_prompt"}}
    return value


def input_text(task: AgentInput) -> str:
    """The text of the run's input, whatever the node's prompt says."""
    value = task.input
    return shown(value["input"] if isinstance(value, dict) and "input" in value else value)
