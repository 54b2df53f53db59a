"""What a sequence may lead to: agent types and modules of functions that a worker must have, and branches. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orka.engine.program import Body, Step
from orka.graph.nodes import AgentNode, FailoverNode, ForkNode, JoinNode, LoopNode, MapNode, RouterNode
from orka.types import NodeId


def needs_of(body: Body, sequence: Iterable[NodeId]) -> tuple[str, ...]:
    """Types of all agents that a sequence can lead to, `function:<module>` for each function, sorted. What an agent
    chooses by itself is not known before."""
    found: set[str] = set()
    for step in _steps(body, sequence):
        if isinstance(step.node, AgentNode):
            found.update(_needs(step.node))
    return tuple(sorted(found))


def opens_branches(body: Body, sequence: Iterable[NodeId]) -> bool:
    """A fork or a map may be among its visits. An agent that chooses what runs next may lead anywhere, and counts."""
    return any(isinstance(step.node, ForkNode | MapNode) for step in _steps(body, sequence))


def _steps(body: Body, sequence: Iterable[NodeId]) -> Iterator[Step]:
    """Every step that a sequence can lead to, children of failovers included."""
    waiting: list[tuple[Body, NodeId]] = [(body, node_id) for node_id in sequence]
    seen: set[tuple[int, NodeId]] = set()
    while waiting:
        inside, node_id = waiting.pop()
        step = inside.steps.get(node_id)
        if step is None or (id(inside), node_id) in seen:
            continue
        seen.add((id(inside), node_id))
        for part in _with_children(step):
            yield part
            if part.body is not None:
                waiting += [(part.body, inner) for inner in part.body.sequence]
            waiting += [(inside, inner) for inner in _named(part)]


def _with_children(step: Step) -> Iterator[Step]:
    yield step
    for child in step.children:
        yield from _with_children(child)


def _needs(node: AgentNode) -> Iterator[str]:
    yield node.type
    function = node.options.get("function")
    if node.type == "function" and isinstance(function, str):
        yield f"function:{function.partition(':')[0]}"


def _named(step: Step) -> Iterator[NodeId]:
    match step.node:
        case RouterNode(routes=routes, fallback=fallback):
            for _, ids in routes:
                yield from ids
            yield from fallback or ()
        case ForkNode(branches=branches):
            for branch in branches:
                yield from branch
        case MapNode(sequence=sequence):
            yield from sequence
        case AgentNode() | JoinNode() | FailoverNode() | LoopNode():
            return
