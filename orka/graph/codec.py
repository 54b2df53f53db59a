"""`Graph` <-> canonical JSON, and the digests made of it. Neither YAML nor pydantic is needed here.

Fields that have their default are left out, so that a field added later leaves the digests of older graphs alone.
Lines and the file's name are not part of the form.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import msgspec

from orka.errors import ConfigError
from orka.graph.graph import FORMAT, Graph
from orka.graph.nodes import (
    AgentNode,
    Cognition,
    FailoverNode,
    ForkNode,
    JoinNode,
    Limits,
    LoopNode,
    MapNode,
    Node,
    PathNode,
    Policy,
    Rate,
    RouterNode,
    Scope,
    ScoreStrategy,
    Scoring,
)
from orka.types import Digest, NodeId

_KINDS: Mapping[str, type[Node]] = {
    "agent": AgentNode,
    "router": RouterNode,
    "fork": ForkNode,
    "join": JoinNode,
    "failover": FailoverNode,
    "loop": LoopNode,
    "map": MapNode,
    "path": PathNode,
}
_TAGS: Mapping[type, str] = {kind: tag for tag, kind in _KINDS.items()}
_PARTS: Mapping[str, Any] = {
    "id": NodeId,
    "type": str,
    "prompt": str | None,
    "policy": Policy,
    "max_concurrency": int | None,
    "rate_limit": Rate | None,
    "resource": str | None,
    "runs_on": str | None,
    "terminal": bool,
    "max_loops": int,
    "score_threshold": float,
    "fallback_score": float | None,
    "timeout_score": float | None,
    "options": dict[str, Any],
    "strategies": tuple[ScoreStrategy, ...],
    "priority_agents": tuple[NodeId, ...],
    "past_loops_metadata": tuple[tuple[str, str], ...],
    "cognition": Cognition | None,
    "scoring": Scoring | None,
    "agreement": bool,
    "persist": bool,
}
"""Types of the fields of nodes that msgspec cannot convert as a whole, other nodes apart."""
T = TypeVar("T")


def encode_graph(graph: Graph) -> bytes:
    """Canonical JSON: sorted keys, no blanks, UTF-8."""
    return _dump(_graph_form(graph.id, graph.scope, graph.limits, graph.options))


def decode_graph(data: bytes | str, *, source: str = "<graph>") -> Graph:
    """The graph of `encode_graph`. `ConfigError` when the form is of a newer version or not a graph."""
    try:
        form = msgspec.json.decode(data)
        version = form["format"]
        if not isinstance(version, int) or version > FORMAT:
            raise ConfigError(
                f"the graph of {source!r} has format {version}, and this version reads formats up to {FORMAT}; "
                "use a newer version of Orka",
                path=source,
            )
        scope = _scope(form["scope"])
        limits = msgspec.convert(form.get("limits", {}), Limits)
        options = msgspec.convert(form.get("options", {}), dict[str, Any])
        graph_id = msgspec.convert(form["id"], str)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ConfigError(f"the graph of {source!r} cannot be decoded: {exc}", path=source) from exc
    return make_graph(graph_id, scope, limits, options, source=source)


def make_graph(
    graph_id: str, scope: Scope, limits: Limits, options: Mapping[str, Any], *, source: str = "<graph>"
) -> Graph:
    """A graph with its digest."""
    digest = digest_of(_graph_form(graph_id, scope, limits, options))
    return Graph(id=graph_id, scope=scope, limits=limits, options=options, digest=digest, source=source)


def node_digest(node: Node) -> Digest:
    """Of one node with everything inside it: changes exactly when its meaning in the file does."""
    return digest_of(_form(node))


def digest_of(form: object) -> Digest:
    """SHA-256 of the canonical JSON of plain data."""
    return Digest(hashlib.sha256(_dump(form)).hexdigest())


def _dump(form: object) -> bytes:
    return msgspec.json.encode(form, order="sorted")


def _graph_form(graph_id: str, scope: Scope, limits: Limits, options: Mapping[str, Any]) -> dict[str, object]:
    return {"format": FORMAT, "id": graph_id, "scope": _form(scope), "limits": _form(limits), "options": dict(options)}


def _form(value: object) -> object:
    """Plain data of a value: dataclasses without defaults, and with their kind where it could be another."""
    if dataclasses.is_dataclass(value):
        form: dict[str, object] = {"kind": _TAGS[type(value)]} if type(value) in _TAGS else {}
        for item in dataclasses.fields(value):
            field_value = getattr(value, item.name)
            if item.name != "line" and not _is_default(item, field_value):
                form[item.name] = _form(field_value)
        return form
    if isinstance(value, Mapping):
        return {key: _form(inner) for key, inner in cast("Mapping[str, object]", value).items()}
    if isinstance(value, tuple | list):
        return [_form(inner) for inner in cast("tuple[object, ...]", value)]
    return value


def _is_default(item: dataclasses.Field[Any], value: object) -> bool:
    if item.default_factory is not dataclasses.MISSING:
        return bool(value == item.default_factory())
    # The type counts too: False is not 0, and 1 is not 1.0 in the other reader's eyes.
    return value == item.default and type(value) is type(item.default)


def _scope(form: Any) -> Scope:
    nodes = {NodeId(name): _node(inner) for name, inner in form["nodes"].items()}
    return Scope(sequence=msgspec.convert(form.get("sequence", []), tuple[NodeId, ...]), nodes=nodes)


def _node(form: Any) -> Node:
    fields: dict[str, Any] = dict(form)
    kind = _KINDS[fields.pop("kind")]
    if kind in (RouterNode, ForkNode, JoinNode, MapNode, PathNode):
        return msgspec.convert(fields, kind)
    # msgspec cannot convert these by type: JSON is a recursive alias, and nodes are a union of plain dataclasses.
    known = {item.name for item in dataclasses.fields(kind)}
    for name in [name for name in fields if name not in known]:
        del fields[name]
    for name, part in _PARTS.items():
        if name in fields:
            fields[name] = msgspec.convert(fields[name], part)
    if kind is LoopNode:
        fields["body"] = _scope(fields["body"])
    if kind is FailoverNode:
        fields["children"] = tuple(_node(child) for child in fields["children"])
    return kind(**fields)
