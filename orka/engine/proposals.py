"""Which ids a path executor runs: read out of whatever an earlier output proposes. Pure. Rules of workflow-format 14.2."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from orka.engine.routing import read_path
from orka.graph.kinds import CHOOSERS
from orka.graph.nodes import AgentNode, FailoverNode, ForkNode, JoinNode, LoopNode, MapNode, Node, PathNode, RouterNode
from orka.graph.tree import decode_text, plain, read_tree
from orka.types import Json, NodeId

_CONTROL: Final = re.compile(
    r"(?<![a-z])(?:graph_?scout|path_proposer|validator|router|routing|loop|fork|join|classifier|path_executor)(?![a-z])"
)
"""Words in ids of nodes that decide and do no work of their own."""
_WRAPPERS: Final = ("response", "result", "payload")
_DECISIONS: Final = frozenset({"commit_next", "commit_path", "shortlist"})
_MOST_TEXT: Final = 20_000
"""Characters of a text that may hold a proposal."""
_MOST_IDS: Final = 1000
_DEPTH: Final = 4
"""Wrappers that are taken off."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What was found."""

    ids: tuple[NodeId, ...] = ()
    """To run, in order; some may not be defined."""
    dropped: tuple[NodeId, ...] = ()
    """Left out: they name control nodes, or what the executor lies in."""
    problem: str = ""
    """Why there is nothing to run."""


class _NoProposalError(Exception):
    """What was found is one, but says that nothing is to run."""


def find_proposal(
    outputs: Mapping[str, Json],
    source: str,
    nodes: Mapping[NodeId, Node],
    around: frozenset[NodeId] = frozenset(),
) -> Proposal:
    """The proposal at the dotted path `source`. `nodes` are those that it may name, `around` those that the executor
    lies in, which would run inside themselves."""
    problem = f"nothing proposes a path under {source!r} (earlier outputs: {_shown(outputs)})"
    for variant in _variants(source):
        value = read_path(outputs, variant)
        if value is None:
            continue
        try:
            ids = _read(value, nodes, _DEPTH)
        except _NoProposalError as exc:
            problem = f"{source!r}: {exc}"
            break
        if ids:
            kept = tuple(name for name in ids if name not in around and _runs(name, nodes))
            dropped = tuple(dict.fromkeys(name for name in ids if name in around or not _runs(name, nodes)))
            problem = "" if kept else f"{source!r} proposes control nodes alone: {', '.join(dropped)}"
            return Proposal(kept[:_MOST_IDS], dropped, problem)
        problem = f"what is under {source!r} holds no ids of agents"
    return Proposal(problem=problem)


def is_runnable(node: Node) -> bool:
    """Whether a proposal may name this node."""
    match node:
        case AgentNode(id=name, type=kind):
            return kind not in CHOOSERS and not looks_like_control(name)
        case FailoverNode(id=name) | MapNode(id=name):
            return not looks_like_control(name)
        case RouterNode() | ForkNode() | JoinNode() | LoopNode() | PathNode():
            return False


def looks_like_control(name: str) -> bool:
    """An id with a word in it that OrKa 0.9 took for the sign of a control node."""
    return _CONTROL.search(name.lower().replace("-", "_").replace(" ", "_")) is not None


def _runs(name: NodeId, nodes: Mapping[NodeId, Node]) -> bool:
    node = nodes.get(name)
    return not looks_like_control(name) if node is None else is_runnable(node)


def _variants(source: str) -> Iterator[str]:
    """The dotted path as it is, and as other versions would have written it."""
    head, *rest = source.split(".")
    tried: dict[str, None] = {source: None}
    for word in ("response", "result"):
        tried[".".join([head, *(part for part in rest if part != word)])] = None
    tried[".".join([head, "response", *rest])] = None
    yield from tried


def _read(value: object, nodes: Mapping[NodeId, Node], depth: int) -> list[NodeId]:
    """The ids in a value of any of the accepted forms; empty when it has none."""
    if depth == 0:
        return []
    match value:
        case str():
            return _of_text(value, nodes, depth)
        case list():
            return _of_list(cast("list[object]", value), None, nodes, depth)
        case dict():
            return _of_mapping(cast("dict[str, object]", value), nodes, depth)
        case _:
            return []


