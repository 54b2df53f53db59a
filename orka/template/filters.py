"""The filters that templates can use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import cast

from jinja2.filters import FILTERS as _JINJA

from orka.template.limits import current
from orka.template.rendering import Rendering
from orka.template.text import plain, text_of


def unknown_filter(value: object, name: str) -> object:
    """Stands in for a filter that does not exist: the value stays as it is, and that is noted."""
    meter = current.meter
    if isinstance(meter, Rendering):
        meter.note(f"unknown filter {name!r}")
    return value


def tojson(value: object, indent: int | None = None) -> str:
    return json.dumps(plain(value), ensure_ascii=False, indent=indent, default=str)


def truncate(value: object, length: int = 100, suffix: str = "...") -> str:
    text = text_of(value)
    return text if len(text) <= length else text[: max(length - len(suffix), 0)] + suffix


FILTERS: Mapping[str, Callable[..., object]] = {
    **cast("Mapping[str, Callable[..., object]]", {k: v for k, v in _JINJA.items() if k in ("default", "d", "length", "upper", "lower", "round", "float", "int", "title", "replace", "trim")}),
    "tojson": tojson,
    "to_json_string": tojson,
    "truncate": truncate,
    "unknown_filter": unknown_filter,
}
