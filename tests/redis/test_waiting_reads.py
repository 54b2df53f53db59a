"""Reads that wait for tasks are ended by a message: at once, wherever the read is, and also where no message can be left."""

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
from servers import Servers, until
from support.crew import becomes
from support.journals import Gate
from support.limits import worker as working
from support.running import opened

from orka.dispatch.bell import Bell, end_reads
from orka.journal.registry import Registry
from orka.redis.client import RedisHandle
from orka.redis.keys import GROUP, bell_key
from orka.redis.pipeline import Pipe
from orka.redis.wire import exchange
from orka.settings import Settings
from orka.worker import Worker


async def waits(worker: Worker) -> None:
    """Returns when every lane of the worker waits for tasks."""
    await until(lambda: all(bell.read is not None for bell in worker.consumer._bells.values()))


async def calls(client: Any) -> dict[str, int]:
    return {name: fact["calls"] for name, fact in (await client.info("commandstats")).items()}


async def test_a_read_that_is_still_on_its_way_is_ended(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    router = await clean_redis.open_router()
    pipe, bell = Pipe(router), Bell("{orka:0}", "me")
    await clean_redis.client.xgroup_create(bell.key, GROUP, "0", mkstream=True)
    read = ("XREADGROUP", "GROUP", GROUP, "me", "COUNT", 1, "BLOCK", 0, "STREAMS", bell.key, ">")
    async with router.dedicated(bell.key) as connection, anyio.create_task_group() as group:
        with bell.waiting(0):
            group.start_soon(end_reads, Registry(pipe, partitions=1), [bell])

            async def rung() -> bool:
                return await clean_redis.client.xlen(bell.key) == 1

            await becomes(rung)
            with anyio.fail_after(5):
                [found] = await exchange(connection, [read])  # sent behind the message that ends it
        assert bell.take_rings(found) == []
        assert await exchange(connection, bell.spent) == [1, 1]
    assert await clean_redis.client.xlen(bell.key) == 0
    await pipe.aclose()


async def test_a_worker_that_waits_stops_with_one_message_and_leaves_nothing(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    client = clean_redis.client
    async with working(redis_settings) as worker:
        await waits(worker)
        before = await calls(client)
        with anyio.fail_after(2):
            await worker.stop()
        after = await calls(client)
    assert after["cmdstat_xadd"] - before.get("cmdstat_xadd", 0) == 1
    assert "cmdstat_client|unblock" not in after
    assert await client.keys("*:bell:*") == []


async def test_a_worker_stops_where_the_server_takes_no_message(
    servers: Servers, with_url: Callable[[str], Settings]
) -> None:
    settings = with_url(servers.start().url)
    async with working(settings) as worker:
        await waits(worker)
        await worker._services.redis.client.config_set("maxmemory", 1)
        with anyio.fail_after(2):
            await worker.stop()
        await worker._services.redis.client.config_set("maxmemory", 0)


async def test_rings_do_not_pile_up_and_tasks_are_taken_behind_them(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate, client = Gate(), clean_redis.client
    gate.opened.set()
    text = "orchestrator: {id: g, agents: [gate]}\nagents: [{id: gate, type: gate}]"
    async with (
        working(redis_settings, gate.registry()) as worker,
        opened(redis_settings, text, registry=gate.registry()) as orchestrator,
    ):
        key = bell_key("{orka:0}", worker._services.process)
        for _ in range(5):
            await waits(worker)
            await end_reads(worker._services.registry, worker.consumer._bells.values())
        handle = await orchestrator.submit("x")
        assert await asyncio.wait_for(handle.result(), 5) == "through"
        await waits(worker)
        assert await client.xlen(key) <= 1
        assert (await client.xpending(key, GROUP))["pending"] <= 1
        assert worker.consumer.statistics().reconnects == 0
