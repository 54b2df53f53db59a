"""How far a skill is trusted and how long it lives, by what became of its uses. Pure.

The figures are those of OrKa 0.9, whose skills go on living by them.
"""

from __future__ import annotations

import math
from typing import Final

HOUR_MS: Final = 3_600_000
BASE_HOURS: Final = 168.0
"""A week."""
ANTI_CONFIDENCE: Final = 0.9
"""Of a new anti-pattern."""
_GAIN, _LOSS = 0.05, 0.1


def learned_confidence(quality: float) -> float:
    """Of a new skill or recipe; `quality` 0 to 1."""
    return min(0.7, 0.5 + 0.2 * quality)


def path_confidence(score: float) -> float:
    """Of a new path; `score` 0 to 1."""
    return min(0.8, score)


def used_confidence(confidence: float, success: bool) -> float:
    """After one more use: a success closes 5 % of the distance to 1, a failure takes 10 % away."""
    return confidence + _GAIN * (1.0 - confidence) if success else confidence - _LOSS * confidence


def used_rate(rate: float, uses: int, success: bool) -> float:
    """The fraction of successes after one more use; `uses` before it."""
    return (rate * uses + success) / (uses + 1)


def life_ms(uses: int, confidence: float) -> int:
    """From the last success until the skill is forgotten: 168 h (1 + log2 uses) (.5 + confidence)."""
    return round(HOUR_MS * BASE_HOURS * (1 + math.log2(max(1, uses))) * (0.5 + confidence))
