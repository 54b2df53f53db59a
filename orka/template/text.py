"""How values are printed: text as it is, everything that is not text as compact JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import cast

import msgspec

from orka.template.limits import claim, spend, weigh
from orka.template.missing import Missing

HIDDEN = frozenset({"_metrics", "formatted_prompt"})
"""Keys of a result that are not printed with it; naming them reads them."""

_encoder = msgspec.json.Encoder()


class LoopInput(dict[str, object]):
    """The input inside a loop when it is a mapping: printed bare, it is the original text under its `input` key."""

    __slots__ = ("around",)

    def __init__(self, value: Mapping[str, object], around: Mapping[str, object]) -> None:
        super().__init__(value)
        self.around = around
        """What its attributes lead to beside its own keys: the round and its surroundings."""


class LoopText(str):
    """The input inside a loop when it is a text: the text itself, with the attributes of `LoopInput`."""

    __slots__ = ("around",)

    around: Mapping[str, object]


def text_of(value: object) -> str:
    """`value` as it is printed: text as it is, None empty, numbers as Python has them, the rest as compact JSON.

    Charges the rendering under way. Raises TypeError for what is not a value (a method, a macro).
    """
    if isinstance(value, str):
        spend(len(value))
        return value
    if value is None:
        return ""
    if isinstance(value, (int, float, Missing)):
        return str(value)
    if isinstance(value, LoopInput) and "input" in value:
        return text_of(value["input"])
    spend(2 * weigh(value))
    return json_text(plain(value))


def json_text(value: object) -> str:
    """Compact JSON of a value of `plain`, without `HIDDEN` keys."""
    value = _shown(value)
    try:
        return _encoder.encode(value).decode()
    except (UnicodeEncodeError, OverflowError, TypeError):
        # Lone surrogates, integers beyond 64 bits, keys that are not text.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _shown(value: object) -> object:
    """`value` without `HIDDEN` keys; what holds none is not copied."""
    if value.__class__ is dict:
        entries = cast("dict[object, object]", value)
        shown = {key: _shown(item) for key, item in entries.items() if key not in HIDDEN}
        same = len(shown) == len(entries) and all(shown[key] is entries[key] for key in shown)
        return entries if same else shown
    if value.__class__ is list or value.__class__ is tuple:
        items = cast("list[object]", value)
        shown_items = [_shown(item) for item in items]
        return items if all(a is b for a, b in zip(items, shown_items, strict=True)) else shown_items
    return value


def plain(value: object) -> object:
    """`value` as JSON: tuples and ranges become lists, mappings dicts, missing None; the same object where it is JSON.

    Raises TypeError for anything else.
    """
    if isinstance(value, LoopText):
        return str(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Missing):
        value.used()
        return None
    if value.__class__ is dict:
        entries = cast("dict[object, object]", value)
        made = {key if key.__class__ is str else text_of(key): plain(item) for key, item in entries.items()}
        return entries if all(made.get(cast(str, k)) is v for k, v in entries.items()) else made
    if value.__class__ is list:
        items = cast("list[object]", value)
        copies = [plain(item) for item in items]
        return items if all(a is b for a, b in zip(items, copies, strict=True)) else copies
    if isinstance(value, Mapping):
        return plain(dict(cast("Mapping[object, object]", value)))
    if isinstance(value, (tuple, range)):
        return [plain(item) for item in cast("Iterable[object]", value)]
    raise TypeError(f"a {type(value).__name__} is not a value")


def to_json(value: object, indent: int | None = None) -> str:
    """JSON as Python's `json` lays it out, non-ASCII as it is; undefined is `null`. Charges as it goes."""
    spend(2 * weigh(value))
    encoder = json.JSONEncoder(ensure_ascii=False, indent=indent, default=str)
    if indent is None:
        return encoder.encode(plain(value))
    chunks: list[str] = []
    for chunk in encoder.iterencode(plain(value)):
        claim(len(chunk))
        chunks.append(chunk)
    return "".join(chunks)


def truncate(
    value: object,
    length: int = 100,
    suffix: object = "...",
    end: str = "...",
    *,
    killwords: bool = True,
    leeway: int = 0,
) -> str:
    """`value` as text of at most `length` characters, `suffix` included where something was cut.

    The arguments after it are those of Jinja's filter, so that its calls work: a `suffix` that is a bool is its
    `killwords`, and `killwords` and `leeway` change nothing here.
    """
    text = text_of(value)
    if len(text) <= length:
        return text
    mark = end if isinstance(suffix, bool) else text_of(suffix)
    return text[: max(length - len(mark), 0)] + mark[: max(length, 0)]
