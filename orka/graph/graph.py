"""`Graph`: one checked graph with its digests. Made by `load_graph` or decoded from a journal; never changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from orka.graph.nodes import NO_OPTIONS, FailoverNode, Limits, LoopNode, Node, Scope
from orka.types import Digest, Json, NodeId

FORMAT = 1
"""Version of the graph's JSON form. A reader refuses a higher one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A graph that passed every check."""

    id: str
    scope: Scope
    limits: Limits
    options: Mapping[str, Json] = field(default_factory=lambda: NO_OPTIONS)
    """Keys of `orchestrator:` that the interpreter itself does not use (`memory_preset`, ...)."""
    digest: Digest
    """Of the canonical JSON; lines and the file's name do not count."""
    source: str = "<graph>"
    """File it was read from, for messages only; not part of the digest."""

    def nodes(self) -> Iterator[Node]:
        """Every node, loop bodies and failover children included, outer before inner."""
        yield from _walk(self.scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a node stands: what an agent that chooses among others is told of them."""

    nodes: Mapping[NodeId, Node] = field(default_factory=dict[NodeId, Node])
    """Every node that it may name, by id: those of its own scope over those of the scopes around it."""
    sequence: tuple[NodeId, ...] = ()
    """The list of its own scope."""
    loops: tuple[NodeId, ...] = ()
    """The loops around it, innermost first."""


def _walk(scope: Scope) -> Iterator[Node]:
    for node in scope.nodes.values():
        yield from _inner(node)


def _inner(node: Node) -> Iterator[Node]:
    yield node
    if isinstance(node, LoopNode):
        yield from _walk(node.body)
    elif isinstance(node, FailoverNode):
        for child in node.children:
            yield from _inner(child)


def lookup(chain: tuple[Scope, ...], node_id: NodeId) -> Node | None:
    """The definition of `node_id`, innermost scope first. `chain` is innermost first."""
    for scope in chain:
        if (node := scope.nodes.get(node_id)) is not None:
            return node
    return None
