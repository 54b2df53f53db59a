"""What a fleet promises, one thing at a time, with real workers: poisoned tasks, memory, agents that never end, sleep,
SIGTERM, depth, missing agent types."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from servers import until
from support.asked import Asked
from support.chaos import check_keys, pending
from support.chaos_agents import GRAPH, executions
from support.journals import client_of, entries_of, keys_of
from support.processes import Process, Processes, open_processes, serves
from support.running import graph

from orka.errors import AgentError, RunTimeout
from orka.orchestrator import Orchestrator
from orka.redis.keys import dead_key
from orka.settings import Settings

AGENTS = "--allow-functions=support.chaos_agents"
STEP = 'type: function, function: "support.chaos_agents:{}"'


@pytest.fixture
def crew(maker: Asked, tmp_path: Path, fleet_settings: Settings) -> Iterator[Processes]:
    with open_processes(maker, tmp_path / "crew", fleet_settings, GRAPH) as started:
        yield started


@asynccontextmanager
async def supervised(crew: Processes, *arguments: str) -> AsyncIterator[list[Process]]:
    """One worker at any time: the next one is started when it dies. Gives all of them."""
    workers = [crew.worker(*arguments)]

    async def watch() -> None:
        while True:
            await until(lambda: workers[-1].gone, 60, 0.02)
            workers.append(crew.worker(*arguments))

    task = asyncio.create_task(watch())
    try:
        yield workers
    finally:
        task.cancel()
        await asyncio.wait({task})


async def serving(worker: Process) -> Process:
    await until(lambda: serves(worker))
    return worker


async def leave(*workers: Process, seconds: float = 10.0) -> None:
    """SIGTERM; each ends with exit code 0."""
    for worker in workers:
        worker.send(signal.SIGTERM)
    await until(lambda: all(worker.gone for worker in workers), seconds)
    assert [worker.said.rstrip().splitlines()[-1] for worker in workers] == ["exit 0"] * len(workers)


def opened(settings: Settings, text: str) -> Orchestrator:
    return Orchestrator(graph(text), settings=settings, allow_functions=True)


POISONED = f"""
    orchestrator: {{id: poisoned, agents: [spread, gather, tell]}}
    agents:
      - {{id: spread, type: fork, targets: [[bad], [good], [better]]}}
      - {{id: bad, {STEP.format("die")}}}
      - {{id: good, {STEP.format("step")}}}
      - {{id: better, {STEP.format("step")}}}
      - {{id: gather, type: join, group: spread}}
      - {{id: tell, type: template, prompt: "{{{{ previous_outputs.gather.bad.error }}}}"}}
"""


async def test_a_task_that_kills_its_worker_again_and_again_is_given_up_and_its_neighbours_finish(
    crew: Processes, fleet_settings: Settings, tmp_path: Path
) -> None:
    """Two deaths beside others, and three alone. The run itself is executed by the same worker, and dies with it."""
    async with opened(fleet_settings, POISONED) as orchestrator, client_of(fleet_settings) as client:
        async with supervised(crew, AGENTS, "--concurrency", "4") as workers:
            files = [tmp_path / "one", tmp_path / "two"]
            handles = [await orchestrator.submit({"file": str(file)}) for file in files]
            async with asyncio.timeout(60):
                answers = await asyncio.gather(*(handle.result() for handle in handles))
        for handle, file, answer in zip(handles, files, answers, strict=True):
            assert answer.startswith("given up: ")
            done = executions(file)
            assert 3 <= done["spread.0/bad"] <= 5
            finished = [path for kind, path, _ in await entries_of(client, handle.run_id) if kind == "node.finished"]
            assert sorted(finished) == sorted(set(finished))
            assert {"spread.1/good", "spread.2/better", "tell"} <= set(finished)
            letters = await client.xrange(dead_key(keys_of(handle.run_id).tag))
            paths = [fields[b"path"] for _, fields in letters if fields[b"run"].decode() == handle.run_id]
            assert paths == [b"spread.0"]
        assert len(workers) <= 11
        await leave(workers[-1])


async def test_a_run_whose_own_step_kills_its_worker_is_given_up_and_fails(
    crew: Processes, fleet_settings: Settings, tmp_path: Path
) -> None:
    text = f"""
    orchestrator: {{id: poison, agents: [bad]}}
    agents: [{{id: bad, {STEP.format("die")}}}]
    """
    async with opened(fleet_settings, text) as orchestrator, client_of(fleet_settings) as client:
        async with supervised(crew, AGENTS) as workers:
            handle = await orchestrator.submit({"file": str(tmp_path / "effects")})
            async with asyncio.timeout(60):
                result = await handle.finished()
        assert result.status == "failed"
        assert result.error is not None
        assert result.error.kind == "WorkerDied"
        assert executions(tmp_path / "effects")["bad"] == 5
        letters = await client.xrange(dead_key(keys_of(handle.run_id).tag))
        assert [fields[b"path"] for _, fields in letters] == [b""]
        await leave(workers[-1])


async def test_a_worker_that_runs_out_of_memory_does_not_keep_its_run_from_ending(
    crew: Processes, fleet_settings: Settings, tmp_path: Path
) -> None:
    text = POISONED.replace("chaos_agents:die", "chaos_agents:hoard")
    async with opened(fleet_settings, text) as orchestrator:
        async with supervised(crew, AGENTS):
            handle = await orchestrator.submit({"file": str(tmp_path / "effects")})
            async with asyncio.timeout(60):
                answer = await handle.result()
        assert answer in {"MemoryError", ""} or answer.startswith("given up: ")


ENDLESS = f"""
    orchestrator: {{{{id: endless, agents: [spread, gather, tell]{{top}}}}}}
    agents:
      - {{{{id: spread, type: fork, targets: [[bad], [good]]}}}}
      - {{{{id: bad, {STEP}{{policy}}}}}}
      - {{{{id: good, {STEP.format("step")}}}}}
      - {{{{id: gather, type: join, group: spread}}}}
      - {{{{id: tell, type: template, prompt: "{{{{{{{{ previous_outputs.gather.failed | join }}}}}}}}"}}}}
