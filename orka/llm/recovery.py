"""The JSON object in what a model wrote. Pure. The order of workflow-format 10: the cheapest reading that works wins."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Final, cast

import msgspec

from orka.types import Json

_MOST_TEXT: Final = 1_000_000
"""Characters that are searched: of a longer answer nothing is read, unless it is JSON from end to end."""
_MOST_REPAIRED: Final = 100_000
"""Characters of broken JSON that are repaired: the repair reads them one by one."""
_DEEPEST: Final = 100
_FENCES: Final = (
    re.compile(r"```[ \t]*json[^\n]*\n(.*?)```", re.IGNORECASE | re.DOTALL),
    re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL),
)
_THOUGHT_TAG: Final = re.compile(r"<(/?)(think|thinking|reasoning|thoughts?)\b[^<>]*>", re.IGNORECASE)
_OBJECT: Final = re.compile(r"\{\s*(?:[\"'}]|\w+\s*:)")
_MOST_REREAD: Final = 200_000
"""Characters after braces that do not close, read again for each of them."""
_INTEGERS: Final = range(-(2**63), 2**64)
"""Others cannot be stored."""
_PRINTABLE: Final = 10**1000
"""Python refuses to print integers that are much larger."""


def find_object(text: str) -> dict[str, Json] | None:
    """The first JSON object in `text`: the text itself, a fenced block, what follows the model's thoughts, the first
    balanced braces, the same written as a Python literal, and at last what a repair makes of it. None when there is none.
    A reading that needs no repair is never passed over for one that does."""
    if (found := _decoded(text.strip())) is not None:
        return found
    text = text[:_MOST_TEXT]
    if "{" not in text:
        return None
    said = without_thoughts(text)
    candidates = list(dict.fromkeys(_candidates(text, said)))
    for read in (_decoded, _literal):
        for candidate in candidates:
            if (found := read(candidate)) is not None:
                return found
    for candidate in (*_braces(said), *candidates):  # a repair makes something of what is around it, too
        if (found := _repaired(candidate)) is not None:
            return found
    return None


def without_thoughts(text: str) -> str:
    """The text less the blocks in which reasoning models think aloud. A block that is never closed is none; one that was
    never opened begins with the text, because templates of chats often hold its first tag."""
    thoughts: list[tuple[int, int]] = []
    opened: dict[str, int] = {}
    for tag in _THOUGHT_TAG.finditer(text):
        name = tag[2].lower()
        if not tag[1]:
            opened.setdefault(name, tag.start())
            continue
        start = opened.pop(name, 0)
        opened = {other: at for other, at in opened.items() if at < start}
        thoughts.append((start, tag.end()))
    kept: list[str] = []
    end = 0
    for start, stop in sorted(thoughts):
        if start > end:
            kept.append(text[end:start])
        end = max(end, stop)
    return "".join([*kept, text[end:]]).strip()


def _candidates(text: str, said: str) -> Iterator[str]:
    """What the model said comes before what it only thought."""
    yield text.strip()
    for source in dict.fromkeys((said, text)):
        for fence in _FENCES:
            for match in fence.finditer(source):
                yield match.group(1).strip()
        yield source.strip()
        yield from _braces(source)


def _braces(text: str) -> Iterator[str]:
    """Each outermost pair of braces. One that does not close is an object that was cut off, with all that is in it, unless
    it does not begin as one does."""
    start, left = text.find("{"), len(text) + _MOST_REREAD
    while start >= 0 and left > 0:
        found = balanced(text, start)
        yield found
        left -= len(found)
        cut = start + len(found) == len(text)
        if cut and _OBJECT.match(found):
            return
        start = text.find("{", start + (1 if cut else len(found)))


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
        value = _lenient(text)
    return cast("dict[str, Json]", _sound(cast("object", value))) if isinstance(value, dict) else None


def _lenient(text: str) -> object:
    """As Python reads JSON: with line breaks in texts, NaN, and halves of characters that are escaped in two."""
    if len(text) > _MOST_REPAIRED or _depth(text) > _DEEPEST:
        return None
    try:
        value = json.loads(text, strict=False, parse_constant=lambda _: None)
        return _plain(value)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None


def _sound(value: object) -> object:
    """Numbers that no store takes become text, and so does half a character a question mark."""
    match value:
        case bool():
            return value
        case int() if value not in _INTEGERS:
            return str(value) if abs(value) < _PRINTABLE else None
        case str() if not value.isascii():
            return value.encode("utf-8", "replace").decode()
        case list():
            return [_sound(item) for item in cast("list[object]", value)]
        case dict():
            table = cast("dict[object, object]", value)
            return {_sound(key): _sound(item) for key, item in table.items()}
        case tuple():
            return [_sound(item) for item in cast("tuple[object, ...]", value)]
        case _:
            return value


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
    return msgspec.json.decode(msgspec.json.encode(_sound(cast("object", value))))


def _depth(text: str) -> int:
    depth = deepest = 0
    for char in text:
        if char in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "}]":
            depth -= 1
    return deepest
