"""Limits with real `orka worker` processes: together they do no more than the file says, and the dead hold nothing up."""

import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from servers import wait_until

FLOW = """
orchestrator:
  id: crowd
  agents: [every]
  distributed: true
  limits:
    model: {max_concurrency: 3}
  queues:
    default: {max_concurrency: 8}
agents:
  - {id: every, type: map, items: "range(24) | list", agents: [call, paced]}
  - {id: call, type: function, function: "probe:stay", resource: model}
  - {id: paced, type: function, function: "probe:pass_by", rate_limit: 20/s}
"""
PROBE = """
import asyncio, os, time

def note(*words):
    file = os.open("notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, (" ".join(map(str, words)) + "\\n").encode())
    os.close(file)

async def stay(task):
    note("in", time.time(), os.getpid())
    await asyncio.sleep(0.05)
    note("out", time.time(), os.getpid())
    return "stayed"

async def pass_by(task):
    note("turn", time.time(), os.getpid())
    return "passed"

async def hang(task):
    note("in", time.time(), os.getpid())
    while os.path.exists("hang"):
        await asyncio.sleep(0.02)
    note("out", time.time(), os.getpid())
    return "done"
"""


def notes(folder: Path) -> list[tuple[str, float, int]]:
    lines = (folder / "notes").read_text().split("\n")[:-1] if (folder / "notes").exists() else []
    return [(kind, float(at), int(pid)) for kind, at, pid in map(str.split, lines)]


def start_worker(orka: Any) -> "subprocess.Popen[str]":
    worker = orka.start("worker", "--concurrency", "10", "--allow-functions=probe")
    assert worker.stderr is not None
    assert "serves default" in worker.stderr.readline()
    return worker


def test_two_workers_respect_one_limit_together(orka: Any, write: Callable[[str, str], str], tmp_path: Path) -> None:
    write("probe.py", PROBE)
    workers = [start_worker(orka), start_worker(orka)]
    done = orka("run", write("crowd.yml", FLOW), "x")
    assert (done.returncode, done.stderr) == (0, "")
    seen = notes(tmp_path)
    inside = most = 0
    for kind, _, _ in seen:
        inside += {"in": 1, "out": -1}.get(kind, 0)
        most = max(most, inside)
    assert (most, inside) == (3, 0)
    turns = sorted(at for kind, at, _ in seen if kind == "turn")
    assert len(turns) == 24
    assert 23 * 0.05 * 0.95 < turns[-1] - turns[0] < 23 * 0.05 * 1.3
    assert min(later - earlier for earlier, later in pairwise(turns)) > 0.02
    assert {pid for _, _, pid in seen} == {worker.pid for worker in workers}
    for worker in workers:
        worker.terminate()
        assert worker.wait(timeout=10) == 0


def test_the_places_of_a_killed_worker_go_to_the_others(
    orka: Any, write: Callable[[str, str], str], tmp_path: Path
) -> None:
    write("probe.py", PROBE)
    (tmp_path / "hang").touch()
    orka.environment["ORKA_LEASE"] = "1"
    first = start_worker(orka)
    text = FLOW.replace("range(24)", "range(4)").replace("probe:stay", "probe:hang").replace("[call, paced]", "[call]")
    run = orka.start("run", write("hang.yml", text), "x")
    wait_until(lambda: len(notes(tmp_path)) == 3)
    second = start_worker(orka)
    first.kill()
    wait_until(lambda: {pid for _, _, pid in notes(tmp_path)} == {first.pid, second.pid})
    (tmp_path / "hang").unlink()
    assert run.wait(timeout=20) == 0
    assert sum(kind == "out" for kind, _, _ in notes(tmp_path)) == 4
