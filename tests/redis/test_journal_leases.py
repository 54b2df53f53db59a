"""Who owns a run: one at a time, fenced by epochs, for as long as it gives signs of life."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.journals import Gate, entries_of, entries_reach, field_of, graph_file, keys_of, kinds_of, registry_of

from orka.errors import JournalUnavailable, LeaseLost, RunAlive, RunExists
from orka.ids import new_run_id
from orka.orchestrator import Orchestrator
from orka.redis.client import RedisHandle
from orka.settings import Settings
from orka.types import RunStatus

GATED = """
- {id: first, type: echo, prompt: one}
- {id: wait, type: gate}
- {id: last, type: template, prompt: "{{ previous_outputs.first.response }}, {{ previous_outputs.wait.response }}"}
"""


@pytest.fixture
def gated(tmp_path: Path) -> Path:
    return graph_file(tmp_path, "first, wait, last", GATED)


async def test_a_run_under_way_is_alive_and_not_resumed(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        run_id = new_run_id()
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        with pytest.raises(RunAlive) as refused:
            await orchestrator.finish(run_id)
        assert refused.value.holder.startswith(f"pid {os.getpid()} on ")
        assert 0 < refused.value.left_ms <= 10_000
        assert "--take-over" in str(refused.value)
        gate.opened.set()
        assert (await run).output == "one, through"


async def test_a_run_taken_over_ends_elsewhere_and_its_former_owner_writes_nothing_more(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    mine, theirs = Gate(), Gate()
    theirs.opened.set()
    run_id = new_run_id()
    async with (
        Orchestrator(gated, settings=redis_settings, registry=mine.registry()) as owner,
        Orchestrator(gated, settings=redis_settings, registry=theirs.registry()) as other,
    ):
        run = asyncio.create_task(owner.execute("x", run_id=run_id))
        await mine.reached.wait()
        result = await other.finish(run_id, take_over=True)
        before = await clean_redis.client.xrange(keys_of(run_id).journal)
        mine.opened.set()
        with pytest.raises(LeaseLost):
            await run
        assert await clean_redis.client.xrange(keys_of(run_id).journal) == before
        assert owner.statistics().journal.lost == 1
    assert (result.status, result.output) == (RunStatus.COMPLETED, "one, through")
    assert await kinds_of(clean_redis.client, run_id) == [
        "run.started",
        "node.finished first",
        "node.started wait",
        "run.resumed",
        "node.started wait",
        "node.finished wait",
        "node.finished last",
        "run.completed",
    ]


async def test_an_owner_that_only_waits_learns_from_its_renewal_that_it_was_replaced(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    settings = replace(redis_settings, lease=0.3)
    mine, theirs = Gate(), Gate()
    run_id = new_run_id()
    async with (
        Orchestrator(gated, settings=settings, registry=mine.registry()) as owner,
        Orchestrator(gated, settings=settings, registry=theirs.registry()) as other,
    ):
        run = asyncio.create_task(owner.execute("x", run_id=run_id))
        await mine.reached.wait()
        finishing = asyncio.create_task(other.finish(run_id, take_over=True))
        async with asyncio.timeout(5):
            with pytest.raises(LeaseLost):
                await run
        theirs.opened.set()
        assert (await finishing).output == "one, through"


async def test_of_two_resumers_at_once_exactly_one_wins(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    run_id = new_run_id()
    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        run.cancel()
        await asyncio.wait({run})
        resumers = [asyncio.create_task(orchestrator.finish(run_id)) for _ in range(8)]
        await asyncio.wait(resumers, return_when=asyncio.FIRST_EXCEPTION)
        gate.opened.set()
        results = await asyncio.gather(*resumers, return_exceptions=True)
    won = [result for result in results if not isinstance(result, BaseException)]
    assert [result.output for result in won] == ["one, through"]
    assert [type(result) for result in results if isinstance(result, BaseException)] == [RunAlive] * 7
    assert gate.calls == 2
    assert (await kinds_of(clean_redis.client, run_id)).count("run.resumed") == 1


async def test_renewals_keep_a_run_that_sleeps_beyond_its_lease(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    settings = replace(redis_settings, lease=0.3)
    gate = Gate()
    run_id = new_run_id()
    async with Orchestrator(gated, settings=settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        began = int(await field_of(clean_redis.client, run_id, "lease_until") or 0)
        async with asyncio.timeout(5):
            while int(await field_of(clean_redis.client, run_id, "lease_until") or 0) < began + 900:
                with pytest.raises(RunAlive):
                    await orchestrator.finish(run_id)
                await asyncio.sleep(0.02)
        gate.opened.set()
        assert (await run).status is RunStatus.COMPLETED
    assert (await field_of(clean_redis.client, run_id, "lease") or "").startswith("1-")


async def test_take_overs_while_appends_are_in_flight_lose_and_double_nothing(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    """Nine owners one after the other, each replaced while it writes: every commit is there once."""
    calls: dict[str, int] = {}

    async def step(task: Any) -> int:
        calls[task.path] = calls.get(task.path, 0) + 1
        await asyncio.sleep(0.001)
        return len(task.outputs)

    ids = [f"s{number}" for number in range(120)]
    kinds = ["step", "echo"]
    nodes = "\n".join(f"- {{id: {name}, type: {kinds[n % 2]}, prompt: '{n}'}}" for n, name in enumerate(ids))
    file = graph_file(tmp_path, ", ".join(ids), nodes)
    run_id = new_run_id()
    client = clean_redis.client
    async with Orchestrator(file, settings=redis_settings, registry=registry_of(step=step)) as orchestrator:
        tasks = [asyncio.create_task(orchestrator.execute("x", run_id=run_id))]
        for number in range(8):
            await entries_reach(client, run_id, 5 + 15 * number)
            tasks.append(asyncio.create_task(orchestrator.finish(run_id, take_over=True)))
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results[:-1]] == [LeaseLost] * 8
    assert results[-1].output == "119"  # type: ignore[union-attr]
    finished = [path for kind, path, _ in await entries_of(client, run_id) if kind == "node.finished"]
    assert finished == ids
    assert sorted(calls) == sorted(ids[::2])
    # One execution more at most for every owner that was replaced, of the step that it had under way.
    assert sum(calls.values()) <= 60 + 8
    assert await field_of(client, run_id, "generation") == "9"


async def test_closing_the_orchestrator_tells_a_run_under_way_that_it_cannot_go_on(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    run_id = new_run_id()
    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
    async with asyncio.timeout(5):
        with pytest.raises(JournalUnavailable, match="closed while run"):
            await run
    gate.opened.set()
    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        assert (await orchestrator.finish(run_id, take_over=True)).output == "one, through"


async def test_an_id_that_is_taken_is_refused_and_the_other_run_is_left_alone(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    run_id = new_run_id()
    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        with pytest.raises(RunExists):
            await orchestrator.execute("y", run_id=run_id)
        gate.opened.set()
        assert (await run).status is RunStatus.COMPLETED
