"""`get_execution_artifacts`: what ran, told from the shape of its outputs, in the form that the invariant validator reads."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import cast

from orka.template.view import View

_Table = Mapping[str, object]
_OWN_KEYS = frozenset({"response", "confidence", "internal_reasoning", "_metrics", "formatted_prompt", "tool_calls"})
"""Keys that every result may have: not part of its structured output."""


def get_execution_artifacts(view: View, outputs: object = None) -> dict[str, object]:
    """`nodes_executed`, `fork_groups`, `router_decisions`, `graph_structure`, `tool_calls`, `structured_outputs` and
    `graphscout_candidates` of what ran before."""
    known = _table(outputs) or view.outputs
    names = list(known)
    forks: dict[str, object] = {}
    decisions: dict[str, object] = {}
    calls: list[object] = []
    structured: dict[str, object] = {}
    candidates: list[object] = []
    edges: dict[tuple[str, str], None] = dict.fromkeys(pairwise(names))
    for place, (name, output) in enumerate(known.items()):
        entries = _table(output)
        if entries is None:
            chosen = [item for item in _list(output) if isinstance(item, str)]
            # Results of a search are a list of texts, too: ids are names, or have run.
            if (
                chosen
                and len(chosen) == len(_list(output))
                and all(one in known or one.isidentifier() for one in chosen)
            ):
                decisions[name] = {"chosen_target": chosen[0], "targets": chosen}
                edges |= dict.fromkeys((name, target) for target in chosen if target in known)
        elif "fork_group" in entries:
            forks[name] = _fork(known, entries)
            edges |= dict.fromkeys((name, str(agent)) for agent in _list(entries.get("agents")))
        else:
            calls += _calls(name, entries, last=place == len(names) - 1)
            fields = {key: value for key, value in entries.items() if key not in _OWN_KEYS}
            if fields:
                structured[name] = {**fields, "schema_valid": _is_valid(entries)}
            candidates += _candidates(entries)
    nodes = list(dict.fromkeys([*names, *(node for edge in edges for node in edge)]))
    return {
        "nodes_executed": names,
        "fork_groups": forks,
        "router_decisions": decisions,
        "graph_structure": {"nodes": nodes, "edges": [{"src": src, "dst": dst} for src, dst in edges]},
        "tool_calls": calls,
        "structured_outputs": structured,
        "graphscout_candidates": candidates,
    }


def _fork(known: _Table, fork: _Table) -> dict[str, object]:
    agents = [str(agent) for agent in _list(fork.get("agents"))]
    joins = [_table(entries.get("merged")) for output in known.values() if (entries := _table(output)) is not None]
    joined = [merged for merged in joins if merged is not None and not set(agents).isdisjoint(merged)]
    done = [agent for agent in agents if agent in known or any(agent in merged for merged in joined)]
    return {
        "agents": agents,
        "status": fork.get("status"),
        "has_join": bool(joined),
        "branches": agents,
        "completed_branches": done,
    }


def _calls(name: str, entries: _Table, *, last: bool) -> list[object]:
    """The tools that a model called, and a visit that failed: nobody has taken that in, and the run went on."""
    found: list[object] = [_called(name, call) for call in _list(entries.get("tool_calls"))]
    if entries.get("status") == "error" and "error_type" in entries:
        failed: dict[str, object] = {"node_id": name, "tool": None, "status": "error", "error": entries.get("error")}
        found.append({**failed, "error_handled": False, "execution_continued_after_error": not last})
    return found


def _called(name: str, call: object) -> dict[str, object]:
    """One call of a tool. Agents tell the model of an error, and it goes on."""
    record = _table(call)
    failed = record is not None and "error" in record
    return {
        "node_id": name,
        "tool": call if record is None else record.get("name"),
        "status": "error" if failed else "success",
        "error_handled": failed,
        "execution_continued_after_error": failed,
    }


def _is_valid(entries: _Table) -> bool:
    """A model's answer that was to be JSON and is none says so."""
    return not entries.get("parse_error") and entries.get("error") != "json_parse_failed"


def _candidates(entries: _Table) -> list[object]:
    """Paths that a scout has decided on or shortlisted."""
    if "decision" not in entries:
        return []
    target = entries.get("target")
    if isinstance(target, str):
        return [{"path": [target]}]
    items = _list(target)
    if items and all(isinstance(item, str) for item in items):
        return [{"path": items}]
    return [{"path": _list(item["path"])} for entry in items if (item := _table(entry)) is not None and "path" in item]


def _table(value: object) -> _Table | None:
    return cast("_Table", value) if isinstance(value, Mapping) else None


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