"""


def endless(agent: str, *, top: str = "", policy: str = "") -> str:
    return ENDLESS.format(agent, top=top, policy=policy)


async def test_an_agent_that_never_returns_is_ended_by_its_timeout(
    crew: Processes, fleet_settings: Settings, tmp_path: Path
) -> None:
    worker = crew.worker(AGENTS)
    async with opened(fleet_settings, endless("forever", policy=", timeout: 0.5")) as orchestrator:
        handle = await orchestrator.submit({"file": str(tmp_path / "effects")})
        async with asyncio.timeout(20):
            assert await handle.result() == "bad"
    await leave(worker)


@pytest.mark.parametrize("distributed", [True, False])
async def test_a_run_with_an_agent_that_never_returns_ends_at_its_deadline(
    distributed: bool, crew: Processes, fleet_settings: Settings, tmp_path: Path
) -> None:
    """Executed by this process, its branches by a worker; or as a whole by a worker."""
    worker = await serving(crew.worker(AGENTS))
    async with opened(fleet_settings, endless("forever", top=", deadline: 1.5")) as orchestrator:
        given = {"file": str(tmp_path / "effects")}
        began = time.monotonic()
        async with asyncio.timeout(20):
            if distributed:
                result = await orchestrator.execute(given, distributed=True)
            else:
                result = await (await orchestrator.submit(given)).finished()
        assert 1.4 < time.monotonic() - began < 8
        assert result.status == "failed"
        assert result.error is not None
        assert result.error.kind == RunTimeout.__name__
        assert executions(tmp_path / "effects")["spread.0/bad"] == 1
    await leave(worker)
    async with client_of(fleet_settings) as client:
        assert await check_keys(client) == []


async def test_an_agent_that_ignores_its_cancellation_is_abandoned_and_counted_and_its_worker_can_leave(
    crew: Processes, fleet_settings: Settings, tmp_path: Path
) -> None:
    worker = crew.worker(AGENTS, "--grace", "1")
    async with (
        opened(fleet_settings, endless("stubborn", policy=", timeout: 0.3")) as orchestrator,
        client_of(fleet_settings) as client,
    ):
        handle = await orchestrator.submit({"file": str(tmp_path / "effects")})
        async with asyncio.timeout(20):
            assert await handle.result() == "bad"
        async with asyncio.timeout(5):
            while await abandoned(client) != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        before = await entries_of(client, handle.run_id)
        await leave(worker)
        assert await entries_of(client, handle.run_id) == before


async def abandoned(client: Any) -> int:
    """As the workers say."""
    keys = [key async for key in client.scan_iter("*:worker:*")]
    return sum([int(await client.hget(key, "abandoned") or 0) for key in keys])


SLOW = f"""
    orchestrator: {{id: slow, agents: [spread, gather, tell]}}
    agents:
      - {{id: spread, type: fork, targets: [[first, second]]}}
      - {{id: first, {STEP.format("step")}}}
      - {{id: second, {STEP.format("step")}}}
      - {{id: gather, type: join, group: spread}}
      - {{id: tell, type: template, prompt: "{{{{ previous_outputs.second.response }}}}"}}
