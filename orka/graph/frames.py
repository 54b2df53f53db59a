"""The lists of a parsed file that run by themselves (frames), and joins whose fork is not opened in the same one. Pure:
answers only, judged and worded by `check.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from orka.graph.nodes import AgentNode, FailoverNode, ForkNode, MapNode
from orka.graph.outline import Area, Definition, areas
from orka.graph.reach import named_in
from orka.types import NodeId


@dataclass(frozen=True, slots=True)
class FrameOutline:
    """One list of ids: a join in it sees only the forks that it opens itself."""

    label: str
    area: Area
    start: tuple[Definition, ...]
    """What its ids mean, as far as they are defined."""


@dataclass(frozen=True, slots=True)
class LostJoin:
    """A join that will be skipped."""

    join: Definition
    fork: NodeId
    frame: str
    """Where it runs."""
    again: bool
    """The fork is opened there, but was joined before."""


def lost_joins(top: Area) -> list[LostJoin]:
    """Joins that run where nothing opens their fork, or once more than it is opened, each once, in file order."""
    found: dict[int, LostJoin] = {}
    for frame in _frames(top):
        inside = _reached(frame, frame.start)
        chosen = _reached(frame, tuple(below for one in frame.start for below in _next(frame.area, one)))
        for definition in inside.values():
            fork = _fork_of(frame.area, definition)
            if fork is not None and id(fork) not in inside:
                found.setdefault(id(definition), LostJoin(definition, fork.id, frame.label, again=False))
        opened = Counter(id(one) for one in frame.start)
        joined = Counter[int]()
        for definition in frame.start:
            fork = _fork_of(frame.area, definition)
            if fork is None or id(fork) not in inside or id(fork) in chosen:  # a router may open it again
                continue
            joined[id(fork)] += 1
            if joined[id(fork)] > opened[id(fork)]:
                found.setdefault(id(definition), LostJoin(definition, fork.id, frame.label, again=True))
    return sorted(found.values(), key=lambda lost: lost.join.at)


def joined_forks(top: Area) -> frozenset[int]:
    """`id` of every fork that some join of the file names, wherever either runs."""
    forks = (_fork_of(area, definition) for area, definition in top.walk())
    return frozenset(id(fork) for fork in forks if fork is not None)


def _fork_of(area: Area, definition: Definition) -> Definition | None:
    """What a join waits for; None for all else."""
    if definition.type != "join":
        return None
    forks = area.forks()
    name = definition.group.name if definition.group is not None else forks[0] if len(forks) == 1 else None
    found = area.find(name) if name is not None else None
    return found[1] if found is not None and found[1].type == "fork" else None


def _reached(frame: FrameOutline, start: tuple[Definition, ...]) -> dict[int, Definition]:
    """What runs in the frame itself: `start`, and what is chosen from there."""
    reached: dict[int, Definition] = {}
    waiting = list(start)
    while waiting:
        definition = waiting.pop()
        if id(definition) not in reached:
            reached[id(definition)] = definition
            waiting += _next(frame.area, definition)
    return reached


def _next(area: Area, definition: Definition) -> Iterator[Definition]:
    """What may run after a node because it chooses it: a router by its routes, an agent by the ids in its options."""
    names: list[NodeId] = []
    if definition.type == "router":
        names += (mention.name for mention in definition.mentions)
    elif isinstance(definition.node, AgentNode):
        names += named_in(definition.node.options)
    return (found[1] for name in names if (found := area.find(name)) is not None)


def _frames(top: Area) -> Iterator[FrameOutline]:
    for area in areas(top):
        label = "the file's own list" if area.owner is None else f"the rounds of loop {area.owner!r}"
        yield _frame(label, area, tuple(mention.name for mention in area.listed))
    for area, definition in top.walk():
        node = definition.node
        if isinstance(node, ForkNode):
            for number, branch in enumerate(node.branches, 1):
                where = "a nested list of targets" if definition.made else f"branch {number} of fork {node.id!r}"
                yield _frame(where, area, branch)
        elif isinstance(node, MapNode):
            yield _frame(f"the items of map {node.id!r}", area, node.sequence)
        elif isinstance(node, FailoverNode):
            for child in definition.children:
                label = f"a child of failover {node.id!r}"
                if isinstance(child, Definition):
                    yield FrameOutline(label, area, (child,))
                else:
                    yield _frame(label, area, (child.name,))


def _frame(label: str, area: Area, ids: tuple[NodeId, ...]) -> FrameOutline:
    found = (area.find(name) for name in ids)
    return FrameOutline(label, area, tuple(pair[1] for pair in found if pair is not None))
