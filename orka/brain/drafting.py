"""New skills made of what was done, before anybody has looked whether they are known already. Pure.

The id of a draft follows from what makes it the same skill (type, domain, features or name, agents), not from chance: two
processes that learn one thing at the same moment come to the same skill.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from orka.brain import growth, names
from orka.brain.features import Features, analyse, domain_of
from orka.brain.reading import Facts, facts_of, flag_of, number_of, text_of, texts_of
from orka.brain.skill import MOST_ACTION, Condition, Skill, Step
from orka.ids import digest_of
from orka.types import Json

MOST_STEPS: Final = 50
_LISTED = re.compile(r"^\s*(?:\d{1,3}[.)]|[-*•])\s+(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How it went."""

    success: bool = True
    quality: float = 0.5
    """0 to 1."""
    duration_ms: float | None = None
    error: str = ""


def outcome_of(facts: Facts) -> Outcome:
    """Of a mapping with `success`, `quality` (or `confidence`), `duration_ms`, `error`."""
    quality = facts.get("quality") if facts.get("quality") is not None else facts.get("confidence")
    duration = facts.get("duration_ms")
    return Outcome(
        success=flag_of(facts.get("success"), True),
        quality=number_of(quality, 0.5),
        duration_ms=None if duration is None else number_of(duration, 0.0, most=1e12),
        error=text_of(facts.get("error")),
    )


def draft_procedure(trace: Facts, context: Facts, outcome: Outcome, name: str, *, at_ms: int) -> Skill | None:
    """Of the `steps` of a trace, else of its `agents`, one after the other. None where there are neither."""
    steps = _steps(trace)
    if not steps:
        return None
    features, domain, task = analyse(context), domain_of(context), text_of(context.get("task"))
    found = name or names.procedural_name(domain, features, task)
    same: Json = found.lower() if name or not features.fingerprint else features.fingerprint
    actions = " → ".join(step.action for step in steps[:3])
    return _skill(
        "procedural",
        domain,
        same,
        name=found,
        description=f"{features.abstract_goal}. Steps: {actions}",
        procedure=steps,
        preconditions=_before(features),
        postconditions=_after(features, outcome),
        features=features,
        confidence=growth.learned_confidence(outcome.quality),
        context=context,
        at_ms=at_ms,
        tags=names.tags_of((domain,), features.task_structures, features.cognitive_patterns),
    )


def draft_recipe(
    agents: Sequence[Json], pattern: str, context: Facts, outcome: Outcome, name: str, *, at_ms: int
) -> Skill | None:
    """Agents that were run together: texts, or mappings with an `id`. None without any."""
    ids = texts_of(list(agents), most=MOST_STEPS)
    if not ids:
        return None
    features, domain = analyse({**context, "agents": list(agents)}), domain_of(context)
    found = name or names.recipe_name(domain, pattern, ids)
    recipe: dict[str, Json] = {
        "pattern": pattern,
        "agents": [one if isinstance(one, dict) else {"id": text_of(one)} for one in agents[:MOST_STEPS]],
        "total_agents": len(ids),
        "success_rate": outcome.quality,
    }
    if outcome.duration_ms is not None:
        recipe["avg_latency_ms"] = outcome.duration_ms
    return _skill(
        "execution_recipe",
        domain,
        name.lower() or [pattern, *ids],
        name=found,
        description=f"Agents for {domain}, {pattern}: {' → '.join(ids)}",
        procedure=_runs(ids),
        preconditions=_available(ids),
        postconditions=_after(features, outcome),
        features=features,
        confidence=growth.learned_confidence(outcome.quality),
        context=context,
        at_ms=at_ms,
        tags=names.tags_of((domain, pattern), ids, features.task_structures, features.cognitive_patterns),
        recipe=recipe,
    )


def draft_anti_pattern(what_failed: str, why: str, context: Facts, severity: str, *, at_ms: int) -> Skill | None:
    """Something not to do again. None without a word of what failed."""
    if not what_failed.strip():
        return None
    features, domain = analyse({"description": what_failed, **context}), domain_of(context)
    found = names.anti_name(domain, what_failed)
    return _skill(
        "anti_pattern",
        domain,
        found.lower(),
        name=found,
        description=f"Avoid: {what_failed}." + (f" Because: {why}" if why else ""),
        features=features,
        confidence=growth.ANTI_CONFIDENCE,
        context={**context, "task": what_failed},
        at_ms=at_ms,
        tags=names.tags_of((domain, "anti-pattern", severity), features.task_structures, features.cognitive_patterns),
        anti_signals=(why,) if why else (),
        recipe={"severity": severity, "task": text_of(context.get("task"))},
    )


