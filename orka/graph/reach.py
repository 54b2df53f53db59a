"""What contains, reaches and precedes what in a parsed file. Pure: answers only, judged and worded by `check.py`.

Nothing here recurses along names: a file may chain many thousand definitions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orka.graph.kinds import CHOOSERS
from orka.graph.nodes import AgentNode, FailoverNode, ForkNode, MapNode
from orka.graph.outline import Area, Definition, areas
from orka.types import Json, NodeId


@dataclass(frozen=True, slots=True)
class Containment:
    """A definition that runs inside itself, or the deepest chain of definitions inside each other."""

    chain: tuple[Definition, ...]
    """Outermost first. Of a cycle: the last contains the first again."""
    cyclic: bool


def contents(area: Area, definition: Definition) -> Iterator[tuple[Area, Definition]]:
    """What runs inside a visit to `definition`, whatever the data say. A router only *may* run what it names."""
    if definition.body is not None:
        for mention in definition.body.listed:
            if (found := definition.body.find(mention.name)) is not None:
                yield found
    if isinstance(definition.node, ForkNode | MapNode | FailoverNode):
        for mention in definition.mentions:
            if (found := area.find(mention.name)) is not None:
                yield found
        for child in definition.children:
            if isinstance(child, Definition):
                yield area, child


def containment(top: Area) -> Containment:
    """The first cycle in the order of the file, else the deepest chain."""
    closed: list[tuple[Area, Definition]] = []
    """Inner before outer."""
    seen: set[int] = set()
    for start in top.walk():
        if id(start[1]) in seen:
            continue
        seen.add(id(start[1]))
        trail = [(start, contents(*start))]
        place_of = {id(start[1]): 0}
        while trail:
            pair, inside = trail[-1]
            inner = next(inside, None)
            if inner is None:
                closed.append(pair)
                del place_of[id(pair[1])]
                trail.pop()
            elif (place := place_of.get(id(inner[1]))) is not None:
                return Containment(tuple(outer[1] for outer, _ in trail[place:]), cyclic=True)
            elif id(inner[1]) not in seen:
                seen.add(id(inner[1]))
                place_of[id(inner[1])] = len(trail)
                trail.append((inner, contents(*inner)))
    return Containment(_deepest(closed), cyclic=False)


def _deepest(closed: list[tuple[Area, Definition]]) -> tuple[Definition, ...]:
    height: dict[int, int] = {}
    below: dict[int, Definition] = {}
    for area, definition in closed:
        best = max((inner for _, inner in contents(area, definition)), key=lambda d: height[id(d)], default=None)
        height[id(definition)] = 1 + (height[id(best)] if best is not None else 0)
        if best is not None:
            below[id(definition)] = best
    here = max((definition for _, definition in closed), key=lambda d: height[id(d)], default=None)
    chain: list[Definition] = []
    while here is not None:
        chain.append(here)
        here = below.get(id(here))
    return tuple(chain)


def unreached(top: Area) -> list[Definition]:
    """Definitions that no list, route or branch leads to from the file's own list, in file order.

    An agent's option that holds an id counts as leading to it: agents may name the next ones themselves.
    """
    reached: set[int] = set()
    waiting: list[tuple[Area, Definition]] = [
        found for mention in top.listed if (found := top.find(mention.name)) is not None
    ]
    while waiting:
        area, definition = waiting.pop()
        if id(definition) in reached:
            continue
        reached.add(id(definition))
        waiting += contents(area, definition)
        names = [mention.name for mention in definition.mentions]
        if definition.group is not None:
            names.append(definition.group.name)
        if isinstance(definition.node, AgentNode):
            names += named_in(definition.node.options)
        waiting += (found for name in names if (found := area.find(name)) is not None)
    lost = [definition for _, definition in top.walk() if id(definition) not in reached and not definition.made]
    return _outermost(lost)


def _outermost(lost: list[Definition]) -> list[Definition]:
    """Without what stands inside another one of `lost`: its own fate is no news."""
    inner: set[int] = set()
    for definition in lost:
        if definition.body is not None:
            inner.update(id(below) for _, below in definition.body.walk())
        inner.update(id(child) for child in definition.children)
    return [definition for definition in lost if id(definition) not in inner]


def named_in(options: Mapping[str, Json]) -> Iterator[NodeId]:
    """Every word in an agent's options that may be an id."""
    waiting: list[Json] = list(options.values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if len(value) <= 200:
                yield NodeId(value.split(".")[0])
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            yield from (NodeId(key) for key in value)


def has_choosers(top: Area) -> bool:
    return any(definition.type in CHOOSERS for _, definition in top.walk())


def straight_places(top: Area, sequence: tuple[NodeId, ...]) -> dict[NodeId, int]:
    """Places in the file's own list of the ids that run there, once, and can run nowhere else: none in a file with
    agents that name the next ones at run time."""
    if has_choosers(top):
        return {}
    counts = Counter(sequence)
    elsewhere = _elsewhere(top)
    return {name: place for place, name in enumerate(sequence) if counts[name] == 1 and name not in elsewhere}


def _elsewhere(top: Area) -> Counter[NodeId]:
    """How often ids are named other than in the file's own list."""
    elsewhere: Counter[NodeId] = Counter()
    for area in areas(top):
        if area is not top:
            elsewhere.update(mention.name for mention in area.listed)
            elsewhere.update(area.definitions.keys())
    for _, definition in top.walk():
        elsewhere.update(mention.name for mention in definition.mentions)
        elsewhere.update(child.id for child in definition.children if isinstance(child, Definition))
        if isinstance(definition.node, AgentNode):
            elsewhere.update(named_in(definition.node.options))
    return elsewhere


@dataclass(frozen=True, slots=True)
class Branch:
    """Where the output of a fork's member becomes visible in the file's own list."""

    fork: NodeId
    opened: int
    """Place of the fork."""
    joined: int
    """Place of the first join; of the fork itself without one, because it is joined at once then."""


def branch_members(top: Area, places: Mapping[NodeId, int]) -> dict[NodeId, Branch]:
    """The ids that run in one branch of one fork of the file's own list, and can run nowhere else.

    `places` are the straight ones. A fork whose join runs elsewhere is left out, for it may come first.
    """
    joins: dict[NodeId, list[int]] = {}
    for _, definition in top.walk():
        if definition.type == "join":
            for name in top.forks() if definition.group is None else [definition.group.name]:
                joins.setdefault(name, []).append(places.get(definition.id, -1))
    listed = {mention.name for mention in top.listed}
    elsewhere = _elsewhere(top)
    found: dict[NodeId, Branch] = {}
    for fork, place in places.items():
        definition = top.definitions.get(fork)
        branch = Branch(fork, place, min(joins.get(fork, ()), default=place))
        waiting = [definition] if definition is not None and definition.type == "fork" and branch.joined >= 0 else []
        while waiting:
            for mention in waiting.pop().mentions:
                inner = top.definitions.get(mention.name)
                if inner is not None and inner.made:
                    waiting.append(inner)
                elif mention.name not in listed and elsewhere[mention.name] == 1:
                    found[mention.name] = branch
    return found
