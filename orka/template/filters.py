"""The filters that templates can use: Jinja's, without those that draw at random or make HTML, and Orka's own.

A filter is given plain values or `Missing`, and its operands are paid for before it runs (`Rendering.apply`). One that
gives more than it takes claims the size first. Lists come back as lists, never as iterators.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from jinja2 import filters as jinja
from markupsafe import escape as escape_html

from orka.template.functions import pick
from orka.template.history import format_loop_metadata
from orka.template.limits import add, claim, current, percent, spend, weigh
from orka.template.missing import Missing
from orka.template.patterns import compile_pattern
from orka.template.rendering import Rendering
from orka.template.text import text_of, to_json, truncate
from orka.template.values import element, replace

_Filter = Callable[..., object]
_PRECISION = 300
"""Digits that `round` keeps at most, on either side of the point."""


def rendering() -> Rendering:
    """The rendering that a filter runs in."""
    meter = current.meter
    if not isinstance(meter, Rendering):
        raise RuntimeError("a filter runs within a rendering")
    return meter


def unknown_filter(value: object, name: str) -> object:
    """Stands in for a filter that does not exist: the value stays as it is, and that is noted."""
    rendering().note(f"unknown filter {name!r}")
    return value


def first(value: object) -> object:
    if isinstance(value, Missing):
        return value
    return next(iter(cast("Iterable[object]", value)), Missing(name="the first of nothing"))


def last(value: object) -> object:
    if isinstance(value, Missing):
        return value
    elements = as_list(value)
    return elements[-1] if elements else Missing(name="the last of nothing")


def as_list(value: object) -> list[object]:
    return list(cast("Iterable[object]", value))


def reverse(value: object) -> object:
    return value[::-1] if isinstance(value, str) else as_list(value)[::-1]


def total(value: object, attribute: object = None, start: object = 0) -> object:
    """The sum of a list, of an attribute of its elements if one is named."""
    found = start
    for item in as_list(value) if attribute is None else _mapped(value, attribute=attribute):
        found = add(found, item)
    return found


def join(value: object, separator: object = "", attribute: object = None) -> str:
    items = as_list(value) if attribute is None else _mapped(value, attribute=attribute)
    texts = [text_of(item) for item in items]
    between = text_of(separator)
    claim(sum(map(len, texts)) + len(between) * len(texts))
    return between.join(texts)


def batch(value: object, size: int, fill: object = None) -> list[object]:
    """Lists of `size` elements; the last one filled up with `fill` unless that is None."""
    items = as_list(value)
    size = max(int(size), 1)
    rows: list[object] = [items[at : at + size] for at in range(0, len(items), size)]
    if rows and fill is not None:
        short = size - len(cast("list[object]", rows[-1]))
        claim(short)
        cast("list[object]", rows[-1]).extend([fill] * short)
    return rows


def sliced(value: object, count: int, fill: object = None) -> list[object]:
    """`count` lists of nearly equal length."""
    claim(count)
    return as_list(jinja.sync_do_slice(cast("Any", as_list(value)), max(int(count), 1), fill))


def rounded(value: object, precision: int = 0, method: Any = "common") -> object:
    """A number rounded; a text is read as a number first."""
    if abs(precision) > _PRECISION:
        raise ValueError(f"precision beyond {_PRECISION}")
    return jinja.do_round(cast("Any", float(value) if isinstance(value, str) else value), precision, method)


def as_int(value: object, default: int = 0, base: int = 10) -> int:
    # The digits of a long text would take quadratic time.
    return default if isinstance(value, str) and len(value) > 1000 else jinja.do_int(value, default, base)


def items(value: object) -> list[object]:
    return [] if isinstance(value, Missing) else as_list(cast("Mapping[object, object]", value).items())


def indent(value: object, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    text = text_of(value)
    claim(len(text) + (text.count("\n") + 1) * (width if isinstance(width, int) else len(width)))
    return jinja.do_indent(text, width, first, blank)


def wordwrap(value: object, width: int = 79, break_long_words: bool = True, wrapstring: str = "\n") -> str:
    text = text_of(value)
    claim(len(text) * (1 + len(wrapstring)))
    spend(32 * len(text))
    return jinja.do_wordwrap(rendering().environment, text, max(width, 1), break_long_words, wrapstring)


def center(value: object, width: int = 80) -> str:
    claim(width)
    return text_of(value).center(width)


def replaced(value: object, old: object, new: object, count: int | None = None) -> str:
    return replace(text_of(value), text_of(old), text_of(new), -1 if count is None else count)


def formatted(value: object, *args: object, **kwargs: object) -> str:
    """`%` formatting, the pattern first."""
    if args and kwargs:
        raise TypeError("format takes positional or named values, not both")
    if kwargs:
        return percent(text_of(value), {key: _format_value(item) for key, item in kwargs.items()})
    return percent(text_of(value), tuple(_format_value(item) for item in args))


def _format_value(value: object) -> object:
    return value if isinstance(value, (int, float)) else text_of(value)


def striptags(value: object) -> str:
    """The text without `<...>`, entities resolved, white space collapsed."""
    return " ".join(html.unescape(re.sub(r"<[^<>]*>", "", text_of(value))).split())


def regex_search(value: object, pattern: str, *, ignorecase: bool = False, multiline: bool = False) -> str:
    """The first group of the first match, or all of it when there is no group; empty when nothing matches."""
    flags = (re.IGNORECASE if ignorecase else 0) | (re.MULTILINE if multiline else 0)
    compiled = compile_pattern(pattern, flags)
    text = text_of(value)
    spend(compiled.price(text))
    match = compiled.search(text)
    if match is None and len(text) > compiled.text_limit:  # verdicts stand at the end
        spend(compiled.price(text))
        match = compiled.search_end(text)
        if match is None:
            rendering().note(f"regex_search looked at the first and the last {compiled.text_limit:,} characters only")
    if match is None:
        return ""
    return (match[1] if match.re.groups else match[0]) or ""


def _mapped(value: object, *args: object, **kwargs: object) -> list[object]:
    return _over(jinja.sync_do_map)(value, *args, **kwargs)


def _over(function: Callable[..., Iterable[object]]) -> Callable[..., list[object]]:
    """A filter that applies a filter or test to every element: pays for the arguments as often as they are used."""

    def applied(value: object, *args: object, **kwargs: object) -> list[object]:
        elements = as_list(value)
        spend(len(elements) * (weigh(args) + weigh(kwargs) + 16))
        return list(function(rendering(), elements, *args, **kwargs))

    return applied


def _sorting(function: Callable[..., object]) -> _Filter:
    """A filter of Jinja's that compares elements and is given the environment."""

    def applied(value: object, *args: object, **kwargs: object) -> object:
        spend(4 * weigh(value))
        found = function(rendering().environment, value, *args, **kwargs)
        return list(cast("Iterator[object]", found)) if isinstance(found, Iterator) else found

    return applied


