"""What `orka doctor` reads of runs that do not move, and what it says of them."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from servers import until
from support.crew import becomes, working
from support.journals import Gate, keys_of, registry_of
from support.running import opened

from orka.dispatch.findings import BranchState, Diagnosis, find_reasons
from orka.errors import RunNotFound
from orka.ids import new_run_id
from orka.redis.client import RedisHandle
from orka.runs import open_runs
from orka.settings import Settings
from orka.types import RunId

GRAPH = """
orchestrator: {id: sick, distributed: true, agents: [first, spread, join]}
agents:
  - {id: first, type: template, prompt: "one"}
  - {id: spread, type: fork, targets: [[gate], [faraway]]}
  - {id: gate, type: gate}
  - {id: faraway, type: template, prompt: "far", runs_on: gpu}
  - {id: join, type: join, group: spread}
"""


async def diagnosis(settings: Settings, run_id: str) -> Diagnosis:
    async with open_runs(settings) as runs:
        return await runs.diagnose(RunId(run_id))


def states(facts: Diagnosis) -> dict[str, str]:
    return {branch.path: branch.state.value for branch in facts.branches}


def said(facts: Diagnosis) -> str:
    return "\n".join(f"{finding.what} -> {finding.remedy}" for finding in find_reasons(facts))


async def test_every_branch_is_found_where_it_is(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    gate, run_id = Gate(), new_run_id()
    async with (
        working(redis_settings, registry=gate.registry()),
        opened(redis_settings, GRAPH, registry=gate.registry()) as orchestrator,
    ):
        running = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await asyncio.wait_for(gate.reached.wait(), 5)
        facts = await orchestrator.runs.diagnose(run_id)
        assert states(facts) == {"spread.0": "running", "spread.1": "queued"}
        at_work, queued = facts.branches
        assert (at_work.worker, at_work.deliveries, at_work.deaths) == (facts.workers[0].worker, 1, 0)
        assert (queued.queue, queued.level, queued.worker) == ("gpu", 1, "")
        assert abs(facts.now_ms - queued.since_ms) < 5_000
        assert [(agent.path, agent.attempt) for agent in facts.agents] == [("spread.0/gate", 1)]
        assert (
            said(facts).splitlines()[0]
            == "nobody serves queue 'gpu': 1 task waits for a worker -> start `orka worker --queue gpu`"
        )
        assert "spread.0/gate is under way" in said(facts)
        async with working(redis_settings, "gpu"):
            gate.opened.set()
            await asyncio.wait_for(running, 5)
        facts = await orchestrator.runs.diagnose(run_id)
        assert (facts.branches, facts.agents, said(facts)) == (
            (),
            (),
            f"it is completed -> its answer: `orka resume {run_id}`",
        )


async def test_a_task_that_no_worker_can_execute_is_parked_with_the_reason(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    async with working(redis_settings), opened(redis_settings, GRAPH, registry=gate.registry()) as orchestrator:
        handle = await orchestrator.submit("x")

        async def parked() -> bool:
            return states(await orchestrator.runs.diagnose(handle.run_id)) == {"": "parked"}

        await becomes(parked)
        facts = await orchestrator.runs.diagnose(handle.run_id)
        (task,) = facts.branches
        assert task.why == "this worker has no agent type 'gate': start it with --import MODULE"
        assert facts.now_ms - 100 < task.since_ms < facts.now_ms + 1_100  # when it is offered again
        assert task.why in said(facts)
        await handle.cancel()


async def test_a_branch_whose_parent_is_gone_is_done_and_one_that_the_server_forgot_is_lost(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    client = clean_redis.client
    graph = GRAPH.replace("type: gate", "type: template, prompt: here")
    run_id = new_run_id()
    async with opened(redis_settings, graph) as orchestrator:
        running = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await becomes(lambda: _count(client, keys_of(run_id).branches, 2))
    with pytest.raises(Exception, match="was closed"):
        await running
    async with working(redis_settings) as worker:
        await until(lambda: worker.consumer.statistics().done == 1)
    await client.delete(f"{keys_of(run_id).tag}:tasks:gpu:1")
    await client.hset(keys_of(run_id).run, "lease_until", 0)
    facts = await diagnosis(redis_settings, run_id)
    assert states(facts) == {"spread.0": "done", "spread.1": "lost"}
    assert facts.info.stale
    text = said(facts)
    assert f"nobody executes it: {facts.info.holder} is gone -> `orka resume {run_id}`" in text
    assert "the task of spread.1 is in no stream any more" in text


async def _count(client: Any, key: str, count: int) -> bool:
    return await client.hlen(key) == count


async def test_a_worker_that_vanished_is_named(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    gate, run_id = Gate(), new_run_id()
    client = clean_redis.client
    async with (
        working(redis_settings, registry=gate.registry()) as worker,
        opened(redis_settings, GRAPH, registry=gate.registry()) as orchestrator,
    ):
        running = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await asyncio.wait_for(gate.reached.wait(), 5)
        name = (await orchestrator.runs.workers())[0].worker
        long_ago = int(worker.facts()["seen_ms"]) - 60_000
        await client.hset(f"{{orka:0}}:worker:{name}", "seen_ms", long_ago)
        facts = await orchestrator.runs.diagnose(run_id)
        assert [facts.abandoned(branch) for branch in facts.branches] == [True, False]
        assert f"worker {name} has 1 task(s) of it and gives no sign of life" in said(facts)
        async with working(redis_settings, "gpu"):
            gate.opened.set()
            await running


async def test_a_run_that_is_to_be_cancelled_and_one_that_is_not_there(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    graph = "orchestrator: {id: q, agents: [a]}\nagents: [{id: a, type: echo}]"
    async with opened(redis_settings, graph) as orchestrator:
        handle = await orchestrator.submit("x", queue="nowhere")
        now = (await orchestrator.runs.diagnose(handle.run_id)).now_ms
        await clean_redis.client.hset(keys_of(handle.run_id).run, "cancel", now)
        facts = await orchestrator.runs.diagnose(handle.run_id)
        assert facts.cancel_ms == now
        assert states(facts) == {"": BranchState.QUEUED.value}
        assert "somebody wanted it cancelled" in said(facts)
        assert "nobody serves queue 'nowhere'" in said(facts)
        with pytest.raises(RunNotFound):
            await orchestrator.runs.diagnose(new_run_id())


async def test_a_thousand_waiting_branches_are_one_finding(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    graph = """
    orchestrator: {id: wide, distributed: true, agents: [each]}
    agents:
      - {id: each, type: map, items: "{{ range(1500) | list }}", agents: [one]}
      - {id: one, type: counted}
    """

    async def counted(task: Any) -> str:
        return "x"

    run_id = new_run_id()
    async with opened(replace(redis_settings, lease=30), graph, registry=registry_of(counted=counted)) as orchestrator:
        running = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await becomes(lambda: _count(clean_redis.client, keys_of(run_id).branches, 1000))
        facts = await orchestrator.runs.diagnose(run_id)
        assert len(facts.branches) == 1000
        assert "nobody serves queue 'default': 1000 tasks wait" in said(facts)
        await orchestrator.cancel(run_id)
        await running
