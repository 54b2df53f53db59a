"""A file between parsing and assembling: definitions with their places, and every id that something names.

Names are not looked up while parsing, because a definition may stand after its use and outside the loop that uses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from orka.graph.diagnostics import Mark
from orka.graph.nodes import Node
from orka.graph.tree import Scalar
from orka.types import NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """An id that a list or key of the file names."""

    owner: NodeId | None
    """The node whose key it is; None for the list of an `orchestrator:`."""
    key: str
    """`targets`, `routing_map`, ..."""
    name: NodeId
    at: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A template or expression of the file."""

    owner: NodeId
    key: str
    scalar: Scalar
    expression: bool = False
    """Without braces: the `items` of a map."""
    certain: bool = True
    """False for an agent's option that merely looks like a template."""


@dataclass(slots=True, kw_only=True)
class Definition:
    """One node of the file. A loop's `node` still has an empty body and a failover's no children."""

    id: NodeId
    type: str
    at: Mark
    node: Node | None
    """None when it has errors that leave nothing to build."""
    depends_on: tuple[Mention, ...] = ()
    mentions: tuple[Mention, ...] = ()
    """Every id it names, `depends_on` apart."""
    texts: tuple[Text, ...] = ()
    body: Area | None = None
    """A loop's inner workflow."""
    children: tuple[Definition | Mention, ...] = ()
    """A failover's."""
    group: Mention | None = None
    """The fork that a join names."""
    made: bool = False
    """A nested fork of a fork's `targets`, not an entry of the file."""


@dataclass(slots=True, kw_only=True)
class Area:
    """A scope of the file: the whole of it, or the body of a loop."""

    owner: NodeId | None
    parent: Area | None
    at: Mark
    listed: tuple[Mention, ...] = ()
    """`orchestrator.agents`, as written."""
    incomplete: bool = False
    """Its `agents` cannot be read, so that nothing can be said about names."""
    definitions: dict[NodeId, Definition] = field(default_factory=dict[NodeId, Definition])

    def find(self, name: NodeId) -> tuple[Area, Definition] | None:
        """What `name` means here: the own definition, else that of the nearest scope around."""
        area: Area | None = self
        while area is not None:
            if (found := area.definitions.get(name)) is not None:
                return area, found
            area = area.parent
        return None

    def visible(self) -> Iterator[NodeId]:
        """Every id that may be named here, those of nested forks apart."""
        area: Area | None = self
        while area is not None:
            yield from (name for name, found in area.definitions.items() if not found.made)
            area = area.parent

    def forks(self) -> list[NodeId]:
        """Ids of the forks that a join may wait for here."""
        return [name for name in self.visible() if (found := self.find(name)) and found[1].type == "fork"]

    def walk(self) -> Iterator[tuple[Area, Definition]]:
        """Every definition with its scope, loop bodies and failover children included, outer before inner."""
        for definition in self.definitions.values():
            yield from _inside(self, definition)


def _inside(area: Area, definition: Definition) -> Iterator[tuple[Area, Definition]]:
    yield area, definition
    if definition.body is not None:
        yield from definition.body.walk()
    for child in definition.children:
        if isinstance(child, Definition):
            yield from _inside(area, child)


def areas(top: Area) -> Iterator[Area]:
    """`top` and every loop body within, outer before inner."""
    yield top
    for _, definition in top.walk():
        if definition.body is not None:
            yield definition.body
