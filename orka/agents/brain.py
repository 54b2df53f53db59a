"""`brain`: learns skills from what runs did, recalls them for other tasks, and takes note of how that went; episodes, too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, Literal

import anyio.to_thread
from pydantic import BaseModel, Field

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType
from orka.agents.payload import Payload, agents_of, context_of, nodes_of, parse_object, text_at
from orka.brain.drafting import steps_in
from orka.brain.reading import flag_of, number_of
from orka.brain.recollection import describe_episode, told
from orka.errors import ConfigError
from orka.graph.nodes import AgentNode
from orka.llm.recovery import find_object
from orka.types import Json

if TYPE_CHECKING:
    from orka.brain.brain import Brain
    from orka.brain.ranking import Recalled
    from orka.brain.skill import Skill
Operation = Literal[
    "learn", "recall", "feedback", "learn_recipe", "learn_anti", "learn_path", "record_episode", "recall_episodes"
]


class BrainOptions(BaseModel):
    """Keys of a `brain` node. What the payload says of recalling wins."""

    operation: Operation = Field(default="learn", description="What it does: see below.")
    top_k: int | None = Field(default=None, ge=1, le=100, description="Recall so many at most (3; episodes 5).")
    min_score: float | None = Field(default=None, ge=0, le=1, description="Least score (0.5; episodes 0.2).")
    skill_types: list[str] | None = Field(default=None, description="Recall skills of these types only.")
    domain_filter: str | None = Field(default=None, description="Recall what was learned in this domain only.")
    include_failures: bool | None = Field(default=None, description="Recall failed episodes, too (true).")
    max_tokens: int | None = Field(
        default=None, ge=50, le=100_000, description="Of the text about episodes, about (1500)."
    )


_RECALLING: Final = ("top_k", "min_score", "skill_types", "domain_filter", "include_failures", "max_tokens")

_SHORT: Final = 2000
"""Characters up to which an object is read on the event loop."""


class BrainAgent:
    """One operation. Its payload is its prompt, else the run's input."""

    def __init__(self, options: BrainOptions, brain: Brain) -> None:
        self._operation: Operation = options.operation
        self._brain = brain

    async def run(self, task: AgentInput, /) -> AgentOutput:
        payload = await _payload(task)
        return await _OPERATIONS[self._operation](self._brain, task, payload)


async def _learn(brain: Brain, task: AgentInput, given: Payload) -> AgentOutput:
    said = text_at(given, "response")
    steps = given.get("steps")
    trace: Payload = {
        "steps": steps if steps else steps_in(said or text_at(given, "task")),
        "agents": given.get("agents"),
    }
    skill = await brain.learn(
        trace,
        context_of(given),
        given,
        text_at(given, "skill_name") or None,
        visit=task.idempotency_key,
        at_ms=task.now_ms,
    )
    if skill is None:
        return _nothing_learned("there are no steps to learn" if not steps and not said else "it failed")
    more: dict[str, Json] = {"skill_steps": list[Json](skill.steps), "skill_tags": list[Json](skill.tags)}
    return _learned(
        skill, more, said or f"Learned {skill.name}: {_numbered(skill)}", text_at(given, "internal_reasoning")
    )


async def _learn_recipe(brain: Brain, task: AgentInput, given: Payload) -> AgentOutput:
    skill = await brain.learn_recipe(
        agents_of(given.get("agents")),
        text_at(given, "pattern") or text_at(given, "strategy") or "sequential",
        context_of(given),
        _outcome(given, 0.7),
        text_at(given, "skill_name") or None,
        visit=task.idempotency_key,
        at_ms=task.now_ms,
    )
    if skill is None:
        return _nothing_learned("no agents are given, or they failed")
    return _learned(skill, {"skill_type": skill.skill_type}, skill.description)


