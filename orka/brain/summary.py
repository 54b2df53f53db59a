"""What a brain knows, in figures. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from orka.brain.skill import Skill
from orka.types import Json


def summary(skills: Sequence[Skill], total: int, succeeded: int, failed: int) -> dict[str, Json]:
    """Of skills, how many there are in all, and of the episodes that succeeded and failed."""
    top = sorted(skills, key=lambda skill: (-skill.usage_count, skill.id))[:5]
    kinds = sorted({skill.skill_type for skill in skills})
    return {
        "total_skills": max(len(skills), total),
        "transferable_skills": sum(bool(one.transfers) and one.transfer_success >= 0.5 for one in skills),
        "avg_confidence": round(sum(one.confidence for one in skills) / len(skills), 3) if skills else 0.0,
        "total_transfers": sum(one.transfers for one in skills),
        "skills_by_type": {kind: sum(one.skill_type == kind for one in skills) for kind in kinds},
        "top_skills": [
            {
                "name": one.name,
                "id": one.id,
                "confidence": round(one.confidence, 4),
                "usage_count": one.usage_count,
                "transfer_count": one.transfers,
            }
            for one in top
        ],
        "episodes": {"succeeded": succeeded, "failed": failed},
    }
