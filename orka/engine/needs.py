"""What a sequence may lead to: agent types and modules that a worker must have, branches, earlier outputs. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from orka.agents.base import AgentTools
from orka.agents.function import is_permitted
from orka.agents.tooling.spec import SERVER, may_start, needs_of
from orka.agents.tooling.toolbox import default_toolbox
from orka.engine.program import Body, SequenceFacts, Step
from orka.engine.proposals import is_runnable
from orka.engine.texts import templates_in
from orka.graph.nodes import AgentNode, FailoverNode, ForkNode, JoinNode, LoopNode, MapNode, PathNode, RouterNode
from orka.types import NodeId


def facts_of(body: Body, sequence: tuple[NodeId, ...]) -> SequenceFacts:
    """Found once for each sequence of a body."""
    facts = body.facts.get(sequence)
    if facts is None:
        steps = list(_steps(body, sequence))
        facts = body.facts[sequence] = SequenceFacts(
            needs=_needs_of(steps), branches=_opens_branches(steps), reads=_reads_of(steps)
        )
    return facts


def _needs_of(steps: Iterable[Step]) -> tuple[str, ...]:
    found: set[str] = set()
    for step in steps:
        if isinstance(step.node, AgentNode):
            found.update(_needs(step.node))
    return tuple(sorted(found))


def _opens_branches(steps: Iterable[Step]) -> bool:
    return any(
        isinstance(step.node, ForkNode | MapNode) or (isinstance(step.node, AgentNode) and not step.plain)
        for step in steps
    )


def _reads_of(steps: Iterable[Step]) -> frozenset[str] | None:
    found: set[str] = set()
    for step in steps:
        match step.node:
            case AgentNode():
                templates = [*templates_in(step.texts), *(() if step.prompt is None else (step.prompt,))]
                if not step.plain or any(template.reads_all for template in templates):
                    return None
                found.update(*(template.reads for template in templates))
            case RouterNode(decision_key=key):
                found |= {key, key.partition(".")[0]}
            case MapNode():
                if step.items is None or step.items.reads_all:
                    return None
                found |= step.items.reads
            case PathNode(source=source, input_source=given):
                found |= {part for key in (source, given) if key for part in (key, key.partition(".")[0])}
            case LoopNode():
                return None  # its rounds see earlier outputs in their input, too
            case ForkNode() | JoinNode() | FailoverNode():
                pass
    return frozenset(found)


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
            waiting += [(inside, inner) for inner in _named(part, inside)]


def _with_children(step: Step) -> Iterator[Step]:
    yield step
    for child in step.children:
        yield from _with_children(child)


def _needs(node: AgentNode) -> Iterator[str]:
    yield node.type
    function = node.options.get("function")
    if node.type == "function" and isinstance(function, str):
        yield f"function:{function.partition(':')[0]}"
    yield from needs_of(node.options)


def lacking_for(need: str, types: Container[str], tools: AgentTools) -> str | None:
    """What a worker with these lacks for one of a task's needs, and how to start it then; None when nothing."""
    kind, _, what = need.partition(":")
    if kind == "tool":
        known = (tools.toolbox or default_toolbox()).find(what) is not None
        return None if known else f"this worker has no tool {what!r}: start it with --import MODULE"
    if kind == SERVER:
        allowed = may_start(need, tools.allow_functions)
        return None if allowed else f"this worker may not start {what!r}: start it with --allow-functions={need}"
    if what and not is_permitted(what, tools.allow_functions):
        return f"this worker may not call functions of {what!r}: start it with --allow-functions"
    return None if kind in types else f"this worker has no agent type {kind!r}: start it with --import MODULE"


def _named(step: Step, body: Body) -> Iterator[NodeId]:
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
        case PathNode():  # whatever an earlier output may propose
            yield from (name for name, other in body.steps.items() if is_runnable(other.node))
        case AgentNode():
            yield from step.chooses
        case JoinNode() | FailoverNode() | LoopNode():
            return