async def _learn_anti(brain: Brain, task: AgentInput, given: Payload) -> AgentOutput:
    skill = await brain.learn_anti_pattern(
        text_at(given, "what_failed") or text_at(given, "response"),
        text_at(given, "why") or text_at(given, "reason"),
        context_of(given),
        text_at(given, "severity") or "warning",
        visit=task.idempotency_key,
        at_ms=task.now_ms,
    )
    if skill is None:
        return _nothing_learned("`what_failed` is empty")
    return _learned(skill, {"skill_type": skill.skill_type}, skill.description)


async def _learn_path(brain: Brain, task: AgentInput, given: Payload) -> AgentOutput:
    score = given.get("score") if given.get("score") is not None else given.get("confidence")
    skill = await brain.learn_path(
        nodes_of(given.get("path_nodes") or given.get("path")),
        number_of(score, 0.5),
        context_of(given),
        _outcome(given, 0.5),
        given.get("budget_used"),
        text_at(given, "skill_name") or None,
        visit=task.idempotency_key,
        at_ms=task.now_ms,
    )
    if skill is None:
        return _nothing_learned("the path is empty, or it failed")
    return _learned(skill, {"skill_type": skill.skill_type}, skill.description)


async def _recall(brain: Brain, task: AgentInput, given: Payload) -> AgentOutput:
    found = await brain.recall(
        context_of(given),
        top_k=int(number_of(given.get("top_k"), 3, most=100)),
        min_score=number_of(given.get("min_score"), 0.5),
        skill_types=list(nodes_of(given.get("skill_types"))) or None,
        domain_filter=text_at(given, "domain_filter") or None,
    )
    if not found:
        return _output(
            "No skill fits this task.", 0.0, "Nothing that was learned reaches the least score.", {"all_candidates": []}
        )
    best = found[0]
    return _output(
        f"{best.skill.name}: {_numbered(best.skill) or best.skill.description}",
        best.combined_score,
        best.reasoning,
        {
            "skill_id": best.skill.id,
            "skill_name": best.skill.name,
            "skill_steps": list[Json](best.skill.steps),
            "skill_tags": list[Json](best.skill.tags),
            "combined_score": round(best.combined_score, 4),
            "structural_score": round(best.structural_score, 4),
            "semantic_score": round(best.semantic_score, 4),
            "adaptations": best.adaptations,
            "all_candidates": [_candidate(one) for one in found],
        },
    )


async def _feedback(brain: Brain, task: AgentInput, given: Payload) -> AgentOutput:
    identity, name = text_at(given, "skill_id"), text_at(given, "skill_name")
    if not identity and name:
        known = await brain.find_skills(name)
        identity = known[0].id if known else ""
    success = flag_of(given.get("success"), True)
    adapted = given.get("adaptations")
    skill = None
    if identity:
        skill = await brain.feedback(
            identity,
            context_of(given),
            success,
            adapted if isinstance(adapted, dict) else None,
            visit=task.idempotency_key,
            at_ms=task.now_ms,
        )
    if skill is None:
        return _output("There is no such skill: nothing is noted.", 0.0, "It was never learned, or it has expired.", {})
    how = "succeeded" if success else "failed"
    return _output(
        f"{skill.name} {how}.",
        skill.confidence,
        f"{skill.transfers_succeeded} of {skill.transfers} transfers succeeded; used {skill.usage_count} times.",
        {
            "skill_id": skill.id,
            "skill_name": skill.name,
            "transfer_count": skill.transfers,
            "transfer_success": success,
        },
    )


async def _record_episode(brain: Brain, task: AgentInput, given: Payload) -> AgentOutput:
    said = text_at(given, "task_input") or text_at(given, "input") or text_at(given, "response")
    summary = text_at(given, "outcome_summary")
    episode = await brain.record_episode(
        said,
        {**context_of(given), "agents": agents_of(given.get("agents"))},
        {**given, "quality": given.get("quality", 0.5), "outcome_summary": summary},
        visit=task.idempotency_key,
        at_ms=task.now_ms,
    )
    how = "success" if episode.success else "failure"
    return _output(
        summary or f"Recorded a {how} in {episode.task_domain}.",
        episode.quality_score,
        f"{how}; {len(episode.lessons)} lessons",
        {"episode_id": episode.id, "episode_domain": episode.task_domain, "episode_success": episode.success},
    )


