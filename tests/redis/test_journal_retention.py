"""What is kept, how long, and that nothing else is: the registry and the lifetimes of keys."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.journals import Gate, forget, graph_file, keys_of, registry_of

from orka.errors import JournalMismatch, RunNotFound
from orka.ids import new_run_id
from orka.lifecycle import start_run
from orka.orchestrator import Orchestrator
from orka.redis.client import RedisHandle
from orka.redis.keys import memory_events_key
from orka.services import load_file, open_services
from orka.settings import Settings
from orka.types import RunStatus

ECHO = "- {id: a, type: echo}"


async def lifetimes(client: Any) -> dict[str, int]:
    """Milliseconds that every key of the server has left, the bounded stream of events excepted; -1: for ever."""
    keys = [key.decode() for key in await client.keys("*")]
    return {key: await client.pttl(key) for key in keys if key != memory_events_key()}


async def test_the_keys_of_an_ended_run_go_together_and_the_graph_a_little_later(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    async with Orchestrator(graph_file(tmp_path, "a", ECHO), settings=redis_settings) as orchestrator:
        result = await orchestrator.execute("x" * 100_000)  # large enough for a key of its own
        keys = keys_of(result.run_id)
        left = await lifetimes(clean_redis.client)
        graph, ended = f"{keys.tag}:graph:{orchestrator.graph.digest}", f"{keys.tag}:runs:ended"
        assert sorted(left) == sorted([keys.run, keys.journal, keys.values, graph, ended])
        week = 7 * 86_400_000
        ends = {left[keys.run], left[keys.journal], left[keys.values]}
        assert week - 5_000 < min(ends) <= max(ends) <= week
        assert max(ends) - min(ends) < 100
        assert max(ends) < left[graph] <= week + 60_000
        assert max(ends) < left[ended] <= week + 60_000


async def test_an_ended_run_is_gone_after_its_retention_and_leaves_nothing(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    settings = replace(redis_settings, retention=0.15, partitions=1)
    client = clean_redis.client
    async with Orchestrator(graph_file(tmp_path, "a", ECHO), settings=settings) as orchestrator:
        result = await orchestrator.execute("x")
        async with asyncio.timeout(5):
            while await client.exists("{orka:0}:run:" + result.run_id):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        with pytest.raises(RunNotFound):
            await orchestrator.runs.info(result.run_id)
        assert await orchestrator.runs.list() == []
        await orchestrator.execute("y")
        # The new run has taken the place of the old one in the registry.
        assert await client.zcard("{orka:0}:runs:ended") == 1


async def test_a_graph_is_kept_as_long_as_the_longest_of_its_runs(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    long = replace(redis_settings, partitions=1)
    short = replace(long, retention=0.2)
    client = clean_redis.client
    file = graph_file(tmp_path, "gate", "- {id: gate, type: gate}")
    async with (
        Orchestrator(file, settings=long, registry=gate.registry()) as patient,
        Orchestrator(file, settings=short, registry=gate.registry()) as hasty,
    ):
        graph = f"{{orka:0}}:graph:{patient.graph.digest}"
        first, second = asyncio.create_task(patient.execute("x")), asyncio.create_task(hasty.execute("y"))
        async with asyncio.timeout(5):
            while gate.calls < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await client.hget(graph, "runs") == b"2"
        second_ended = asyncio.create_task(hasty.execute("z"))
        gate.opened.set()
        await asyncio.gather(first, second, second_ended)
        await hasty.execute("again")
        assert await client.hget(graph, "runs") == b"0"
        assert await client.pttl(graph) > 6 * 86_400_000


async def test_resuming_keeps_the_keys_until_the_run_has_ended_again(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    fails = [True]

    async def shaky(task: Any) -> str:
        if fails.pop() if fails else False:
            raise RuntimeError("once")
        return "good"

    client = clean_redis.client
    nodes = "- {id: s, type: shaky, on_error: stop}\n- {id: gate, type: gate}"
    file = graph_file(tmp_path, "s, gate", nodes)
    async with Orchestrator(file, settings=redis_settings, registry=gate.registry(shaky=shaky)) as orchestrator:
        failed = await orchestrator.execute("x")
        assert failed.status is RunStatus.FAILED
        keys = keys_of(failed.run_id)
        mine = [keys.run, keys.journal]
        assert all([await client.pttl(key) > 0 for key in mine])
        resumed = asyncio.create_task(orchestrator.finish(failed.run_id))
        await gate.reached.wait()
        graph = f"{keys.tag}:graph:{orchestrator.graph.digest}"
        assert [await client.pttl(key) for key in (*mine, graph)] == [-1, -1, -1]
        assert await client.zscore(f"{keys.tag}:runs:open", failed.run_id) is not None
        assert await client.zscore(f"{keys.tag}:runs:ended", failed.run_id) is None
        gate.opened.set()
        assert (await resumed).status is RunStatus.COMPLETED
        assert all([await client.pttl(key) > 0 for key in (*mine, graph)])


async def test_a_refused_resumption_does_not_prolong_a_run(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    client = clean_redis.client
    nodes = "- {id: a, type: echo}\n- {id: s, type: failing, on_error: stop}"
    file = graph_file(tmp_path, "a, s", nodes)
    async with Orchestrator(file, settings=redis_settings) as orchestrator:
        failed = await orchestrator.execute("x")
        keys = keys_of(failed.run_id)
        for key in (keys.run, keys.journal):
            await client.pexpire(key, 60_000)
        await client.hincrby(keys.run, "ended_ms", -(redis_settings.retention * 1000 - 60_000).__int__())
        before = await client.xrange(keys.journal)
    file = graph_file(tmp_path, "a, s", nodes.replace("echo}", "echo, prompt: changed}"))
    async with Orchestrator(file, settings=redis_settings) as orchestrator:
        with pytest.raises(JournalMismatch, match="'a'"):
            await orchestrator.finish(failed.run_id, changed_graph=True)
        assert await client.xrange(keys.journal) == before
        for key in (keys.run, keys.journal):
            assert 0 < await client.pttl(key) <= 60_000
        info = await orchestrator.runs.info(failed.run_id)
        assert (info.status, info.lease_left_ms, info.generation) == (RunStatus.FAILED, 0, 1)


async def test_the_list_is_newest_first_and_filters(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    client = clean_redis.client
    nodes = "- {id: gate, type: gate}\n- {id: s, type: failing, on_error: stop}"
    fine, failing = tmp_path / "fine", tmp_path / "failing"
    fine.mkdir()
    failing.mkdir()
    async with (
        Orchestrator(graph_file(fine, "a", ECHO), settings=redis_settings) as good,
        Orchestrator(graph_file(failing, "s", nodes), settings=redis_settings, registry=gate.registry()) as bad,
        Orchestrator(graph_file(tmp_path, "gate", nodes), settings=redis_settings, registry=gate.registry()) as slow,
    ):
        ids = [(await good.execute(f"input {n}")).run_id for n in range(3)]
        ids.append((await bad.execute("bad")).run_id)
        running = new_run_id()
        run = asyncio.create_task(slow.execute("slow", run_id=running))
        await gate.reached.wait()
        abandoned = new_run_id()
        gate.reached.clear()
        dead = asyncio.create_task(slow.execute("dead", run_id=abandoned))
        await gate.reached.wait()
        dead.cancel()
        await asyncio.wait({dead})
        await forget(client, abandoned, 1)
        keys = keys_of(abandoned)
        await client.hset(keys.run, mapping={"status": "running", "lease_until": 0})
        await client.zrem(f"{keys.tag}:runs:ended", abandoned)
        await client.zadd(f"{keys.tag}:runs:open", {abandoned: 1})
        runs = good.runs

        async def listed(**filters: Any) -> list[str]:
            return [info.run_id for info in await runs.list(**filters)]

        assert await listed() == [abandoned, running, *reversed(ids)]
        assert await listed(limit=2) == [abandoned, running]
        assert await listed(status=RunStatus.COMPLETED) == [ids[2], ids[1], ids[0]]
        assert await listed(status=RunStatus.COMPLETED, limit=1) == [ids[2]]
        assert await listed(status=RunStatus.FAILED) == [ids[3]]
        assert await listed(status=RunStatus.RUNNING) == [abandoned, running]
        assert await listed(stale=True) == [abandoned]
        info = await runs.info(ids[1])
        assert (info.input, info.graph, info.entries, info.status) == ("input 1", "tested", 3, RunStatus.COMPLETED)
        assert info.ended_ms is not None
        assert info.created_ms <= info.ended_ms
        assert (await runs.info(running)).lease_left_ms > 0
        gate.opened.set()
        await run


async def test_after_runs_of_every_end_each_key_has_a_run_under_way_or_a_lifetime(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    big = "y" * 70_000

    async def large(task: Any) -> str:
        return big

    nodes = """
    - {id: large, type: large}
    - {id: spread, type: fork, targets: [[a], [b]]}
    - {id: a, type: echo}
    - {id: b, type: failing}
    - {id: gather, type: join, group: spread}
    - {id: gate, type: gate}
    - {id: end, type: failing, on_error: stop}
    """
    registry = gate.registry(large=large)
    client = clean_redis.client
    live = new_run_id()
    async with Orchestrator(
        graph_file(tmp_path, "large, spread, gather, gate, end", nodes), settings=redis_settings, registry=registry
    ) as orchestrator:
        cancelled = [asyncio.create_task(orchestrator.execute(n)) for n in range(10)]
        async with asyncio.timeout(5):
            while gate.calls < 10:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for run in cancelled:
            run.cancel()
        await asyncio.wait(cancelled)
        under_way = asyncio.create_task(orchestrator.execute("live", run_id=live))
        async with asyncio.timeout(5):
            while gate.calls < 11:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        keys = keys_of(live)
        alive = {keys.run, keys.journal, keys.values, f"{keys.tag}:graph:{orchestrator.graph.digest}"}
        alive.add(f"{keys.tag}:runs:open")
        for_ever = {key for key, left in (await lifetimes(client)).items() if left == -1}
        assert for_ever == alive
        gate.opened.set()
        assert (await under_way).status is RunStatus.FAILED
        for info in await orchestrator.runs.list(status=RunStatus.CANCELLED):
            assert (await orchestrator.finish(info.run_id)).status is RunStatus.FAILED
        assert [key for key, left in (await lifetimes(client)).items() if left == -1] == []


async def test_a_function_registered_by_nobody_is_no_reason_to_keep_a_lease(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    """A process that lacks an agent type cannot resume the run; another one can, at once."""
    gate = Gate()
    run_id = new_run_id()
    file = graph_file(tmp_path, "gate", "- {id: gate, type: gate}")
    async with Orchestrator(file, settings=redis_settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        run.cancel()
        await asyncio.wait({run})
    gate.opened.set()
    other = graph_file(tmp_path, "a", ECHO)
    async with Orchestrator(other, settings=redis_settings, registry=registry_of()) as orchestrator:
        with pytest.raises(Exception, match="'gate'"):
            await orchestrator.finish(run_id)
    async with Orchestrator(other, settings=redis_settings, registry=gate.registry()) as orchestrator:
        assert (await orchestrator.finish(run_id)).output == "through"


async def test_a_resumer_that_dies_before_it_goes_on_leaves_an_ended_run_its_lifetime(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    text = "- {id: a, type: failing, on_error: stop}"
    client = clean_redis.client
    async with open_services(redis_settings) as services:
        graph = load_file(graph_file(tmp_path, "a", text)).graph
        result = await start_run(services, services.build(graph), "x" * 100_000, new_run_id())
        assert result.status is RunStatus.FAILED
        keys = keys_of(result.run_id)
        for key in (keys.run, keys.journal):
            await client.pexpire(key, 5_000)  # its retention is nearly over
        assert await services.leases.take(result.run_id) is not None
    left = await lifetimes(client)
    assert -1 not in left.values()
    hour, week = 3_600_000, 7 * 86_400_000
    assert hour - 10_000 < left[keys.run] <= hour
    assert hour - 10_000 < left[keys.journal] <= hour
    assert week - 10_000 < left[keys.values] <= week
