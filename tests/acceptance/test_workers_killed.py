"""Workers that are killed: what they had taken is finished by others without anybody's help, and nothing that finished is
executed again."""

import asyncio
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from servers import wait_until

from orka.ids import new_run_id
from orka.journal.events import RunEvent
from orka.orchestrator import Orchestrator
from orka.redis.client import RedisHandle
from orka.settings import Settings

SUBMITTED = """
orchestrator: {id: submitted, agents: [first, slow, last]}
agents:
  - {id: first, type: template, prompt: "one {{ input }}"}
  - {id: slow, type: echo, delay: 1.5, prompt: "{{ previous_outputs.first.response }} two"}
  - {id: last, type: template, prompt: "{{ previous_outputs.slow.response }} three"}
"""
FORKED = """
orchestrator: {id: forked, distributed: true, agents: [spread, gathered, last]}
agents:
  - {id: spread, type: fork, targets: [[first, slow]]}
  - {id: first, type: template, prompt: "one {{ input }}"}
  - {id: slow, type: echo, delay: 1.5, prompt: "{{ previous_outputs.first.response }} two"}
  - {id: gathered, type: join, group: spread}
  - {id: last, type: template, prompt: "{{ previous_outputs.gathered.slow.response }} three"}
"""


def start_worker(orka: Any, *arguments: str) -> Any:
    process = orka.start("worker", *arguments)
    line = process.stderr.readline()
    assert re.match(r"worker \S+ serves default ", line), line
    return process


@pytest.fixture
def settings(redis_settings: Settings, clean_redis: RedisHandle) -> Settings:
    return replace(redis_settings, lease=2.0)


@pytest.fixture
def crew(orka: Any) -> Any:
    """Starts workers with a lease of 2 s."""
    orka.environment["ORKA_LEASE"] = "2"
    return orka


def finished(events: list[RunEvent]) -> list[str]:
    return [str(event.path) for event in events if event.kind == "node.finished"]


async def test_a_submitted_run_whose_worker_was_killed_is_finished_by_another_worker(
    crew: Any, settings: Settings, write: Callable[[str, str], str], tmp_path: Path
) -> None:
    file = tmp_path / write("submitted.yml", SUBMITTED)
    victim = start_worker(crew)
    async with Orchestrator(file, settings=settings) as orchestrator:
        handle = await orchestrator.submit("zero")
        async for event in handle.events():
            if event.path == "first":
                break
        victim.send_signal(signal.SIGKILL)
        start_worker(crew)
        async with asyncio.timeout(20):
            assert await handle.result() == "one zero two three"
        events = [event async for event in handle.events()]
    assert finished(events) == ["first", "slow", "last"]
    assert [event.kind for event in events].count("run.resumed") == 1


async def test_a_branch_whose_worker_was_killed_is_finished_by_another_worker(
    crew: Any, settings: Settings, write: Callable[[str, str], str], tmp_path: Path
) -> None:
    file = tmp_path / write("forked.yml", FORKED)
    victim = start_worker(crew)
    run_id, started = new_run_id(), asyncio.Event()
    async with Orchestrator(file, settings=settings) as orchestrator, asyncio.TaskGroup() as group:
        run = group.create_task(orchestrator.execute("zero", run_id=run_id, on_event=lambda _: started.set()))
        await started.wait()
        async for event in orchestrator.events(run_id):
            if event.path == "spread.0/first":
                break
        victim.send_signal(signal.SIGKILL)
        start_worker(crew)
        async with asyncio.timeout(20):
            result = await run
        events = [event async for event in orchestrator.events(result.run_id)]
    assert result.output == "one zero two three"
    assert sorted(path for path in finished(events) if "/" in path) == ["spread.0/first", "spread.0/slow"]


async def test_a_worker_told_to_stop_finishes_what_it_has_and_exits_with_0(
    crew: Any, settings: Settings, write: Callable[[str, str], str], tmp_path: Path
) -> None:
    file = tmp_path / write("submitted.yml", SUBMITTED)
    health = tmp_path / "health.json"
    worker = start_worker(crew, "--health", str(health))
    async with Orchestrator(file, settings=settings) as orchestrator:
        handle = await orchestrator.submit("zero")
        async for event in handle.events():
            if event.path == "first":
                break
        worker.send_signal(signal.SIGTERM)
        assert await handle.result() == "one zero two three"
        kinds = [event.kind async for event in handle.events()]
    assert worker.wait(timeout=10) == 0
    assert "run.resumed" not in kinds
    wait_until(health.exists)
