"""Whether something learned is known already. Pure.

Only skills of one type are the same skill. Of procedures those of one domain are whose contexts have the same features, or
nearly; of everything else what has the same name and runs the same agents. Whoever names a skill means the one of that name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from orka.brain.features import similarity
from orka.brain.skill import Skill

ALIKE: Final = 0.7
"""Structural similarity from which two procedures of one domain are one skill."""


def known_as(draft: Skill, skills: Iterable[Skill], *, named: bool) -> Skill | None:
    """The one of `skills` that `draft` is, the most similar one first; None when it is new. `named`: its author gave the
    name."""
    best, most = None, 0.0
    for skill in skills:
        if skill.id == draft.id:
            return skill
        alike = _alike(draft, skill, named)
        if alike > most:
            best, most = skill, alike
    return best


def nearest_elsewhere(draft: Skill, skills: Iterable[Skill]) -> Skill | None:
    """The most similar one of its type in another domain, which it can be called derived from."""
    alike = [
        (similarity(draft.source_context, skill.source_context), skill.id, skill)
        for skill in skills
        if skill.skill_type == draft.skill_type and skill.domain.lower() != draft.domain.lower()
    ]
    best = max(alike, default=None, key=lambda one: one[:2])
    return best[2] if best is not None and best[0] >= ALIKE else None


def _alike(draft: Skill, skill: Skill, named: bool) -> float:
    """0 for another skill."""
    if skill.skill_type != draft.skill_type or skill.domain.lower() != draft.domain.lower():
        return 0.0
    same_name = skill.name.lower() == draft.name.lower()
    if named or draft.skill_type != "procedural":
        return float(same_name and (named or skill.agents == draft.agents))
    if skill.source_context.fingerprint == draft.source_context.fingerprint != "":
        return 1.0
    alike = similarity(skill.source_context, draft.source_context)
    return alike if alike >= ALIKE else 0.0
