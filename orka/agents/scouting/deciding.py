"""What follows from the scores: commit, shortlist, or neither. Pure. Workflow-format 14.1, step 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from orka.agents.scouting.paths import Route
from orka.types import Json

Word = Literal["commit_next", "commit_path", "shortlist", "fallback", "human_gate"]
Status = Literal["success", "error", "no_candidates", "budget_exceeded", "safety_violation"]

_MARGINS: Final[Mapping[str, float]] = {"factual": 0.08, "analytical": 0.15, "technical": 0.12, "creative": 0.20}
"""By what `input_classifier` calls the question."""
CLASSIFIER: Final = "input_classifier"
_SURE_SCORE: Final = 0.7
_SURE_CONFIDENCE: Final = 0.6
_DOUBT: Final = 0.2
"""Taken off the confidence of a shortlist."""
_EPSILON: Final = 1e-9
"""Differences of this size come from adding up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A path with what it was given."""

    path: Route
    score: float
    confidence: float
    terminal: bool = False
    """It ends with an agent that writes the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a scout says."""

    word: Word
    status: Status
    confidence: float
    chosen: tuple[Scored, ...]
    """The path committed to, or the shortlist, best first."""
    reasoning: str

    @property
    def route(self) -> Route:
        """What is to run: of a shortlist the best path."""
        return self.chosen[0].path if self.chosen else ()


def margin_for(outputs: Mapping[str, Json], margin: float) -> float:
    """`margin`, unless an agent named `input_classifier` has said what kind of question it is."""
    said = outputs.get(CLASSIFIER)
    text = str(said.get("response", said) if isinstance(said, dict) else said).lower() if said else ""
    return next((value for word, value in _MARGINS.items() if word in text), margin)


def rank(candidates: Sequence[Scored], beam: int) -> list[Scored]:
    """The best `beam`; of equal ones those that were found first."""
    return sorted(candidates, key=lambda one: -one.score)[:beam]


def decide(best: Sequence[Scored], margin: float) -> Decision:
    """`best`: what `rank` gave, not empty."""
    terminal = [one for one in best if one.terminal]
    if terminal:
        return _between(terminal, margin) if len(terminal) > 1 else _commit(terminal[0], None, "the only whole path")
    if len(best) > 1:
        return _between(best, margin)
    only = best[0]
    if only.score >= _SURE_SCORE - _EPSILON and only.confidence >= _SURE_CONFIDENCE - _EPSILON:
        return _commit(only, None, "the only candidate, and a good one")
    return _shortlist(best, f"the only candidate scores {only.score:.2f} with confidence {only.confidence:.2f}")


def no_candidates() -> Decision:
    return Decision(
        word="fallback",
        status="no_candidates",
        confidence=0.0,
        chosen=(),
        reasoning="no agent of this graph is left to choose",
    )


def over_budget(paths: int) -> Decision:
    return Decision(
        word="shortlist",
        status="budget_exceeded",
        confidence=0.0,
        chosen=(),
        reasoning=f"each of {paths} paths would take more tokens or time than the budget",
    )


def unsafe(paths: int, reasons: Sequence[str]) -> Decision:
    why = f" ({', '.join(reasons)})" if reasons else ""
    return Decision(
        word="human_gate",
        status="safety_violation",
        confidence=0.0,
        chosen=(),
        reasoning=f"none of {paths} paths is safe enough{why}: somebody should look at it",
    )


def _between(best: Sequence[Scored], margin: float) -> Decision:
    lead = best[0].score - best[1].score
    if lead >= margin - _EPSILON:
        return _commit(best[0], lead, f"{lead:.2f} ahead of the next, the margin is {margin:.2f}")
    return _shortlist(best, f"only {lead:.2f} between the best two, the margin is {margin:.2f}")


def _commit(one: Scored, lead: float | None, why: str) -> Decision:
    confidence = one.confidence if lead is None else min(1.0, one.confidence + lead / 2)
    word: Word = "commit_path" if len(one.path) > 1 or one.terminal else "commit_next"
    return Decision(word=word, status="success", confidence=confidence, chosen=(one,), reasoning=why)


def _shortlist(best: Sequence[Scored], why: str) -> Decision:
    mean = sum(one.confidence for one in best) / len(best)
    return Decision(
        word="shortlist",
        status="success",
        confidence=max(0.0, mean - _DOUBT),
        chosen=tuple(best),
        reasoning=why,
    )
