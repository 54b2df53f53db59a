"""Parsed areas -> the scopes of a `Graph`: names are looked up, lists are ordered, bodies and children are filled in.

Works on what has no errors; what has some is left out, and no graph is made of it in the end.
"""

from __future__ import annotations

import dataclasses

from orka.graph.diagnostics import Findings
from orka.graph.frames import joined_forks
from orka.graph.nodes import FailoverNode, ForkNode, JoinNode, LoopNode, Node, Scope
from orka.graph.order import Cycle, order_sequence
from orka.graph.outline import Area, Definition
from orka.types import NodeId

MAX_NODES = 50_000
"""Nodes of a graph, a failover's children counted at every failover that names them."""
MAX_OPEN = 120
"""Failovers and loops inside each other that are filled in; more than the checker lets pass."""


def assemble(top: Area, findings: Findings) -> Scope:
    """The scope of a whole file. Dependency cycles and joins without a fork to wait for are reported to
    `findings`."""
    return _Assembler(findings, joined_forks(top)).scope(top)


class _Assembler:
    def __init__(self, findings: Findings, joined: frozenset[int]) -> None:
        self._findings = findings
        self._joined = joined
        """`id` of the forks that a join waits for."""
        self._open: list[Definition] = []
        """Definitions that are being filled in, outermost first."""
        self._made = 0

    def scope(self, area: Area) -> Scope:
        nodes: dict[NodeId, Node] = {}
        for name, definition in area.definitions.items():
            if (node := self._node(area, definition)) is not None:
                nodes[name] = node
        return Scope(sequence=self._sequence(area), nodes=nodes)

    def _sequence(self, area: Area) -> tuple[NodeId, ...]:
        listed = [mention.name for mention in area.listed]
        depends_on: dict[NodeId, list[NodeId]] = {}
        for name in listed:
            if (found := area.find(name)) is not None:
                depends_on[name] = [mention.name for mention in found[1].depends_on]
        ordered = order_sequence(listed, depends_on)
        if not isinstance(ordered, Cycle):
            return ordered
        first, second = ordered.ids[0], ordered.ids[1 % len(ordered.ids)]
        found = area.find(first)
        assert found is not None
        mention = next(mention for mention in found[1].depends_on if mention.name == second)
        shown = ordered.ids if len(ordered.ids) <= 8 else (*ordered.ids[:8], "...")
        chain = " -> ".join((*shown, first))
        self._findings.error(
            f"dependency cycle: {chain}",
            mention.at,
            hint="each waits for the next; take one 'depends_on' away",
            agent=first,
            key="depends_on",
        )
        return tuple(listed)

    def _node(self, area: Area, definition: Definition) -> Node | None:
        self._made += 1
        if self._made > MAX_NODES:
            if self._made == MAX_NODES + 1:
                self._findings.error(f"more than {MAX_NODES:,} nodes, counting shared children", definition.at)
            return None
        self._open.append(definition)
        try:
            return self._filled(area, definition)
        finally:
            self._open.pop()

    def _filled(self, area: Area, definition: Definition) -> Node | None:
        node = definition.node
        match node:
            case LoopNode() if definition.body is not None:
                return dataclasses.replace(node, body=self.scope(definition.body))
            case FailoverNode():
                return dataclasses.replace(node, children=self._children(area, definition))
            case ForkNode() if id(definition) not in self._joined:
                return dataclasses.replace(node, awaited=True)
            case JoinNode():
                return self._join(area, definition, node)
            case _:
                return node

    def _children(self, area: Area, definition: Definition) -> tuple[Node, ...]:
        children: list[Node] = []
        for child in definition.children:
            if isinstance(child, Definition):
                inner = (area, child)
            else:
                found = area.find(child.name)
                if found is None:
                    continue  # reported by the checker
                inner = found
            # What contains itself, or is nested too deeply, the checker reports.
            if len(self._open) > MAX_OPEN or any(inner[1] is outer for outer in self._open):
                continue
            if (node := self._node(*inner)) is not None:
                children.append(node)
        return tuple(children)

    def _join(self, area: Area, definition: Definition, node: JoinNode) -> JoinNode | None:
        if definition.group is not None:
            return node
        forks = area.forks()
        if len(forks) == 1:
            return dataclasses.replace(node, group=forks[0])
        problem = "there is no fork to wait for" if not forks else f"there are {len(forks)} forks"
        self._findings.error(
            f"join {definition.id!r} has no 'group', and {problem}",
            definition.at,
            hint="'group' names the fork's id" + (f", one of {', '.join(map(repr, forks[:6]))}" if forks else ""),
            agent=definition.id,
            key="group",
        )
        return None
