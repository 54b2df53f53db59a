"""Cancelling from outside: whoever executes the run, or nobody, it ends once, readable and resumable."""

import asyncio
from dataclasses import replace

import anyio
import pytest
from servers import until
from support.crew import working
from support.journals import Gate, keys_of, kinds_of
from support.running import opened

from orka.errors import RunAlive, RunCancelled, RunNotFound
from orka.ids import new_run_id
from orka.operations import cancel_run
from orka.redis.client import RedisHandle
from orka.results import Failure
from orka.services import open_services
from orka.settings import Settings
from orka.types import RunId, RunStatus

GRAPH = """
orchestrator: {id: cancelled, agents: [first, gate]}
agents:
  - {id: first, type: template, prompt: "one"}
  - {id: gate, type: gate}
"""
FORKED = """
orchestrator: {id: forked, distributed: true, agents: [spread, join]}
agents:
  - {id: spread, type: fork, targets: [[gate], [quick]]}
  - {id: gate, type: gate}
  - {id: quick, type: template, prompt: "quick"}
  - {id: join, type: join, group: spread}
"""


async def test_a_queued_run_is_cancelled_at_once_and_its_task_goes(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    gate.opened.set()
    client = clean_redis.client
    async with opened(redis_settings, GRAPH, registry=gate.registry()) as orchestrator:
        handle = await orchestrator.submit("x", queue="nowhere")
        assert await handle.cancel() is RunStatus.CANCELLED
        assert await kinds_of(client, handle.run_id) == ["run.started", "run.cancelled"]
        info = await orchestrator.runs.info(handle.run_id)
        assert (info.status, info.on_queue, info.stale) == ("cancelled", False, False)
        assert [await client.xlen(key) for key in await client.keys("*:tasks:*")] == [0]
        assert await client.exists(keys_of(handle.run_id).branches) == 0
        assert (await orchestrator.runs.show(handle.run_id)).error == (
            "it was cancelled while no process executed it (`orka cancel`)"
        )
        with pytest.raises(RunCancelled, match="while no process executed it"):
            await handle.result()
        assert await orchestrator.cancel(handle.run_id) is RunStatus.CANCELLED  # once more changes nothing
        assert await orchestrator.resume(handle.run_id) == "through"


async def test_a_run_under_way_is_cancelled_where_a_worker_executes_it(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    async with (
        working(redis_settings, registry=gate.registry()) as worker,
        opened(redis_settings, FORKED, registry=gate.registry()) as orchestrator,
    ):
        handle = await orchestrator.submit("x")
        waiting = asyncio.create_task(handle.result())
        await asyncio.wait_for(gate.reached.wait(), 5)
        assert await asyncio.wait_for(handle.cancel(), 5) is RunStatus.CANCELLED
        with pytest.raises(RunCancelled, match="orka cancel"):
            await waiting
        kinds = await kinds_of(clean_redis.client, handle.run_id)
        assert kinds[-1] == "run.cancelled"
        assert "node.finished gate" not in kinds
        async with asyncio.timeout(5):
            while worker.consumer.statistics().under_way:
                await worker.slots.wait()
        gate.opened.set()
        assert await asyncio.wait_for(orchestrator.resume(handle.run_id), 5)
        assert await clean_redis.client.hget(keys_of(handle.run_id).run, "cancel") is None


async def test_a_run_that_waits_in_another_process_ends_there_with_run_cancelled(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    settings = replace(redis_settings, lease=0.6)
    run_id = new_run_id()
    async with opened(settings, GRAPH, registry=gate.registry()) as orchestrator, open_services(settings) as others:
        running = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await asyncio.wait_for(gate.reached.wait(), 5)
        assert await cancel_run(others, run_id) is RunStatus.CANCELLED
        assert (await running).status is RunStatus.CANCELLED


async def test_a_run_whose_lease_is_over_is_ended_by_the_one_who_cancels(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    async with opened(redis_settings, GRAPH, registry=gate.registry()) as orchestrator:
        run_id = await left_behind(redis_settings, gate)
        assert (await orchestrator.runs.info(run_id)).stale
        assert await asyncio.wait_for(orchestrator.cancel(run_id), 5) is RunStatus.CANCELLED
        assert (await kinds_of(clean_redis.client, run_id))[-1] == "run.cancelled"
        gate.opened.set()
        assert await orchestrator.resume(run_id) == "through"


async def left_behind(settings: Settings, gate: Gate) -> RunId:
    """A run under way that nobody executes: its services were closed."""
    run_id = new_run_id()
    async with opened(settings, GRAPH, registry=gate.registry()) as orchestrator:
        task = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await asyncio.wait_for(gate.reached.wait(), 5)
    with pytest.raises(Exception, match="was closed"):
        await task
    async with open_services(settings) as services:
        await services.registry.one(
            services.registry.keys(run_id).run, ("HSET", services.registry.keys(run_id).run, "lease_until", 0)
        )
    return run_id


async def test_what_has_ended_is_left_as_it_is(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    gate = Gate()
    gate.opened.set()
    async with opened(redis_settings, GRAPH, registry=gate.registry()) as orchestrator:
        done = await orchestrator.execute("x")
        before = await kinds_of(clean_redis.client, done.run_id)
        assert await orchestrator.cancel(done.run_id) is RunStatus.COMPLETED
        assert await kinds_of(clean_redis.client, done.run_id) == before
        with pytest.raises(RunNotFound):
            await orchestrator.cancel("00000000-0000-7000-8000-000000000000")


async def test_a_process_that_does_not_listen_is_named(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    gate = Gate()
    async with open_services(redis_settings) as others, opened(redis_settings, GRAPH, registry=gate.registry()) as deaf:
        run_id = new_run_id()  # its lease lasts ten seconds: it hears of nothing within one
        running = asyncio.create_task(deaf.execute("x", run_id=run_id))
        await asyncio.wait_for(gate.reached.wait(), 5)
        with pytest.raises(RunAlive, match=r"is still executed by pid .* did not within 0.3 s"):
            await cancel_run(others, run_id, patience=0.3)
        assert await clean_redis.client.hget(keys_of(run_id).run, "cancel") is not None
        gate.opened.set()
        assert (await running).status is RunStatus.COMPLETED  # it was faster


async def test_the_canceller_is_woken_when_the_lease_is_given_back_and_asks_nobody_meanwhile(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate, client = Gate(), clean_redis.client
    async with open_services(redis_settings) as holders, open_services(redis_settings) as others:
        async with opened(redis_settings, GRAPH, registry=gate.registry()) as orchestrator:
            handle = await orchestrator.submit("x", queue="nowhere")
        taken = await holders.leases.take(handle.run_id)
        assert taken is not None
        cancelling = asyncio.create_task(cancel_run(others, handle.run_id))
        await until(lambda: others.inbox.statistics().waiting == 1)
        await asyncio.sleep(0.1)  # its first look
        before = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
        await asyncio.sleep(0.7)
        assert (await client.info("commandstats"))["cmdstat_evalsha"]["calls"] == before
        await holders.leases.release(taken.log)
        assert await asyncio.wait_for(cancelling, 1) is RunStatus.CANCELLED
        assert others.inbox.statistics().waiting == 0
    assert await client.hget(keys_of(handle.run_id).run, "canceller") is None


async def test_whoever_stops_cancelling_a_run_that_has_ended_leaves_no_lease_on_it(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    """The canceller asks for the lease of a run that ends at that moment, and hears of the end before it is back."""
    gate = Gate()
    gate.opened.set()
    async with opened(redis_settings, GRAPH, registry=gate.registry()) as orchestrator:
        handle = await orchestrator.submit("x", queue="nowhere")
        await handle.cancel()
        run_id, failure = RunId(handle.run_id), Failure(kind="RunCancelled", message="no")
        async with open_services(redis_settings) as services:

            async def keep_busy() -> None:
                while True:
                    await services.registry.info(run_id)

            others = [asyncio.create_task(keep_busy()) for _ in range(3)]  # commands wait for their turn
            for turns in range(300):  # after each step of the loop in turn
                async with anyio.create_task_group() as group:
                    group.start_soon(services.leases.end_idle, run_id, RunStatus.CANCELLED, failure)
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    group.cancel_scope.cancel()
                assert (await services.registry.info(run_id)).lease_left_ms == 0
            for other in others:
                other.cancel()
            await asyncio.wait(others)
        assert await orchestrator.resume(handle.run_id) == "through"
