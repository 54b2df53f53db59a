"""The order of a list of ids under `depends_on`: pure, no files, no nodes."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orka.types import NodeId


@dataclass(frozen=True, slots=True)
class Cycle:
    """Ids that depend on each other in this order, the last on the first."""

    ids: tuple[NodeId, ...]


def order_sequence(
    listed: Sequence[NodeId], depends_on: Mapping[NodeId, Sequence[NodeId]]
) -> tuple[NodeId, ...] | Cycle:
    """`listed` so that every id comes after those it depends on; what is free to choose keeps the list's order.

    Only dependencies that are in the list count, and none of an id on itself. An id that is listed several times
    satisfies a dependency with its first place. Kahn's algorithm with a heap of list positions.
    """
    first: dict[NodeId, int] = {}
    for position, name in enumerate(listed):
        first.setdefault(name, position)
    waits: list[int] = []
    followers: dict[int, list[int]] = {}
    for position, name in enumerate(listed):
        needed = {first[other] for other in depends_on.get(name, ()) if other in first and other != name}
        waits.append(len(needed))
        for other in needed:
            followers.setdefault(other, []).append(position)
    ready = [position for position, count in enumerate(waits) if not count]
    ordered: list[NodeId] = []
    while ready:
        position = heapq.heappop(ready)
        ordered.append(listed[position])
        for follower in followers.get(position, ()):
            waits[follower] -= 1
            if not waits[follower]:
                heapq.heappush(ready, follower)
    if len(ordered) == len(listed):
        return tuple(ordered)
    stuck = [name for position, name in enumerate(listed) if waits[position]]
    return Cycle(_cycle_among(stuck, depends_on))


def _cycle_among(stuck: Sequence[NodeId], depends_on: Mapping[NodeId, Sequence[NodeId]]) -> tuple[NodeId, ...]:
    """Every one of `stuck` depends on another of them, so following dependencies comes round."""
    among = frozenset(stuck)
    here = stuck[0]
    place: dict[NodeId, int] = {}
    while here not in place:
        place[here] = len(place)
        here = next(other for other in depends_on.get(here, ()) if other in among and other != here)
    return tuple(place)[place[here] :]
