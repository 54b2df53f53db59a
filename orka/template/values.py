"""How outputs look to a template: plain JSON values, read where they are; nothing is copied or wrapped.

A mapping's attribute is its own key, else a key of its `result`, else one of a few methods. Only the methods named here
exist, so no attribute leads out of the data.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from types import MethodType
from typing import cast

from orka.template.limits import check_format, claim, current
from orka.template.missing import Missing
from orka.template.text import LoopInput, LoopText, text_of

_NOWHERE = object()


def _own(entries: Mapping[object, object], name: object) -> object:
    """A key of a mapping, or of its `result`; `_NOWHERE` when neither has it."""
    if name in entries:
        return entries[name]
    if isinstance(entries, LoopInput):
        return entries.around[name] if isinstance(name, str) and name in entries.around else _NOWHERE
    meter = current.meter
    if meter is None or entries is not meter.outputs():  # A node named `result` is not the result of all nodes.
        result = entries.get("result")
        if isinstance(result, dict) and name in result:
            return cast("dict[object, object]", result)[name]
    return _NOWHERE


def attribute(value: object, name: object) -> object:
    """`value.name` and `value['name']`: see the module. `Missing` when there is no such thing."""
    if isinstance(value, Mapping):
        found = _own(cast("Mapping[object, object]", value), name)
        if found is not _NOWHERE:
            return found
        method = MAPPING_METHODS.get(name)
    elif isinstance(value, str):
        if isinstance(value, LoopText) and name in value.around:
            return value.around[cast(str, name)]
        method = TEXT_METHODS.get(name)
    elif isinstance(value, (list, tuple)):
        if name in getattr(cast(object, value), "_fields", ()):  # The named tuples of `groupby`.
            return getattr(cast(object, value), cast(str, name))
        if name == "response":  # of an output that is a list: itself, so that all outputs can be read alike
            return cast(object, value)
        method = LIST_METHODS.get(name)
    else:
        return value if isinstance(value, Missing) else Missing(name=str(name))
    return Missing(name=str(name)) if method is None else MethodType(method, cast(object, value))


def element(value: object, key: object) -> object:
    """`value[key]`, slices too. `Missing` beyond the end of a list."""
    if isinstance(value, Missing):
        return value
    if isinstance(key, str) or isinstance(value, Mapping):
        return attribute(cast(object, value), key) if isinstance(key, (str, int, float)) else Missing(name=text_of(key))
    if isinstance(value, (str, list, tuple)):
        elements = cast("Sequence[object]", value)
        if isinstance(key, slice):
            part = elements[key]
            claim(len(part))
            return part
        if isinstance(key, int) and -len(elements) <= key < len(elements):
            return elements[key]
    return Missing(name="[:]" if isinstance(key, slice) else f"[{text_of(key)[:40]}]")


class _Formatter(Formatter):
    """`str.format` whose fields read values as templates do."""

    def get_field(self, field_name: str, args: Sequence[object], kwargs: Mapping[str, object]) -> tuple[object, str]:
        first, *rest = field_name.replace("[", ".").replace("]", "").split(".")
        value: object = self.get_value(int(first) if first.isdecimal() else first, args, kwargs)
        for name in rest:
            value = element(value, int(name)) if name.isdecimal() else attribute(value, name)
        return value, first

    def format_field(self, value: object, format_spec: str) -> str:
        return format(value, format_spec) if isinstance(value, (int, float)) else format(text_of(value), format_spec)


_formatter = _Formatter()


def format_text(text: str, /, *args: object, **kwargs: object) -> str:
    check_format(text, args, kwargs)
    return _formatter.vformat(text, args, kwargs)


def replace(text: str, old: str, new: str, count: int = -1) -> str:
    found = text.count(old) if count < 0 else min(count, text.count(old))
    claim(len(text) + found * len(new))
    return text.replace(old, new, count)


def join(separator: str, items: Sequence[object]) -> str:
    texts = [text_of(item) for item in items]
    claim(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _padded(pad: Callable[..., str]) -> Callable[..., str]:
    def method(text: str, width: int, *fill: str) -> str:
        claim(max(width, len(text)))
        return pad(text, width, *fill)

    return method


_PLAIN_TEXT = (
    "capitalize",
    "casefold",
    "count",
    "endswith",
    "find",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "istitle",
    "isupper",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "rfind",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
)

TEXT_METHODS: Mapping[object, Callable[..., object]] = {
    **{name: cast("Callable[..., object]", getattr(str, name)) for name in _PLAIN_TEXT},
    "center": _padded(str.center),
    "format": format_text,
    "join": join,
    "ljust": _padded(str.ljust),
    "replace": replace,
    "rjust": _padded(str.rjust),
    "zfill": _padded(str.zfill),
}
LIST_METHODS: Mapping[object, Callable[..., object]] = {
    "count": operator.countOf,
    "index": operator.indexOf,
}


def _get(entries: Mapping[object, object], key: object, default: object = None) -> object:
    found = _own(entries, key) if isinstance(key, (str, int, float)) else _NOWHERE
    return default if found is _NOWHERE else found


# Lists, not views: a template can print, index and count them.
def _items(entries: Mapping[object, object]) -> list[tuple[object, object]]:
    return list(entries.items())


def _keys(entries: Mapping[object, object]) -> list[object]:
    return list(entries)


def _values(entries: Mapping[object, object]) -> list[object]:
    return list(entries.values())


MAPPING_METHODS: Mapping[object, Callable[..., object]] = {
    "get": _get,
    "items": _items,
    "keys": _keys,
    "values": _values,
}
