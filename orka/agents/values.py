"""What counts as an agent's value: JSON, and nothing that only looks like it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from math import isfinite
from typing import cast

import msgspec
from pydantic import BaseModel

from orka.agents.base import AgentOutput
from orka.errors import AgentError
from orka.types import Json

MAX_DEPTH = 200
"""Nesting of a value; graph files are held to the same bound."""
_LEAST, _MOST = -(2**63), 2**64 - 1  # beyond these, JSON readers lose digits or refuse the number
_SCALARS = frozenset({str, bool, type(None)})


def ensure_json(value: object, path: str = "value") -> Json:
    """`value` as JSON: the same object when it is JSON already, else a copy with tuples as lists and other mappings as
    dicts. Anything else raises `AgentError` (kind `ValueNotJson`) naming the place, which starts with `path`."""
    if type(value) is str and value.isascii():
        return value
    if _is_json(value, MAX_DEPTH):
        return cast("Json", value)
    return _converted(value, path, MAX_DEPTH)


def copy_json(value: Json) -> Json:
    """A value that shares nothing with `value`."""
    if type(value) is not dict and type(value) is not list:
        return value
    return msgspec.json.decode(msgspec.json.encode(value))


def as_output(value: object) -> AgentOutput:
    """What a function gave, as `AgentOutput`: a dict with `response` gives its other keys as `fields`, any other value
    is the response. The values are not checked here."""
    if isinstance(value, AgentOutput):
        return value
    if isinstance(value, dict):
        given = cast("dict[str, Json]", value)
        if "response" in given:
            fields = {key: item for key, item in given.items() if key != "response"}
            return AgentOutput(response=given["response"], fields=fields)
    return AgentOutput(response=cast("Json", value))


def output_value(output: AgentOutput) -> dict[str, Json]:
    """The result that templates and the journal see: `response` first, then the fields, all checked to be JSON. So are
    `next` and `usage`: the journal could not be read again otherwise."""
    if output.next is not None or output.usage is not None:
        _check_rest(output)
    value: dict[str, Json] = {"response": ensure_json(output.response, "response")}
    for key, item in output.fields.items():
        if type(key) is not str:
            raise _refusal(f"key {key!r}", "an output", "keys must be strings")
        if key != "response":
            value[key] = ensure_json(item, key)
    return value


def _check_rest(output: AgentOutput) -> None:
    """Types say all this, but agents come from anywhere."""
    chosen = cast("object", output.next)
    if type(cast("object", output.once)) is not bool:
        raise AgentError(f"once is {output.once!r}, which is not true or false", kind="ValueNotJson")
    if chosen is not None and (
        not isinstance(chosen, tuple | list)
        or not all(isinstance(name, str) and _is_text(name) for name in cast("Sequence[object]", chosen))
    ):
        raise AgentError(f"next is {chosen!r}, which is not a tuple of ids", kind="ValueNotJson")
    usage = output.usage
    if usage is not None:
        for name in ("prompt_tokens", "completion_tokens", "cost_usd"):
            value: object = getattr(usage, name, None)
            if type(value) is not int and (name != "cost_usd" or type(value) is not float or not isfinite(value)):
                raise AgentError(f"usage.{name} is {value!r}, which is not a number to add up", kind="ValueNotJson")


def _is_json(value: object, depth: int) -> bool:
    # Only the common, exact types: every agent's output passes here. What is unusual is told apart in `_converted`.
    kind = type(value)
    if kind is str:
        return _is_text(cast("str", value))
    if kind in _SCALARS:
        return True
    if kind is int:
        return _LEAST <= cast("int", value) <= _MOST
    if kind is float:
        return isfinite(cast("float", value))
    if depth == 0:
        return False
    if kind is dict:
        for key, item in cast("dict[object, object]", value).items():
            if type(key) is not str or not _is_text(key):
                return False
            if type(item) is str and item.isascii():
                continue
            if not _is_json(item, depth - 1):
                return False
        return True
    if kind is list:
        return all(_is_json(item, depth - 1) for item in cast("list[object]", value))
    return False


def _is_text(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: no UTF-8 can carry it
        return False
    return True


def _converted(value: object, path: str, depth: int) -> Json:
    match value:
        case None | bool():
            return value
        case str():
            if not _is_text(value):
                raise _refusal(path, "a text", "it holds half of a surrogate pair, which UTF-8 cannot carry")
            return str.__str__(value)
        case int():
            if not _LEAST <= value <= _MOST:
                raise _refusal(path, "an integer beyond 64 bits", "give it as text")
            return int(value)
        case float():  # numpy.float64 is one
            if not isfinite(value):
                raise _refusal(path, repr(float(value)), "JSON has no such number; give None or a text")
            return float(value)
        case Mapping() | list() | tuple():
            if depth == 0:
                raise _refusal(path, "a value nested too deeply", f"at most {MAX_DEPTH} levels, and none inside itself")
            return _container(cast("Mapping[object, object] | list[object] | tuple[object, ...]", value), path, depth)
        case _:
            raise _refusal(path, f"a {type(value).__name__}", _hint(value))


def _container(value: Mapping[object, object] | list[object] | tuple[object, ...], path: str, depth: int) -> Json:
    if not isinstance(value, Mapping):
        return [_converted(item, f"{path}[{index}]", depth - 1) for index, item in enumerate(value)]
    copy: dict[str, Json] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise _refusal(f"{path}, key {key!r}", f"a key of type {type(key).__name__}", "keys must be strings")
        if not _is_text(key):
            raise _refusal(f"{path}, key {key!r}", "a text", "it holds half of a surrogate pair")
        copy[str.__str__(key)] = _converted(item, f"{path}.{key}", depth - 1)
    return copy


def _hint(value: object) -> str:
    if isinstance(value, BaseModel):
        return 'return its `model_dump(mode="json")`'
    if is_dataclass(value):
        return "return `dataclasses.asdict(...)` of it"
    match value:
        case bytes() | bytearray() | memoryview():
            return "decode it to text, or encode it as base64"
        case set() | frozenset():
            return "return a sorted list of it"
        case _ if hasattr(value, "isoformat"):
            return "return its `isoformat()`"
        case _ if hasattr(value, "tolist"):
            return "return its `tolist()`"
        case _:
            return "return texts, numbers, booleans, None, lists and dicts of them"


def _refusal(path: str, what: str, hint: str) -> AgentError:
    return AgentError(f"{path} is {what}, which is not JSON: {hint}", kind="ValueNotJson")