def _of_text(function: Callable[..., object]) -> _Filter:
    """A filter that reads its value as text."""

    def applied(value: object, *args: object, **kwargs: object) -> object:
        return function(text_of(value), *args, **kwargs)

    return applied


def escape(value: object) -> str:
    return str(escape_html(text_of(value)))


def dictsort(value: object, *args: Any, **kwargs: Any) -> list[tuple[Any, Any]]:
    return jinja.do_dictsort(cast("dict[Any, Any]", value), *args, **kwargs)


def pprint(value: object) -> str:
    return to_json(value, 2)


def safe(value: object) -> object:
    return value


def safe_get(value: object, key: object, default: object = "unknown") -> object:
    return pick(value, key, default)


def wordcount(value: object) -> int:
    return len(re.findall(r"\w+", text_of(value)))


FILTERS: Mapping[str, _Filter] = {
    "abs": abs,
    "attr": element,
    "batch": batch,
    "capitalize": _of_text(str.capitalize),
    "center": center,
    "count": len,
    "d": jinja.do_default,
    "default": jinja.do_default,
    "dictsort": dictsort,
    "e": escape,
    "escape": escape,
    "filesizeformat": jinja.do_filesizeformat,
    "first": first,
    "float": jinja.do_float,
    "forceescape": escape,
    "format": formatted,
    "format_loop_metadata": format_loop_metadata,
    "groupby": _sorting(jinja.sync_do_groupby),
    "indent": indent,
    "int": as_int,
    "items": items,
    "join": join,
    "last": last,
    "length": len,
    "list": as_list,
    "lower": _of_text(str.lower),
    "map": _mapped,
    "max": _sorting(jinja.do_max),
    "min": _sorting(jinja.do_min),
    "pprint": pprint,
    "regex_search": regex_search,
    "reject": _over(jinja.sync_do_reject),
    "rejectattr": _over(jinja.sync_do_rejectattr),
    "replace": replaced,
    "reverse": reverse,
    "round": rounded,
    "safe": safe,
    "safe_get": safe_get,
    "select": _over(jinja.sync_do_select),
    "selectattr": _over(jinja.sync_do_selectattr),
    "slice": sliced,
    "sort": _sorting(jinja.do_sort),
    "string": text_of,
    "striptags": striptags,
    "sum": total,
    "title": _of_text(jinja.do_title),
    "to_json_string": to_json,
    "tojson": to_json,
    "trim": _of_text(str.strip),
    "truncate": truncate,
    "unique": _sorting(jinja.do_unique),
    "unknown_filter": unknown_filter,
    "upper": _of_text(str.upper),
    "urlencode": jinja.do_urlencode,
    "wordcount": wordcount,
    "wordwrap": wordwrap,
}
"""By the name that templates use."""
