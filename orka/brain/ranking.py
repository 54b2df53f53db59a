"""Which skills fit a context, and how well: scores, reasons and what to adapt. Pure; imports numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from orka.brain.features import Features, similarity
from orka.brain.skill import Skill
from orka.types import Json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STRUCTURAL, SEMANTIC, TRANSFER, CONFIDENCE = 0.35, 0.25, 0.25, 0.15
"""Weights of a recall score; together 1."""
_LEAST_SEMANTIC: Final = 0.1
_ENOUGH_STRUCTURE: Final = 0.6
"""Structural similarity that makes up for a lack of semantic one."""


class Recalled(NamedTuple):
    """A skill that fits a context."""

    skill: Skill
    combined_score: float
    structural_score: float
    semantic_score: float
    adaptations: dict[str, Json]
    """What differs between the context that it was learned in and this one."""
    reasoning: str


def semantic_scores(vectors: NDArray[np.float32], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """(cosine + 1) / 2 of rows of length 1 (shape (n, d)) with a vector (d,); .5 where either is zero. Shape (n,)."""
    return (vectors @ vector + 1.0) / 2.0


def combined(structural: float, semantic: float, transfer: float, confidence: float) -> float:
    """The recall score, 0 to 1."""
    return STRUCTURAL * structural + SEMANTIC * semantic + TRANSFER * transfer + CONFIDENCE * confidence


def rank(
    skills: Sequence[Skill], semantic: Sequence[float], context: Features, domain: str, *, top: int, least: float
) -> list[Recalled]:
    """The `top` best of those with a score of `least` or more, best first. `semantic` has the score of each skill."""
    found: list[tuple[float, float, float, Skill]] = []
    for skill, meaning in zip(skills, semantic, strict=True):
        structure = similarity(skill.source_context, context)
        if meaning < _LEAST_SEMANTIC and structure < _ENOUGH_STRUCTURE:
            continue
        score = combined(structure, meaning, skill.transfer_success, skill.confidence)
        if score >= least:
            found.append((score, structure, meaning, skill))
    found.sort(key=lambda one: (-one[0], -one[3].usage_count, one[3].id))
    return [
        Recalled(
            skill=skill,
            combined_score=score,
            structural_score=structure,
            semantic_score=meaning,
            adaptations=adaptations(skill, context, domain),
            reasoning=_reasons(skill, context, structure, meaning, domain),
        )
        for score, structure, meaning, skill in found[:top]
    ]


def adaptations(skill: Skill, context: Features, domain: str) -> dict[str, Json]:
    """Only what differs; empty for a context like the one that the skill comes from."""
    source, found = skill.source_context, dict[str, Json]()
    for key, ours, theirs in (
        ("domain", skill.domain, domain),
        ("input_shape", source.input_shape, context.input_shape),
        ("output_shape", source.output_shape, context.output_shape),
    ):
        if theirs and ours.lower() != theirs.lower() and "unknown" not in (ours, theirs):
            found[key] = {"from": ours, "to": theirs}
    added = [name for name in context.task_structures if name not in source.task_structures]
    dropped = [name for name in source.task_structures if name not in context.task_structures]
    found |= {"add_structures": list[Json](added)} if added else {}
    found |= {"drop_structures": list[Json](dropped)} if dropped else {}
    return found


def _reasons(skill: Skill, context: Features, structure: float, meaning: float, domain: str) -> str:
    ours = {*skill.source_context.task_structures, *skill.source_context.cognitive_patterns}
    shared = [name for name in (*context.task_structures, *context.cognitive_patterns) if name in ours]
    parts = [f"structure {structure:.2f}" + (f" ({', '.join(shared)})" if shared else ""), f"meaning {meaning:.2f}"]
    if skill.transfers:
        parts.append(f"{skill.transfers_succeeded} of {skill.transfers} transfers succeeded")
    parts.append(f"confidence {skill.confidence:.2f}")
    if domain and skill.domain.lower() != domain.lower():
        parts.append(f"learned in {skill.domain!r}")
    return "; ".join(parts)