"""


async def test_a_worker_that_wakes_after_its_lease_commits_nothing_more(
    crew: Processes, fleet_settings: Settings, tmp_path: Path
) -> None:
    """A branch and a whole run, each stopped in the middle of a step and woken when another worker has gone on."""
    file = tmp_path / "effects"
    sleeper = await serving(crew.worker(AGENTS, "--concurrency", "2"))
    async with opened(fleet_settings, SLOW) as orchestrator, client_of(fleet_settings) as client:
        handle = await orchestrator.submit({"file": str(file), "slowness": 40})
        await until(lambda: executions(file)["spread.0/first"] == 1)
        sleeper.send(signal.SIGSTOP)
        other = crew.worker(AGENTS, "--concurrency", "2")
        await until(lambda: executions(file)["spread.0/first"] == 2)
        sleeper.send(signal.SIGCONT)
        async with asyncio.timeout(20):
            assert await handle.result() == "second"
        entries = await entries_of(client, handle.run_id)
        done = [body["worker"] for kind, _, body in entries if kind == "branch.finished"]
        assert len(done) == 1
        assert f"-{other.pid}-" in done[0]
        finished = [path for kind, path, _ in entries if kind == "node.finished"]
        assert finished == ["spread.0/first", "spread.0/second", "gather", "tell"]
        assert executions(file) == {"spread.0/first": 2, "spread.0/second": 1}
        async with asyncio.timeout(5):  # the sweeper drops what the sleeper has handed back since
            while [key async for key in client.scan_iter("*:parked")]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await leave(sleeper, other)
        assert await entries_of(client, handle.run_id) == entries
        assert await check_keys(client) == []


@pytest.mark.parametrize("grace", [0.3, 20.0])
async def test_a_worker_told_to_stop_finishes_or_hands_back_and_no_death_is_counted(
    grace: float, crew: Processes, fleet_settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "effects"
    first = await serving(crew.worker(AGENTS, "--grace", str(grace)))
    async with opened(fleet_settings, SLOW) as orchestrator, client_of(fleet_settings) as client:
        handle = await orchestrator.submit({"file": str(file), "slowness": 30})
        await until(lambda: executions(file)["spread.0/first"] == 1)
        began = time.monotonic()
        if grace > 10:
            # What is under way ends, and whatever waits for branches of its own with it.
            await leave(first, seconds=grace)
            assert time.monotonic() - began < 10
            assert executions(file)["spread.0/first"] == 1
        else:
            await leave(first)
            assert time.monotonic() - began < 6
            records = await client.hgetall(keys_of(handle.run_id).branches)
            assert {path: raw.split(b"|")[3:5] for path, raw in records.items()} == {
                b"": [b"0", b"0"],
                b"spread.0": [b"0", b"0"],
            }
        assert [item async for item in pending(client)] == []
        second = await serving(crew.worker(AGENTS))
        async with asyncio.timeout(20):
            assert await handle.result() == "second"
        await leave(second)
        assert await check_keys(client) == []


async def test_one_worker_with_one_slot_finishes_forks_of_any_depth(
    crew: Processes, fleet_settings: Settings, tmp_path: Path
) -> None:
    worker = crew.worker(AGENTS, "--concurrency", "1")
    async with opened(fleet_settings, GRAPH) as orchestrator, client_of(fleet_settings) as client:
        handles = [
            await orchestrator.submit({"name": "you", "file": str(tmp_path / f"{number}"), "slowness": 0.1})
            for number in range(5)
        ]
        async with asyncio.timeout(40):
            answers = await asyncio.gather(*(handle.result() for handle in handles))
        assert [answer[:40] for answer in answers] == ["second(after(low(deep) lower deeper)) | "] * 5
        await leave(worker)
        assert await check_keys(client) == []


async def test_a_worker_without_an_agent_type_hands_the_task_back_and_another_one_executes_it(
    crew: Processes, fleet_settings: Settings, tmp_path: Path
) -> None:
    import support.spare_agents  # noqa: F401

    text = """
    orchestrator: {id: lacking, agents: [spread, gather]}
    agents:
      - {id: spread, type: fork, targets: [[one], [two]]}
      - {id: one, type: spare}
      - {id: two, type: echo, prompt: "two"}
      - {id: gather, type: join, group: spread}
    """
    without = await serving(crew.worker())
    async with opened(fleet_settings, text) as orchestrator, client_of(fleet_settings) as client:
        running = asyncio.create_task(orchestrator.execute("x", distributed=True))
        await until(lambda: "spare" in without.said)
        assert "no agent type" in without.said
        other = crew.worker("--import", "support.spare_agents")
        async with asyncio.timeout(20):
            result = await running
        assert result.status == "completed"
        said = {visit.path: visit.output for visit in result.results}
        assert said["spread.0/one"] == {"response": "spare for spread.0/one"}
        await leave(without, other)
        assert await check_keys(client) == []


async def test_failures_of_a_submitted_run_are_raised_by_its_handle(crew: Processes, fleet_settings: Settings) -> None:
    worker = crew.worker()
    text = "{orchestrator: {id: f, agents: [bad]}, agents: [{id: bad, type: failing, message: so it is}]}"
    async with opened(fleet_settings, text) as orchestrator:
        handle = await orchestrator.submit("x")
        with pytest.raises(AgentError, match="so it is"):
            await asyncio.wait_for(handle.result(), 20)
    await leave(worker)
