"""What a brain learns is kept, counted once, found again and bounded, on either kind of server."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio
import pytest
from servers import Servers
from support.journals import client_of

from orka import Brain, ConfigError, Settings
from orka.brain import store as brain_store
from orka.brain.skill import skill_facts
from orka.memory_logger import create_memory_logger
from orka.redis import keys
from orka.redis.client import RedisHandle
from orka.testing import HashEmbedder

HOUR = 3_600_000
GOOD = {"success": True, "quality": 0.9}
REVIEW = {"domain": "finance", "task": "Review the quarterly report step by step, then summarize the weak points"}
LEASE = {"domain": "law", "task": "Review the lease step by step, then summarize the weak points"}
STEPS = {"steps": ["read all of it", "mark every claim", "check the numbers", "sum up"]}


@pytest.fixture(params=["private", "plain"])
def settings(
    request: pytest.FixtureRequest, clean_redis: RedisHandle, redis_settings: Settings, servers: Servers
) -> Settings:
    if request.param == "private":
        return redis_settings
    return replace(redis_settings, redis_url=servers.start().url)


@pytest.fixture
async def brain(settings: Settings) -> AsyncIterator[Brain]:
    async with Brain(settings, HashEmbedder(64)) as opened:
        yield opened


async def test_a_skill_is_learned_recalled_elsewhere_and_judged(brain: Brain) -> None:
    skill = await brain.learn(STEPS, REVIEW, GOOD)
    assert skill is not None
    assert skill.steps == STEPS["steps"]
    [found] = await brain.recall(LEASE)
    assert found.skill == await brain.get_skill(skill.id)
    assert found.structural_score == pytest.approx(1.0)
    assert found.adaptations == {"domain": {"from": "finance", "to": "law"}}
    assert found.combined_score == pytest.approx(
        0.35 + 0.25 * found.semantic_score + 0.25 * 0.5 + 0.15 * 0.68, abs=1e-6
    )
    judged = await brain.feedback(skill.id, LEASE, False, {"order": "reversed"})
    assert judged is not None
    assert (judged.transfers, judged.transfers_succeeded, judged.usage_count) == (1, 0, 2)
    assert judged.confidence == pytest.approx(0.612)
    assert judged.transfer_history[0].adaptations == {"order": "reversed"}
    assert await brain.get_skill(skill.id) == judged
    [again] = await brain.recall(LEASE)
    assert again.combined_score < found.combined_score


async def test_nothing_is_recalled_below_the_score_or_outside_of_the_filters(brain: Brain) -> None:
    await brain.learn(STEPS, REVIEW, GOOD)
    await brain.learn_anti_pattern("Summarize without reading", "it was made up", REVIEW)
    both = await brain.recall(LEASE, top_k=5)
    assert {one.skill.skill_type for one in both} == {"procedural", "anti_pattern"}
    only = await brain.recall(LEASE, skill_types=["anti_pattern"])
    assert [one.skill.skill_type for one in only] == ["anti_pattern"]
    assert len(await brain.recall(LEASE, domain_filter="Finance")) == 2
    assert await brain.recall(LEASE, domain_filter="law") == []
    assert await brain.recall(LEASE, skill_types=["graph_path"]) == []
    assert await brain.recall(LEASE, min_score=0.99) == []
    assert len(await brain.recall(LEASE, top_k=1)) == 1


async def test_what_is_learned_again_is_used_once_more(brain: Brain) -> None:
    first = await brain.learn(STEPS, REVIEW, GOOD)
    again = await brain.learn({"steps": ["other steps"]}, REVIEW, GOOD)
    failed = await brain.learn(STEPS, REVIEW, {"success": False})
    assert first is not None and again is not None and failed is not None  # noqa: PT018
    assert first.id == again.id == failed.id
    assert (again.usage_count, again.steps) == (2, first.steps)
    assert (failed.usage_count, failed.success_rate) == (3, pytest.approx(2 / 3))
    assert len(await brain.get_skills()) == 1


async def test_nothing_is_learned_from_a_first_failure_or_without_steps(brain: Brain) -> None:
    assert await brain.learn(STEPS, REVIEW, {"success": False}) is None
    assert await brain.learn({}, REVIEW, GOOD) is None
    assert await brain.learn_recipe([], "x", REVIEW, GOOD) is None
    assert await brain.learn_path(["a"], 0.9, REVIEW, {"success": False}) is None
    assert await brain.feedback("nobody", REVIEW, True) is None
    assert await brain.get_skills() == []


async def test_other_types_domains_and_names_are_other_skills(brain: Brain) -> None:
    made = [
        await brain.learn(STEPS, REVIEW, GOOD),
        await brain.learn(STEPS, LEASE, GOOD),
        await brain.learn(STEPS, REVIEW, GOOD, "My way"),
        await brain.learn_recipe(["a", "b"], "fork-join", REVIEW, GOOD),
        await brain.learn_recipe(["a", "c"], "fork-join", REVIEW, GOOD),
        await brain.learn_path(["a", "b"], 0.9, REVIEW, GOOD),
        await brain.learn_anti_pattern("Too late", "slow", REVIEW),
    ]
    assert len({skill and skill.id for skill in made}) == 7
    second = made[1]
    assert second is not None
    assert [(one.relation, one.target) for one in second.relations] == [("DERIVES_FROM", made[0] and made[0].id)]
    assert [one.name for one in await brain.find_skills("MY WAY")] == ["My way"]


async def test_relations_are_kept_once(brain: Brain) -> None:
    skill = await brain.learn(STEPS, REVIEW, GOOD)
    assert skill is not None
    for _ in range(2):
        related = await brain.relate(skill.id, "COMPLEMENTS", "other")
    assert related is not None
    assert [(one.relation, one.target) for one in related.relations] == [("COMPLEMENTS", "other")]
    assert await brain.relate("nobody", "COMPLEMENTS", "other") is None
    with pytest.raises(ConfigError, match="no relation of skills"):
        await brain.relate(skill.id, "LIKES", "other")


async def test_a_visit_changes_a_skill_once(brain: Brain) -> None:
    for _ in range(3):
        skill = await brain.learn(STEPS, REVIEW, GOOD, visit="run:learn", at_ms=1_767_225_600_000)
    assert skill is not None
    assert (skill.usage_count, skill.created_ms) == (1, 1_767_225_600_000)
    for _ in range(3):
        judged = await brain.feedback(skill.id, LEASE, True, visit="run:learn")
    assert judged is not None
    assert (judged.usage_count, judged.transfers) == (2, 1)
    for _ in range(3):
        again = await brain.learn(STEPS, REVIEW, GOOD, visit="other run:learn")
    assert again is not None
    assert again.usage_count == 3
    episodes = {(await brain.record_episode("x", REVIEW, GOOD, visit="run:record")).id for _ in range(3)}
    assert len(episodes) == 1
    assert len(await brain.recall_episodes("x", REVIEW)) == 1


async def test_many_that_learn_one_thing_at_once_lose_no_use(settings: Settings) -> None:
    """Three brains are three processes as far as Redis is concerned: no lock is shared."""

    async def learn(one: Brain) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(one.learn, STEPS, REVIEW, GOOD)

    brains = [Brain(settings, HashEmbedder(64)) for _ in range(3)]
    await asyncio.gather(*(learn(one) for one in brains))
    [skill] = await brains[0].get_skills()
    assert skill.usage_count == 60
    await asyncio.gather(*(brains[n % 3].feedback(skill.id, LEASE, n % 2 == 0) for n in range(30)))
    found = await brains[1].get_skill(skill.id)
    assert found is not None
    assert (found.usage_count, found.transfers, found.transfers_succeeded) == (90, 30, 15)
    for one in brains:
        await one.close()


async def test_steps_cost_one_round_trip_each(brain: Brain) -> None:
    await brain.learn(STEPS, REVIEW, GOOD)
    pipe = (await brain._opened()).store._pipe

    async def cost(call: Any) -> int:
        before = pipe.round_trips
        await call
        return pipe.round_trips - before

    assert await cost(brain.recall(LEASE)) == 1
    assert await cost(brain.learn(STEPS, REVIEW, GOOD)) == 2, "one looks, one writes"
    skill = (await brain.get_skills())[0]
    assert await cost(brain.feedback(skill.id, LEASE, True)) == 2
    assert await cost(brain.record_episode("x", REVIEW, GOOD)) == 1
    assert await cost(brain.recall_episodes("x", REVIEW)) == 1


async def test_every_key_of_a_skill_expires_with_it(brain: Brain, settings: Settings) -> None:
    skill = await brain.learn(STEPS, REVIEW, GOOD)
    assert skill is not None
    async with client_of(settings) as client:
        found = await client.keys("{orka:brain}:skill*")
        assert len(found) >= 7
        for key in found:
            assert await client.pexpiretime(key) == skill.expires_ms, key
        assert pytest.approx(skill.expires_ms - skill.created_ms, abs=60_000) == 168.0 * 1.18 * HOUR
        [marker] = await client.keys("{orka:brain}:visit:*")
        assert 0 < await client.pttl(marker) <= settings.retention * 1000


async def test_an_expired_skill_is_forgotten_and_swept(brain: Brain, settings: Settings) -> None:
    gone = await brain.learn(STEPS, REVIEW, GOOD)
    await brain.learn_path(["a", "b"], 0.9, REVIEW, GOOD)
    assert gone is not None
    async with client_of(settings) as client:
        await client.delete(keys.skill_key(gone.id))
        assert [one.skill_type for one in await brain.get_skills()] == ["graph_path"]
        await client.zadd(keys.skills_key(), {gone.id: 1.0})
    assert await brain.cleanup_expired_skills() == {"checked": 2, "deleted": 1}
    assert await brain.cleanup_expired_skills() == {"checked": 1, "deleted": 0}
    again = await brain.learn(STEPS, REVIEW, GOOD)
    assert again is not None
    assert (again.id, again.usage_count) == (gone.id, 1)


async def test_the_number_of_skills_is_bounded(brain: Brain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brain_store, "MOST_SKILLS", 5)
    for n in range(8):
        await brain.learn(STEPS, {"domain": f"d{n}", "task": "x"}, {"success": True, "quality": n / 10})
    assert [skill.domain for skill in await brain.get_skills()] == ["d7", "d6", "d5", "d4", "d3"]


async def test_episodes_are_recalled_by_meaning_domain_and_outcome(brain: Brain) -> None:
    await brain.record_episode("load the csv file", {"domain": "etl"}, {"success": True, "lessons": "check the header"})
    failed = {"success": False, "failure_analysis": "bad encoding", "lessons": ["a", "b", "c"]}
    await brain.record_episode("load the csv table", {"domain": "etl", "model": "m", "agents": ["x"]}, failed)
    await brain.record_episode("paint a picture", {"domain": "art"}, {"success": True})
    found = await brain.recall_episodes("load the csv table", {"domain": "etl"})
    assert [one.episode.task_input for one in found] == ["load the csv table", "load the csv file", "paint a picture"]
    # .5 * 1 (the words are the same; the lessons are more) + .2 + .2 + .1
    assert 0.85 < found[0].score <= 1.0
    good = await brain.recall_episodes("load the csv table", {"domain": "etl"}, include_failures=False)
    assert [one.episode.task_input for one in good] == ["load the csv file", "paint a picture"]
    only = await brain.recall_episodes("load the csv table", domain_filter="ART")
    assert [one.episode.task_input for one in only] == ["paint a picture"]
    assert len(await brain.recall_episodes("load the csv table", top_k=1)) == 1
    assert await brain.recall_episodes("load", {"domain": "etl"}, min_score=0.999) == []


async def test_a_domain_keeps_its_newest_episodes_and_failures_for_twice_as_long(
    brain: Brain, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brain_store, "MOST_OF_DOMAIN", 3)
    monkeypatch.setattr(brain_store, "MOST_EPISODES", 5)
    from orka.clock import now_ms

    now = now_ms()
    # Hours of age, and whether it went well: ages that count are 10, 14 / 2 = 7, 30 / 2 = 15, 2, 1.
    for hours, good in ((10, True), (14, False), (30, False), (2, True), (1, True)):
        outcome = {"success": good}
        await brain.record_episode(f"{hours} h", {"domain": "etl"}, outcome, at_ms=now - hours * HOUR)
    found = await brain.recall_episodes("x", {"domain": "etl"}, top_k=10)
    assert {one.episode.task_input for one in found} == {"14 h", "2 h", "1 h"}
    for n in range(4):
        await brain.record_episode(f"other {n}", {"domain": f"d{n % 2}"}, {"success": True}, at_ms=now - n)
    found = await brain.recall_episodes("x", top_k=10, min_score=0)
    assert {one.episode.task_input for one in found} == {"1 h", "other 0", "other 1", "other 2", "other 3"}
    async with client_of(settings) as client:
        assert len(await client.keys("{orka:brain}:episode:*")) == 5
        assert await client.zcard(keys.episodes_keys("etl")[0]) == 1
        assert await client.zcard(keys.episodes_keys("etl")[1]) == 0


async def test_an_episode_that_turned_out_otherwise_is_in_one_set_only(brain: Brain, settings: Settings) -> None:
    for good in (True, False):
        await brain.record_episode("x", REVIEW, {"success": good}, visit="v")
    async with client_of(settings) as client:
        counts = [await client.zcard(key) for key in (*keys.episodes_keys(), *keys.episodes_keys("finance"))]
    assert counts == [0, 1, 0, 1]


async def test_another_model_makes_vectors_anew_and_keeps_them(brain: Brain, settings: Settings) -> None:
    await brain.learn(STEPS, REVIEW, GOOD)
    await brain.record_episode("load the csv file", REVIEW, GOOD)
    other = Brain(settings, HashEmbedder(32))
    [found] = await other.recall(REVIEW)
    assert found.semantic_score > 0.7
    assert len(await other.recall_episodes("load the csv file", REVIEW)) == 1
    async with client_of(settings) as client:
        stored = [*await client.keys(keys.skill_key("*")), *await client.keys(keys.episode_key("*"))]
        rows = [await client.hmget(key, "model", "vector") for key in stored]
    assert [(model, len(vector)) for model, vector in rows] == [(b"hash-32", 64)] * 2
    await other.close()


async def test_what_orka_09_learned_is_taken_over(brain: Brain, settings: Settings) -> None:
    old = await brain.learn(STEPS, REVIEW, GOOD)
    assert old is not None
    facts = skill_facts(old)
    for name in ("transfers", "transfers_succeeded", "relations", "recipe", "anti_signals"):
        del facts[name]
    facts |= {"id": "old-1", "domain_keywords": ["finance", "report"], "created_at": "2026-01-02T03:04:05.678901+00:00"}
    facts["transfer_history"] = [
        {
            "target_context": {},
            "success": True,
            "confidence": 0.5,
            "adaptations": {},
            "timestamp": "2026-01-03T00:00:00",
        }
    ]
    episode = {
        "id": "e-1",
        "timestamp": "2026-01-02T03:04:05+00:00",
        "task_input": "load the csv",
        "task_domain": "etl",
        "success": False,
        "failure_analysis": None,
        "lessons": ["look first"],
    }
    async with client_of(settings) as client:
        await client.flushall()
        await client.set("orka:brain:skill:old-1", json.dumps(facts))
        await client.set(
            "orka:brain:skill:old-2", json.dumps({**facts, "id": "old-2", "expires_at": "2020-01-01T00:00:00"})
        )
        await client.set("orka:brain:skill:old-3", "no JSON")
        names = {"old-1": "a", "old-2": "b", "old-3": "c", "old-4": "gone"}
        await client.hset("orka:brain:skill_index", mapping=names)
        await client.set("orka:brain:episode:e-1", json.dumps(episode))
        await client.hset("orka:brain:episode:index", mapping={"e-1": "etl"})
        before = sorted(await client.keys("orka:brain:*"))
    first, second = Brain(settings, HashEmbedder(64)), Brain(settings, HashEmbedder(64))
    [skill] = await first.get_skills()
    assert (skill.id, skill.steps, skill.transfers, skill.transfers_succeeded) == ("old-1", old.steps, 1, 1)
    assert skill.created_ms == 1_767_323_045_679
    [found] = await first.recall_episodes("load the csv", {"domain": "etl"})
    assert (found.episode.id, found.episode.lessons, found.episode.success) == ("e-1", ("look first",), False)
    used = await first.feedback("old-1", LEASE, True)
    assert used is not None
    assert await second.get_skills() == [used], "it is not taken over twice"
    again = await second.learn(STEPS, REVIEW, GOOD)
    assert again is not None
    assert again.id == "old-1", "what is learned again is the old skill"
    async with client_of(settings) as client:
        assert sorted(await client.keys("orka:brain:*")) == before
        await client.set("orka:brain:skill:old-9", json.dumps({**facts, "id": "old-9", "name": "later"}))
        await client.hset("orka:brain:skill_index", "old-9", "later")
    third = Brain(settings, HashEmbedder(64))
    assert {one.id for one in await third.get_skills()} == {"old-1", "old-9"}
    for one in (first, second, third):
        await one.close()


async def test_the_summary_counts(brain: Brain) -> None:
    empty = await brain.get_skill_summary()
    assert (empty["total_skills"], empty["avg_confidence"], empty["top_skills"]) == (0, 0.0, [])
    skill = await brain.learn(STEPS, REVIEW, GOOD)
    await brain.learn_path(["a"], 0.9, REVIEW, GOOD)
    assert skill is not None
    await brain.feedback(skill.id, LEASE, True)
    await brain.record_episode("x", REVIEW, {"success": False})
    found = await brain.get_skill_summary()
    assert found["total_skills"] == 2
    assert (found["transferable_skills"], found["total_transfers"]) == (1, 1)
    assert found["avg_confidence"] == 0.748  # .68 + .05 * .32 and .8
    assert found["skills_by_type"] == {"graph_path": 1, "procedural": 1}
    assert found["episodes"] == {"succeeded": 0, "failed": 1}


async def test_a_brain_belongs_to_the_redis_of_a_memory_logger(settings: Settings) -> None:
    async with create_memory_logger("redis", settings=settings) as memory, Brain(memory) as one:
        skill = await one.learn(STEPS, REVIEW, GOOD)
        assert skill is not None
        async with Brain(memory=settings) as other:
            assert await other.get_skill(skill.id) == skill
    with pytest.raises(ConfigError, match="needs the URL of a Redis"):
        Brain(7)  # type: ignore[arg-type]


def test_without_a_block_each_event_loop_has_its_own(redis_settings: Settings) -> None:
    brain = Brain(redis_settings, HashEmbedder(64))

    async def learn() -> str:
        skill = await brain.learn(STEPS, REVIEW, GOOD)
        assert skill is not None
        return skill.id

    assert asyncio.run(learn()) == asyncio.run(learn())


async def test_hostile_words_stay_words(brain: Brain) -> None:
    for domain in ("a{b}c", "x:y", "*", "\x00\n", "ünï", "x" * 500, "'; DROP"):
        skill = await brain.learn(STEPS, {"domain": domain, "task": domain}, GOOD)
        assert skill is not None
        found = await brain.recall({"domain": domain, "task": domain}, domain_filter=skill.domain)
        assert skill.id in {one.skill.id for one in found}, domain
