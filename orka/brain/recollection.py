"""Which episodes matter for a task, and the text that tells a model of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from orka.brain.episode import Episode
from orka.brain.growth import HOUR_MS
from orka.clock import iso
from orka.types import Json

SEMANTIC, RECENCY, DOMAIN, OUTCOME = 0.5, 0.2, 0.2, 0.1
"""Weights of an episode's score; together 1."""
HALF_LIFE_HOURS: Final = 168.0
_CHARACTERS: Final = 4
"""Of a token, about."""
NOTHING: Final = "No similar past episodes."


class Remembered(NamedTuple):
    """An episode that matters for a task."""

    episode: Episode
    score: float
    semantic_score: float


def recency(age_ms: float) -> float:
    """1 for now, half of it for every 168 h."""
    return 0.5 ** (max(0.0, age_ms) / HOUR_MS / HALF_LIFE_HOURS)


def outcome_value(episode: Episode) -> float:
    """How much there is to learn from it: failures more than successes, with an analysis and lessons more still."""
    value = 0.3 if episode.success else 0.7
    value += 0.2 if episode.failure_analysis else 0.0
    return value + (0.1 if len(episode.lessons) >= 3 else 0.0)


def score_episode(episode: Episode, semantic: float, domain: str, *, at_ms: int) -> float:
    """0 to 1. `semantic` is (cosine + 1) / 2; an empty `domain` is unknown."""
    same = 0.5 if not domain or not episode.task_domain else float(domain.lower() == episode.task_domain.lower())
    return (
        SEMANTIC * semantic
        + RECENCY * recency(at_ms - episode.at_ms)
        + DOMAIN * same
        + OUTCOME * outcome_value(episode)
    )


def rank_episodes(
    episodes: Sequence[Episode], semantic: Sequence[float], domain: str, *, at_ms: int, top: int, least: float
) -> list[Remembered]:
    """The `top` best of those with a score of `least` or more, best first."""
    found = [
        Remembered(episode, score, meaning)
        for episode, meaning in zip(episodes, semantic, strict=True)
        if (score := score_episode(episode, meaning, domain, at_ms=at_ms)) >= least
    ]
    found.sort(key=lambda one: (-one.score, -one.episode.at_ms, one.episode.id))
    return found[:top]


def describe_episode(found: Remembered) -> dict[str, Json]:
    """One entry of `episodes` in a result."""
    one = found.episode
    return {
        "episode_id": one.id,
        "score": round(found.score, 4),
        "semantic_score": round(found.semantic_score, 4),
        "task_input": one.task_input,
        "domain": one.task_domain,
        "success": one.success,
        "quality": one.quality_score,
        "outcome_summary": one.outcome_summary,
        "what_worked": list(one.what_worked),
        "what_failed": list(one.what_failed),
        "failure_analysis": one.failure_analysis,
        "lessons": list(one.lessons),
        "model": one.model,
        "timestamp": iso(one.at_ms),
    }


def told(found: Sequence[Remembered], max_tokens: int) -> str:
    """What a prompt can hold of them: the best first, whole ones only unless not even the first one fits, about
    `max_tokens` tokens at most."""
    if not found:
        return NOTHING
    text, room = "Past episodes with similar tasks:", max_tokens * _CHARACTERS
    for number, one in enumerate(found, 1):
        block = _block(number, one.episode)
        if number > 1 and len(text) + len(block) + 2 > room:
            break
        text += "\n\n" + block
    return text[:room]


def _block(number: int, one: Episode) -> str:
    how = "succeeded" if one.success else "failed"
    lines = [f"{number}. {_short(one.task_input, 200)} [{one.task_domain}; {how}, quality {one.quality_score:.2f}]"]
    for title, said in (
        ("Outcome", one.outcome_summary),
        ("Worked", "; ".join(one.what_worked)),
        ("Failed", "; ".join(one.what_failed)),
        ("Cause", one.failure_analysis),
        ("Lessons", "; ".join(one.lessons)),
    ):
        if said:
            lines.append(f"   {title}: {_short(said, 500)}")
    return "\n".join(lines)


def _short(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
