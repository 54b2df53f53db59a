"""Cancelling a run: at once, nothing left behind, readable, resumable."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.journals import Gate, cut_connections, entries_reach, field_of, graph_file, kinds_of, registry_of

from orka.engine.calls import Calls
from orka.errors import RunNotFound
from orka.ids import new_run_id
from orka.orchestrator import Orchestrator
from orka.redis.client import RedisHandle
from orka.services import Services
from orka.settings import Settings
from orka.types import RunStatus

FORKED = """
- {id: spread, type: fork, targets: [[a, inner], [slow], [retried]]}
- {id: a, type: echo, prompt: A}
- {id: inner, type: fork, targets: [[gate], [b]]}
- {id: b, type: echo, prompt: B, delay: 30}
- {id: slow, type: echo, prompt: C, delay: 30}
- {id: retried, type: failing, retry: {attempts: 3, delay: 30, jitter: 0}, times: 1}
- {id: gate, type: gate}
- {id: gather, type: join, group: spread}
"""


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    async with asyncio.timeout(2):
        while left := {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()}:
            await asyncio.wait(left, timeout=0.1)


async def cancel(task: "asyncio.Task[Any]", within: float = 0.5) -> None:
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < within


async def test_a_cancelled_run_ends_at_once_with_everything_under_it_and_is_finished_by_resuming(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    file = graph_file(tmp_path, "spread, gather", FORKED.replace("30", "0.3"))
    run_id = new_run_id()
    client = clean_redis.client
    async with Orchestrator(file, settings=redis_settings, registry=gate.registry()) as orchestrator:
        before = asyncio.all_tasks()
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        # run.started, two forks, a, the first attempt of `retried`, and `gate` about to begin
        await entries_reach(client, run_id, 6)
        await cancel(run)
        # With the first end that is kept, the process begins to listen whether the server goes away.
        left = {task for task in asyncio.all_tasks() - before if "Inbox._read_lane" not in task.get_name()}
        assert left <= {run}
        assert orchestrator.statistics().calls.running == 0
        kinds = await kinds_of(client, run_id)
        assert kinds[-1] == "run.cancelled"
        assert sorted(kinds[1:-1]) == [
            "fork.opened spread",
            "fork.opened spread.0/inner",
            "node.finished spread.0/a",
            "node.retrying spread.2/retried",
            "node.started spread.0/inner.0/gate",
        ]
        info = await orchestrator.runs.info(run_id)
        assert (info.status, info.lease_left_ms) == (RunStatus.CANCELLED, 0)
        gate.opened.set()
        result = await orchestrator.finish(run_id)
        assert result.status is RunStatus.COMPLETED
        assert gate.calls == 2
    output = result.results[-1].output
    assert isinstance(output, dict)
    assert output["merged"]["retried"]["attempt"] == 2  # type: ignore[index,call-overload]


async def test_cancelling_during_a_back_off_keeps_the_attempts_that_were_made(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    attempts: list[int] = []

    async def shaky(task: Any) -> str:
        attempts.append(task.attempt)
        if task.attempt < 3:
            raise RuntimeError("not yet")
        return "at last"

    file = graph_file(
        tmp_path, "shaky", "- {id: shaky, type: shaky, retry: {attempts: 3, delay: 0.4, jitter: 0, factor: 1}}"
    )
    run_id = new_run_id()
    async with Orchestrator(file, settings=redis_settings, registry=registry_of(shaky=shaky)) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await entries_reach(clean_redis.client, run_id, 3)
        await cancel(run, within=0.2)
        assert (await orchestrator.finish(run_id)).output == "at last"
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize("moment", [0, 0.0005, 0.001, 0.002, 0.004, 0.008])
async def test_cancelling_during_the_start_leaves_nothing_or_a_cancelled_run(
    moment: float, tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    file = graph_file(tmp_path, "a, wait", "- {id: a, type: echo}\n- {id: wait, type: echo, delay: 0.05}")
    run_id = new_run_id()
    async with Orchestrator(file, settings=redis_settings) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await asyncio.sleep(moment)
        await cancel(run)
        try:
            info = await orchestrator.runs.info(run_id)
        except RunNotFound:
            assert moment == 0  # it had not begun
        else:
            assert (info.status, info.lease_left_ms) == (RunStatus.CANCELLED, 0)
            assert (await kinds_of(clean_redis.client, run_id))[-1] == "run.cancelled"
            assert (await orchestrator.finish(run_id)).output == "x"


async def test_cancelling_while_the_services_open_leaves_no_task_behind(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    file = graph_file(tmp_path, "wait", "- {id: wait, type: echo, delay: 5}")
    orchestrator = Orchestrator(file, settings=redis_settings)
    for step in range(12):
        run = asyncio.create_task(orchestrator.execute("x"))
        await asyncio.sleep(0.0015 * step)
        await cancel(run)
    async with orchestrator:
        assert {info.status for info in await orchestrator.runs.list()} <= {RunStatus.CANCELLED}


async def test_cancelling_at_the_end_gives_the_run_one_end(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    """The end is written while the cancellation comes, at every turn of the event loop in between."""
    file = graph_file(tmp_path, "a", "- {id: a, type: echo}")
    ends: set[str] = set()
    async with Orchestrator(file, settings=redis_settings) as orchestrator:
        for turns in range(40):
            run_id = new_run_id()
            run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
            await entries_reach(clean_redis.client, run_id, 1)
            for _ in range(turns):
                await asyncio.sleep(0)
            run.cancel()
            await asyncio.wait({run})
            kinds = await kinds_of(clean_redis.client, run_id)
            assert [kind for kind in kinds if kind in {"run.completed", "run.cancelled"}] == kinds[-1:]
            status = await field_of(clean_redis.client, run_id, "status")
            assert kinds[-1] == f"run.{status}"
            ends.add(kinds[-1])
            assert await orchestrator.resume(run_id) == "x"
    assert "run.completed" in ends


async def test_a_run_cancelled_while_redis_is_away_is_cancelled_all_the_same(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    file = graph_file(tmp_path, "gate", "- {id: gate, type: gate}")
    run_id = new_run_id()
    async with Orchestrator(file, settings=redis_settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        await cut_connections(clean_redis.client)
        await cancel(run)
        assert (await kinds_of(clean_redis.client, run_id))[-1] == "run.cancelled"


async def test_an_owner_that_was_replaced_and_is_cancelled_raises_the_cancellation(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    mine, theirs = Gate(), Gate()
    file = graph_file(tmp_path, "gate", "- {id: gate, type: gate}")
    run_id = new_run_id()
    async with (
        Orchestrator(file, settings=redis_settings, registry=mine.registry()) as owner,
        Orchestrator(file, settings=redis_settings, registry=theirs.registry()) as other,
    ):
        run = asyncio.create_task(owner.execute("x", run_id=run_id))
        await mine.reached.wait()
        finishing = asyncio.create_task(other.finish(run_id, take_over=True))
        await theirs.reached.wait()
        await cancel(run)
        theirs.opened.set()
        assert (await finishing).output == "through"
    assert "run.cancelled" not in await kinds_of(clean_redis.client, run_id)


async def test_an_agent_that_ignores_its_cancellation_is_abandoned_after_the_grace_period_and_counted(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    begun, enough = asyncio.Event(), asyncio.Event()

    async def stubborn(task: Any) -> str:
        begun.set()
        while not enough.is_set():
            try:
                await enough.wait()
            except asyncio.CancelledError:
                pass
        return "too late"

    file = graph_file(tmp_path, "s, after", "- {id: s, type: stubborn}\n- {id: after, type: echo}")
    run_id = new_run_id()
    async with Orchestrator(file, settings=redis_settings, registry=registry_of(stubborn=stubborn)) as orchestrator:
        services_of(orchestrator).calls = Calls(grace=0.2)
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await begun.wait()
        await cancel(run, within=1.0)
        assert orchestrator.statistics().calls == (1, 1)
        assert (await kinds_of(clean_redis.client, run_id))[-2:] == ["node.started s", "run.cancelled"]
        enough.set()
        async with asyncio.timeout(2):
            while orchestrator.statistics().calls != (0, 0):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await kinds_of(clean_redis.client, run_id))[-1] == "run.cancelled"


async def test_a_function_that_blocks_its_thread_does_not_hold_a_cancelled_run(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    begun, leave = threading.Event(), threading.Event()

    def blocking(task: Any) -> str:
        begun.set()
        leave.wait(20)
        return "too late"

    file = graph_file(tmp_path, "b", "- {id: b, type: blocking}")
    run_id = new_run_id()
    async with Orchestrator(file, settings=redis_settings, registry=registry_of(blocking=blocking)) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        assert await asyncio.to_thread(begun.wait, 5)
        await cancel(run)
        assert (await kinds_of(clean_redis.client, run_id))[-1] == "run.cancelled"
        leave.set()
        assert (await orchestrator.finish(run_id)).output == "too late"


async def test_a_run_cancelled_while_it_is_resumed_can_be_resumed_again_at_once(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    file = graph_file(tmp_path, "gate", "- {id: gate, type: gate}")
    run_id = new_run_id()
    settings = replace(redis_settings, lease=60)
    async with Orchestrator(file, settings=settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        await cancel(run)
        for turns in range(0, 40, 2):
            resumed = asyncio.create_task(orchestrator.finish(run_id))
            for _ in range(turns):
                await asyncio.sleep(0)
            resumed.cancel()
            await asyncio.wait({resumed})
        gate.opened.set()
        assert (await orchestrator.finish(run_id)).output == "through"


def services_of(orchestrator: Orchestrator) -> Services:
    services = orchestrator._services
    assert services is not None
    return services
