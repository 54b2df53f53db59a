"""Redis forgets, dies, comes back, is cut off or is full: runs end correctly or stop with a reason."""

import asyncio
import random
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.journals import (
    Gate,
    OwnServer,
    client_of,
    cut_connections,
    entries_of,
    entries_reach,
    field_of,
    forget,
    graph_file,
    keys_of,
    kinds_of,
    own_server,
    registry_of,
    swallowing_proxy,
)

from orka.errors import JournalUnavailable, StoreError
from orka.ids import new_run_id
from orka.orchestrator import Orchestrator
from orka.redis.client import RedisHandle
from orka.settings import Settings
from orka.types import RunStatus

GATED = """
- {id: a, type: echo, prompt: one}
- {id: b, type: echo, prompt: two}
- {id: wait, type: gate}
- {id: last, type: template, prompt: "{{ previous_outputs.b.response }}, {{ previous_outputs.wait.response }}"}
"""
WHOLE = [
    "run.started",
    "node.finished a",
    "node.finished b",
    "node.started wait",
    "node.finished wait",
    "node.finished last",
    "run.completed",
]


@pytest.fixture
def gated(tmp_path: Path) -> Path:
    return graph_file(tmp_path, "a, b, wait, last", GATED)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnServer]:
    with own_server(tmp_path / "redis") as started:
        yield started


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_a_tail_that_the_server_lost_is_appended_again_by_the_next_append(
    count: int, gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate, told = Gate(), []
    run_id = new_run_id()
    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id, on_event=lambda e: told.append(e.kind)))
        await gate.reached.wait()
        before = await entries_of(clean_redis.client, run_id)
        await forget(clean_redis.client, run_id, count)
        gate.opened.set()
        assert (await run).output == "two, through"
    after = await entries_of(clean_redis.client, run_id)
    assert after[: len(before)] == before
    assert await kinds_of(clean_redis.client, run_id) == WHOLE
    assert await field_of(clean_redis.client, run_id, "seq") == "7"
    assert told == [kind.split()[0] for kind in WHOLE]
    assert gate.calls == 1


