"""What a scout says of its decision: its output. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from orka.agents.scouting.asking import Opinion
from orka.agents.scouting.deciding import Decision, Scored
from orka.agents.scouting.paths import Route
from orka.agents.scouting.scoring import Facts
from orka.results import Usage
from orka.types import Json

_SHOWN = 10
"""Paths of the ranking that are shown."""


@dataclass(slots=True)
class Judged:
    """Every path that is left after budget and safety, with what is known of it."""

    facts: dict[Route, Facts]
    components: dict[Route, dict[str, float]] = field(default_factory=dict[Route, dict[str, float]])
    opinions: dict[Route, Opinion] = field(default_factory=dict[Route, Opinion])
    scored: list[Scored] = field(default_factory=list[Scored])


@dataclass(slots=True)
class Trace:
    """How it came to the decision: part of the output."""

    steps: dict[str, Json] = field(default_factory=dict[str, Json])
    usage: Usage = field(default_factory=Usage)
    calls: int = 0


def tell(decision: Decision, judged: Judged) -> str:
    """In one line: for readers, and for models that are to judge it."""
    best = decision.chosen[0] if decision.chosen else None
    shown = f": {' -> '.join(decision.route)} ({round(best.score, 4):g})" if best is not None else ""
    return f"{decision.word}{shown}: {_reasoning(decision, judged)}"


def fields_of(decision: Decision, judged: Judged, trace: Trace) -> dict[str, Json]:
    """`decision`, `target`, `confidence`, `reasoning`, `status`, `trace`, `metrics`, `result`."""
    target: Json
    match decision.word:
        case "commit_next":
            target = str(decision.route[0])
        case "commit_path":
            target = list[Json](decision.route)
        case _:
            target = [_candidate(one, judged) for one in decision.chosen]
    said: dict[str, Json] = {
        "decision": decision.word,
        "target": target,
        "confidence": round(decision.confidence, 4),
        "reasoning": _reasoning(decision, judged),
    }
    ranked = sorted(judged.scored, key=lambda one: -one.score)[:_SHOWN]
    top = round(decision.chosen[0].score, 4) if decision.chosen else 0.0
    return {
        **said,
        "status": decision.status,
        "trace": {**trace.steps, "ranking": [_candidate(one, judged) for one in ranked]},
        "metrics": {
            "candidates_evaluated": len(judged.scored),
            "llm_calls": trace.calls,
            "tokens": trace.usage.prompt_tokens + trace.usage.completion_tokens,
            "cost_usd": trace.usage.cost_usd,
        },
        "result": {**said, "candidates_evaluated": len(judged.scored), "top_score": top},
    }


def _reasoning(decision: Decision, judged: Judged) -> str:
    opinion = judged.opinions.get(decision.route)
    return decision.reasoning + (f". {opinion.reasoning}" if opinion is not None and opinion.reasoning else "")


def _candidate(one: Scored, judged: Judged) -> Json:
    facts, opinion = judged.facts[one.path], judged.opinions.get(one.path)
    shown: dict[str, Json] = {
        "node_id": str(one.path[0]),
        "path": list[Json](one.path),
        "score": round(one.score, 4),
        "confidence": round(one.confidence, 4),
        "components": {name: round(value, 4) for name, value in judged.components[one.path].items()},
        "estimated_tokens": round(facts.use.tokens),
        "estimated_latency_ms": round(facts.use.latency_ms),
        "estimated_cost_usd": round(facts.use.cost_usd, 6),
        "safety_score": round(facts.safety.score, 4),
    }
    if opinion is not None:
        shown |= {"expected_outcome": opinion.expected, "pros": list[Json](opinion.pros)}
        shown["cons"] = list[Json](opinion.cons)
    return shown
