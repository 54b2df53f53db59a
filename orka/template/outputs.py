"""Functions that look into earlier outputs: responses, loop outputs, fork members."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import cast

from orka.template.artifacts import get_execution_artifacts
from orka.template.missing import Missing
from orka.template.text import text_of
from orka.template.view import View

_Table = Mapping[str, object]

_PLACES = (("payload", "response"), ("payload", "result"), ("result",), ("response",))
"""Where an output keeps its answer, in the order of OrKa 0.9."""
_PERSPECTIVES = {
    "get_progressive_response": ("progressive_refinement", "radical_progressive"),
    "get_conservative_response": ("conservative_refinement", "traditional_conservative"),
    "get_realist_response": ("realist_refinement", "pragmatic_realist"),
    "get_purist_response": ("purist_refinement", "ethical_purist"),
}
"""Ids that each of these functions tries, in order."""


def table(value: object) -> _Table | None:
    """`value` if it is a mapping, else None."""
    return cast(_Table, value) if isinstance(value, Mapping) else None


def response_of(output: object) -> str:
    """The text answer in an output; the output itself as text when it has no place for one."""
    for place in _PLACES:
        value: object = output
        for key in place:
            entries = table(value)
            value = None if entries is None else entries.get(key)
        if value is not None:
            inner = table(value)
            return text_of(inner["response"] if inner is not None and "response" in inner else value)
    entries = table(output)
    return "" if entries is not None and "response" in entries else text_of(output)


def get_agent_response(view: View, agent_id: object) -> str:
    """The text answer of an earlier node; empty when it has none."""
    output = view.outputs.get(text_of(agent_id))
    return "" if output is None else response_of(output)


def safe_get_response(
    view: View, agent_id: object, fallback: object = "No response available", outputs: object = None
) -> object:
    """The text answer of an earlier node, or `fallback`. `loop.inner.field` leads into the output of `loop`."""
    path = text_of(agent_id)
    known = table(outputs) or view.outputs
    value: object = known.get(path)
    if value is None and "." in path:
        first, *rest = path.split(".")
        value = known.get(first)
        for key in rest:
            value = _descend(value, key)
    return (response_of(value) if value is not None else "") or fallback


def _descend(value: object, key: str) -> object:
    """`value[key]`, looking inside `result` and `response` when the key is not there."""
    for _ in range(4):
        entries = table(value)
        if entries is None:
            return None
        if key in entries:
            return entries[key]
        value = entries["result"] if "result" in entries else entries.get("response")
    return None


def get_loop_output(view: View, loop_id: object, outputs: object = None) -> object:
    """What a loop left behind, `{}` when it has not run."""
    output = (table(outputs) or view.outputs).get(text_of(loop_id))
    entries = table(output)
    if entries is None:
        return {} if output is None else output
    return entries["response"] if table(entries.get("response")) is not None else entries


def has_context(view: View, agent_id: object) -> bool:
    """Whether an earlier node left something that is not empty."""
    return bool(view.outputs.get(text_of(agent_id)))


def get_fork_responses(view: View, group: object = None) -> dict[str, object]:
    """`{agent: response}` of a fork's or join's members; without an id `{group: {...}}` of all of them."""
    if group is not None and not isinstance(group, Missing):
        return _member_responses(view, text_of(group))
    return {name: _member_responses(view, name) for name in view.members}


def _member_responses(view: View, group: str) -> dict[str, object]:
    merged = table((table(view.outputs.get(group)) or {}).get("merged")) or {}
    found: dict[str, object] = {}
    for agent in (*view.members.get(group, ()), *merged):
        given = view.outputs.get(agent, merged.get(agent))
        output = table(given) or table(merged.get(agent)) or {}
        if "response" in output:
            found[agent] = output["response"]
        elif isinstance(given, list):
            found[agent] = cast("list[object]", given)
    return found


def joined_results(view: View) -> list[object]:
    """The first `joined_results` list of an earlier output."""
    for found in anywhere(view, "joined_results"):
        if isinstance(found, list):
            return cast("list[object]", found)
    return []


def anywhere(view: View, key: str) -> Iterator[object]:
    """The values of `key` in earlier outputs, directly or under `result`."""
    for output in view.outputs.values():
        entries = table(output)
        if entries is None:
            continue
        inner = table(entries.get("result"))
        if key in entries:
            yield entries[key]
        elif inner is not None and key in inner:
            yield inner[key]


def get_loop_status(view: View) -> object:
    """The first `status` of an earlier output, else `completed`."""
    return next(anywhere(view, "status"), "completed")


def _perspective(name: str) -> Callable[[View], str]:
    def function(view: View) -> str:
        return next(filter(None, (get_agent_response(view, agent) for agent in _PERSPECTIVES[name])), "")

    return function


def get_collaborative_responses(view: View) -> str:
    """The four perspectives as labelled paragraphs; those without a response are left out."""
    paragraphs: list[str] = []
    for name in _PERSPECTIVES:
        response = _perspective(name)(view)
        if response:
            paragraphs.append(f"{name.split('_')[1].capitalize()}: {response}")
    return "\n\n".join(paragraphs)


FUNCTIONS: Mapping[str, Callable[..., object]] = {
    "get_agent_response": get_agent_response,
    "get_collaborative_responses": get_collaborative_responses,
    "get_execution_artifacts": get_execution_artifacts,
    "get_fork_responses": get_fork_responses,
    "get_loop_output": get_loop_output,
    "get_loop_status": get_loop_status,
    "has_context": has_context,
    "joined_results": joined_results,
    "safe_get_response": safe_get_response,
    **{name: _perspective(name) for name in _PERSPECTIVES},
}
