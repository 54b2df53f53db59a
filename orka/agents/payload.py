"""Objects that prompts hold (JSON, or the Python literals that older templates print), and what agents read of them. Pure."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Final, TypeAlias, cast

from orka.agents.values import ensure_json
from orka.brain.reading import texts_of
from orka.errors import AgentError
from orka.types import Json

Payload: TypeAlias = Mapping[str, Json]

CONTEXT: Final = (
    "domain",
    "task",
    "input",
    "input_description",
    "description",
    "goal",
    "output_format",
    "expected_output",
    "strategy",
    "agents",
    "model",
    "task_type",
)
"""Keys of a payload that say what kind of task it is about."""
MOST_LITERAL: Final = 200_000
"""Characters of a Python literal that is read: its parser is slow."""
_DEEP: Final = 100
"""Brackets inside brackets: Python's parser gives up on more of them with an error of its own."""
_FENCED = re.compile(r"^```\w*\s*\n(.*?)\n?```$", re.DOTALL)
_BRACKET = re.compile(r"[\[({]|[\])}]")


def parse_object(text: str) -> dict[str, Json] | None:
    """The mapping that `text` is, whole, also inside a code fence; None when it is something else. Nothing is evaluated."""
    text = text.strip()
    if (fenced := _FENCED.match(text)) is not None:
        text = fenced[1].strip()
    if not text.startswith("{") or not text.endswith("}") or _too_deep(text):
        return None
    try:
        value: object = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        value = _literal(text)
    if not isinstance(value, dict):
        return None
    try:
        found = ensure_json(cast("object", value))  # keys that are no texts, NaN, sets: not something to go on with
    except AgentError:
        return None
    return found if isinstance(found, dict) else None


def _literal(text: str) -> object:
    if len(text) > MOST_LITERAL:
        return None
    try:
        return ast.literal_eval(_JsonNames().visit(ast.parse(text, mode="eval")))
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


class _JsonNames(ast.NodeTransformer):
    """Prompts hold both at once: `{{ flag }}` prints True, and `| tojson` beside it true."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        known = {"true": True, "false": False, "null": None}
        return ast.Constant(known[node.id]) if node.id in known else node


def _too_deep(text: str) -> bool:
    depth = 0
    for match in _BRACKET.finditer(text):
        depth += 1 if match[0] in "[({" else -1
        if depth > _DEEP:
            return True
    return False


def text_at(given: Payload, key: str) -> str:
    """A text, a number or a boolean as text; empty for anything else."""
    value = given.get(key)
    if isinstance(value, str):
        return value.strip()
    return "" if value is None or isinstance(value, list | dict) else str(value)


def context_of(given: Payload) -> dict[str, Json]:
    """What kind of task a payload is about; without a `task`, its text is the task."""
    found: dict[str, Json] = {}
    for key in CONTEXT:
        if (value := given.get(key)) not in (None, ""):
            found[key] = value
    if not found.get("task") and (said := text_at(given, "task_input") or text_at(given, "response")):
        found["task"] = said[:1000]
    return found


def agents_of(value: Json) -> list[Json]:
    """A list, JSON text of one, or ids with commas or arrows in between."""
    if isinstance(value, str):
        if not value.strip().startswith("["):
            return list[Json](nodes_of(value))
        found = parse_object('{"agents": ' + value + "}")
        value = None if found is None else found["agents"]
    return value if isinstance(value, list) else []


def nodes_of(value: Json) -> list[str]:
    """Ids: of a list of ids or of mappings with one, or of a text with arrows or commas in between."""
    if isinstance(value, str):
        if value.strip().startswith("["):
            return nodes_of(agents_of(value))
        for arrow in ("→", "->", "=>", ">"):
            value = value.replace(arrow, ",")
    return list(texts_of(value))
