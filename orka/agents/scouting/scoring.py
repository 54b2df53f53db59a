"""The score of a path: a weighted sum of components, or criteria that hold or do not. Pure. Workflow-format 14.1, step 5."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, pvariance
from typing import Final

from orka.agents.scouting.budget import Estimate
from orka.agents.scouting.paths import Route, arrange
from orka.agents.scouting.profile import Profile
from orka.agents.scouting.relevance import flows, modality, overlap, readiness
from orka.agents.scouting.safety import Safety
from orka.types import NodeId

DEFAULT_WEIGHTS: Final[Mapping[str, float]] = {
    "llm": 0.45,
    "heuristics": 0.2,
    "prior": 0.2,
    "cost": 0.1,
    "latency": 0.05,
}
REFUSED: Final = 0.01
"""Score of a path that lacks what was required."""
_SAFE: Final = 0.9
_DEAREST_USD: Final = 0.1
_SLOWEST_MS: Final = 10_000.0
_SPREAD: Final = 0.3
"""What differing components can take off the confidence."""

Evaluations = dict[str, dict[str, bool]]
"""Dimension -> criterion -> whether it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of one path."""

    path: Route
    agents: tuple[Profile, ...]
    use: Estimate
    safety: Safety
    relevance: float
    """By the model, or by words."""
    known: frozenset[str] = frozenset()
    """Ids of outputs that are there."""
    similarities: Mapping[NodeId, float] = field(default_factory=dict[NodeId, float])
    required: frozenset[NodeId] = frozenset()
    brain: float = 0.0
    """How well earlier runs went that took this path."""

    @property
    def compliant(self) -> bool:
        """Nothing that was required is missing."""
        return self.required <= set(self.path)


def components_of(facts: Facts, question: str, *, best_length: tuple[int, int]) -> dict[str, float]:
    """Each 0 to 1."""
    heuristics = (
        0.3 * readiness(facts.agents, facts.known)
        + 0.3 * modality(question, facts.agents)
        + 0.2 * overlap_of(facts, question)
        + 0.2 * _SAFE
    )
    found = {
        "llm": facts.relevance,
        "heuristics": heuristics,
        "prior": prior(len(facts.path), best_length),
        "cost": max(0.0, 1 - facts.use.cost_usd / _DEAREST_USD),
        "latency": max(0.0, 1 - facts.use.latency_ms / _SLOWEST_MS),
    }
    if facts.required:
        found["compliance"] = 1.0 if facts.compliant else 0.0
    return found


def overlap_of(facts: Facts, question: str) -> float:
    """Mean over the agents of a path."""
    return fmean(overlap(question, agent, facts.similarities.get(agent.id, 0.0)) for agent in facts.agents)


def prior(length: int, best: tuple[int, int]) -> float:
    """Of a path's length: .9 between the `best` ones, .5 below, .7 for one more than that, then .1 less each, at least .3."""
    low, high = best
    if low <= length <= high:
        return 0.9
    return 0.5 if length < low else max(0.3, 0.7 - 0.1 * (length - high - 1))


def numeric_score(components: Mapping[str, float], weights: Mapping[str, float], *, boost: float = 0.0) -> float:
    """The weighted sum, at most 1; `boost` is added. `REFUSED` when something that was required is missing."""
    if components.get("compliance", 1.0) == 0.0:
        return REFUSED
    total = sum(weight * components.get(name, 1.0 if name == "compliance" else 0.0) for name, weight in weights.items())
    return min(1.0, max(0.0, total + boost))


def confidence_of(components: Mapping[str, float]) -> float:
    """The mean of the components, less as they differ."""
    values = [value for name, value in components.items() if name != "compliance"]
    return min(1.0, max(0.0, fmean(values) - min(_SPREAD, pvariance(values))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What boolean criteria are held against."""

    strict: bool = False
    require_critical: bool = True
    important: float = 0.8
    """Share of the important criteria that strict scoring demands."""
    nice: bool = True
    """Criteria that are merely nice count, too."""
    success: float = 0.7
    overlap: float = 0.3
    cost_usd: float = 0.1
    latency_ms: float = 10_000.0


_CRITICAL: Final = (
    ("completeness", "has_all_required_steps"),
    ("safety", "avoids_risky_combinations"),
    ("coherence", "proper_data_flow"),
)
_NICE: Final = (
    ("completeness", "handles_edge_cases"),
    ("completeness", "includes_fallback_path"),
    ("safety", "has_timeout_protection"),
    ("coherence", "no_conflicting_actions"),
)


def evaluate(facts: Facts, question: str, bar: Bar, profiles: Mapping[NodeId, Profile]) -> Evaluations:
    """The fifteen criteria of the context `graphscout`, told from what is known of the path."""
    ready = flows(facts.agents, facts.known)
    fits = overlap_of(facts, question) >= bar.overlap or facts.relevance >= 0.5
    kinds = [(agent.type, agent.capabilities, agent.role) for agent in facts.agents]
    return {
        "completeness": {
            "has_all_required_steps": facts.compliant,
            "addresses_all_query_aspects": fits,
            "handles_edge_cases": readiness(facts.agents, facts.known) >= bar.success,
            "includes_fallback_path": len(facts.path) > 1 or any(agent.retried for agent in facts.agents),
        },
        "efficiency": {
            "minimizes_redundant_calls": len(set(facts.path)) == len(facts.path) and _no_twins(kinds),
            "uses_appropriate_agents": fits and modality(question, facts.agents) >= 0.7,
            "optimizes_cost": facts.use.cost_usd <= bar.cost_usd,
            "optimizes_latency": facts.use.latency_ms <= bar.latency_ms,
        },
        "safety": {
            "validates_inputs": ready,
            "handles_errors_gracefully": facts.brain == 0.0 or facts.brain >= bar.success,
            "has_timeout_protection": all(agent.guarded or agent.local for agent in facts.agents),
            "avoids_risky_combinations": facts.safety.score >= 1 - 1e-9,
        },
        "coherence": {
            "logical_agent_sequence": arrange(facts.path, profiles) == facts.path,
            "proper_data_flow": ready,
            "no_conflicting_actions": len(set(facts.path)) == len(facts.path),
        },
    }


def adjusted(evaluations: Evaluations, bar: Bar) -> Evaluations:
    """Without `nice`, criteria that are merely nice count as held."""
    if bar.nice:
        return evaluations
    return {
        dimension: {name: held or (dimension, name) in _NICE for name, held in criteria.items()}
        for dimension, criteria in evaluations.items()
    }


def refused(evaluations: Evaluations, bar: Bar) -> bool:
    """A critical criterion does not hold; with `strict`, too few of the important ones."""
    if bar.require_critical and not all(evaluations[dimension][name] for dimension, name in _CRITICAL):
        return True
    important = [
        held
        for dimension, criteria in evaluations.items()
        for name, held in criteria.items()
        if (dimension, name) not in _CRITICAL and (dimension, name) not in _NICE
    ]
    return bar.strict and sum(important) / len(important) < bar.important


def share_held(evaluations: Evaluations) -> float:
    """Of all criteria: the confidence of a boolean score."""
    held = [one for criteria in evaluations.values() for one in criteria.values()]
    return sum(held) / len(held)


def _no_twins(kinds: Sequence[tuple[str, Collection[str], str]]) -> bool:
    """No two agents of one type with the same, declared capabilities and the same part to play."""
    told = [(kind, tuple(sorted(tags)), role) for kind, tags, role in kinds if tags]
    return len(set(told)) == len(told)
