"""Slots of a real cluster move from primary to primary while a fleet executes distributed runs in them."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from servers import Servers, start_cluster, until
from support.fleet import FleetBench, open_fleet
from support.graphs import load
from support.journals import entries_of
from support.resharding import open_cluster, slot_of

from orka.ids import new_run_id
from orka.lifecycle import RunOptions, start_run, submit_run
from orka.redis.client import open_redis
from orka.redis.keys import run_keys
from orka.redis.lua import Command
from orka.redis.pipeline import Pipe, is_moving
from orka.redis.recovery_scripts import cancel_run
from orka.results import RunResult
from orka.settings import Settings
from orka.stored import await_run
from orka.types import RunId, RunStatus

GRAPH = """
orchestrator: {id: moving, agents: [every, spread, gathered, last]}
agents:
  - {id: every, type: map, items: "range(6) | list", as: item, agents: [work, more]}
  - {id: work, type: probe, pure: false, delay: 0.02}
  - {id: more, type: template, prompt: "{{ item }}!"}
  - {id: spread, type: fork, targets: [[left, inner, inner_join], [right]]}
  - {id: left, type: probe, pure: false, delay: 0.02}
  - {id: inner, type: fork, targets: [[deep], [deeper]]}
  - {id: deep, type: probe, pure: false, delay: 0.02}
  - {id: deeper, type: template, prompt: "deeper"}
  - {id: inner_join, type: join, group: inner}
  - {id: right, type: probe, pure: false, delay: 0.05}
  - {id: gathered, type: join, group: spread}
  - {id: last, type: template, prompt: "{{ previous_outputs['every'].results | map(attribute='response') | join(' ') }}"}
"""
ANSWER = "0! 1! 2! 3! 4! 5!"
MOVED = 5
"""Partitions whose slots move, each to the next primary."""


def cluster_url(nodes: list[Any]) -> str:
    return "redis://:hunter2@" + ",".join(f"127.0.0.1:{node.port}" for node in nodes) + "/0"


def run_in(partition: int) -> RunId:
    """An id of that partition."""
    while True:
        run_id = new_run_id()
        if run_keys(run_id, 16).tag == f"{{orka:{partition}}}":
            return run_id


async def execute(bench: FleetBench, run_id: RunId, *, submitted: bool) -> RunResult:
    program = bench.services.build(load(GRAPH))
    if submitted:
        await submit_run(bench.services, program, "input", run_id, "default")
        return await await_run(bench.services, run_id)
    return await start_run(bench.services, program, "input", run_id, RunOptions(distributed=True))


async def check(bench: FleetBench, result: RunResult) -> None:
    """The right answer, every branch and every visit committed once."""
    assert (result.status, result.output) == (RunStatus.COMPLETED, ANSWER), result.error
    entries = await entries_of(bench.client, result.run_id)
    for kind in ("branch.finished", "node.finished"):
        counts = Counter(path for entry, path, _ in entries if entry == kind)
        assert set(counts.values()) == {1}, counts
    assert [kind for kind, _, _ in entries][-1] == "run.completed"


@pytest.mark.parametrize("submitted", [False, True])
async def test_runs_of_a_fleet_go_on_while_their_slots_move(
    submitted: bool, servers: Servers, with_url: Callable[[str], Settings]
) -> None:
    nodes = await start_cluster(servers)
    settings = with_url(cluster_url(nodes))
    async with open_cluster(nodes) as cluster, open_fleet(settings, 4, 4, lease=3.0) as bench:
        results: list[RunResult] = []
        moving = True

        async def keep_running(partition: int) -> None:
            while moving:
                async with asyncio.timeout(30):
                    results.append(await execute(bench, run_in(partition), submitted=submitted))

        async with asyncio.TaskGroup() as group:
            for partition in range(MOVED + 2):  # two of them stay where they are
                group.create_task(keep_running(partition))
            await until(lambda: len(results) >= MOVED + 2, 20)
            for partition in range(MOVED):
                before = await cluster.owner(slot_of(partition))
                await cluster.move(slot_of(partition), 0.4)
                assert await cluster.owner(slot_of(partition)) != before
            moving = False
        for result in results:
            await check(bench, result)
        # The readers have followed: whoever waits is reached where the keys are now.
        async with asyncio.timeout(20):
            for partition in range(MOVED):
                await check(bench, await execute(bench, run_in(partition), submitted=submitted))


async def test_a_script_writes_all_or_nothing_while_its_slot_moves(
    servers: Servers, with_url: Callable[[str], Settings]
) -> None:
    """It names one key and comes to another one, an inbox that is not there: without precaution it would fail in between."""
    nodes = await start_cluster(servers)
    run_id = run_in(0)
    keys = run_keys(run_id, 16)
    async with open_cluster(nodes) as cluster, open_redis(with_url(cluster_url(nodes))) as redis:
        pipe = Pipe(await redis.open_router())
        command = (keys.run, cancel_run(keys, run_id, "me"))
        await redis.client.hset(keys.run, mapping={"status": "running", "process": "owner"})
        source = await cluster.owner(slot_of(0))
        async with cluster.moving(slot_of(0)) as carry:
            [reply] = await pipe.roundtrip([command])
            assert is_moving(reply), reply
            assert await cluster.ask(source, "HGET", keys.run, "cancel") is None
            await carry(10)
            [reply] = await pipe.roundtrip([command])
            assert is_moving(reply), reply
        [reply] = await pipe.roundtrip([command])
        assert reply[:2] == [b"ok", b"running"]
        assert await redis.client.hexists(keys.run, "cancel")
        assert await redis.client.xlen(f"{keys.tag}:inbox:owner") == 1
        await pipe.aclose()


async def test_single_commands_follow_their_key_while_its_slot_moves_and_afterwards(
    servers: Servers, with_url: Callable[[str], Settings]
) -> None:
    nodes = await start_cluster(servers)
    tag = "{orka:0}"
    async with open_cluster(nodes) as cluster, open_redis(with_url(cluster_url(nodes))) as redis:
        pipe = Pipe(await redis.open_router())

        async def ask(*commands: Command) -> list[Any]:
            return await pipe.roundtrip([(str(command[1]), command) for command in commands])

        assert await ask(("SET", f"{tag}:a", "1")) == [b"OK"]
        async with cluster.moving(slot_of(0)) as carry:
            assert await ask(("GET", f"{tag}:a"), ("GET", f"{tag}:b"), ("SET", f"{tag}:c", "3")) == [b"1", None, b"OK"]
            assert await carry(10) == 1
            assert await ask(("GET", f"{tag}:c"), ("INCR", f"{tag}:a"), ("SET", "{orka:1}:d", "4")) == [b"3", 2, b"OK"]
        assert await ask(("GET", f"{tag}:a"), ("GET", f"{tag}:c")) == [b"2", b"3"]
        await pipe.aclose()