def draft_path(
    nodes: Sequence[str], score: float, context: Facts, budget: Json, name: str, *, at_ms: int
) -> Skill | None:
    """Nodes that were run one after the other. None without any."""
    nodes = [node for node in nodes if node][:MOST_STEPS]
    if not nodes:
        return None
    features, domain = analyse({**context, "agents": list(nodes)}), domain_of(context)
    recipe: dict[str, Json] = {
        "pattern": "path",
        "agents": [{"id": node} for node in nodes],
        "total_agents": len(nodes),
        "score": score,
    }
    if budget:
        recipe["budget_used"] = budget
    return _skill(
        "graph_path",
        domain,
        name.lower() or list(nodes),
        name=name or names.path_name(domain, nodes),
        description=f"Path for {domain}: {' → '.join(nodes)}",
        procedure=_runs(nodes),
        preconditions=_available(nodes),
        features=features,
        confidence=growth.path_confidence(score),
        context=context,
        at_ms=at_ms,
        tags=names.tags_of((domain, "path"), nodes, features.task_structures, features.cognitive_patterns),
        recipe=recipe,
    )


def steps_in(text: str) -> list[Json]:
    """The numbered or bulleted lines of a text; without any, its first sentence."""
    listed = _LISTED.findall(text[:20_000])[:MOST_STEPS]
    if listed:
        return [line.strip() for line in listed]
    first = re.split(r"(?<=[.!?])\s|\n", text.strip(), maxsplit=1)[0].strip()
    return [first] if first else []


def shortened(text: str, most: int = MOST_ACTION) -> str:
    """At most `most` characters, cut between words where that is possible."""
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    head, blank, _ = text[:most].rpartition(" ")
    return (head if blank and len(head) > most // 2 else text[: most - 1]).rstrip(" ,;:.") + "…"


def _steps(trace: Facts) -> tuple[Step, ...]:
    given = trace.get("steps")
    found: list[Step] = []
    for one in given[:MOST_STEPS] if isinstance(given, list) else []:
        facts: Facts = one if isinstance(one, dict) else {"action": text_of(one)}
        said = next((text for key in ("action", "agent_id", "name", "step") if (text := text_of(facts.get(key)))), "")
        if not said:
            continue
        more = text_of(facts.get("description")) or text_of(facts.get("result"))
        action = shortened(said)
        found.append(
            Step(
                action=action,
                description=(more or (said if action != said else ""))[:500],
                order=len(found),
                parameters=facts_of(facts.get("parameters")),
                is_optional=flag_of(facts.get("optional", facts.get("is_optional")), False),
            )
        )
    return tuple(found) or _runs(texts_of(trace.get("agents"), most=MOST_STEPS))


def _runs(agents: Sequence[str]) -> tuple[Step, ...]:
    return tuple(Step(action=shortened(f"run {agent}"), order=place) for place, agent in enumerate(agents))


def _available(agents: Sequence[str]) -> tuple[Condition, ...]:
    return tuple(Condition(predicate=f"agent {agent!r} is available") for agent in dict.fromkeys(agents))


def _before(features: Features) -> tuple[Condition, ...]:
    shape = features.input_shape
    known = (Condition(predicate=f"input is {shape}"),) if shape != "unknown" else ()
    return (
        *known,
        *(Condition(predicate=f"task allows {name}", required=False) for name in features.task_structures),
    )


def _after(features: Features, outcome: Outcome) -> tuple[Condition, ...]:
    return (
        Condition(predicate=f"output is {features.output_shape}"),
        Condition(predicate=f"quality is {outcome.quality:.2f} or better", required=False),
    )


def _skill(
    kind: str,
    domain: str,
    same: Json,
    *,
    name: str,
    description: str,
    features: Features,
    confidence: float,
    context: Facts,
    at_ms: int,
    tags: tuple[str, ...],
    procedure: tuple[Step, ...] = (),
    preconditions: tuple[Condition, ...] = (),
    postconditions: tuple[Condition, ...] = (),
    recipe: dict[str, Json] | None = None,
    anti_signals: tuple[str, ...] = (),
) -> Skill:
    return Skill(
        id=str(uuid.UUID(hex=digest_of([kind, domain.lower(), same]))),
        name=name,
        skill_type=kind,
        description=shortened(description, 500),
        procedure=procedure,
        preconditions=preconditions,
        postconditions=postconditions,
        source_context=features,
        confidence=confidence,
        tags=tags,
        created_ms=at_ms,
        updated_ms=at_ms,
        task_description=text_of(context.get("task")) or text_of(context.get("input_description")),
        domain_keywords=(domain,),
        output_description=text_of(context.get("output_format")),
        search_tokens=names.search_tokens(name),
        recipe=recipe or {},
        anti_signals=anti_signals,
    )
