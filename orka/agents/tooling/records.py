"""What a visit keeps of the calls that it made, and the bounds of what a model is told. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from orka.agents.tooling.base import ToolFault
from orka.agents.values import ensure_json
from orka.errors import AgentError
from orka.llm.base import ToolCall
from orka.llm.recovery import find_object
from orka.types import Json

TOLD: Final = 50_000
"""Characters of one result that a model is told."""
_ARGUMENTS: Final = 200_000
"""Characters of one call's arguments."""
_NAME: Final = 200
_KEPT: Final = 4_000
"""Characters of arguments and of a result that the visit keeps."""


def arguments_of(call: ToolCall) -> dict[str, Json]:
    """The arguments that a model wrote: a JSON object, or nothing for a tool that takes none. What is nearly one is
    repaired, as answers are. `ToolFault` when there is none."""
    text = call.arguments
    if not text.strip():
        return {}
    if len(text) > _ARGUMENTS:
        raise ToolFault(f"the arguments have {len(text):,} characters; at most {_ARGUMENTS:,} are taken")
    try:
        found: Json = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        found = find_object(text)
    if found is None and text.strip() != "null":
        raise ToolFault("the arguments are not JSON: write one JSON object")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ToolFault("the arguments must be one JSON object")
    try:
        ensure_json(found)
    except AgentError as exc:
        raise ToolFault(str(exc)) from exc
    return found


def record_of(call: ToolCall, arguments: Mapping[str, Json] | None, text: str, *, failed: bool, ms: float) -> Json:
    """One of `tool_calls` of the visit's result."""
    given: Json = cut(call.arguments, _KEPT)
    if arguments is not None and len(call.arguments) <= _KEPT:
        given = dict(arguments)
    return {
        "name": cut(call.name, _NAME),
        "arguments": given,
        "status": "error" if failed else "success",
        "error" if failed else "result": cut(text, _KEPT),
        "ms": round(ms, 3),
    }


def cut(text: str, most: int) -> str:
    """With a word about what is missing."""
    return text if len(text) <= most else f"{text[:most]}\n[{len(text) - most:,} more characters are left out]"


def sayable(text: str) -> str:
    """Without halves of surrogate pairs, which no protocol can carry."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def key_of(visit: str, name: str, arguments: Mapping[str, Json], earlier: int) -> str:
    """The idempotency key of one call: the same when the visit is repeated and calls the tool with the same arguments for
    the same time, `earlier` times after others like it."""
    canonical = msgspec.json.encode(arguments, order="sorted")
    digest = hashlib.blake2b(canonical, digest_size=8).hexdigest()
    return f"{visit}:{name}:{digest}" + (f":{earlier + 1}" if earlier else "")
