"""Runs on a real Redis Cluster of three primaries: each run in one slot, all runs over all primaries."""

import asyncio
from collections.abc import Callable

from redis.crc import key_slot
from servers import Servers, start_cluster

from orka.orchestrator import Orchestrator
from orka.redis.client import open_redis
from orka.redis.keys import run_keys
from orka.settings import Settings
from orka.types import RunStatus

RUNS = 30


async def test_runs_spread_over_the_primaries_and_are_resumed_there(
    servers: Servers, with_url: Callable[[str], Settings]
) -> None:
    nodes = await start_cluster(servers)
    settings = with_url("redis://:hunter2@" + ",".join(f"127.0.0.1:{node.port}" for node in nodes) + "/0")
    async with Orchestrator("configs/fork_join.yml", settings=settings) as orchestrator:
        results = await asyncio.gather(*[orchestrator.execute(f"text {n}") for n in range(RUNS)])
        assert {result.status for result in results} == {RunStatus.COMPLETED}
        async with open_redis(settings) as redis:
            router = await redis.open_router()
        slots = {
            router.node_of(key_slot(run_keys(result.run_id, settings.partitions).run.encode())) for result in results
        }
        assert slots == set(router.nodes)
        listed = await orchestrator.runs.list(limit=100)
        assert {info.run_id for info in listed} == {result.run_id for result in results}
        for result in results[:5]:
            assert (await orchestrator.finish(result.run_id)).output == result.output
            kinds = [event.kind async for event in orchestrator.events(result.run_id)]
            assert kinds[0] == "run.started"
            assert kinds[-1] == "run.completed"
