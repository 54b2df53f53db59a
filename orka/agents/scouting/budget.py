"""What a path would use, and whether that is within the budget. Pure. Workflow-format 14.1, step 2."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from orka.agents.scouting.profile import Profile

_LEAST_TOKENS: Final = 100
_CHARS_PER_TOKEN: Final = 4
_OVERHEAD: Final = 1.2
_OVERHEAD_GPT4: Final = 1.5
_LATENCY_MS: Final = 1000.0
_LOCAL_LATENCY_MS: Final = 500.0
_USD_PER_1K: Final = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Of one path."""

    tokens: float
    latency_ms: float
    """One agent after another."""

    @property
    def cost_usd(self) -> float:
        return self.tokens / 1000 * _USD_PER_1K


def estimate(path: Iterable[Profile]) -> Estimate:
    tokens = latency = 0.0
    for agent in path:
        overhead = _OVERHEAD_GPT4 if "gpt-4" in agent.model.lower() else _OVERHEAD
        tokens += max(_LEAST_TOKENS, len(agent.prompt) / _CHARS_PER_TOKEN) * overhead
        latency += _LOCAL_LATENCY_MS if agent.local else _LATENCY_MS
    return Estimate(tokens=tokens, latency_ms=latency)


def is_affordable(use: Estimate, *, tokens: float, latency_ms: float) -> bool:
    """Within both budgets."""
    return use.tokens <= tokens and use.latency_ms <= latency_ms
