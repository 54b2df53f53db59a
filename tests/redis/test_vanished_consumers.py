"""Processes that were killed, on whatever machine, leave the consumer groups; nobody who works does, and no task is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from support.crew import becomes
from support.journals import Gate
from support.limits import worker as working
from support.running import opened

from orka.dispatch.sweeper import _MOST_FORGOTTEN
from orka.redis.client import RedisHandle
from orka.redis.keys import GROUP, LEVELS, tag_of, task_stream
from orka.redis.recovery_scripts import FORGET
from orka.settings import Settings
from orka.worker import Worker

STREAMS = [task_stream(tag_of(number), "default", level) for number in range(Settings().partitions) for level in LEVELS]
GRAPH = """
    orchestrator: {id: g, agents: [gate]}
    agents: [{id: gate, type: gate}]
    """


async def consumers(client: Any) -> list[str]:
    """The consumers of all streams that there are."""
    return [
        one["name"].decode()
        for stream in STREAMS
        if await client.exists(stream)
        for one in await client.xinfo_consumers(stream, GROUP)
    ]


async def sweep_all(worker: Worker) -> int:
    """Looks at every partition; gives the number of consumers that went."""
    before = worker.sweeper.statistics().forgotten
    for _ in range(Settings().partitions):
        await worker.sweeper.sweep()
    return worker.sweeper.statistics().forgotten - before


@asynccontextmanager
async def settled(settings: Settings, client: Any, gate: Gate | None = None) -> AsyncIterator[Worker]:
    """A worker that sweeps only when it is told to, and whose readers are consumers everywhere."""
    async with working(settings, None if gate is None else gate.registry(), concurrency=2) as worker:

        async def everywhere() -> bool:
            return len(await consumers(client)) == len(STREAMS)

        await becomes(everywhere)
        yield worker


async def test_a_process_that_vanished_leaves_every_group_and_who_works_stays(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    client = clean_redis.client
    async with settled(redis_settings, client) as worker, working(redis_settings):
        for stream in STREAMS:
            await client.xgroup_createconsumer(stream, GROUP, "elsewhere-1")
        assert await sweep_all(worker) == len(STREAMS)
        assert "elsewhere-1" not in await consumers(client)
        assert worker._services.process in await consumers(client)
        assert await sweep_all(worker) == 0


async def test_a_worker_that_is_on_the_roster_stays_however_long_it_is_silent(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    client = clean_redis.client
    async with settled(redis_settings, client) as worker:
        await client.xgroup_createconsumer(STREAMS[0], GROUP, "elsewhere-1")
        await client.hset("{orka:0}:worker:elsewhere-1", "seen_ms", 1)
        assert await sweep_all(worker) == 0
        await client.delete("{orka:0}:worker:elsewhere-1")
        assert await sweep_all(worker) == 1


async def test_a_task_that_a_vanished_process_still_has_is_queued_again_before_its_name_goes(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    client, gate = clean_redis.client, Gate()
    gate.opened.set()
    async with opened(redis_settings, GRAPH, registry=gate.registry()) as orchestrator:
        handle = await orchestrator.submit("x")
        for stream in STREAMS:  # a worker on another machine that takes the task and is never seen again
            await client.xgroup_create(stream, GROUP, "0", mkstream=True)
        streams = dict.fromkeys([stream for stream in STREAMS if await client.xlen(stream)], ">")
        await client.xreadgroup(GROUP, "elsewhere-1", streams)
        async with working(redis_settings, gate.registry(), lease=0.5) as worker:
            assert await asyncio.wait_for(handle.result(), 5) == "through"

            async def gone() -> bool:
                return "elsewhere-1" not in await consumers(client)

            await becomes(gone)
            assert worker.sweeper.statistics()[1:] == (1, 0, 1)


async def test_a_consumer_that_was_given_a_task_since_it_was_looked_at_keeps_it(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    client = clean_redis.client
    await client.xgroup_create(STREAMS[0], GROUP, "0", mkstream=True)
    await client.xgroup_createconsumer(STREAMS[0], GROUP, "idle")
    await client.xadd(STREAMS[0], {"a": 1})
    await client.xreadgroup(GROUP, "busy", {STREAMS[0]: ">"})
    assert await client.eval(FORGET.text, 1, STREAMS[0], "idle", "busy", "unknown") == 2
    assert [one["name"] for one in await client.xinfo_consumers(STREAMS[0], GROUP)] == [b"busy"]
    assert (await client.xpending(STREAMS[0], GROUP))["pending"] == 1


async def test_a_reader_whose_name_was_removed_while_it_waited_gets_its_task_and_its_name_again(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    """A server that lost its last second may have forgotten a worker that lives."""
    client, gate = clean_redis.client, Gate()
    gate.opened.set()
    async with (
        settled(redis_settings, client, gate) as worker,
        opened(redis_settings, GRAPH, registry=gate.registry()) as orchestrator,
    ):
        await client.delete(f"{{orka:0}}:worker:{worker._services.process}")
        for stream in STREAMS:
            assert await client.eval(FORGET.text, 1, stream, worker._services.process) == 1
        assert await orchestrator.run("x") == "through"
        handle = await orchestrator.submit("x")
        assert await asyncio.wait_for(handle.result(), 5) == "through"


async def test_one_look_is_bounded(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    client = clean_redis.client
    async with settled(redis_settings, client) as worker:
        async with client.pipeline(transaction=False) as pipe:
            for number in range(_MOST_FORGOTTEN + 10):
                pipe.xgroup_createconsumer(STREAMS[0], GROUP, f"elsewhere-{number}")
            await pipe.execute()
        assert await sweep_all(worker) == _MOST_FORGOTTEN
        assert await sweep_all(worker) == 10