async def _recall_episodes(brain: Brain, task: AgentInput, given: Payload) -> AgentOutput:
    asked = (
        text_at(given, "task_input") or text_at(given, "input") or text_at(given, "task") or text_at(given, "response")
    )
    found = await brain.recall_episodes(
        asked,
        context_of(given),
        top_k=int(number_of(given.get("top_k"), 5, most=100)),
        min_score=number_of(given.get("min_score"), 0.2),
        include_failures=flag_of(given.get("include_failures"), True),
        domain_filter=text_at(given, "domain_filter") or None,
        at_ms=task.now_ms,
    )
    return _output(
        told(found, int(number_of(given.get("max_tokens"), 1500, most=100_000))),
        found[0].score if found else 0.0,
        f"{len(found)} episodes; {sum(not one.episode.success for one in found)} of them failed",
        {"episode_count": len(found), "episodes": [describe_episode(one) for one in found]},
    )


_OPERATIONS: Final[Mapping[Operation, Callable[[Brain, AgentInput, Payload], Awaitable[AgentOutput]]]] = {
    "learn": _learn,
    "recall": _recall,
    "feedback": _feedback,
    "learn_recipe": _learn_recipe,
    "learn_anti": _learn_anti,
    "learn_path": _learn_path,
    "record_episode": _record_episode,
    "recall_episodes": _recall_episodes,
}


async def _payload(task: AgentInput) -> Payload:
    """What the options say of recalling, below what the prompt says; a text that is no object is `response`."""
    own = {key: task.options[key] for key in _RECALLING if task.options.get(key) is not None}
    text = task.text
    if task.prompt is None and isinstance(task.input, dict):
        inner = task.input.get("input", task.input)
        if isinstance(inner, dict):
            return {**own, **inner}
        text = inner if isinstance(inner, str) else str(inner)
    found = parse_object(text) if len(text) <= _SHORT else await anyio.to_thread.run_sync(parse_object, text)
    if found is None and text.strip().startswith("{"):  # a quote too many in what a template has put in, say
        found = await anyio.to_thread.run_sync(find_object, text)
    return {**own, **({"response": text} if found is None else found)}


def _outcome(given: Payload, quality: float) -> dict[str, Json]:
    said = given.get("quality") if given.get("quality") is not None else given.get("confidence")
    return {**given, "quality": number_of(said, quality)}


def _learned(skill: Skill, more: dict[str, Json], response: str, reasoning: str = "") -> AgentOutput:
    why = reasoning or (
        "a new skill" if skill.usage_count <= 1 else f"known already; used {skill.usage_count} times by now"
    )
    return _output(response, skill.confidence, why, {"skill_id": skill.id, "skill_name": skill.name, **more})


def _nothing_learned(why: str) -> AgentOutput:
    return _output("Nothing was learned.", 0.0, why, {})


def _output(response: str, confidence: float, reasoning: str, fields: dict[str, Json]) -> AgentOutput:
    return AgentOutput(
        response=response,
        fields={"confidence": str(round(confidence, 4)), "internal_reasoning": reasoning, **fields},
    )


def _candidate(one: Recalled) -> dict[str, Json]:
    return {"skill_name": one.skill.name, "score": round(one.combined_score, 4), "reasoning": one.reasoning}


def _numbered(skill: Skill) -> str:
    return " ".join(f"{number}. {action}" for number, action in enumerate(skill.steps, 1))


def _build(node: AgentNode, tools: AgentTools) -> Agent:
    if tools.brain is None:
        raise ConfigError(f"agent {node.id!r} is of type 'brain', and this process has opened none")
    return BrainAgent(BrainOptions.model_validate(dict(node.options)), tools.brain)


TYPE = AgentType(
    name="brain",
    event_type="BrainAgent",
    options=BrainOptions,
    build=_build,
    plain=True,
    templates=frozenset({"skill_types", "domain_filter"}),
    summary="Learns skills and episodes from runs, and recalls them for later ones.",
)
