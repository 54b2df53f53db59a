"""Which route a router takes. Pure. The order of look-ups is that of workflow-format 8.3."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from orka.graph.nodes import RouterNode
from orka.types import Json, NodeId

_TRUE, _FALSE = frozenset({"true", "yes", "1", "on"}), frozenset({"false", "no", "0", "off"})
"""YAML reads `on:` and `off:` as booleans, too: such a key fits what its author wrote."""
_WORD_TRUE, _WORD_FALSE = re.compile(r"\b(?:true|yes)\b"), re.compile(r"\b(?:false|no)\b")
_MISSING = object()


def take_out(waiting: Sequence[Iterator[NodeId]], ids: Sequence[str]) -> list[Iterator[NodeId]]:
    """What still waits, the innermost list last, without the next visit of each of `ids`."""
    left = Counter(ids)
    kept: list[Iterator[NodeId]] = []
    for rest in reversed(waiting):
        stay: list[NodeId] = []
        for node_id in rest:
            if left[node_id]:
                left[node_id] -= 1
            else:
                stay.append(node_id)
        kept.append(iter(stay))
    kept.reverse()
    return kept


def read_path(outputs: Mapping[str, Json], dotted: str) -> object:
    """The value at `agent.field.field`; a `result` or `response` mapping between two segments may be left out.

    An id that itself holds dots wins over reading it as a path. `None` when there is nothing.
    """
    if dotted in outputs:
        return outputs[dotted]
    head, *rest = dotted.split(".")
    value: object = outputs.get(head)
    for key in rest:
        found = _step(value, key)
        if found is _MISSING:
            return None
        value = found
    return value


def _step(value: object, key: str) -> object:
    if isinstance(value, dict):
        mapping = cast("dict[str, object]", value)
        if key in mapping:
            return mapping[key]
        for between in ("result", "response"):
            inner = mapping.get(between)
            if isinstance(inner, dict) and key in inner:
                return cast("dict[str, object]", inner)[key]
    if isinstance(value, list) and key.isdigit() and int(key) < len(cast("list[object]", value)):
        return cast("list[object]", value)[int(key)]
    return _MISSING


def decision_value(outputs: Mapping[str, Json], decision_key: str) -> object:
    """What a router decides by: the output, or the `response` or `result` inside it. None, too, for the output of a
    visit that failed: the words of its error message decide nothing."""
    value = read_path(outputs, decision_key)
    if isinstance(value, dict) and "error_type" in value and cast("dict[str, object]", value).get("status") == "error":
        return None
    for key in ("response", "response", "result"):
        if isinstance(value, dict):
            mapping = cast("dict[str, object]", value)
            value = mapping.get(key, mapping)
    return value


def choose_route(node: RouterNode, value: object) -> tuple[NodeId, ...] | None:
    """The ids to run; `()` for a route that is empty on purpose; None when nothing fits and there is no fallback."""
    if value is not None:
        whole = str(value).strip().lower()
        text = whole.strip("\"'`.,;:!? \t\n")
        for match in (
            _exact(node, value),
            _by_text(node, whole),
            _by_text(node, text),
            _by_boolean(node, text),
            _by_word(node, text),
        ):
            if match is not None:
                return match
    return node.fallback


def _exact(node: RouterNode, value: object) -> tuple[NodeId, ...] | None:
    for key, route in node.routes:
        if type(key) is type(value) and key == value:
            return route
    return None


def _by_text(node: RouterNode, text: str) -> tuple[NodeId, ...] | None:
    for key, route in node.routes:
        if str(key).strip().lower() == text:
            return route
    return None


def _by_boolean(node: RouterNode, text: str) -> tuple[NodeId, ...] | None:
    if text in _TRUE:
        return _boolean_route(node, True)
    if text in _FALSE:
        return _boolean_route(node, False)
    return None


def _boolean_route(node: RouterNode, wanted: bool) -> tuple[NodeId, ...] | None:
    names = _TRUE if wanted else _FALSE
    for key, route in node.routes:
        if str(key).strip().lower() in names:
            return route
    return None


def _by_word(node: RouterNode, text: str) -> tuple[NodeId, ...] | None:
    """A longer text that says yes or no, or that holds exactly one of the keys as a whole word. A key inside a longer one
    that is there (`high` in `high-risk`) is not held for itself."""
    yes, no = _WORD_TRUE.search(text) is not None, _WORD_FALSE.search(text) is not None
    if yes != no and (route := _boolean_route(node, yes)) is not None:
        return route
    held: list[tuple[NodeId, ...]] = []
    for key, route in sorted(node.routes, key=lambda one: -len(str(one[0]))):
        if word := str(key).strip().lower():
            text, found = re.subn(rf"(?<!\w){re.escape(word)}(?!\w)", "\n", text)
            held += [route] if found else []
    return held[0] if len(held) == 1 else None
