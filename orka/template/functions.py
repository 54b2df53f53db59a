"""The functions and names that templates can use. A function is given the `View`, then the template's arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from orka import clock
from orka.template import history, outputs
from orka.template.missing import Missing
from orka.template.text import LoopInput, LoopText, text_of, to_json, truncate
from orka.template.view import View


def get_input(view: View) -> str:
    """The text of the run's input: its `input` key when it is a mapping that has one."""
    value = view.input
    return text_of(value["input"] if isinstance(value, dict) and "input" in value else value)


def get_input_field(view: View, source: object, field: object, default: object = "") -> object:
    return safe_get(view, source, field, default)


def safe_get(_view: View, source: object, key: object, default: object = "") -> object:
    """`source[key]`, or `default` when there is no such key or its value is None."""
    return pick(source, key, default)


def pick(source: object, key: object, default: object) -> object:
    """A key of a mapping or an index of a list; `default` when it is not there or None."""
    found: object = None
    if isinstance(source, Mapping) and isinstance(key, (str, int)):
        found = cast("Mapping[object, object]", source).get(key)
    elif isinstance(source, (list, tuple)) and isinstance(key, int):
        items = cast("list[object]", source)
        found = items[key] if -len(items) <= key < len(items) else None
    return default if found is None else found


def safe_str(_view: View, value: object = None) -> str:
    """The text of `value`; empty for None and what is undefined."""
    return "" if isinstance(value, Missing) else text_of(value)


def to_json_string(_view: View, value: object) -> str:
    return to_json(value)


def truncate_text(_view: View, text: object, length: int = 100, suffix: str = "...") -> str:
    return truncate(text, length, suffix)


def now(view: View) -> str:
    return clock.iso(view.now_ms)


def get_score_threshold(view: View) -> float:
    """The enclosing loop's threshold; 0.9, as OrKa 0.9 had it, outside loops."""
    return 0.9 if view.score_threshold is None else view.score_threshold


def get_loop_number(view: View) -> int:
    return view.loop_number


def format_memory_query(view: View, perspective: object, topic: object = None) -> str:
    """A sentence to search memories with."""
    return f"{text_of(perspective).capitalize()} perspective on: {text_of(topic) if topic else get_input(view)}"


def _input(view: View) -> object:
    """Inside a loop with the attributes that the input of OrKa 0.9 had there."""
    value = view.input
    if view.past_loops is None or not isinstance(value, (dict, str)):
        return value
    around: dict[str, object] = {
        "input": value,
        "loop_number": view.loop_number,
        "past_loops_metadata": view.past_loops_metadata,
        "previous_outputs": view.outputs,
        "scoring_context": view.scoring_context,
    }
    if isinstance(value, dict):
        return LoopInput(value, around)
    text = LoopText(value)
    text.around = around
    return text


FUNCTIONS: Mapping[str, Callable[..., object]] = {
    "format_memory_query": format_memory_query,
    "get_current_topic": get_input,
    "get_input": get_input,
    "get_input_field": get_input_field,
    "get_loop_number": get_loop_number,
    "get_score_threshold": get_score_threshold,
    "now": now,
    "safe_get": safe_get,
    "safe_str": safe_str,
    "to_json_string": to_json_string,
    "truncate_text": truncate_text,
    **outputs.FUNCTIONS,
    **history.FUNCTIONS,
}
"""By the name that templates use."""

NAMES: Mapping[str, Callable[[View], object]] = {
    "agent_id": lambda view: view.agent_id,
    "current_time": now,
    "input": _input,
    "loop_number": get_loop_number,
    "original_input": lambda view: view.input,
    "past_loops": lambda view: view.past_loops or [],
    "past_loops_metadata": lambda view: view.past_loops_metadata,
    "previous_outputs": lambda view: view.outputs,
    "run_id": lambda view: view.run_id,
    "session_id": lambda view: view.session_id,
    "step_index": lambda view: view.step,
    "timestamp": now,
    "trace_id": lambda view: view.run_id,
}
"""Names that are read from the view."""
