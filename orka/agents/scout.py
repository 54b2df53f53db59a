"""`graph-scout`: compares paths of agents for the question at hand, and has the best one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType
from orka.agents.model import Model, ModelKeys, Reply
from orka.agents.scout_keys import ScoutOptions
from orka.agents.scouting.asking import SCHEMA, UNKNOWN, Opinion, make_prompt, read_opinions
from orka.agents.scouting.budget import Estimate, estimate, is_affordable
from orka.agents.scouting.deciding import Decision, Scored, decide, margin_for, no_candidates, over_budget, rank, unsafe
from orka.agents.scouting.paths import Route, is_terminal, make_paths, required_in
from orka.agents.scouting.profile import Profile, profiles_of, proposes_only
from orka.agents.scouting.relevance import describe, overlap, relevance
from orka.agents.scouting.remembering import SKILL_TYPES, remembered
from orka.agents.scouting.safety import is_safe, judge_safety
from orka.agents.scouting.scoring import (
    REFUSED,
    Facts,
    adjusted,
    components_of,
    confidence_of,
    evaluate,
    numeric_score,
    refused,
    share_held,
)
from orka.agents.scouting.telling import Judged, Trace, fields_of, tell
from orka.errors import LLMError, OrkaError
from orka.graph.graph import Site
from orka.graph.nodes import AgentNode
from orka.scoring import BooleanScoreCalculator
from orka.types import Json, NodeId


class ScoutAgent:
    """Knows the graph around it; asks at most one model and the brain."""

    def __init__(self, options: ScoutOptions, node: AgentNode, tools: AgentTools) -> None:
        self._options = options
        self._node = node
        self._tools = tools
        self._proposes = proposes_only(node, tools.site)
        self._model = Model(_keys_of(options), node, tools) if options.llm_evaluation_enabled else None
        self._calculator = BooleanScoreCalculator(options.scoring_preset, "graphscout")

    async def run(self, task: AgentInput, /) -> AgentOutput:
        options, trace = self._options, Trace()
        question = _question(task.input)
        profiles = profiles_of(self._tools.site, task.node_id, task.outputs)
        required = [name for name in required_in(task.prompt or "") if name not in task.outputs]
        similarities = await self._similarities(question, profiles)
        ranked = sorted(profiles, key=lambda name: -overlap(question, profiles[name], similarities.get(name, 0.0)))
        paths = make_paths(
            ranked,
            profiles,
            max_depth=options.max_depth,
            terminal=options.require_terminal,
            required=required,
        )
        trace.steps |= {"agents": list[Json](profiles), "paths": len(paths), "required": list[Json](required)}
        margin = margin_for(task.outputs, options.commit_margin)
        judged = Judged({})
        decision = self._filtered(question, paths, profiles, trace, judged)
        if decision is None:
            known = frozenset(task.outputs)
            wanted = frozenset(name for name in required if name in profiles)
            await self._judge(task, question, judged, profiles, (known, wanted), similarities, trace)
            decision = decide(rank(judged.scored, options.k_beam), margin)
        trace.steps |= {"margin": margin, "proposes_only": self._proposes}
        runs = () if self._proposes else decision.route
        return AgentOutput(
            response=tell(decision, judged),
            fields=fields_of(decision, judged, trace),
            usage=trace.usage if trace.calls else None,
            next=runs or None,
            once=True,
        )

    def _filtered(
        self,
        question: str,
        paths: Sequence[Route],
        profiles: Mapping[NodeId, Profile],
        trace: Trace,
        judged: Judged,
    ) -> Decision | None:
        """What passes the budget and is safe goes into `judged`; a decision when nothing does."""
        options = self._options
        if not paths:
            return no_candidates()
        uses = {path: estimate(profiles[name] for name in path) for path in paths}
        tokens, latency = options.cost_budget_tokens, options.latency_budget_ms
        within = [path for path in paths if is_affordable(uses[path], tokens=tokens, latency_ms=latency)]
        trace.steps["within_budget"] = len(within)
        if not within:
            return over_budget(len(paths))
        reasons: dict[str, None] = {}
        for path in within:
            agents = tuple(profiles[name] for name in path)
            safety = judge_safety(
                question, agents, guard=options.safety_profile, preview_tokens=options.max_preview_tokens
            )
            if is_safe(safety, options.safety_threshold):
                judged.facts[path] = Facts(path=path, agents=agents, use=uses[path], safety=safety, relevance=UNKNOWN)
            else:
                reasons |= dict.fromkeys(safety.reasons)
        trace.steps["safe"] = len(judged.facts)
        return None if judged.facts else unsafe(len(within), list(reasons))

    async def _judge(
        self,
        task: AgentInput,
        question: str,
        judged: Judged,
        profiles: Mapping[NodeId, Profile],
        said: tuple[frozenset[str], frozenset[NodeId]],
        similarities: Mapping[NodeId, float],
        trace: Trace,
    ) -> None:
        """Scores every path. `said`: ids of outputs that are there, and what is required."""
        options = self._options
        opinions = await self._opinions(task, question, judged, profiles, trace)
        judged.opinions = opinions or {}
        trace.steps["judged_by"] = "model" if opinions else "words"
        skills = await self._skills(question, trace) if options.brain_assisted else []
        low, high = options.optimal_path_length
        for path, before in judged.facts.items():
            if opinions:
                opinion = opinions.get(path)
                fits = opinion.score if opinion is not None else UNKNOWN
            else:
                fits = relevance(question, before.agents, similarities)
            facts = judged.facts[path] = Facts(
                path=path,
                agents=before.agents,
                use=before.use,
                safety=before.safety,
                relevance=fits,
                known=said[0],
                similarities=similarities,
                required=said[1],
                brain=remembered(path, skills),
            )
            parts = components_of(facts, question, best_length=(low, high))
            if options.brain_assisted:
                parts["brain"] = facts.brain
            judged.components[path] = parts
            score, confidence = self._score(facts, question, parts, profiles)
            judged.scored.append(
                Scored(path=path, score=score, confidence=confidence, terminal=is_terminal(path, profiles))
            )

    def _score(
        self, facts: Facts, question: str, parts: Mapping[str, float], profiles: Mapping[NodeId, Profile]
    ) -> tuple[float, float]:
        options = self._options
        if options.scoring_mode == "numeric":
            boost = 0.0 if "brain" in options.score_weights else options.brain_boost_weight * facts.brain
            return numeric_score(parts, options.score_weights, boost=boost), confidence_of(parts)
        evaluations = adjusted(evaluate(facts, question, options.bar, profiles), options.bar)
        if refused(evaluations, options.bar):
            return REFUSED, share_held(evaluations)
        score = self._calculator.calculate(evaluations)["score"]
        return float(score) if isinstance(score, int | float) else 0.0, share_held(evaluations)

    async def _opinions(
        self,
        task: AgentInput,
        question: str,
        judged: Judged,
        profiles: Mapping[NodeId, Profile],
        trace: Trace,
    ) -> dict[Route, Opinion] | None:
        """The model's, batch by batch at the same time. None: it is not to be asked, or did not say anything usable."""
        if self._model is None:
            return None
        size = self._options.evaluation_batch
        paths = list(judged.facts)
        batches = [paths[start : start + size] for start in range(0, len(paths), size)]
        found: dict[Route, Opinion] = {}
        limiter = anyio.CapacityLimiter(self._options.evaluation_concurrency)
        problems: list[LLMError] = []

        async def ask(batch: list[Route]) -> None:
            uses: list[tuple[Route, Estimate]] = [(path, judged.facts[path].use) for path in batch]
            preview = self._options.max_preview_tokens
            prompt = make_prompt(question, task.prompt or "", uses, profiles, preview_tokens=preview)
            async with limiter:
                try:
                    reply = await self._ask(task, prompt)
                except LLMError as exc:
                    problems.append(exc)
                    return
            trace.usage = trace.usage + reply.usage
            trace.calls += 1
            found.update(read_opinions(reply.fields, batch) or {})

        async with anyio.create_task_group() as group:
            for batch in batches:
                group.start_soon(ask, batch)
        if problems and not self._options.fallback_to_heuristics:
            raise problems[0]
        if problems:
            trace.steps["model_failed"] = str(problems[0])
        elif not found:
            trace.steps["model_failed"] = "its answer judges none of the paths"
            if not self._options.fallback_to_heuristics:
                raise LLMError("the model's answer judges none of the paths: it is not the JSON that was asked for")
        return found or None

    async def _ask(self, task: AgentInput, prompt: str) -> Reply:
        assert self._model is not None
        return await self._model.ask(task, prompt, schema=SCHEMA)

    async def _similarities(self, question: str, profiles: Mapping[NodeId, Profile]) -> dict[NodeId, float]:
        """Cosine of each agent's description with the question. Empty where no embedding model is at hand."""
        if not profiles or not question.strip():
            return {}
        try:
            vectors = await self._tools.embedder.embed([question, *(describe(agent) for agent in profiles.values())])
        except OrkaError:
            return {}  # words alone will do
        values: list[float] = (vectors[1:] @ vectors[0]).tolist()
        # Rounded, so that the last bits of another machine's arithmetic cannot change a decision.
        return {name: round(value, 4) + 0.0 for name, value in zip(profiles, values, strict=True)}

    async def _skills(self, question: str, trace: Trace) -> list[tuple[Sequence[str], float]]:
        """Paths that the brain has learned for tasks like this one."""
        brain = self._tools.brain
        if brain is None:
            return []
        found = await brain.recall({"task": question}, 10, 0.3, list(SKILL_TYPES))
        trace.steps["skills"] = [one.skill.name for one in found]
        return [(tuple(one.skill.agents), one.combined_score) for one in found]


def _question(given: Json) -> str:
    """The text of the run's input: what the agents are chosen for. The prompt is what the author of the graph says."""
    if isinstance(given, dict) and "input" in given:
        given = given["input"]
    return given if isinstance(given, str) else str(given)


def _keys_of(options: ScoutOptions) -> ModelKeys:
    name = options.evaluation_model_name
    if name is None and options.evaluation_model not in (None, "local_llm"):
        name = options.evaluation_model
    return ModelKeys(
        provider=options.provider,
        model=name,
        model_url=options.model_url,
        api_key_env=options.api_key_env,
        temperature=options.temperature,
    )


def _may_choose(node: AgentNode, site: Site) -> tuple[NodeId, ...]:
    return () if proposes_only(node, site) else tuple(profiles_of(site, node.id))


def _build(node: AgentNode, tools: AgentTools) -> Agent:
    return ScoutAgent(ScoutOptions.model_validate(dict(node.options)), node, tools)


TYPE = AgentType(
    name="graph-scout",
    event_type="GraphScoutAgent",
    options=ScoutOptions,
    build=_build,
    trusted=True,
    may_choose=_may_choose,
    summary="Compares paths of agents for the question at hand and runs the best one.",
)
