"""Workers, orchestrators and Redis are killed, stopped and restarted at random while runs go through them: every run ends
with the answer of an undisturbed one, no commit is lost, none is doubled, and nothing is left behind."""

import random
import time
from pathlib import Path

import pytest
from servers import until
from support.asked import Asked
from support.chaos import Driver, Plan, check_journals, check_keys, percentile, report, undisturbed_run
from support.chaos_agents import GRAPH
from support.journals import OwnServer, client_of
from support.processes import open_processes

from orka.orchestrator import Orchestrator
from orka.settings import Settings


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(Plan(runs=200), id="short"),
        pytest.param(Plan(runs=2000, pause=2.9), id="long", marks=pytest.mark.chaos),
    ],
)
async def test_whatever_is_killed_every_run_ends_right_and_no_commit_is_lost_or_doubled(
    plan: Plan, maker: Asked, fleet_server: OwnServer, fleet_settings: Settings, tmp_path: Path
) -> None:
    settings = fleet_settings
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    with open_processes(maker, tmp_path / "fleet", settings, GRAPH) as fleet:
        answer, needed = await undisturbed_run(fleet, settings, until)
        driver = Driver(fleet, fleet_server, settings, plan, seed)
        began = time.monotonic()
        await driver.drive()
        seconds = time.monotonic() - began
        await driver.dismiss()
        recoveries = await driver.recoveries()
        async with client_of(settings) as client:
            counts = await check_journals(client, driver.runs, needed)
            left = await check_keys(client)
        async with Orchestrator(fleet.graph, settings=settings, allow_functions=True) as orchestrator:
            for run in driver.runs:
                result = await orchestrator.finish(run.run_id)
                if (result.status, result.output) != ("completed", answer):
                    counts.wrong += 1
                    counts.faults.append(f"{run.run_id}: {result.status} with {result.output!r}")
    print(report(driver, counts, recoveries, seconds))
    assert counts.faults == []
    assert left == []
    assert percentile(recoveries, 0.99) < settings.lease + 5


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(Plan(runs=60, faults=("crash redis",), every=(2.0, 4.0)), id="short"),
        pytest.param(Plan(runs=500, faults=("crash redis",), every=(2.0, 4.0)), id="long", marks=pytest.mark.chaos),
    ],
)
async def test_runs_end_right_when_redis_is_killed_and_loses_its_last_second(
    plan: Plan, maker: Asked, fleet_server: OwnServer, fleet_settings: Settings, tmp_path: Path
) -> None:
    """SIGKILL, and up to a second of its append-only file is gone, as after a power failure under `everysec`. The workers
    live and put back what is missing: no entry is lost, none is doubled. A submission that it loses is made again by its
    submitter, who is told; a run whose end it loses is resumed if its process is gone: a step is repeated once for a crash
    at most."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    with open_processes(maker, tmp_path / "fleet", fleet_settings, GRAPH) as fleet:
        answer, needed = await undisturbed_run(fleet, fleet_settings, until)
        driver = Driver(fleet, fleet_server, fleet_settings, plan, seed)
        began = time.monotonic()
        await driver.drive()
        seconds = time.monotonic() - began
        await driver.dismiss()
        async with client_of(fleet_settings) as client:
            counts = await check_journals(client, driver.runs, needed, whole=False)
            left = await check_keys(client)
        async with Orchestrator(fleet.graph, settings=fleet_settings, allow_functions=True) as orchestrator:
            for run in driver.runs:
                result = await orchestrator.finish(run.run_id)
                if (result.status, result.output) != ("completed", answer):
                    counts.wrong += 1
                    print(f"{run.run_id} ({run.mode}): {result.status} with {result.output!r}, {result.error}")
    print(report(driver, counts, [], seconds))
    assert (counts.lost, counts.doubled) == (0, 0), counts.faults
    assert driver.faults["crash redis"] >= 3
    assert counts.wrong == 0
    assert left == []
    assert counts.most_executions <= 1 + driver.faults["crash redis"]
