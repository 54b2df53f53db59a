"""What OrKa 0.9 has learned is taken over once: its keys are read, never written, and go on living by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from orka.brain import growth
from orka.brain.episode import Episode, decode_episode
from orka.brain.skill import Skill, decode_skill
from orka.brain.store import MOST_EPISODES, MOST_SKILLS, BrainStore, pack
from orka.embedding.base import Embedder
from orka.logs import get_logger
from orka.redis import keys

_BATCH: Final = 256
"""Texts that are embedded together."""

_log = get_logger()


async def adopt(store: BrainStore, embedder: Embedder, *, now_ms: int) -> int:
    """Takes over what is there and has not been, ids included; gives how many skills and episodes were taken over. A skill
    that is known already stays as it is. Harmless when two processes do it at once, and when it is cut off."""
    there, taken = await store.adopted()
    if there == taken:
        return 0
    skills = await store.old(keys.old_skill_key(), keys.old_skill_key, MOST_SKILLS)
    episodes = await store.old(keys.old_episode_key(), keys.old_episode_key, MOST_EPISODES)
    found = [skill for facts in skills if (skill := decode_skill(facts)) is not None and _lives(skill, now_ms)]
    told = [episode for facts in episodes if (episode := decode_episode(facts)) is not None]
    await _skills(store, embedder, found, now_ms)
    await _episodes(store, embedder, told)
    await store.set_adopted(*there)
    _log.info("brain.adopted", skills=len(found), episodes=len(told))
    return len(found) + len(told)


async def _skills(store: BrainStore, embedder: Embedder, skills: Sequence[Skill], now_ms: int) -> None:
    for start in range(0, len(skills), _BATCH):
        batch = skills[start : start + _BATCH]
        vectors = await embedder.embed([skill.text for skill in batch])
        for skill, vector in zip(batch, vectors, strict=True):
            known = skill if skill.expires_ms else _renewed(skill, now_ms)
            visit = f"adopted {skill.id}"
            await store.put_skill(known, 0, visit=visit, model=embedder.name, vector=pack(vector))


async def _episodes(store: BrainStore, embedder: Embedder, episodes: Sequence[Episode]) -> None:
    for start in range(0, len(episodes), _BATCH):
        batch = episodes[start : start + _BATCH]
        vectors = await embedder.embed([episode.text for episode in batch])
        for episode, vector in zip(batch, vectors, strict=True):
            await store.put_episode(episode, model=embedder.name, vector=pack(vector))


def _lives(skill: Skill, now_ms: int) -> bool:
    return not skill.expires_ms or skill.expires_ms > now_ms


def _renewed(skill: Skill, now_ms: int) -> Skill:
    """One that was to live for ever gets the lifetime that its uses have earned."""
    return skill.renewed(now_ms + growth.life_ms(skill.usage_count, skill.confidence))
