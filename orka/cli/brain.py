"""`orka brain list`, `show`, `stats` and `cleanup`: looking at what runs have learned."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from cyclopts import Parameter

from orka.brain.brain import Brain
from orka.brain.skill import Skill, skill_facts
from orka.cli.exits import Exit
from orka.cli.interrupt import run_until_stopped
from orka.cli.output import print_json, print_table, render_json, safe_line, safe_text, span, warn
from orka.cli.runs import AsJson
from orka.clock import iso, now_ms
from orka.errors import ConfigError
from orka.settings import Settings

SkillType = Annotated[
    Literal[
        "procedural",
        "execution_recipe",
        "prompt_template",
        "parameter_config",
        "graph_path",
        "anti_pattern",
        "domain_heuristic",
    ]
    | None,
    Parameter(name="--type", help="Of this type only.", show_choices=True),
]


def list_skills(
    *,
    limit: Annotated[int, Parameter(help="At most so many.")] = 50,
    domain: Annotated[str | None, Parameter(help="Learned in this domain only.")] = None,
    skill_type: SkillType = None,
    json: AsJson = False,
) -> int:
    """List skills, those that live longest first."""
    if limit < 1:
        raise ConfigError(f"--limit must be at least 1, not {limit}")

    async def work(brain: Brain) -> int:
        found = [
            skill
            for skill in await brain.get_skills(limit=10_000 if domain or skill_type else limit)
            if (domain is None or skill.domain.lower() == domain.lower())
            and (skill_type is None or skill.skill_type == skill_type)
        ][:limit]
        if json:
            print_json([skill_facts(skill) for skill in found])
        elif found:
            print_table(("SKILL", "TYPE", "USED", "CONFIDENCE", "EXPIRES IN", "NAME"), map(_row, found))
        return Exit.OK

    return _with_brain(work)


def show(
    skill: Annotated[str, Parameter(name="SKILL", help="Id or name.")],
    /,
    *,
    json: AsJson = False,
) -> int:
    """Show one skill whole."""

    async def work(brain: Brain) -> int:
        by_id = await brain.get_skill(skill)
        found = [by_id] if by_id is not None else await brain.find_skills(skill)
        if not found:
            warn(f"error: no skill has the id or name {skill!r} (it may have expired)")
            return Exit.NOT_FOUND
        if json:
            print_json([skill_facts(one) for one in found])
        else:
            for one in found:
                _print_skill(one)
        return Exit.OK

    return _with_brain(work)


def stats(*, json: AsJson = False) -> int:
    """Count skills and episodes."""

    async def work(brain: Brain) -> int:
        found = await brain.get_skill_summary()
        if json:
            print_json(found)
            return Exit.OK
        for name in ("total_skills", "transferable_skills", "avg_confidence", "total_transfers"):
            print(f"{name.replace('_', ' '):<20} {found[name]}")
        for title, counts in (("skills", found["skills_by_type"]), ("episodes", found["episodes"])):
            for name, count in counts.items() if isinstance(counts, dict) else ():
                print(f"  {title} {safe_line(name, 60)}: {count}")
        return Exit.OK

    return _with_brain(work)


def cleanup(*, json: AsJson = False) -> int:
    """Tidy the index up after skills that have expired."""

    async def work(brain: Brain) -> int:
        found = await brain.cleanup_expired_skills()
        if json:
            print_json(found)
        else:
            print(f"{found['deleted']} of {found['checked']} skills had expired")
        return Exit.OK

    return _with_brain(work)


def _with_brain(work: Callable[[Brain], Awaitable[int]]) -> int:
    settings = Settings.from_environment()

    async def main() -> int:
        async with Brain(settings) as brain:
            return await work(brain)

    return run_until_stopped(main)


def _row(skill: Skill) -> tuple[str, ...]:
    left = span(skill.expires_ms - now_ms()) if skill.expires_ms else "never"
    return (
        safe_line(skill.id, 36),
        safe_line(skill.skill_type, 16),
        str(skill.usage_count),
        f"{skill.confidence:.2f}",
        left,
        safe_line(skill.name, 80),
    )


def _print_skill(skill: Skill) -> None:
    for title, value in (
        ("skill", skill.id),
        ("name", skill.name),
        ("type", skill.skill_type),
        ("domain", skill.domain),
        ("task", skill.task_description),
        ("confidence", f"{skill.confidence:.3f}"),
        ("used", f"{skill.usage_count} times, {skill.success_rate:.0%} of them with success"),
        ("transfers", f"{skill.transfers_succeeded} of {skill.transfers} succeeded"),
        ("learned", iso(skill.created_ms)),
        ("expires", iso(skill.expires_ms) if skill.expires_ms else "never"),
        ("tags", ", ".join(skill.tags)),
        ("recipe", render_json(skill.recipe, indent=None) if skill.recipe else ""),
        ("avoid because", "; ".join(skill.anti_signals)),
    ):
        if value:
            print(f"{title:<14} {safe_text(value)}")
    for number, step in enumerate(skill.steps, 1):
        print(f"  {number}. {safe_line(step)}")
    print()
