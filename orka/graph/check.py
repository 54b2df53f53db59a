"""Checks of a whole file whose parts are parsed: the judgements and their wording. Pure; templates in `texts.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orka.graph.diagnostics import Findings, suggest
from orka.graph.frames import lost_joins
from orka.graph.models import KINDS
from orka.graph.nodes import FailoverNode, ForkNode, JoinNode, LoopNode, PathNode, RouterNode, Scope
from orka.graph.outline import Area, Definition, areas
from orka.graph.reach import containment, has_choosers, straight_places, unreached
from orka.graph.spec import CompileTemplate
from orka.graph.texts import check_texts
from orka.types import NodeId

MAX_DEPTH = 100
"""Nodes inside each other: a fork in a branch of a fork, a loop in a loop, and so on."""


def check_areas(
    top: Area, scope: Scope, findings: Findings, *, compile_template: CompileTemplate, strict: bool
) -> None:
    """Reports to `findings` what is wrong or suspicious about the file as a whole.

    `scope` is what `assemble` made of `top`. `strict` makes errors of undefined ids in the lists of loops and of what
    compiling a template notes.
    """
    _check_lists(top, findings, strict)
    for area, definition in top.walk():
        _check_mentions(area, definition, findings)
        _check_join(area, definition, findings)
    _check_children(top, findings)
    _check_containment(top, findings)
    places = straight_places(top, scope.sequence)
    _check_order(top, places, findings)
    _check_searches(top, findings)
    check_texts(top, places, findings, compile_template=compile_template, strict=strict)
    if not findings.failed:  # else most of it would only follow from the errors
        _check_reached(top, findings)
        _check_frames(top, findings)


def label_of(definition: Definition) -> str:
    """How messages call a node: `fork 'spread'`, `agent 'a'`."""
    return f"{definition.type if definition.type in KINDS else 'agent'} {definition.id!r}"


def _check_lists(top: Area, findings: Findings, strict: bool) -> None:
    for area in areas(top):
        for mention in () if top.incomplete or area.incomplete else area.listed:
            if area.find(mention.name) is not None:
                continue
            hint = _hint(area, mention.name, top)
            if area.owner is None:
                findings.error(f"agent {mention.name!r} is not defined", mention.at, hint=hint, key="agents")
                continue
            report = findings.error if strict else findings.warning
            report(
                f"agent {mention.name!r} in the list of loop {area.owner!r} is not defined"
                + ("" if strict else " and will be skipped"),
                mention.at,
                hint=hint,
                agent=area.owner,
                key="agents",
            )


def _check_mentions(area: Area, definition: Definition, findings: Findings) -> None:
    for mention in (*definition.mentions, *definition.depends_on):
        if area.find(mention.name) is None and not _top(area).incomplete:
            # Only what is in the same list moves an agent, so that a name which is nowhere changes nothing.
            report, so = (
                (findings.warning, ", so it waits for nothing") if mention.key == "depends_on" else (findings.error, "")
            )
            report(
                f"agent {mention.name!r} in {mention.key!r} of {label_of(definition)} is not defined{so}",
                mention.at,
                hint=_hint(area, mention.name, _top(area)),
                agent=definition.id,
                key=mention.key,
            )
    for key, dotted in _sources(definition):
        name = NodeId(dotted.split(".")[0])
        if name not in _everywhere(_top(area)) and name != "input":
            findings.warning(
                f"{key!r} of {label_of(definition)} names {name!r}, which nothing in this file defines",
                definition.at,
                hint=suggest(name, area.visible()),
                agent=definition.id,
                key=key,
            )


def _sources(definition: Definition) -> Iterator[tuple[str, str]]:
    """Keys whose value is a dotted path into the output of another node."""
    match definition.node:
        case RouterNode(decision_key=source):
            yield "decision_key", source
        case PathNode(source=source, input_source=given):
            yield "path_source", source
            if given is not None:
                yield "input_source", given
        case _:
            return


def _check_join(area: Area, definition: Definition, findings: Findings) -> None:
    node, group = definition.node, definition.group
    if definition.type != "join":
        return
    forks = area.forks()
    if group is None:
        found = area.find(forks[0]) if len(forks) == 1 else None
        if isinstance(node, JoinNode) and found is not None:
            _check_quorum(definition, node, found[1], findings)
        return
    found = area.find(group.name)
    if found is None:
        hint = suggest(group.name, forks) or (f"the fork here is {forks[0]!r}" if len(forks) == 1 else None)
        message = f"{label_of(definition)} waits for fork {group.name!r}, which is not defined"
    elif found[1].type != "fork":
        hint = suggest(group.name, forks) or "'group' names the fork's id"
        message = f"{label_of(definition)} waits for {group.name!r}, which is not a fork"
    else:
        if isinstance(node, JoinNode):
            _check_quorum(definition, node, found[1], findings)
        return
    findings.error(message, group.at, hint=hint, agent=definition.id, key="group")


def _check_quorum(definition: Definition, node: JoinNode, fork: Definition, findings: Findings) -> None:
    if not isinstance(fork.node, ForkNode) or node.min_success is None:
        return
    if node.min_success > len(fork.node.branches):
        findings.error(
            f"'min_success' of {label_of(definition)} is {node.min_success}, "
            f"but fork {fork.id!r} has {len(fork.node.branches)} branches",
            definition.at,
            agent=definition.id,
            key="min_success",
        )


def _check_children(top: Area, findings: Findings) -> None:
    """Ids of a failover's children that are also others' ids: allowed, but outputs of one name are easily mixed up."""
    first: dict[NodeId, Definition] = {}
    inner = [child for _, definition in top.walk() for child in definition.children if isinstance(child, Definition)]
    children = {id(child) for child in inner}
    for _, definition in top.walk():
        if id(definition) not in children:
            first.setdefault(definition.id, definition)
    siblings = {id(child): definition for _, definition in top.walk() for child in definition.children}
    for child in inner:
        other = first.setdefault(child.id, child)
        if other is not child and siblings.get(id(other)) is not siblings[id(child)]:  # else an error already
            findings.warning(
                f"child {child.id!r} of a failover has the id of another agent (line {other.at.line})",
                child.at,
                agent=child.id,
                key="id",
            )


def _check_containment(top: Area, findings: Findings) -> None:
    found = containment(top)
    named = [definition for definition in found.chain if not definition.made]
    if found.cyclic and named:
        first = named[0]
        chain = " -> ".join(definition.id for definition in (*named[:8], first))
        findings.error(
            f"{label_of(first)} runs inside itself: {chain}",
            first.at,
            hint="a router can go back to an earlier agent; a fork, loop, map or failover cannot contain itself",
            agent=first.id,
        )
    elif len(named) > MAX_DEPTH:
        findings.error(
            f"{len(named)} nodes are nested inside each other, the outermost being {label_of(named[0])}",
            named[0].at,
            hint=f"at most {MAX_DEPTH}",
            agent=named[0].id,
        )


def _check_order(top: Area, places: Mapping[NodeId, int], findings: Findings) -> None:
    """Joins and routers that run before what they need."""
    for definition in top.definitions.values():
        node = definition.node
        if isinstance(node, JoinNode):
            forks = top.forks()
            needed, verb = node.group or (forks[0] if len(forks) == 1 else None), "waits for"
        elif isinstance(node, RouterNode):
            needed, verb = NodeId(node.decision_key.split(".")[0]), "decides by"
        else:
            continue
        here, there = places.get(definition.id), places.get(needed) if needed else None
        if here is not None and there is not None and there > here:
            findings.warning(
                f"{label_of(definition)} {verb} {needed!r}, which runs only later",
                definition.at,
                hint=f"list it after {needed!r}, or give it 'depends_on: {needed}'",
                agent=definition.id,
            )


def _check_searches(top: Area, findings: Findings) -> None:
    """Agents in which a loop looks for its score, and that do not exist."""
    for _, definition in top.walk():
        node, body = definition.node, definition.body
        if not isinstance(node, LoopNode) or body is None:
            continue
        for name in (*node.priority_agents, *(agent for strategy in node.strategies for agent in strategy.agents)):
            if body.find(name) is None:
                findings.warning(
                    f"{label_of(definition)} looks for its score in {name!r}, which is not defined",
                    definition.at,
                    hint=suggest(name, body.visible()),
                    agent=definition.id,
                )


def _check_reached(top: Area, findings: Findings) -> None:
    if has_choosers(top):
        return
    for definition in unreached(top):
        findings.warning(
            f"{label_of(definition)} is never reached",
            definition.at,
            hint="no list, route or branch names it",
            agent=definition.id,
        )


def _check_frames(top: Area, findings: Findings) -> None:
    """Joins that a run would skip: a frame knows only the forks that it has opened itself, and each only once."""
    if has_choosers(top):
        return
    for lost in lost_joins(top):
        why = (
            f"fork {lost.fork!r}, which is joined before and not opened again: it will be skipped"
            if lost.again
            else f"fork {lost.fork!r}, but runs in {lost.frame}, which does not open it: it will be skipped"
        )
        findings.warning(
            f"{label_of(lost.join)} waits for {why}",
            lost.join.at,
            hint=None if lost.again else f"list it where {lost.fork!r} is listed",
            agent=lost.join.id,
            key="group",
        )


def _hint(area: Area, name: NodeId, top: Area) -> str | None:
    """A close name, or where the name is defined although it cannot be used here."""
    for outer, definition in top.walk():
        if isinstance(definition.node, FailoverNode):
            children = [child for child in definition.children if isinstance(child, Definition)]
            if any(child.id == name for child in children):
                return f"it is a child of failover {definition.id!r}; define it under 'agents' to use it here too"
        if definition.id == name and outer is not area and outer.owner is not None:
            return f"it is defined inside loop {outer.owner!r} and known only there"
    return suggest(name, area.visible())


def _everywhere(top: Area) -> frozenset[NodeId]:
    return frozenset(definition.id for _, definition in top.walk())


def _top(area: Area) -> Area:
    while area.parent is not None:
        area = area.parent
    return area
