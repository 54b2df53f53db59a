"""Processes that are stopped and woken: while one sleeps its run may be finished elsewhere; then it writes nothing more."""

import asyncio
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import until, wait_until
from support.effects import ANSWER, EFFECTS, executions
from support.journals import client_of, entries_of, keys_of
from support.killing import Nursery, Run, is_gone, send

from orka.orchestrator import Orchestrator
from orka.runs import RunInfo, open_runs
from orka.settings import Settings
from orka.types import RunStatus

GRAPH = """
orchestrator: {id: leased, agents: [first, gate, last]}
agents:
  - {id: first, type: function, function: "steps:count"}
  - {id: gate, type: function, function: "steps:patient"}
  - {id: last, type: template, prompt: "{{ previous_outputs.first.response }} then {{ previous_outputs.gate.response }}"}
"""
STEPS = """
import asyncio, pathlib

def count(task):
    with open("counted", "a") as file:
        file.write("x")
    return "one"

async def patient(task):
    pathlib.Path("waiting").touch()
    while not pathlib.Path("open").exists():
        await asyncio.sleep(0.01)
    return "two"
"""


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory, redis_settings: Settings) -> Iterator[Nursery]:
    started = Nursery(tmp_path_factory.mktemp("nursery"), redis_settings)
    yield started
    started.close()


async def the_run(settings: Settings) -> RunInfo:
    async with open_runs(settings) as runs:
        return (await runs.list(status=RunStatus.RUNNING))[0]


async def lease_ends(settings: Settings) -> None:
    async with asyncio.timeout(5):
        while not (await the_run(settings)).stale:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def stream_of(settings: Settings, run_id: str) -> Any:
    async with client_of(settings) as client:
        return await client.xrange(keys_of(run_id).journal)


async def started(orka: Any, write: Callable[[str, str], str], lease: str) -> "subprocess.Popen[str]":
    """A process that runs the graph and waits at its gate."""
    write("steps.py", STEPS)
    orka.environment["ORKA_LEASE"] = lease
    process = orka.start("run", write("leased.yml", GRAPH), "x", "--allow-functions")
    await asyncio.to_thread(wait_until, lambda: (orka.folder / "waiting").exists() or process.poll() is not None, 20)
    assert process.poll() is None, process.communicate()
    return process


async def test_a_process_stopped_past_its_lease_and_woken_writes_nothing_more(
    orka: Any, write: Callable[[str, str], str], redis_settings: Settings
) -> None:
    process = await started(orka, write, "0.5")
    info = await the_run(redis_settings)
    assert info.lease_left_ms > 0
    process.send_signal(signal.SIGSTOP)
    await lease_ends(redis_settings)
    (orka.folder / "open").touch()
    done = await asyncio.to_thread(orka, "resume", info.run_id, "--allow-functions")
    assert (done.returncode, done.stdout) == (0, "one then two\n"), done.stderr
    assert (orka.folder / "counted").read_text() == "x"
    before = await stream_of(redis_settings, info.run_id)
    process.send_signal(signal.SIGCONT)
    out, err = await asyncio.to_thread(process.communicate, timeout=10)
    assert (process.returncode, out) == (4, "")
    assert "was taken over by another process; nothing more is written here" in err
    assert "Traceback" not in err
    assert await stream_of(redis_settings, info.run_id) == before


async def test_a_run_under_way_is_refused_with_its_holder_unless_it_is_taken_over(
    orka: Any, write: Callable[[str, str], str], redis_settings: Settings
) -> None:
    process = await started(orka, write, "20")
    run_id = (await the_run(redis_settings)).run_id
    refused = await asyncio.to_thread(orka, "resume", run_id, "--allow-functions")
    assert (refused.returncode, refused.stdout) == (4, "")
    assert f"is being executed by pid {process.pid} on " in refused.stderr
    assert "--take-over" in refused.stderr
    process.send_signal(signal.SIGSTOP)
    (orka.folder / "open").touch()
    done = await asyncio.to_thread(orka, "resume", run_id, "--take-over", "--allow-functions")
    assert (done.returncode, done.stdout) == (0, "one then two\n"), done.stderr
    process.send_signal(signal.SIGCONT)
    assert await asyncio.to_thread(process.wait, 10) == 4


@pytest.mark.parametrize("count", [8, pytest.param(150, marks=pytest.mark.chaos)])
async def test_processes_stopped_at_any_moment_write_nothing_once_their_runs_were_taken_over(
    count: int,
    nursery: Nursery,
    redis_settings: Settings,
    tmp_path: Path,
) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    orchestrator = Orchestrator(nursery.graph, settings=redis_settings, allow_functions={"support.effects"})
    async with orchestrator, client_of(redis_settings) as client:
        for number in range(count):
            run = Run(tmp_path / str(number))
            pid = nursery.start(run)
            # From the run's first effect on, to its end and a little beyond.
            await asyncio.to_thread(wait_until, lambda run=run: executions(run.file))
            await asyncio.sleep(chance.uniform(0, 0.25))
            send(pid, signal.SIGSTOP)
            if (await orchestrator.runs.info(run.run_id)).status.ended:
                send(pid, signal.SIGCONT)
                continue
            result = await orchestrator.finish(run.run_id, take_over=True)
            assert result.output == ANSWER
            before = await entries_of(client, run.run_id)
            executed = executions(run.file)
            send(pid, signal.SIGCONT)
            await asyncio.to_thread(wait_until, lambda pid=pid: is_gone(pid))
            assert await entries_of(client, run.run_id) == before
            assert set(executed) == EFFECTS
            assert max(executed.values()) <= 2
            # Woken, it begins nothing: what may appear now is an agent whose entry was stored before it was replaced.
            own = before[: [kind for kind, _, _ in before].index("run.resumed")]
            began = {path for kind, path, _ in own if kind == "node.started"}
            assert set(executions(run.file) - executed) <= began
            commits = [path for kind, path, _ in before if kind == "node.finished"]
            assert sorted(commits) == sorted(set(commits))


async def test_a_stopped_process_keeps_its_run_if_nobody_took_it(
    orka: Any, write: Callable[[str, str], str], redis_settings: Settings
) -> None:
    """An expired lease is no loss by itself: the epoch is what counts."""
    process = await started(orka, write, "0.3")
    process.send_signal(signal.SIGSTOP)
    await lease_ends(redis_settings)
    (orka.folder / "open").touch()
    process.send_signal(signal.SIGCONT)
    out, err = await asyncio.to_thread(process.communicate, timeout=10)
    assert (process.returncode, out) == (0, "one then two\n"), err


async def test_cancelling_a_run_whose_process_is_killed_meanwhile_does_not_wait_for_its_lease(
    orka: Any, write: Callable[[str, str], str], redis_settings: Settings
) -> None:
    process = await started(orka, write, "30")
    run_id = (await the_run(redis_settings)).run_id
    process.send_signal(signal.SIGSTOP)  # it hears of nothing
    async with Orchestrator(orka.folder / "leased.yml", settings=redis_settings, allow_functions=True) as orchestrator:
        cancelling = asyncio.create_task(orchestrator.cancel(run_id))
        await until(lambda: orchestrator.statistics().inbox.waiting == 1)
        done, _ = await asyncio.wait([cancelling], timeout=0.3)
        assert not done
        process.kill()
        assert await asyncio.wait_for(cancelling, 3) is RunStatus.CANCELLED
