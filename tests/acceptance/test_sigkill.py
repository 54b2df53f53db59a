"""Processes that run a graph are killed at any moment, and their runs are finished by others: no commit is lost, none is
doubled, and nothing that has finished is executed again."""

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import wait_until
from support.effects import ANSWER, EFFECTS, executions
from support.journals import client_of, field_of
from support.killing import TESTS, Nursery, Run, is_gone, send

from orka.orchestrator import Orchestrator
from orka.settings import Settings
from orka.types import RunStatus


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory, redis_settings: Settings) -> Iterator[Nursery]:
    started = Nursery(tmp_path_factory.mktemp("nursery"), redis_settings)
    yield started
    started.close()


def kill_at_random(nursery: Nursery, runs: list[Run], chance: random.Random, longest: float) -> list[Run]:
    """Starts a process for each run and kills each at a moment of its own; those that were killed under way."""
    began = time.monotonic()
    plan = [(chance.uniform(0.0, longest), nursery.start(run), run) for run in runs]
    killed: list[Run] = []
    for moment, pid, run in sorted(plan, key=lambda item: item[0]):
        time.sleep(max(0.0, began + moment - time.monotonic()))
        if send(pid, signal.SIGKILL):
            killed.append(run)
        wait_until(lambda pid=pid: is_gone(pid))
    return killed


async def finish_all(nursery: Nursery, settings: Settings, runs: list[Run]) -> None:
    async with (
        Orchestrator(nursery.graph, settings=settings, allow_functions={"support.effects"}) as orchestrator,
        client_of(settings) as client,
    ):
        results = await asyncio.gather(*(orchestrator.finish(run.run_id) for run in runs))
        for run, result in zip(runs, results, strict=True):
            assert (result.status, result.output) == (RunStatus.COMPLETED, ANSWER)
            await check_end(client, run)


async def check_end(client: Any, run: Run) -> None:
    await run.observe(client)
    commits = [path for kind, path, _ in run.entries if kind == "node.finished"]
    assert sorted(commits) == sorted(set(commits))
    assert set(run.executed) == EFFECTS
    assert set(commits) > EFFECTS
    kinds = [kind for kind, _, _ in run.entries]
    assert kinds[0] == "run.started"
    assert [kind for kind in kinds if kind == "run.completed"] == kinds[-1:]
    assert await field_of(client, run.run_id, "seq") == str(len(run.entries))


@pytest.mark.parametrize("wanted", [24, pytest.param(400, marks=pytest.mark.chaos)])
async def test_killed_processes_lose_no_commit_double_none_and_repeat_nothing_that_finished(
    wanted: int, nursery: Nursery, redis_settings: Settings, tmp_path: Path
) -> None:
    """Every second run is killed once more while it is resumed."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    # How long an undisturbed run takes here, from its start to its end.
    whole = Run(tmp_path / "undisturbed")
    began = time.monotonic()
    pid = nursery.start(whole)
    await asyncio.to_thread(wait_until, lambda: is_gone(pid))
    longest = time.monotonic() - began
    async with client_of(redis_settings) as client:
        await check_end(client, whole)
        assert set(whole.executed.values()) == {1}
        kills = 0
        for batch in range(1000):
            if kills >= wanted:
                break
            runs = [Run(tmp_path / f"{batch}-{number}") for number in range(6)]
            left = await asyncio.to_thread(kill_at_random, nursery, runs, chance, longest * 2)
            await note(client, left)
            left = [run for run in left if run.entries]  # those that had begun
            kills += len(left)
            again = left[::2]
            for run in await asyncio.to_thread(kill_at_random, nursery, again, chance, longest):
                await note(client, [run])
                kills += 1
            left = [run for run in runs if run.kills and await field_of(client, run.run_id, "status") == "running"]
            await finish_all(nursery, redis_settings, left)
    assert kills >= wanted


async def note(client: Any, runs: list[Run]) -> None:
    for run in runs:
        if await field_of(client, run.run_id, "seq") is not None:
            run.kills += 1
            await run.observe(client)


async def test_the_command_line_finishes_a_run_whose_process_was_killed(
    nursery: Nursery, redis_settings: Settings, tmp_path: Path, orka: Any
) -> None:
    """At once: the owner's lease lasts for seconds, but its process is gone from this machine."""
    run = Run(tmp_path / "effects")
    async with client_of(redis_settings) as client:
        pid = nursery.start(run)
        await asyncio.to_thread(wait_until, lambda: "spread.1/right" in executions(run.file))
        send(pid, signal.SIGKILL)
        wait_until(lambda: is_gone(pid))
        await note(client, [run])
        assert int(await field_of(client, run.run_id, "lease_until") or 0) / 1000 > time.time() + 5
        done = await asyncio.to_thread(
            orka, "resume", run.run_id, "--allow-functions=support.effects", PYTHONPATH=str(TESTS)
        )
        assert (done.returncode, done.stdout) == (0, ANSWER + "\n"), done.stderr
        await check_end(client, run)
