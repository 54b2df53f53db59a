"""Structured output: the short form of files as JSON Schema, the words that ask for it, and the coercion of what comes
back. Pure. Workflow-format 10."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from orka.types import Json

TYPES: Final[Mapping[str, str]] = {
    "string": "string",
    "str": "string",
    "text": "string",
    "number": "number",
    "num": "number",
    "float": "number",
    "integer": "integer",
    "int": "integer",
    "boolean": "boolean",
    "bool": "boolean",
    "array": "array",
    "list": "array",
    "object": "object",
    "dict": "object",
}
"""Spelling -> type of JSON Schema."""
_LARGEST: Final = 2**63
TRUE: Final = frozenset({"true", "yes", "1", "on"})
FALSE: Final = frozenset({"false", "no", "0", "off"})


def expand_schema(
    required: Sequence[str], optional: Mapping[str, str] | Sequence[str], types: Mapping[str, str], *, strict: bool
) -> dict[str, Json]:
    """JSON Schema of the short form. Fields without a type are strings. `ValueError` for a type that is none."""
    names = dict.fromkeys(required, "string")
    names |= optional if isinstance(optional, Mapping) else dict.fromkeys(optional, "string")
    names |= {name: types[name] for name in types}
    properties: dict[str, Json] = {name: {"type": type_of(word, name)} for name, word in names.items()}
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": not strict,
    }


def type_of(word: str, name: str) -> str:
    """`ValueError` for a word that is no type."""
    found = TYPES.get(word.strip().lower())
    if found is None:
        raise ValueError(f"{word!r} of {name!r} is no type: one of {', '.join(sorted(set(TYPES.values())))}")
    return found


def describe_schema(schema: Mapping[str, Json]) -> str:
    """What a prompt ends with where the schema is to be followed without the server's help."""
    lines = ["Answer with one JSON object and nothing else. Its fields:"]
    required = _names(schema.get("required"))
    for name, rule in _properties(schema).items():
        need = "" if name in required else ", may be left out"
        choices = rule.get("enum")
        shown = f" (one of {_listed(choices)})" if isinstance(choices, list) else ""
        about = rule.get("description")
        lines.append(f"- {name}: {_word(rule)}{need}{shown}{f': {about}' if about else ''}")
    return "\n".join(lines)


def coerce(value: Mapping[str, Json], schema: Mapping[str, Json]) -> dict[str, Json]:
    """The fields, each as its type wants where that can be had without guessing: `"0.8"` is 0.8, `"true"` is true, and a
    single value is a list of one."""
    rules = _properties(schema)
    return {name: coerce_value(item, rules[name]) if name in rules else item for name, item in value.items()}


def missing_fields(value: Mapping[str, Json], schema: Mapping[str, Json]) -> list[str]:
    """Required fields that are not there."""
    return [name for name in _names(schema.get("required")) if name not in value]


def coerce_value(value: Json, rule: Mapping[str, Json]) -> Json:
    """One field; as it is where it does not fit."""
    kinds = _kinds(rule)
    match kinds[0] if kinds and value is not None else None:
        case "number":
            return _number(value)
        case "integer":
            number = _number(value)
            return _whole(number) if isinstance(number, float) else number
        case "boolean":
            return _boolean(value)
        case "array":
            item = rule.get("items")
            found: list[Json] = value if isinstance(value, list) else [value]
            return [coerce_value(one, item) for one in found] if isinstance(item, dict) else found
        case "string":
            return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        case "object" if isinstance(value, dict):
            return coerce(value, rule)
        case _:
            return value


def _number(value: Json) -> Json:
    if not isinstance(value, str):
        return value
    text = value.strip()
    percent = text.endswith("%")
    try:
        number = float(text.rstrip("%"))
    except ValueError:
        return value
    if not math.isfinite(number):
        return value
    number = number / 100 if percent else number
    return number if percent or "." in text else _whole(number)


def _whole(number: float) -> Json:
    """An integer where it is one that can be stored."""
    return int(number) if number.is_integer() and abs(number) < _LARGEST else number


def _boolean(value: Json) -> Json:
    if isinstance(value, str):
        word = value.strip().lower()
        return True if word in TRUE else False if word in FALSE else value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    return value


def _properties(schema: Mapping[str, Json]) -> dict[str, Mapping[str, Json]]:
    found = schema.get("properties")
    rules = found if isinstance(found, dict) else {}
    return {name: rule if isinstance(rule, dict) else {} for name, rule in rules.items()}


def _names(value: Json) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _kinds(rule: Mapping[str, Json]) -> list[str]:
    """Its types, but for null."""
    word = rule.get("type")
    words = word if isinstance(word, list) else [word]
    return [one for one in words if isinstance(one, str) and one != "null"]


def _word(rule: Mapping[str, Json], depth: int = 4) -> str:
    """With what is in it, to some depth."""
    word = rule.get("type")
    words = [str(one) for one in word] if isinstance(word, list) else [word] if isinstance(word, str) else []
    item, inner = rule.get("items"), _properties(rule)
    if "array" in words and isinstance(item, dict) and depth:
        words[words.index("array")] = f"array of {_word(item, depth - 1)}"
    if "object" in words and inner and depth:
        fields = ", ".join(f"{name}: {_word(one, depth - 1)}" for name, one in inner.items())
        words[words.index("object")] = f"object {{{fields}}}"
    return " or ".join(words) or "any value"


def _listed(choices: Sequence[Json]) -> str:
    return ", ".join(str(choice) for choice in choices)
