"""Which paths a scout compares, and what the text of its prompt demands of them. Pure. Workflow-format 14.1, step 1."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from orka.agents.scouting.profile import Profile
from orka.types import NodeId

Route: TypeAlias = tuple[NodeId, ...]
"""Ids to run, in order."""
MOST_PATHS: Final = 50
_MOST_AGENTS: Final = 50
_ORDER: Final = {"reader": 0, "other": 1, "writer": 2, "builder": 3}
_LIST: Final = re.compile(r"REQUIRED[_ ]AGENTS\s*:\s*\[?([^\]\n]*)\]?")
_CHAIN: Final = re.compile(r"REQUIRED PATH STRUCTURE\s*:\s*((?:\s*[^\n]*(?:->|→)[^\n]*)+|\s*[^\n]+)")
_ARROW: Final = re.compile(r"->|→")


def required_in(text: str) -> Route:
    """The ids after `REQUIRED_AGENTS:` and in the chain after `REQUIRED PATH STRUCTURE:`, each once."""
    found: dict[NodeId, None] = {}
    for match in _LIST.finditer(text):
        found |= {NodeId(name): None for part in match[1].split(",") if (name := _name(part))}
    for match in _CHAIN.finditer(text):
        found |= {NodeId(name): None for part in _ARROW.split(match[1]) if (name := _name(part))}
    return tuple(found)


def _name(part: str) -> str:
    return part.strip().strip("\"'`[]().,").strip()


def arrange(path: Iterable[NodeId], profiles: Mapping[NodeId, Profile]) -> Route:
    """Memory readers first, then what works, memory writers, and whoever writes the answer at the end."""
    return tuple(sorted(path, key=lambda name: _ORDER[profiles[name].role]))


def is_terminal(path: Route, profiles: Mapping[NodeId, Profile]) -> bool:
    return bool(path) and profiles[path[-1]].role == "builder"


def make_paths(
    ranked: Sequence[NodeId],
    profiles: Mapping[NodeId, Profile],
    *,
    max_depth: int,
    terminal: bool,
    required: Iterable[NodeId] = (),
    most: int = MOST_PATHS,
) -> list[Route]:
    """Every agent of `ranked`, alone and followed by others, up to `max_depth` of them, shorter paths and better ranked
    agents first. `terminal`: each path ends with an agent that writes the answer, if there is one. What is `required` is
    a path of its own, in that order. At most `most` paths."""
    builder = next((name for name in ranked if profiles[name].role == "builder"), None)
    found: dict[Route, None] = {}

    def add(path: Route) -> None:
        whole = arrange(path, profiles)
        if terminal and builder is not None and not is_terminal(whole, profiles):
            whole = (*whole, builder)
        found.setdefault(whole)

    wanted = tuple(dict.fromkeys(name for name in required if name in profiles))
    if wanted:
        add(wanted)
    level: list[Route] = [(name,) for name in ranked[:_MOST_AGENTS]]
    for depth in range(1, max_depth + 1):
        for path in level:
            add(path)
        if depth == max_depth or len(found) >= most:
            break
        level = [
            (*path, name)
            for path in level
            if profiles[path[-1]].role != "builder"
            for name in ranked[:_MOST_AGENTS]
            if name not in path
        ][: most * 20]
    return list(found)[:most]
