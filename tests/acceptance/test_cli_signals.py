"""Ctrl-C and SIGTERM: a clean stop that can be resumed; the second one leaves at once; a closed pipe is no error."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import wait_until

GRAPH = """
orchestrator: {id: signals, strategy: sequential, agents: [first, gate, last]}
agents:
  - {id: first, type: function, function: "steps:count"}
  - {id: gate, type: function, function: "steps:WAIT"}
  - {id: last, type: template, prompt: "{{ previous_outputs.first.response }} then {{ previous_outputs.gate.response }}"}
"""
STEPS = '''
import asyncio, pathlib, time

def count(task):
    with open("counted", "a") as file:
        file.write("x")
    return "one"

async def patient(task):
    """Waits for the file `open` and may be cancelled."""
    pathlib.Path("waiting").touch()
    while not pathlib.Path("open").exists():
        await asyncio.sleep(0.01)
    return "two"

def stubborn(task):
    """Blocks its thread, whatever happens."""
    pathlib.Path("waiting").touch()
    time.sleep(60)
'''

Write = Callable[[str, str], str]


def start_waiting(orka, write: Write, function: str) -> "subprocess.Popen[str]":
    write("steps.py", STEPS)
    file = write("signals.yml", GRAPH.replace("WAIT", function))
    process = orka.start("run", file, "x", "--allow-functions")
    waiting: Path = orka.folder / "waiting"
    wait_until(lambda: waiting.exists() or process.poll() is not None, 20)
    assert process.poll() is None, process.communicate()
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_how_to_resume_and_is_finished_by_that(
    number: signal.Signals, code: int, orka, write: Write
) -> None:
    process = start_waiting(orka, write, "patient")
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in err
    hint = re.search(r"orka resume ([0-9a-f-]{36})", err)
    assert hint is not None

    (orka.folder / "open").touch()
    done = orka("resume", hint[1], "--allow-functions")
    assert (done.returncode, done.stdout) == (0, "one then two\n")
    assert (orka.folder / "counted").read_text() == "x"


PROGRAM = """
import asyncio, os, sys
from orka import Orchestrator

async def main():
    async with Orchestrator(sys.argv[1], allow_functions=True) as orchestrator:
        await orchestrator.run("x")

try:
    MAIN
except KeyboardInterrupt:
    os._exit(99)
"""


@pytest.mark.parametrize(
    ("main", "function"),
    [
        ("asyncio.run(main())", "patient"),
        (
            "asyncio.new_event_loop().run_until_complete(main())",
            "busy",
        ),  # under Python's own handler, in the agent's code
    ],
)
def test_ctrl_c_ends_a_program_that_runs_graphs_itself(orka, write: Write, main: str, function: str) -> None:
    busy = "\nasync def busy(task):\n    pathlib.Path('waiting').touch()\n    while True:\n        time.sleep(0.001)\n"
    write("steps.py", STEPS + busy)
    write("program.py", PROGRAM.replace("MAIN", main))
    file = write("signals.yml", GRAPH.replace("WAIT", function))
    orka.command = [sys.executable]
    process = orka.start("program.py", file)
    waiting: Path = orka.folder / "waiting"
    wait_until(lambda: waiting.exists() or process.poll() is not None, 20)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 99, process.communicate()


@pytest.mark.parametrize("function", ["leave", "give_up"])
def test_an_agent_that_calls_exit_fails_its_visit_and_is_told_of(orka, write: Write, function: str) -> None:
    leaving = "\ndef leave(task):\n    raise SystemExit(3)\n\nasync def give_up(task):\n    raise KeyboardInterrupt\n"
    write("steps.py", STEPS + leaving)
    done = orka("run", write("signals.yml", GRAPH.replace("WAIT", function)), "x", "--allow-functions")
    assert done.returncode == 0
    assert re.search(
        "warning: .* failed: (SystemExit: the agent raised SystemExit: 3|KeyboardInterrupt: )", done.stderr
    )


def test_a_second_ctrl_c_leaves_at_once(orka, write: Write) -> None:
    process = start_waiting(orka, write, "stubborn")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "again" in process.stderr.readline()
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130
    assert time.monotonic() - started < 2


def test_a_reader_that_goes_away_is_no_traceback(orka, write: Write) -> None:
    file = write(
        "big.yml", "orchestrator: {id: big, strategy: sequential, agents: [a]}\nagents: [{id: a, type: echo}]\n"
    )
    write("input.json", '"' + "x" * 3_000_000 + '"')
    process = orka.start("run", file, "input.json", "--json-input")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(timeout=20) == 141
    assert process.stderr.read() == ""
