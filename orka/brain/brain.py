"""`Brain`: skills that are learned, recalled and judged, and episodes that are recorded and remembered.

A skill that is learned again is the same skill, used once more. Every change is made once per visit, and a change that meets
another one is decided anew on what is there by then.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Protocol

import anyio.to_thread

from orka.brain import growth
from orka.brain.drafting import draft_anti_pattern, draft_path, draft_procedure, draft_recipe, outcome_of
from orka.brain.episode import Episode, new_episode
from orka.brain.features import analyse, domain_of
from orka.brain.merging import known_as, nearest_elsewhere
from orka.brain.opening import HasSettings, Opened, Opening
from orka.brain.ranking import Recalled, adaptations, rank
from orka.brain.reading import Facts, text_of
from orka.brain.recollection import Remembered, rank_episodes
from orka.brain.settling import settle
from orka.brain.skill import RELATIONS, Skill, Transfer
from orka.brain.store import LEARNING
from orka.brain.summary import summary
from orka.brain.vectors import semantic
from orka.clock import now_ms
from orka.embedding.base import Embedder
from orka.errors import ConfigError
from orka.ids import digest_of, new_nonce
from orka.redis import keys
from orka.settings import Settings
from orka.types import Json

_NOTHING: Final[Mapping[str, Json]] = {}


class BrainAccess(Protocol):
    """How a `Brain` comes to what it works with."""

    async def opened(self) -> Opened: ...
    async def enter(self) -> None: ...
    async def close(self) -> None: ...


class Brain:
    """Safe to use from several tasks. Everything raises `StoreError` when Redis cannot be reached, and `EmbeddingError` when
    texts cannot be turned into vectors.

    `visit` names what a call is made for (an agent's `idempotency_key`): each kind of change is made once for it. `at_ms` is
    the time that is written down; without it, now.
    """

    def __init__(
        self,
        memory: HasSettings | Settings | str | None = None,
        embedder: Embedder | None = None,
        llm_client: object = None,
        *,
        access: BrainAccess | None = None,
    ) -> None:
        """`memory` says which Redis: a URL, `Settings`, or anything that has `settings`, as what `create_memory_logger` gives;
        without it, what the environment says. `embedder` in place of the settings' one. `llm_client` is accepted because
        OrKa 0.9 did, and ignored. Nothing is opened before the first call or `async with`."""
        del llm_client
        self._access: BrainAccess = access or Opening(memory, embedder)

    async def __aenter__(self) -> Brain:
        await self._access.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._access.close()

    async def close(self) -> None:
        """Closes what this event loop has opened. It may be used again."""
        await self._access.close()

    # Learning

    async def learn(
        self,
        execution_trace: Facts,
        context: Facts,
        outcome: Facts,
        skill_name: str | None = None,
        *,
        visit: str | None = None,
        at_ms: int | None = None,
    ) -> Skill | None:
        """A procedure: the `steps` of `execution_trace` (texts, or mappings with `action`), else its `agents`. `context` has
        `domain` and `task`, `outcome` has `success` and `quality` (0 to 1). One that is known is used once more, and
        then given back. None when it failed and is not known, or when there are no steps."""
        how, name = outcome_of(outcome), (skill_name or "").strip()
        draft = draft_procedure(execution_trace, context, how, name, at_ms=_time(at_ms))
        return await self._learn(draft, how.success, bool(name), visit)

    async def learn_recipe(
        self,
        agents: Sequence[Json],
        pattern: str,
        context: Facts,
        outcome: Facts,
        skill_name: str | None = None,
        *,
        visit: str | None = None,
        at_ms: int | None = None,
    ) -> Skill | None:
        """Agents that were run together, as ids or mappings with `id`, and how (`sequential`, `fork-join`, ...)."""
        how, name = outcome_of(outcome), (skill_name or "").strip()
        draft = draft_recipe(agents, pattern or "sequential", context, how, name, at_ms=_time(at_ms))
        return await self._learn(draft, how.success, bool(name), visit)

    async def learn_anti_pattern(
        self,
        what_failed: str,
        why: str,
        context: Facts,
        severity: str = "warning",
        *,
        visit: str | None = None,
        at_ms: int | None = None,
    ) -> Skill | None:
        """Something not to do again. None without a word of what failed."""
        draft = draft_anti_pattern(what_failed, why, context, severity, at_ms=_time(at_ms))
        return await self._learn(draft, True, False, visit)

    async def learn_path(
        self,
        path_nodes: Sequence[str],
        score: float,
        context: Facts,
        outcome: Facts,
        budget_used: Json = None,
        skill_name: str | None = None,
        *,
        visit: str | None = None,
        at_ms: int | None = None,
    ) -> Skill | None:
        """Nodes that were run one after the other; `score` from 0 to 1."""
        name = (skill_name or "").strip()
        draft = draft_path(path_nodes, score, context, budget_used, name, at_ms=_time(at_ms))
        return await self._learn(draft, outcome_of(outcome).success, bool(name), visit)

    async def feedback(
        self,
        skill_id: str,
        context: Facts,
        success: bool,
        adaptations: Facts | None = None,
        *,
        visit: str | None = None,
        at_ms: int | None = None,
    ) -> Skill | None:
        """How it went to use a skill in `context`. Gives it with its new figures; None when there is no such skill."""
        opened = await self._opened()
        known = await opened.store.skill(skill_id)
        if known is None:
            return None
        features, domain, at = analyse(context), domain_of(context), _time(at_ms)

        def judged(skill: Skill | None) -> Skill | None:
            if skill is None:
                return None
            transfer = Transfer(
                target_context=features,
                success=success,
                confidence=skill.confidence,
                adaptations=dict(adaptations or {}) or differences(skill, features, domain),
                at_ms=at,
            )
            return skill.transferred(transfer, now_ms=now_ms())

        return await settle(opened, known, judged, visit and f"feedback {skill_id} {visit}")

    async def relate(self, source_id: str, relation: str, target_id: str) -> Skill | None:
        """Notes a relation (`DERIVES_FROM`, `COMPOSED_OF`, `SPECIALIZES`, `TRANSFERRED_TO`, `CONFLICTS_WITH`, `COMPLEMENTS`)
        of one skill to another, once. None when there is no such skill. `ConfigError` for another relation."""
        if relation not in RELATIONS:
            raise ConfigError(f"{relation!r} is no relation of skills: one of {', '.join(RELATIONS)}")
        opened = await self._opened()
        known = await opened.store.skill(source_id)
        if known is None:
            return None
        return await settle(opened, known, lambda skill: skill and skill.related(relation, target_id), None)

    # Recalling

    async def recall(
        self,
        context: Facts,
        top_k: int = 5,
        min_score: float = 0.3,
        skill_types: Sequence[str] | None = None,
        domain_filter: str | None = None,
    ) -> list[Recalled]:
        """Skills that fit `context`, best first, of whatever domain unless `domain_filter` names one."""
        opened, features = await self._opened(), analyse(context)
        domain = text_of(context.get("domain"), most=80)
        found, rows = await opened.store.skills(
            domain=domain,
            tags=(*features.task_structures, *features.cognitive_patterns),
            types=tuple(skill_types or ()),
            only_domain=(domain_filter or "").strip(),
        )
        if not found:
            return []
        skills = [one.skill for one in found]
        question = ". ".join(
            text
            for key in ("task", "input_description", "input", "output_format")
            if (text := text_of(context.get(key), most=1000))
        )
        ids = [skill.id for skill in skills]
        asked = f"{domain}: {question}" if domain else question
        scores = await semantic(opened, asked, keys.SKILL_PREFIX, ids, lambda place: skills[place].text, rows)

        def ranked() -> list[Recalled]:
            return rank(skills, scores, features, domain, top=top_k, least=min_score)

        return await anyio.to_thread.run_sync(ranked)

    # Episodes

    async def record_episode(
        self,
        task_input: str,
        context: Facts,
        outcome: Facts,
        *,
        visit: str | None = None,
        at_ms: int | None = None,
    ) -> Episode:
        """What happened: `context` has `domain`, `task`, `model`, `agents`, `strategy`; `outcome` has `success`, `quality`,
        `outcome_summary`, `what_worked`, `what_failed`, `failure_analysis`, `lessons`, `tokens_used`, `latency_ms`. One
        visit records one episode."""
        opened = await self._opened()
        identity = uuid.UUID(hex=digest_of(["episode", visit or new_nonce()]))
        episode = new_episode(str(identity), task_input, context, outcome, at_ms=_time(at_ms))
        [vector] = await opened.embedder.embed([episode.text])
        await opened.store.put_episode(episode, model=opened.embedder.name, vector=opened.pack(vector))
        return episode

    async def recall_episodes(
        self,
        task_input: str,
        context: Facts = _NOTHING,
        top_k: int = 5,
        min_score: float = 0.2,
        include_failures: bool = True,
        domain_filter: str | None = None,
        *,
        at_ms: int | None = None,
    ) -> list[Remembered]:
        """Episodes that matter for a task, best first; `context` may name its `domain`."""
        opened, domain = await self._opened(), text_of(context.get("domain"), most=80)
        only = (domain_filter or "").strip()
        episodes, rows = await opened.store.episodes(domain=domain, only_domain=only, failures=include_failures)
        if not episodes:
            return []
        ids = [one.id for one in episodes]
        question = f"{domain or 'general'}: {task_input[:1000]}"
        scores = await semantic(opened, question, keys.EPISODE_PREFIX, ids, lambda place: episodes[place].text, rows)
        at = _time(at_ms)
        return rank_episodes(episodes, scores, domain or only, at_ms=at, top=top_k, least=min_score)

    # Looking

    async def get_skills(self, limit: int = 1000) -> list[Skill]:
        """Those that live longest first."""
        found, _ = await (await self._opened()).store.skills(most=limit, vectors=False)
        return [one.skill for one in found]

    async def get_skill(self, skill_id: str) -> Skill | None:
        found = await (await self._opened()).store.skill(skill_id)
        return None if found is None else found.skill

    async def find_skills(self, name: str) -> list[Skill]:
        """Of a name, whatever its case."""
        return [one.skill for one in await (await self._opened()).store.named(name)]

    async def get_skill_summary(self) -> dict[str, Json]:
        """Of the 1,000 skills that live longest: how many, how trusted, how often transferred; and how many episodes."""
        store = (await self._opened()).store
        skills, (total, succeeded, failed) = await self.get_skills(), await store.counts()
        return summary(skills, total, succeeded, failed)

    async def cleanup_expired_skills(self) -> dict[str, int]:
        """Tidies the index up after skills that have expired, which Redis deletes by itself: `checked` and `deleted`. (A plain
        method in OrKa 0.9.)"""
        checked, deleted = await (await self._opened()).store.sweep()
        return {"checked": checked, "deleted": deleted}

    async def _opened(self) -> Opened:
        return await self._access.opened()

    async def _learn(self, draft: Skill | None, success: bool, named: bool, visit: str | None) -> Skill | None:
        if draft is None:
            return None
        opened = await self._opened()
        found, _ = await opened.store.skills(
            most=LEARNING,
            domain=draft.domain,
            only_type=draft.skill_type,
            tags=draft.source_context.task_structures,
            vectors=False,
        )
        same = known_as(draft, (one.skill for one in found), named=named)
        known = next((one for one in found if one.skill is same), None)
        if known is None and not success:
            return None
        if (source := nearest_elsewhere(draft, (one.skill for one in found))) is not None:
            draft = draft.related("DERIVES_FROM", source.id)
        [vector] = await opened.embedder.embed([draft.text])
        new = draft

        def learned(skill: Skill | None) -> Skill | None:
            if skill is None:
                return new.renewed(now_ms() + growth.life_ms(1, new.confidence))
            return skill.used(success=success, at_ms=new.updated_ms, now_ms=now_ms())

        name = visit and f"learn {new.skill_type} {visit}"
        return await settle(opened, known, learned, name, opened.pack(vector))


differences = adaptations
"""Under a name that `feedback` does not use itself."""


def _time(at_ms: int | None) -> int:
    return now_ms() if at_ms is None else at_ms
