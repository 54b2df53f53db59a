"""Workers that are asleep while they wait for tasks: the server hands them one all the same. Nobody is held up for longer than a
lease, and who wakes with a task that is another's by then does nothing with it."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import until
from support.asked import Asked
from support.chaos import check_keys
from support.chaos_agents import GRAPH, executions
from support.crew import becomes
from support.journals import client_of, entries_of, keys_of
from support.processes import Process, Processes, open_processes, serves
from support.running import graph

from orka.ids import new_run_id
from orka.orchestrator import Orchestrator
from orka.settings import Settings
from orka.types import RunStatus

AGENTS = "--allow-functions=support.chaos_agents"
STEP = 'type: function, function: "support.chaos_agents:step"'
RUN = f"orchestrator: {{id: whole, agents: [only]}}\nagents: [{{id: only, {STEP}}}]"
BRANCH = f"""
    orchestrator: {{id: forked, distributed: true, agents: [spread, gather]}}
    agents:
      - {{id: spread, type: fork, targets: [[only]]}}
      - {{id: only, {STEP}}}
      - {{id: gather, type: join, group: spread}}
"""


@pytest.fixture
def crew(maker: Asked, tmp_path: Path, fleet_settings: Settings) -> Iterator[Processes]:
    with open_processes(maker, tmp_path / "crew", fleet_settings, GRAPH) as started:
        yield started


async def held_by(client: Any, run_id: str) -> list[str]:
    """Who has tasks of the run's partition."""
    found: list[str] = []
    for key in await client.keys(f"{keys_of(run_id).tag}:tasks:*"):
        pending = await client.xpending_range(key, "workers", "-", "+", 10)
        found += [row["consumer"].decode() for row in pending]
    return found


async def asleep(crew: Processes, client: Any) -> Process:
    """A worker that was stopped while it waited for tasks."""
    worker = crew.worker(AGENTS)
    await until(lambda: serves(worker))

    async def waits() -> bool:
        return (await client.info("clients"))["blocked_clients"] > 0

    await becomes(waits)
    worker.send(signal.SIGSTOP)
    return worker


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("woken", ["while it is executed", "afterwards"])
async def test_a_task_given_to_a_sleeper_is_executed_once_by_another_within_a_lease(
    whole: bool, woken: str, crew: Processes, fleet_settings: Settings, tmp_path: Path
) -> None:
    file, run_id = tmp_path / "effects", new_run_id()
    path = "only" if whole else "spread.0/only"
    given = {"file": str(file), "slowness": 25}
    async with (
        Orchestrator(graph(RUN if whole else BRANCH), settings=fleet_settings, allow_functions=True) as orchestrator,
        client_of(fleet_settings) as client,
    ):
        sleeper = await asleep(crew, client)
        if whole:
            handle = await orchestrator.submit(given, run_id=run_id)
            running = asyncio.create_task(handle.finished())
        else:
            running = asyncio.create_task(orchestrator.execute(given, run_id=run_id))

        async def is_held() -> bool:
            return [f"-{sleeper.pid}-" in name for name in await held_by(client, run_id)] == [True]

        await becomes(is_held)
        other = crew.worker(AGENTS)
        await until(lambda: executions(file)[path] == 1, 3 * fleet_settings.lease + 2)
        [info] = (await orchestrator.runs.diagnose(run_id)).branches
        assert (info.deaths, f"-{other.pid}-" in info.worker) == (0, True)
        if woken == "afterwards":
            assert (await asyncio.wait_for(running, 10)).status is RunStatus.COMPLETED
        sleeper.send(signal.SIGCONT)
        assert (await asyncio.wait_for(running, 10)).status is RunStatus.COMPLETED
        entries = await entries_of(client, run_id)
        assert [where for kind, where, _ in entries if kind == "node.finished"].count(path) == 1
        for worker in (sleeper, other):  # which ends what it has, if it had begun anything
            worker.send(signal.SIGTERM)
        await until(lambda: sleeper.gone and other.gone)
        assert executions(file) == {path: 1}
        assert await entries_of(client, run_id) == entries
        assert await check_keys(client) == []
