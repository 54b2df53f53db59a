"""The JSON object in what a model wrote. Pure. The order of workflow-format 10: the cheapest reading that works wins."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final, cast

import msgspec

from orka.types import Json

_MOST_TEXT: Final = 1_000_000
"""Characters that are searched: an answer beyond that is none."""
_MOST_REPAIRED: Final = 100_000
"""Characters of broken JSON that are repaired: the repair reads them one by one."""
_DEEPEST: Final = 100
_LONG_NUMBER: Final = re.compile(r"\d{19}")
_LEAST, _MOST = -(2**63), 2**64 - 1  # what an output may hold
_FENCES: Final = (
    re.compile(r"```[ \t]*json[^\n]*\n(.*?)```", re.IGNORECASE | re.DOTALL),
    re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL),
)
_THOUGHTS: Final = re.compile(r"<(think|thinking|reasoning|thoughts?)\b[^>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_OPEN_THOUGHT: Final = re.compile(r"^.*</(?:think|thinking|reasoning|thoughts?)\s*>", re.IGNORECASE | re.DOTALL)


def find_object(text: str) -> dict[str, Json] | None:
    """The first JSON object in `text`: the text itself, a fenced block, what follows the model's thoughts, the first
    balanced braces, the same written as a Python literal, and at last what a repair makes of it. None when there is none.
    A reading that needs no repair is never passed over for one that does. Integers beyond 64 bits become text: one of them
    is no reason to lose the answer."""
    text = text[:_MOST_TEXT]
    if "{" not in text:
        return None
    found = _find(text)
    return found if found is None or _LONG_NUMBER.search(text) is None else cast("dict[str, Json]", _bounded(found))


def _find(text: str) -> dict[str, Json] | None:
    candidates = list(dict.fromkeys(_candidates(text)))
    for candidate in candidates:
        if (found := _decoded(candidate)) is not None:
            return found
    for candidate in candidates:
        if (found := _literal(candidate)) is not None:
            return found
    for candidate in reversed(candidates):  # the innermost reading has the least around it
        if (found := _repaired(candidate)) is not None:
            return found
    return None


def without_thoughts(text: str) -> str:
    """The text less the blocks in which reasoning models think aloud."""
    return _OPEN_THOUGHT.sub("", _THOUGHTS.sub("", text), count=1).strip()


def _candidates(text: str) -> Iterator[str]:
    yield text.strip()
    said = without_thoughts(text)
    for source in (said, text):
        for fence in _FENCES:
            for match in fence.finditer(source):
                yield match.group(1).strip()
    yield said
    for source in (said, text):
        start = source.find("{")
        if start >= 0:
            yield balanced(source, start)


def balanced(text: str, start: int) -> str:
    """From the brace at `start` to the one that closes it, braces inside of strings not counted; to the end of the text
    when none does."""
    depth, quote, escaped = 0, "", False
    for index in range(start, len(text)):
        char = text[index]
        if quote:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == quote:
                quote = ""
        elif char == '"':
            quote = char
        elif char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                return text[start : index + 1]
    return text[start:]


def _decoded(text: str) -> dict[str, Json] | None:
    if not text.startswith("{"):
        return None
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return cast("dict[str, Json]", value) if isinstance(value, dict) else None


def _literal(text: str) -> dict[str, Json] | None:
    """`{'ok': True, 'why': None}`. Literals only: nothing is evaluated."""
    if not text.startswith("{") or len(text) > _MOST_REPAIRED or _depth(text) > _DEEPEST:
        return None
    try:
        value = ast.literal_eval(text)
        return _plain(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, msgspec.MsgspecError):
        return None


def _repaired(text: str) -> dict[str, Json] | None:
    if "{" not in text or len(text) > _MOST_REPAIRED or _depth(text) > _DEEPEST:
        return None
    try:
        import json_repair
    except ImportError:  # without the extra `llm` what is broken stays broken
        return None
    try:
        value = json_repair.loads(text[text.index("{") :], skip_json_loads=True)
        return _plain(value)
    except (ValueError, TypeError, RecursionError, msgspec.MsgspecError):
        return None


def _plain(value: object) -> dict[str, Json] | None:
    """A mapping with JSON in it and at least one key; tuples become lists."""
    if not isinstance(value, dict) or not value:
        return None
    if not all(isinstance(key, str) for key in cast("dict[object, object]", value)):
        return None
    return msgspec.json.decode(msgspec.json.encode(value))


def _bounded(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _bounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_bounded(item) for item in value]
    return str(value) if isinstance(value, int) and not _LEAST <= value <= _MOST else value


def _depth(text: str) -> int:
    depth = deepest = 0
    for char in text:
        if char in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "}]":
            depth -= 1
    return deepest