async def test_a_tail_that_the_server_lost_is_appended_again_by_the_next_renewal(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    run_id = new_run_id()
    settings = replace(redis_settings, lease=0.3)
    async with Orchestrator(gated, settings=settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        before = await entries_of(clean_redis.client, run_id)
        await forget(clean_redis.client, run_id, 3)
        await entries_reach(clean_redis.client, run_id, len(before))
        assert await entries_of(clean_redis.client, run_id) == before
        gate.opened.set()
        assert (await run).status is RunStatus.COMPLETED


async def test_a_run_that_the_server_lost_right_after_its_creation_is_created_again(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    run_id = new_run_id()
    client = clean_redis.client
    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        await client.flushall()
        gate.opened.set()
        assert (await run).output == "two, through"
    assert await kinds_of(client, run_id) == WHOLE
    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        assert await orchestrator.resume(run_id) == "two, through"
        assert [info.run_id for info in await orchestrator.runs.list()] == [run_id]


@pytest.mark.parametrize("status", ["cancelled", "stale"])
async def test_a_resumption_that_the_server_lost_is_made_again(
    status: str, gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    run_id = new_run_id()
    client, keys = clean_redis.client, keys_of(run_id)
    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        first = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        first.cancel()
        await asyncio.wait({first})
        if status == "stale":  # as a killed process leaves it
            await forget(client, run_id, 1)
            async with client.pipeline() as pipe:
                pipe.hset(keys.run, mapping={"status": "running", "lease_until": 0}).hdel(keys.run, "ended_ms")
                pipe.zrem(f"{keys.tag}:runs:ended", run_id).zadd(f"{keys.tag}:runs:open", {run_id: 1})
                pipe.hincrby(f"{keys.tag}:graph:{orchestrator.graph.digest}", "runs", 1)
                for key in (keys.run, keys.journal):
                    pipe.persist(key)
                await pipe.execute()
        dumps = {key: (await client.dump(key), await client.pttl(key)) for key in await client.keys("*")}
        before = len(await entries_of(client, run_id))
        gate.reached.clear()
        run = asyncio.create_task(orchestrator.finish(run_id))
        await gate.reached.wait()
        # Exactly the state from before the take-over, as a server has it that lost its last second.
        await client.flushdb()
        for key, (dump, ttl) in dumps.items():
            await client.restore(key, max(0, ttl), dump, replace=True)  # events may be there by now
        gate.opened.set()
        assert (await run).output == "two, through"
        assert (await field_of(client, run_id, "lease") or "").startswith("2-")
        assert await field_of(client, run_id, "generation") == "2"
        assert await client.hget(f"{keys.tag}:graph:{orchestrator.graph.digest}", "runs") == b"0"
        assert (await orchestrator.runs.info(run_id)).status is RunStatus.COMPLETED
    kinds = await kinds_of(client, run_id)
    assert kinds[before:] == ["run.resumed", "node.started wait", *WHOLE[4:]]


async def test_a_run_that_lost_more_than_its_owner_keeps_stops_and_says_so(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    """What was on disk long ago is not kept; a server that loses it is beyond what its owner can mend."""
    gate = Gate()
    run_id = new_run_id()
    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        first = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        first.cancel()
        await asyncio.wait({first})
        gate.reached.clear()
        run = asyncio.create_task(orchestrator.finish(run_id))
        await gate.reached.wait()
        await forget(clean_redis.client, run_id, 4)
        gate.opened.set()
        with pytest.raises(StoreError, match=r"lost entries 4 to .*orka resume"):
            await run


async def test_connections_cut_again_and_again_double_and_lose_nothing(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    calls: list[str] = []

    async def step(task: Any) -> str:
        calls.append(task.path)
        await asyncio.sleep(0.01)
        return task.path

    nodes = """
    - {id: every, type: map, items: "range(40) | list", as: item, agents: [pure, step], max_concurrency: 4}
    - {id: pure, type: template, prompt: "{{ item }}"}
    - {id: step, type: step}
    - {id: last, type: template, prompt: "{{ previous_outputs.every.results | length }}"}
    """
    file = graph_file(tmp_path, "every, last", nodes)
    run_id = new_run_id()
    client = clean_redis.client
    async with Orchestrator(file, settings=redis_settings, registry=registry_of(step=step)) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        cut = 0
        while not run.done():
            cut += await cut_connections(client)
            await asyncio.wait({run}, timeout=0.02)
        assert (await run).output == "40"
        assert orchestrator.statistics().journal.retried >= 1
        assert await orchestrator.resume(run_id) == "40"
    assert cut >= 3
    assert sorted(calls) == sorted(set(calls))
    assert len(calls) == 40
    finished = [path for kind, path, _ in await entries_of(client, run_id) if kind == "node.finished"]
    assert len(finished) == len(set(finished)) == 82


async def test_a_redis_that_is_restarted_cleanly_loses_nothing(gated: Path, server: OwnServer) -> None:
    gate = Gate()
    run_id = new_run_id()
    async with Orchestrator(gated, settings=server.settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        await asyncio.to_thread(server.end, signal.SIGTERM)
        gate.opened.set()
        await asyncio.to_thread(server.start)
        assert (await run).output == "two, through"
        async with client_of(server.settings) as client:
            assert await kinds_of(client, run_id) == WHOLE


@pytest.mark.parametrize(("kills", "steps"), [(2, 200), pytest.param(15, 1200, marks=pytest.mark.chaos)])
async def test_a_redis_that_is_killed_in_the_middle_of_runs_gets_its_lost_tail_again(
    kills: int, steps: int, tmp_path: Path, server: OwnServer
) -> None:
    """AOF everysec: what was acknowledged within the last second may be gone (the kernel of a machine that lost power
    took it along), and the owners append it again."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    calls: list[str] = []

    async def step(task: Any) -> str:
        calls.append(task.idempotency_key)
        await asyncio.sleep(0.007)  # longer than all kills take, so that each one meets runs under way
        return task.path

    ids = [f"s{number}" for number in range(steps)]
    nodes = "\n".join(f"- {{id: {name}, type: {'step' if n % 2 else 'echo'}}}" for n, name in enumerate(ids))
    file = graph_file(tmp_path, ", ".join(ids), nodes)
    run_ids = [new_run_id() for _ in range(8)]
    async with Orchestrator(file, settings=server.settings, registry=registry_of(step=step)) as orchestrator:
        runs = [asyncio.create_task(orchestrator.execute("x", run_id=run_id)) for run_id in run_ids]
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(0.05, 0.3))
            await asyncio.to_thread(server.end, signal.SIGKILL)
            server.lose_bytes(chance.randrange(40_000))
            await asyncio.to_thread(server.start)
        results = await asyncio.gather(*runs)
        async with client_of(server.settings) as client:
            for run_id in run_ids:
                finished = [path for kind, path, _ in await entries_of(client, run_id) if kind == "node.finished"]
                assert finished == ids
    assert [result.output for result in results] == [f"s{steps - 1}"] * 8
    assert len(calls) == len(set(calls)) == 4 * steps


async def test_a_redis_that_pauses_for_less_than_the_patience_is_waited_for(gated: Path, server: OwnServer) -> None:
    gate = Gate()
    settings = replace(server.settings, lease=0.3)
    async with Orchestrator(gated, settings=settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x"))
        await gate.reached.wait()
        server.send(signal.SIGSTOP)
        gate.opened.set()
        done, _ = await asyncio.wait({run}, timeout=0.8)
        server.send(signal.SIGCONT)
        assert not done
        assert (await run).output == "two, through"


async def test_a_connection_that_swallows_everything_is_replaced_before_the_patience_ends(
    gated: Path, server: OwnServer, tmp_path: Path
) -> None:
    gate = Gate()
    async with swallowing_proxy(tmp_path / "proxy.sock", server.socket) as swallow:
        settings = replace(
            server.settings, redis_url=f"unix://{tmp_path / 'proxy.sock'}", lease=0.6, journal_patience=6.0
        )
        async with Orchestrator(gated, settings=settings, registry=gate.registry()) as orchestrator:
            run = asyncio.create_task(orchestrator.execute("x"))
            await gate.reached.wait()
            swallow()
            gate.opened.set()
            async with asyncio.timeout(5):
                assert (await run).output == "two, through"
            assert orchestrator.statistics().journal.retried >= 1


@pytest.mark.parametrize("way", ["killed", "stopped"])
async def test_a_redis_away_for_longer_than_the_patience_stops_the_run_which_can_be_resumed(
    way: str, gated: Path, server: OwnServer
) -> None:
    gate = Gate()
    run_id = new_run_id()
    settings = replace(server.settings, lease=0.3, journal_patience=1.0)
    async with Orchestrator(gated, settings=settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        if way == "killed":
            await asyncio.to_thread(server.end, signal.SIGTERM)
        else:
            server.send(signal.SIGSTOP)
        gate.opened.set()
        async with asyncio.timeout(4):
            with pytest.raises(JournalUnavailable, match=rf"1 s \(ORKA_JOURNAL_PATIENCE\).*orka resume {run_id}"):
                await run
        if way == "killed":
            await asyncio.to_thread(server.start)
        else:
            server.send(signal.SIGCONT)
    async with Orchestrator(gated, settings=settings, registry=gate.registry()) as orchestrator:
        assert (await orchestrator.finish(run_id, take_over=True)).output == "two, through"


async def test_a_redis_that_is_full_for_a_while_is_waited_for(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    client = clean_redis.client
    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x"))
        await gate.reached.wait()
        await client.config_set("maxmemory", 1)
        try:
            gate.opened.set()
            async with asyncio.timeout(5):
                while orchestrator.statistics().journal.retried < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert not run.done()
        finally:
            await client.config_set("maxmemory", 0)
        assert (await run).output == "two, through"


def events_of(caplog: pytest.LogCaptureFixture, *names: str) -> list[str]:
    facts = [getattr(record, "orka", {}) for record in caplog.records]
    return [fact["event"] for fact in facts if fact.get("event") in names]


async def test_a_redis_that_is_full_is_complained_of_once_and_its_way_out_is_told(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    client = clean_redis.client
    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x"))
        await gate.reached.wait()
        await client.config_set("maxmemory", 1)
        try:
            gate.opened.set()
            async with asyncio.timeout(5):
                while orchestrator.statistics().journal.retried < 5:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        finally:
            await client.config_set("maxmemory", 0)
        await run
    assert events_of(caplog, "journal.unreachable", "journal.reached") == ["journal.unreachable", "journal.reached"]
    assert "user_script" not in caplog.text


async def test_a_redis_that_stays_full_ends_the_run_without_a_word_about_scripts(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    settings = replace(redis_settings, lease=0.3, journal_patience=0.5)
    client = clean_redis.client
    async with Orchestrator(gated, settings=settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x"))
        await gate.reached.wait()
        await client.config_set("maxmemory", 1)
        try:
            gate.opened.set()
            async with asyncio.timeout(5):
                with pytest.raises(
                    JournalUnavailable, match=r"refuses writes for now: .*maxmemory'\. Resume"
                ) as caught:
                    await run
        finally:
            await client.config_set("maxmemory", 0)
    assert "script" not in str(caught.value)


async def test_scripts_that_the_server_lost_are_loaded_again(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x"))
        await gate.reached.wait()
        await clean_redis.client.script_flush()
        gate.opened.set()
        assert (await run).output == "two, through"


@pytest.mark.parametrize("durability", ["default", "strict"])
async def test_an_agent_that_touches_the_world_waits_for_the_entries_it_follows_from(
    durability: str, tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    """While nothing can be stored a pure step may run ahead, unless `durability: strict` forbids it."""
    pure, world = Gate(), Gate()
    ran: list[str] = []

    def ahead(task: Any) -> str:
        ran.append(task.path)
        return "ahead"

    async def enter(task: Any) -> str:
        return await pure(task)

    registry = world.registry()
    registry.agent("enter", pure=True)(enter)
    registry.agent("ahead", pure=True)(ahead)
    nodes = "- {id: enter, type: enter}\n- {id: ahead, type: ahead}\n- {id: gate, type: gate}"
    top = "durability: strict" if durability == "strict" else ""
    client = clean_redis.client
    file = graph_file(tmp_path, "enter, ahead, gate", nodes, top)
    async with Orchestrator(file, settings=redis_settings, registry=registry) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x"))
        await pure.reached.wait()
        await client.execute_command("CLIENT", "PAUSE", 20_000, "WRITE")
        pure.opened.set()
        await asyncio.wait({run}, timeout=0.2)
        assert ran == ([] if durability == "strict" else ["ahead"])
        assert not world.reached.is_set()
        await client.execute_command("CLIENT", "UNPAUSE")
        world.opened.set()
        assert (await run).output == "through"
    assert ran == ["ahead"]
