"""Redis loses the second in which a run has ended, and the process that knew it is gone, too."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from servers import until
from support.asked import Asked
from support.chaos_agents import executions
from support.journals import OwnServer, client_of, field_of
from support.processes import Processes, open_processes, serves

from orka.ids import new_run_id
from orka.orchestrator import Orchestrator
from orka.settings import Settings

STEP = 'type: function, function: "support.chaos_agents:step"'
GRAPH = f"""
orchestrator: {{id: lost, agents: [first, second]}}
agents:
  - {{id: first, {STEP}}}
  - {{id: second, {STEP}, prompt: "{{{{ previous_outputs.first.response }}}}"}}
"""
ALLOW = "--allow-functions=support.chaos_agents"


async def size_after(server: OwnServer, condition: Callable[[], bool]) -> int:
    await until(condition, 10)
    return server.written


async def test_a_submitted_run_whose_end_and_worker_are_lost_is_ended_by_another_worker(
    maker: Asked, fleet_server: OwnServer, fleet_settings: Settings, tmp_path: Path
) -> None:
    run_id, file = new_run_id(), tmp_path / "steps"
    with open_processes(maker, tmp_path / "fleet", fleet_settings, GRAPH) as fleet:
        victim = fleet.worker(ALLOW)
        await until(lambda: serves(victim), 10)
        async with Orchestrator(fleet.graph, settings=fleet_settings, allow_functions=True) as orchestrator:
            handle = await orchestrator.submit({"file": str(file), "slowness": 4}, run_id=run_id)
            size = await size_after(fleet_server, lambda: len(executions(file)) == 2)
            assert await asyncio.wait_for(handle.result(), 10) == "second(first)"
            victim.kill()
            await asyncio.to_thread(fleet_server.crash, size)
            async with client_of(fleet_settings) as client:
                assert await field_of(client, run_id, "status") == "running"
            await ended_by_another(fleet, fleet_settings, run_id)
            result = await orchestrator.finish(run_id, visits=True)
    assert (result.output, [visit.path for visit in result.results]) == ("second(first)", ["first", "second"])
    assert executions(file) == {"first": 1, "second": 2}


async def ended_by_another(fleet: Processes, settings: Settings, run_id: str) -> None:
    """Without anybody's help: its own worker is known to be dead, or its lease runs out."""
    other = fleet.worker(ALLOW)
    async with client_of(settings) as client, asyncio.timeout(20):
        while await field_of(client, run_id, "status") != "completed":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    other.send(signal.SIGTERM)
    await until(lambda: other.gone, 10)


async def test_a_local_run_whose_end_and_process_are_lost_is_stale_and_ended_by_resuming(
    fleet_server: OwnServer, fleet_settings: Settings, tmp_path: Path
) -> None:
    run_id, file = new_run_id(), tmp_path / "steps"
    graph = tmp_path / "graph.yml"
    graph.write_text(GRAPH)
    async with Orchestrator(graph, settings=fleet_settings, allow_functions=True) as orchestrator:
        run = asyncio.create_task(orchestrator.execute({"file": str(file), "slowness": 2}, run_id=run_id))
        size = await size_after(fleet_server, lambda: len(executions(file)) == 2)
        before = await run
    await asyncio.to_thread(fleet_server.crash, size)
    async with Orchestrator(graph, settings=fleet_settings, allow_functions=True) as orchestrator:
        async with asyncio.timeout(10):
            while not [info for info in await orchestrator.runs.list(stale=True) if info.run_id == run_id]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await orchestrator.resume(run_id) == before.output == "second(first)"
        again = await orchestrator.finish(run_id, visits=True)
    assert [visit.path for visit in again.results] == ["first", "second"]
