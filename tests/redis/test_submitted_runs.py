"""Submitted runs: what the registry says of them, who executes them, and how their answer comes back."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from support.crew import working
from support.journals import Gate, kinds_of, registry_of
from support.running import opened

from orka import RunHandle
from orka.errors import AgentError, ConfigError, RunExists
from orka.redis.client import RedisHandle
from orka.settings import Settings
from orka.types import RunStatus

GRAPH = """
orchestrator: {id: submitted, agents: [first, gate]}
agents:
  - {id: first, type: echo}
  - {id: gate, type: gate}
"""


async def test_a_submitted_run_is_queued_until_a_worker_takes_it_and_never_stale(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    async with opened(redis_settings, GRAPH, registry=gate.registry()) as orchestrator:
        handle = await orchestrator.submit("hello", queue="here")
        assert isinstance(handle, RunHandle)
        info = await orchestrator.runs.info(handle.run_id)
        assert (info.status, info.queue, info.on_queue, info.waiting, info.stale) == (
            "queued",
            "here",
            True,
            True,
            False,
        )
        assert [i.run_id for i in await orchestrator.runs.list(status=RunStatus.QUEUED)] == [handle.run_id]
        assert await orchestrator.runs.list(stale=True) == []
        async with working(redis_settings, "here", registry=gate.registry()):
            await asyncio.wait_for(gate.reached.wait(), 5)
            info = await orchestrator.runs.info(handle.run_id)
            assert (info.status, info.waiting, info.stale) == ("running", False, False)
            gate.opened.set()
            assert await asyncio.wait_for(handle.result(), 5) == "through"
        info = await orchestrator.runs.info(handle.run_id)
        assert (info.status, info.on_queue, info.waiting) == ("completed", False, False)
        assert [event.kind async for event in handle.events()][-1] == "run.completed"


async def test_the_failure_of_a_submitted_run_is_raised_where_it_is_awaited(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    graph = "orchestrator: {id: fails, agents: [a]}\nagents: [{id: a, type: failing, message: the disk is full}]"
    async with working(redis_settings), opened(redis_settings, graph) as orchestrator:
        handle = await orchestrator.submit("x")
        with pytest.raises(AgentError, match="the disk is full"):
            await asyncio.wait_for(handle.result(), 5)
        assert (await handle.finished()).status is RunStatus.FAILED


async def test_a_run_whose_worker_was_stopped_waits_and_is_finished_by_another_worker(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    async with opened(redis_settings, GRAPH, registry=gate.registry()) as orchestrator:
        async with working(redis_settings, registry=gate.registry()):
            handle = await orchestrator.submit("hello")
            await asyncio.wait_for(gate.reached.wait(), 5)
        info = await orchestrator.runs.info(handle.run_id)
        assert (info.status, info.waiting, info.stale) == ("running", True, False)
        gate.opened.set()
        async with working(redis_settings, registry=gate.registry()):
            assert await asyncio.wait_for(handle.result(), 5) == "through"


async def test_a_run_on_a_queue_that_nobody_has_ever_served_can_be_finished_here(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    async def slow(task: Any) -> str:
        await asyncio.sleep(0.5)  # several renewals of the lease, which look for the task of the run
        return "here"

    settings, registry = replace(redis_settings, lease=0.3), registry_of(slow=slow)
    graph = "orchestrator: {id: alone, agents: [a]}\nagents: [{id: a, type: slow}]"
    async with opened(settings, graph, registry=registry) as orchestrator:
        handle = await orchestrator.submit("x", queue="nowhere")
        assert await orchestrator.resume(handle.run_id) == "here"
        assert await kinds_of(clean_redis.client, handle.run_id) == [
            *("run.started", "node.started a", "node.finished a", "run.completed")
        ]
        client = clean_redis.client
        assert [await client.xlen(key) for key in await client.keys("*:tasks:*")] == [0]


async def test_submitting_again_under_one_id_is_one_run_and_something_else_is_refused(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    text = "orchestrator: {id: once, agents: [a]}\nagents: [{id: a, type: counted}]"
    calls: list[Any] = []

    async def counted(task: Any) -> Any:
        calls.append(task.input)
        return task.input

    registry = registry_of(counted=counted)
    async with opened(redis_settings, text, registry=registry) as orchestrator:
        large = {"text": "x" * 100_000}
        for run_id, given, other in (("order-1", "first", "second"), ("order-2", large, {"text": "y" * 100_000})):
            await orchestrator.submit(given, run_id=run_id, queue="once")
            await orchestrator.submit(given, run_id=run_id, queue="once")
            with pytest.raises(RunExists, match=f"a run '{run_id}' exists already"):
                await orchestrator.submit(other, run_id=run_id, queue="once")
            with pytest.raises(RunExists):
                await orchestrator.execute(given, run_id=run_id)
        async with working(redis_settings, "once", registry=registry):
            for run_id, given in (("order-1", "first"), ("order-2", large)):
                again = await orchestrator.submit(given, run_id=run_id, queue="once")
                assert await asyncio.wait_for(again.result(), 5) == given
                assert await (await orchestrator.submit(given, run_id=run_id)).result() == given
        await orchestrator.execute("here", run_id="order-3")
        with pytest.raises(RunExists):
            await orchestrator.submit("here", run_id="order-3")
    assert [str(given)[:5] for given in calls] == ["first", "{'tex", "here"]


@pytest.mark.parametrize("queue", ["", "two words", "a:b", "{q}", "ü", "x" * 65, "line\n", None, 3])
async def test_a_queue_that_no_file_could_name_is_refused(redis_settings: Settings, queue: Any) -> None:
    async with opened(redis_settings, GRAPH, registry=Gate().registry()) as orchestrator:
        with pytest.raises(ConfigError, match="a queue is a name of at most 64 letters"):
            await orchestrator.submit("x", queue=queue)
        assert await orchestrator.runs.list(status=RunStatus.QUEUED) == []
