"""`BooleanScoreCalculator`: the weighted share of the criteria that are met. The rules are workflow-format 11.1."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Final, cast

from orka.scoring.presets import CONTEXTS, PRESETS
from orka.types import Json

_TRUE: Final = frozenset({"true", "yes", "1", "pass", "passed"})
_INNER: Final = ("passed", "value", "result", "met")
"""Keys under which a judgement stands where a reason stands beside it."""


class BooleanScoreCalculator:
    """Scores judgements by the criteria of one context. Holds no state between calls."""

    def __init__(
        self,
        preset: str = "moderate",
        context: str = "graphscout",
        custom_weights: Mapping[str, float] | None = None,
    ) -> None:
        """`custom_weights`: `dimension.criterion` to a weight that replaces the preset's; all weights together are then
        brought to the sum 1. `ValueError` for a preset, context or criterion that is not there (the message names those
        that are), for a weight below 0 and for weights that are all 0."""
        self.preset = _choice(preset, PRESETS, "preset")
        self.context = _choice(context, tuple(CONTEXTS), "context")
        found = CONTEXTS[self.context]
        column = PRESETS.index(self.preset)
        self.approved = found.approved[column]
        self.needs_improvement = found.needs_improvement[column]
        self.criteria: Mapping[str, tuple[str, ...]] = found.criteria
        """Names of the criteria by dimension."""
        weights = {path: columns[column] for path, columns in found.weights.items()}
        self.weights: Mapping[str, float] = _rescaled(weights, custom_weights) if custom_weights else weights
        """`dimension.criterion` -> share of the score; they sum to 1."""

    def calculate(self, evaluations: Mapping[str, object]) -> dict[str, Json]:
        """The score of judgements by dimension and criterion (`{"accuracy": {"factually_correct": True}}`; the flat form
        `accuracy.factually_correct` will do). True is also what says true, yes, pass, passed or 1; a criterion that is not
        judged has failed.

        Gives `score` (0 to 1, four decimals), `assessment` (`APPROVED`, `NEEDS_IMPROVEMENT`, `REJECTED`), `breakdown`
        (weight, passed, status `Y`, `N` or `?` by criterion), `passed_criteria`, `failed_criteria`, `dimension_scores`
        (score, max_score, percentage 0 to 100, breakdown), `total_criteria`, `passed_count`, `failed_count`.
        """
        breakdown: dict[str, Json] = {}
        passed: list[str] = []
        dimensions: dict[str, Json] = {}
        for dimension, criteria in self.criteria.items():
            inside: dict[str, Json] = {}
            met: list[float] = []
            for criterion in criteria:
                path = f"{dimension}.{criterion}"
                judged = judgement(_look_up(evaluations, dimension, criterion))
                entry: dict[str, Json] = {
                    "weight": round(self.weights[path], 4),
                    "passed": judged is True,
                    "status": "?" if judged is None else "Y" if judged else "N",
                }
                breakdown[path], inside[criterion] = entry, dict(entry)
                if judged:
                    passed.append(path)
                    met.append(self.weights[path])
            whole = math.fsum(self.weights[f"{dimension}.{criterion}"] for criterion in criteria)
            dimensions[dimension] = {
                "score": round(math.fsum(met), 4),
                "max_score": round(whole, 4),
                "percentage": round(100 * math.fsum(met) / whole, 2) if whole else 0.0,
                "breakdown": inside,
            }
        score = round(math.fsum(self.weights[path] for path in passed), 4)
        return {
            "score": score,
            "assessment": self.assess(score),
            "breakdown": breakdown,
            "passed_criteria": list[Json](passed),
            "failed_criteria": [path for path in breakdown if path not in passed],
            "dimension_scores": dimensions,
            "total_criteria": len(breakdown),
            "passed_count": len(passed),
            "failed_count": len(breakdown) - len(passed),
        }

    def assess(self, score: float) -> str:
        """`APPROVED`, `NEEDS_IMPROVEMENT` or `REJECTED`, by the thresholds of the preset."""
        if score >= self.approved:
            return "APPROVED"
        return "NEEDS_IMPROVEMENT" if score >= self.needs_improvement else "REJECTED"


def judgement(value: object) -> bool | None:
    """What a value says of a criterion; None when it says nothing."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value.strip().lower() in _TRUE if value.strip() else None
    if isinstance(value, int | float):
        return value == 1
    if isinstance(value, Mapping):
        entries = cast("Mapping[object, object]", value)
        inner = next((entries[key] for key in _INNER if key in entries), None)
        return None if isinstance(inner, Mapping) else judgement(inner)
    return None


def _look_up(evaluations: Mapping[str, object], dimension: str, criterion: str) -> object:
    inside = evaluations.get(dimension)
    if isinstance(inside, Mapping) and criterion in inside:
        return cast("Mapping[str, object]", inside)[criterion]
    return evaluations.get(f"{dimension}.{criterion}")


def _rescaled(weights: Mapping[str, float], custom: Mapping[str, float]) -> dict[str, float]:
    for path, weight in custom.items():
        if path not in weights:
            near = difflib.get_close_matches(path, weights, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"there is no criterion {path!r}{hint}; there are {', '.join(weights)}")
        if not math.isfinite(weight) or weight < 0:
            raise ValueError(f"the weight of {path!r} is {weight!r}: it must be a number from 0 on")
    merged = {**weights, **custom}
    total = math.fsum(merged.values())
    if not 0 < total < math.inf:
        raise ValueError("the weights of all criteria together are 0: nothing could be scored")
    return {path: weight / total for path, weight in merged.items()}


def _choice(given: str, choices: tuple[str, ...], what: str) -> str:
    name = given.strip().lower()
    if name not in choices:
        raise ValueError(f"there is no scoring {what} {given!r}; there are {', '.join(choices)}")
    return name
