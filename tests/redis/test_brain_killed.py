"""A brain whose server dies goes on with the one that takes its place, and counts nothing twice."""

import asyncio
import os
import signal
from dataclasses import replace

from orka import Brain
from orka.redis.client import open_redis
from orka.settings import Settings
from orka.testing import HashEmbedder

TASK = {"domain": "law", "task": "Review the lease step by step"}
STEPS = {"steps": ["read", "sum up"]}


async def test_no_use_is_lost_or_counted_twice_when_the_server_is_killed(home: Settings) -> None:
    settings = replace(home, fsync="always")
    async with open_redis(settings) as redis, Brain(settings, HashEmbedder(64)) as brain:
        assert redis.server is not None
        assert await brain.learn(STEPS, TASK, {"success": True}) is not None

        async def learn() -> None:
            for _ in range(25):
                await brain.learn(STEPS, TASK, {"success": True})

        async def kill() -> None:
            while (await brain.get_skills())[0].usage_count < 10:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            assert redis.server is not None
            os.kill(redis.server.pid, signal.SIGKILL)

        await asyncio.gather(*(learn() for _ in range(4)), kill())
        [skill] = await brain.get_skills()
        assert skill.usage_count == 101
