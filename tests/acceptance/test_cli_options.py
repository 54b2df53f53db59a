"""What commands do with modules of agents, and a worker with its options, also with bad ones."""

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from servers import wait_until

Write = Callable[[str, str], str]

AGENTS = """
from orka import agent

@agent("shout")
async def shout(task):
    return task.text.upper()
"""
GRAPH = """
orchestrator: {id: loud, distributed: true, agents: [spread, gather]}
agents:
  - {id: spread, type: fork, targets: [left, right]}
  - {id: left, type: echo}
  - {id: right, type: shout}
  - {id: gather, type: join, group: spread}
"""


def test_a_module_of_agents_serves_every_command_that_needs_them(orka: Any, write: Write) -> None:
    write("my_agents.py", AGENTS)
    file = write("loud.yml", GRAPH)
    assert orka("check", file, "--import", "my_agents").returncode == 0
    refused = orka("run", file, "hey")
    assert refused.returncode == 2
    assert "type 'shout' of agent 'right' is not known" in refused.stderr
    assert "`--import MODULE`" in refused.stderr

    worker = orka.start("worker", "--import", "my_agents")
    assert "serves default" in worker.stderr.readline()
    ran = orka("run", file, "hey", "--import", "my_agents")
    assert (ran.returncode, ran.stdout) == (0, "HEY\n"), ran.stderr
    submitted = orka("submit", file, "hey", "--import", "my_agents", "--wait", "--quiet")
    assert (submitted.returncode, submitted.stdout) == (0, "HEY\n"), submitted.stderr
    run_id = submitted.stderr.split()[-1]
    log = orka("resume", run_id, "--json", "--import", "my_agents")
    assert [entry["agent_id"] for entry in json.loads(log.stdout)] == ["spread", "left", "right", "gather"], log.stderr
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=10) == 0


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("import sys; sys.exit(4)", "SystemExit: 4"),
        ("def (", "SyntaxError: "),
        ("import nowhere_at_all", "No module named 'nowhere_at_all'"),
    ],
)
@pytest.mark.parametrize("command", [("worker",), ("run", "loud.yml", "x"), ("check", "loud.yml")])
def test_a_module_that_cannot_be_imported_is_named_with_the_reason(
    here: Any, write: Write, command: tuple[str, ...], body: str, why: str
) -> None:
    write("loud.yml", GRAPH)
    write("broken.py", body)
    done = here(*command, "--import", "broken")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: --import broken: {why}"), done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--queue", ""), "a queue is a name of at most 64 letters"),
        (("--queue", "two words"), "a queue is a name of at most 64 letters"),
        (("--grace", "nan"), "--concurrency and --max-deaths are at least 1, --grace is a number of seconds"),
        (("--grace", "inf"), "--concurrency and --max-deaths are at least 1, --grace is a number of seconds"),
        (("--concurrency", "0"), "--concurrency and --max-deaths are at least 1"),
        (("--health", "nowhere/health.json"), "the health file 'nowhere/health.json' cannot be written (No such file"),
        (("--health", "."), "the health file '.' cannot be written"),
    ],
)
def test_a_worker_says_what_is_wrong_with_its_options(here: Any, options: tuple[str, ...], why: str) -> None:
    done = here("worker", *options)
    assert done.returncode == 2
    assert f"error: {why}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_outlives_the_folder_of_its_health_file(orka: Any, here: Any, write: Write) -> None:
    orka.environment["ORKA_LEASE"] = "0.6"
    folder = orka.folder / "health"
    folder.mkdir()
    file = folder / "worker.json"
    worker = orka.start("worker", "--queue", "steady", "--health", str(file))
    assert "serves steady" in worker.stderr.readline()
    wait_until(file.exists)
    for _ in range(100):  # it is rewritten meanwhile
        try:
            for entry in folder.iterdir():
                entry.unlink(missing_ok=True)
            folder.rmdir()
            break
        except OSError:
            continue
    assert "health.unwritten" in worker.stderr.readline()
    flow = write("flow.yml", "orchestrator: {id: f, agents: [a]}\nagents: [{id: a, type: echo}]")
    assert here("submit", flow, "still here", "--queue", "steady", "--wait").stdout == "still here\n"
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait(timeout=10) == 0
