"""A brain on a real cluster: all of it is in one slot, and whoever asks another node is sent there."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from redis.crc import key_slot
from servers import Servers, start_cluster
from support.journals import client_of

from orka import Brain, Settings
from orka.testing import HashEmbedder

TASK = {"domain": "law", "task": "Review the lease step by step"}
STEPS = {"steps": ["read", "sum up"]}


async def test_skills_and_episodes_live_on_a_cluster(servers: Servers, with_url: Callable[[str], Settings]) -> None:
    nodes = await start_cluster(servers)
    url = "redis://:hunter2@" + ",".join(f"127.0.0.1:{node.port}" for node in nodes) + "/0"
    settings = replace(with_url(url), redis_timeout=10)
    async with client_of(settings) as client:
        await client.set("orka:brain:skill:old", '{"id": "old", "name": "an old one"}')
        await client.hset("orka:brain:skill_index", "old", "an old one")
    brains = [Brain(settings, HashEmbedder(64)) for _ in range(2)]
    await asyncio.gather(*(brains[n % 2].learn(STEPS, TASK, {"success": True}) for n in range(10)))
    skills = {skill.name: skill for skill in await brains[0].get_skills()}
    assert {name: skill.usage_count for name, skill in skills.items()} == {
        "an old one": 0,
        "procedural:law:evaluation-sequential": 10,
    }
    [found, *_] = await brains[1].recall(TASK)
    assert found.skill.usage_count == 10
    judged = await brains[1].feedback(found.skill.id, TASK, True)
    assert judged is not None
    assert judged.transfers == 1
    await brains[0].record_episode("x", TASK, {"success": True})
    assert len(await brains[1].recall_episodes("x", TASK)) == 1
    assert (await brains[0].cleanup_expired_skills())["checked"] == 2
    async with client_of(settings) as client:
        stored = [key async for key in client.scan_iter("{orka:brain}*")]
    assert {key_slot(key) for key in stored} == {key_slot(b"{orka:brain}")}
    for brain in brains:
        await brain.close()
