"""What earlier runs say of a path: skills of the brain that are paths. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orka.agents.scouting.paths import Route

SKILL_TYPES = ("graph_path", "execution_recipe")


def remembered(path: Route, skills: Iterable[tuple[Sequence[str], float]]) -> float:
    """0 to 1: the best skill (its agents, and how well it fits and went), less as its agents are others than the path's."""
    best = 0.0
    for agents, value in skills:
        own, other = set(path), set(agents)
        if own | other:
            best = max(best, value * len(own & other) / len(own | other))
    return min(1.0, best)
