"""Workers as processes, and the commands around them: submit, cancel, workers, doctor, dead."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import wait_until

Write = Callable[[str, str], str]

GRAPH = """
orchestrator: {id: NAME, agents: [first, gate, last]}
agents:
  - {id: first, type: function, function: "steps:count"}
  - {id: gate, type: function, function: "steps:patient"}
  - {id: last, type: template, prompt: "{{ previous_outputs.first.response }} then {{ previous_outputs.gate.response }}"}
"""
STEPS = '''
import asyncio, os, pathlib

def count(task):
    with open("counted", "a") as file:
        file.write("x")
    return "one"

async def patient(task):
    """Waits for the file `open`, and may be cancelled."""
    pathlib.Path("waiting").touch()
    while not pathlib.Path("open").exists():
        await asyncio.sleep(0.01)
    return "two"

def poison(task):
    """Takes its process down until there is a cure."""
    if not pathlib.Path("cure").exists():
        os._exit(9)
    return "cured"
'''
QUICK = "orchestrator: {id: quick, agents: [a]}\nagents: [{id: a, type: template, prompt: 'said {{ input }}'}]\n"


@pytest.fixture
def folder(orka: Any, write: Write) -> Path:
    """Where the processes work: functions for graphs, and a short lease."""
    orka.environment["ORKA_LEASE"] = "0.6"
    write("steps.py", STEPS)
    return orka.folder


def start_worker(orka: Any, queue: str, *options: str) -> "subprocess.Popen[str]":
    """Returns when it serves the queue."""
    worker = orka.start("worker", "--queue", queue, "--allow-functions", "--grace", "0.5", *options)
    line = worker.stderr.readline()
    assert f"serves {queue}" in line, line + worker.stderr.read()
    return worker


def status_of(here: Any, run_id: str) -> str:
    return json.loads(here("runs", "show", run_id, "--json").stdout)["status"]


def is_there(file: Path) -> Callable[[], bool]:
    return file.exists


def test_a_submitted_run_is_executed_by_a_worker_and_its_answer_is_waited_for(
    orka: Any, here: Any, write: Write, folder: Path
) -> None:
    file = write("quick.yml", QUICK)
    submitted = here("submit", file, "hello", "--queue", "fleet-submit")
    run_id = submitted.stdout.strip()
    assert (submitted.returncode, len(run_id)) == (0, 36)
    assert submitted.stderr == (
        "warning: nobody serves queue 'fleet-submit' now; start `orka worker --queue fleet-submit`\n"
    )
    assert status_of(here, run_id) == "queued"
    assert "queued" in here("runs", "list", "--status", "queued").stdout
    assert run_id not in here("runs", "list", "--stale").stdout

    start_worker(orka, "fleet-submit")
    wait_until(lambda: status_of(here, run_id) == "completed", 20)
    waited = here("submit", file, '{"a": 1}', "--json-input", "--queue", "fleet-submit", "--wait")
    assert (waited.returncode, waited.stdout) == (0, 'said {"a":1}\n')
    assert waited.stderr.startswith("submitted ")
    assert len(waited.stderr.splitlines()) == 1

    odd = write("odd.yml", QUICK.replace("prompt:", "promt: x, prompt:"))
    refused = here("submit", odd, "x", "--queue", "fleet-submit", "--strict")
    assert (refused.returncode, refused.stdout) == (2, "")

    failing = write(
        "bad.yml", "orchestrator: {id: bad, agents: [a]}\nagents: [{id: a, type: failing, message: full}]\n"
    )
    failed = here("submit", failing, "x", "--queue", "fleet-submit", "--wait")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "the run failed at a" in failed.stderr


def test_ctrl_c_ends_the_waiting_and_not_the_run(orka: Any, here: Any, write: Write, folder: Path) -> None:
    waiting = orka.start("submit", write("quick.yml", QUICK), "x", "--queue", "fleet-nobody", "--wait")
    run_id = waiting.stderr.readline().split()[1]
    assert "nobody serves" in waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(timeout=10) == 130
    assert f"the run goes on; see orka runs show {run_id}" in waiting.stderr.read()
    assert status_of(here, run_id) == "queued"
    assert here("cancel", run_id).returncode == 0


def test_a_run_whose_worker_was_killed_is_finished_by_another_without_an_operator(
    orka: Any, here: Any, write: Write, folder: Path
) -> None:
    first = start_worker(orka, "fleet-killed")
    run_id = here("submit", write("g.yml", GRAPH), "x", "--queue", "fleet-killed").stdout.strip()
    wait_until(is_there(folder / "waiting"), 20)
    first.kill()
    first.wait()
    (folder / "open").touch()
    start_worker(orka, "fleet-killed")
    wait_until(lambda: status_of(here, run_id) == "completed", 20)
    assert (folder / "counted").read_text() == "x"
    assert here("resume", run_id).stdout == "one then two\n"


def test_cancel_ends_a_run_in_its_worker_and_whoever_waits_for_it_leaves_with_6(
    orka: Any, here: Any, write: Write, folder: Path
) -> None:
    worker = start_worker(orka, "fleet-cancel")
    file = write("cancelled.yml", GRAPH)
    waiting = orka.start("submit", file, "x", "--queue", "fleet-cancel", "--wait")
    run_id = waiting.stderr.readline().split()[1]
    wait_until(is_there(folder / "waiting"), 20)
    done = here("cancel", run_id[:23])
    assert (done.returncode, done.stdout) == (0, f"run {run_id} is cancelled\n")
    assert done.stderr == f"resume it with: orka resume {run_id}\n"
    out, err = waiting.communicate(timeout=10)
    assert (waiting.returncode, out) == (6, "")
    assert "error: the run was cancelled: somebody else cancelled it (`orka cancel`)" in err
    shown = json.loads(here("runs", "show", run_id, "--json").stdout)
    assert (shown["status"], [visit["status"] for visit in shown["visits"]]) == ("cancelled", ["success", "started"])

    assert worker.poll() is None
    (folder / "open").touch()
    assert orka("resume", run_id, "--allow-functions").stdout == "one then two\n"
    assert (folder / "counted").read_text() == "x"
    again = here("cancel", run_id)
    assert (again.returncode, again.stdout) == (1, "")
    assert "is completed already; there is nothing to cancel" in again.stderr


def test_cancel_ends_a_run_of_orka_run_and_its_process_leaves_with_6(
    orka: Any, here: Any, write: Write, folder: Path
) -> None:
    running = orka.start("run", write("owned.yml", GRAPH.replace("NAME", "owned")), "x", "--allow-functions")
    wait_until(is_there(folder / "waiting"), 20)
    listed = json.loads(here("runs", "list", "--status", "running", "--json").stdout)
    run_id = next(info["run_id"] for info in listed if info["graph"] == "owned")
    assert here("cancel", run_id).returncode == 0
    out, err = running.communicate(timeout=10)
    assert (running.returncode, out) == (6, "")
    assert "the run was cancelled" in err


def test_cancel_ends_what_nobody_executes_and_says_what_it_cannot(
    orka: Any, here: Any, write: Write, folder: Path
) -> None:
    run_id = here("submit", write("quick.yml", QUICK), "x", "--queue", "fleet-none", "--quiet").stdout.strip()
    assert here("cancel", run_id).returncode == 0
    assert here("cancel", run_id).returncode == 0  # it is what was wanted
    events = [json.loads(line)["kind"] for line in here("runs", "events", run_id, "--json").stdout.splitlines()]
    assert events == ["run.started", "run.cancelled"]
    assert here("resume", run_id).stdout == "said x\n"
    assert here("cancel", "00000000-0000-7000-8000-000000000000").returncode == 5

    running = orka.start("run", write("left.yml", GRAPH.replace("NAME", "left")), "x", "--allow-functions")
    wait_until(is_there(folder / "waiting"), 20)
    listed = json.loads(here("runs", "list", "--status", "running", "--json").stdout)
    run_id = next(info["run_id"] for info in listed if info["graph"] == "left")
    running.kill()
    running.wait()
    assert here("cancel", run_id).returncode == 0
    assert status_of(here, run_id) == "cancelled"


def test_workers_are_listed_with_their_load_and_the_dead_are_marked(
    orka: Any, here: Any, write: Write, folder: Path
) -> None:
    worker = start_worker(orka, "fleet-listed", "--concurrency", "3")

    def mine() -> dict[str, Any]:
        listed = json.loads(here("workers", "--json").stdout)
        return next((info for info in listed if info["queues"] == ["fleet-listed"]), {})

    wait_until(mine, 10)
    info = mine()
    assert (info["pid"], info["concurrency"], info["running"], info["condition"]) == (worker.pid, 3, 0, "running")
    here("submit", write("g.yml", GRAPH), "x", "--queue", "fleet-listed")
    wait_until(lambda: mine()["running"] == 1, 20)
    titles, *rows = here("workers").stdout.splitlines()
    assert titles.split() == [
        "WORKER",
        "HOST",
        "PID",
        "QUEUES",
        "RUNNING",
        "PARKED",
        "DONE",
        "SEEN",
        "PROGRESS",
        "STATE",
    ]
    (row,) = [row.split() for row in rows if "fleet-listed" in row]
    assert row[2:6] == [str(worker.pid), "fleet-listed", "1/3", "0"]
    assert row[-1] == "running"

    worker.send_signal(signal.SIGSTOP)
    wait_until(lambda: mine()["condition"] == "late", 20)
    worker.kill()
    worker.wait()
    assert mine()["condition"] == "dead"
    leaving = start_worker(orka, "fleet-leaving")
    leaving.terminate()
    assert leaving.wait(timeout=10) == 0
    assert "fleet-leaving" not in here("workers").stdout


def test_the_doctor_says_what_a_run_waits_for_and_what_to_do(orka: Any, here: Any, write: Write, folder: Path) -> None:
    file = write(
        "gpu.yml",
        """
        orchestrator: {id: gpu, agents: [spread, join]}
        agents:
          - {id: spread, type: fork, targets: [[far], [near]]}
          - {id: far, type: template, prompt: "far", runs_on: fleet-gpu}
          - {id: near, type: function, function: "steps:patient", runs_on: fleet-near}
          - {id: join, type: join, group: spread}
        """,
    )
    near = start_worker(orka, "fleet-near")
    running = orka.start("run", file, "x", "--watch")
    wait_until(is_there(folder / "waiting"), 20)
    listed = json.loads(here("runs", "list", "--status", "running", "--json").stdout)
    run_id = next(info["run_id"] for info in listed if info["graph"] == "gpu")
    done = here("doctor", run_id)
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    assert len(text.splitlines()) < 25  # one screen
    assert f"owner     pid {running.pid} on " in text
    assert "branches: 1 queued, 1 running" in text
    assert "nobody serves queue 'fleet-gpu': 1 task waits for a worker" in text
    assert "  -> start `orka worker --queue fleet-gpu`" in text
    assert "spread.1/near is under way" in text

    facts = json.loads(here("doctor", run_id, "--json").stdout)
    branches = {branch["path"]: branch for branch in facts["branches"]}
    assert (branches["spread.0"]["state"], branches["spread.0"]["queue"]) == ("queued", "fleet-gpu")
    assert (branches["spread.1"]["state"], branches["spread.1"]["deliveries"]) == ("running", 1)
    assert str(near.pid) in branches["spread.1"]["worker"]
    assert facts["findings"][0]["remedy"] == "start `orka worker --queue fleet-gpu`"

    start_worker(orka, "fleet-gpu")
    (folder / "open").touch()
    out, err = running.communicate(timeout=20)
    assert (running.returncode, out) == (0, "two\n"), err
    assert here("doctor", "00000000-0000-7000-8000-000000000000").returncode == 5


def test_a_branch_that_waits_for_a_queue_that_nobody_serves_is_warned_of_while_the_run_waits(
    orka: Any, here: Any, write: Write, folder: Path
) -> None:
    file = write(
        "waits.yml",
        """
        orchestrator: {id: waits, agents: [spread, join]}
        agents:
          - {id: spread, type: fork, targets: [[far]], runs_on: fleet-away}
          - {id: far, type: template, prompt: "far"}
          - {id: join, type: join, group: spread}
        """,
    )
    running = orka.start("run", file, "x", "--distributed", "--watch")
    lines = []
    while "branch.waiting" not in "".join(lines):
        lines.append(running.stderr.readline())
        assert lines[-1], lines
    assert "queue='fleet-away'" in lines[-1]
    assert "start `orka worker --queue fleet-away`" in lines[-1]
    start_worker(orka, "fleet-away")
    out, err = running.communicate(timeout=20)
    assert (running.returncode, "branch.waiting" in err) == (0, False), err
    assert "far" in out


def test_a_run_that_takes_its_workers_down_is_a_dead_letter_that_can_be_retried(
    orka: Any, here: Any, write: Write, folder: Path
) -> None:
    file = write(
        "poison.yml",
        """
        orchestrator: {id: poisoned, agents: [first, poison]}
        agents:
          - {id: first, type: function, function: "steps:count"}
          - {id: poison, type: function, function: "steps:poison"}
        """,
    )
    run_id = here("submit", file, "x", "--queue", "fleet-poison", "--quiet").stdout.strip()
    workers: list[subprocess.Popen[str]] = []

    def given_up() -> bool:
        if all(worker.poll() is not None for worker in workers):
            workers.append(start_worker(orka, "fleet-poison", "--max-deaths", "1"))
        return status_of(here, run_id) == "failed"

    wait_until(given_up, 40)
    assert len(workers) == 4  # two deaths, one while alone, and the one that gave it up
    letter = next(x for x in json.loads(here("dead", "list", "--json").stdout) if x["run"] == run_id)
    assert (letter["path"], letter["queue"], letter["deaths"]) == ("", "fleet-poison", 3)
    assert letter["id"] in here("dead", "list").stdout
    shown = here("dead", "show", letter["id"])
    assert '"queue": "fleet-poison"' in shown.stdout
    assert "given up: it has taken its worker down 3 times" in shown.stdout
    doctor = here("doctor", run_id).stdout
    assert f"-> `orka dead retry {letter['id']}`" in doctor

    (folder / "cure").touch()
    retried = here("dead", "retry", letter["id"], "0-1-1")
    assert retried.stdout == f"run {run_id} waits on queue 'fleet-poison' to be resumed\n"
    assert (retried.returncode, retried.stderr.splitlines()[0][:36]) == (
        5,
        "error: there is no dead letter '0-1-1'"[:36],
    )
    wait_until(lambda: status_of(here, run_id) == "completed", 20)
    assert here("resume", run_id).stdout == "cured\n"
    assert (folder / "counted").read_text() == "x"  # what had finished was not repeated
    assert letter["id"] not in here("dead", "list").stdout


def test_a_dropped_letter_is_gone_and_its_run_stays(here: Any) -> None:
    assert (here("dead", "drop", "3-5-0").returncode, here("dead", "show", "x").returncode) == (5, 5)
    assert here("dead", "list", "--json").stdout.startswith("[")
