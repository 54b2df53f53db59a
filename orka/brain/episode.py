"""`Episode`: one execution, how it went and what was learned from it, and its JSON as OrKa 0.9 wrote it. Pure."""

from __future__ import annotations

import msgspec

from orka.brain.features import Features, analyse, decode_features
from orka.brain.reading import Facts, facts_of, flag_of, ms_of, number_of, text_of, texts_of

MOST_INPUT = 4000
"""Characters of a task's input that are kept."""
MOST_LISTED = 20
"""Entries of each list."""


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """A fact: never changed."""

    id: str
    at_ms: int = 0
    task_input: str = ""
    task_domain: str = "general"
    task_type: str = ""
    agents_used: tuple[str, ...] = ()
    strategy: str = ""
    model: str = ""
    context_features: Features = Features()
    success: bool = True
    quality_score: float = 0.5
    """0 to 1."""
    outcome_summary: str = ""
    what_worked: tuple[str, ...] = ()
    what_failed: tuple[str, ...] = ()
    failure_analysis: str = ""
    lessons: tuple[str, ...] = ()
    tokens_used: int = 0
    latency_ms: float = 0.0
    related_episode_ids: tuple[str, ...] = ()
    supersedes_id: str = ""

    @property
    def text(self) -> str:
        """What its vector is made of."""
        parts = [f"{self.task_domain}: {self.task_input[:500]}", self.outcome_summary, ". ".join(self.lessons)]
        return ". ".join(part for part in parts if part)[:2000]


def new_episode(identity: str, task_input: str, context: Facts, outcome: Facts, *, at_ms: int) -> Episode:
    """Of a context (`domain`, `task`, `model`, `agents`, `strategy`) and an outcome (`success`, `quality`,
    `outcome_summary`, `what_worked`, `what_failed`, `failure_analysis`, `lessons`, `tokens_used`, `latency_ms`)."""
    said = text_of(task_input, most=MOST_INPUT)
    return Episode(
        id=identity,
        at_ms=at_ms,
        task_input=said or text_of(context.get("task"), most=MOST_INPUT),
        task_domain=text_of(context.get("domain"), "general", most=80),
        task_type=text_of(context.get("task_type")) or text_of(context.get("task"), most=200),
        agents_used=texts_of(context.get("agents"), most=MOST_LISTED),
        strategy=text_of(context.get("strategy")),
        model=text_of(context.get("model")),
        context_features=analyse({"input": said, **context}),
        success=flag_of(outcome.get("success"), True),
        quality_score=number_of(outcome.get("quality"), 0.5),
        outcome_summary=text_of(outcome.get("outcome_summary")),
        what_worked=texts_of(outcome.get("what_worked"), most=MOST_LISTED),
        what_failed=texts_of(outcome.get("what_failed"), most=MOST_LISTED),
        failure_analysis=text_of(outcome.get("failure_analysis")),
        lessons=texts_of(outcome.get("lessons"), most=MOST_LISTED),
        tokens_used=round(number_of(outcome.get("tokens_used"), 0, most=1e15)),
        latency_ms=number_of(outcome.get("latency_ms"), 0.0, most=1e15),
    )


def decode_episode(facts: Facts) -> Episode | None:
    """Of what OrKa 0.9 stored; None for what is no episode."""
    identity = text_of(facts.get("id"))
    if not identity:
        return None
    return Episode(
        id=identity,
        at_ms=ms_of(facts.get("timestamp"), 0),
        task_input=text_of(facts.get("task_input"), most=MOST_INPUT),
        task_domain=text_of(facts.get("task_domain"), "general", most=80),
        task_type=text_of(facts.get("task_type")),
        agents_used=texts_of(facts.get("agents_used"), most=MOST_LISTED),
        strategy=text_of(facts.get("strategy")),
        model=text_of(facts.get("model")),
        context_features=decode_features(facts_of(facts.get("context_features"))),
        success=flag_of(facts.get("success"), True),
        quality_score=number_of(facts.get("quality_score"), 0.0),
        outcome_summary=text_of(facts.get("outcome_summary")),
        what_worked=texts_of(facts.get("what_worked"), most=MOST_LISTED),
        what_failed=texts_of(facts.get("what_failed"), most=MOST_LISTED),
        failure_analysis=text_of(facts.get("failure_analysis")),
        lessons=texts_of(facts.get("lessons"), most=MOST_LISTED),
        tokens_used=round(number_of(facts.get("tokens_used"), 0, most=1e15)),
        latency_ms=number_of(facts.get("latency_ms"), 0.0, most=1e15),
        related_episode_ids=texts_of(facts.get("related_episode_ids")),
        supersedes_id=text_of(facts.get("supersedes_id")),
    )