def _of_mapping(value: Mapping[str, object], nodes: Mapping[NodeId, Node], depth: int) -> list[NodeId]:
    if "loops_completed" in value and isinstance(inner := value.get("result"), dict):
        return _of_round(cast("dict[str, object]", inner), nodes, depth)
    decision = value.get("decision", value.get("decision_type"))
    target = value.get("target") or value.get("path")
    if isinstance(decision, str) and "target" in value:
        if decision not in _DECISIONS:
            raise _NoProposalError(f"the decision is {decision!r}, with which nothing is to run")
        if isinstance(target, str) and target in nodes:
            return [NodeId(target)]
        if decision == "commit_next":
            return _read(target, nodes, depth - 1)[:1]
        if isinstance(target, list):
            return _of_list(cast("list[object]", target), decision, nodes, depth - 1)
    if target is not None and (found := _read(target, nodes, depth - 1)):
        return found
    if isinstance(name := value.get("node_id"), str):
        return [NodeId(name)]
    for key in _WRAPPERS:
        if (found := _read(value.get(key), nodes, depth - 1)) != []:
            return found
    return []


def _of_round(results: Mapping[str, object], nodes: Mapping[NodeId, Node], depth: int) -> list[NodeId]:
    """Of a loop's last round: the first result in it that decides or names a path."""
    for output in results.values():
        for holder in _unwrapped(output):
            if any(holder.get(key) for key in ("decision", "target", "path")) and (
                found := _read(holder, nodes, depth)
            ):
                return found
    return []


def _unwrapped(output: object) -> Iterator[Mapping[str, object]]:
    """A result, and what is in its `response` or `result`."""
    if not isinstance(output, dict):
        return
    whole = cast("dict[str, object]", output)
    yield whole
    for key in _WRAPPERS:
        inner = whole.get(key)
        if isinstance(inner, str) and (read := _decoded(inner)) is not None:
            inner = read
        if isinstance(inner, dict):
            yield cast("dict[str, object]", inner)


def _of_list(items: Sequence[object], decision: str | None, nodes: Mapping[NodeId, Node], depth: int) -> list[NodeId]:
    """Ids, steps of a path, or candidates of which the best is taken."""
    steps = [cast("dict[str, object]", item) for item in items if isinstance(item, dict)]
    candidates = len(steps) == len(items) and all(isinstance(step.get("path"), list) for step in steps)
    if steps and (decision == "shortlist" or (decision is None and candidates)):
        best = max(steps, key=_score_of)  # of equal ones the first
        return _read(best.get("path"), nodes, depth - 1) or _read(best.get("node_id"), nodes, depth - 1)
    found: list[NodeId] = []
    for item in items:
        if isinstance(item, str):
            found.append(NodeId(item.strip()))
        elif isinstance(item, dict):
            step = cast("dict[str, object]", item)
            name = step.get("node_id") or step.get("id")
            found += [NodeId(name)] if isinstance(name, str) else _read(step.get("path"), nodes, depth - 1)
    return [name for name in found if name]


def _score_of(candidate: Mapping[str, object]) -> float:
    score = candidate.get("score")
    return float(score) if isinstance(score, int | float) and not isinstance(score, bool) else 0.0


def _of_text(text: str, nodes: Mapping[NodeId, Node], depth: int) -> list[NodeId]:
    text = text.strip()
    if text in nodes:
        return [NodeId(text)]
    if (value := _decoded(text)) is not None:
        return _read(value, nodes, depth - 1)
    if len(text) <= _MOST_TEXT and re.search(r"->|→", text):
        names = [part.strip(" \t\n\"'`[]") for part in re.split(r"->|→", text)]
        return [NodeId(name) for name in names if name and len(name) <= 200]
    return []


def _decoded(text: str) -> object:
    """The list or mapping that a text is as JSON or YAML, in a fence or not; None for any other text."""
    text = text.strip()
    if not 2 <= len(text) <= _MOST_TEXT:
        return None
    if (fence := re.search(r"```(?:\w+)?\s*\n(.*?)```", text, re.DOTALL)) is not None:
        text = fence[1].strip()
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        clean, findings = decode_text(text, "a proposal")
        tree = None if findings.failed else read_tree(clean, findings)
        value = None if tree is None or findings.failed else plain(tree)
    return cast("object", value) if isinstance(value, dict | list) else None


def _shown(outputs: Mapping[str, Json]) -> str:
    names = list(outputs)
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "none"
