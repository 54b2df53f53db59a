"""Standard streams of every kind: closed ones, full ones, and functions that print into the answer."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[[str, str], str]

ECHO = """
orchestrator: {id: echo, strategy: sequential, agents: [back]}
agents:
  - {id: back, type: echo}
"""
LOUD = """
orchestrator: {id: loud, strategy: sequential, agents: [speak]}
agents:
  - {id: speak, type: function, function: "loud:speak"}
"""
SPEAK = """
import os, subprocess, sys
print("imported")
def speak(task):
    print("printed")
    sys.stdout.buffer.write(b"in bytes\\n")
    sys.stdout.flush()
    os.write(1, b"past Python\\n")
    subprocess.run(["echo", "of a child"], check=True)
    return "the answer"
"""

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")


@pytest.fixture
def shell(orka) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs a line in which ORKA stands for the command; standard output and error are pipes unless it redirects them."""

    def run(line: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["sh", "-c", line.replace("ORKA", " ".join(orka.command))],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=orka.folder,
            env=orka.environment,
            check=False,
        )

    return run


@pytest.mark.parametrize("options", ["", "--watch", "--json"])
def test_what_a_function_prints_is_not_in_the_answer(options: str, shell, write: Write) -> None:
    write("loud.py", SPEAK)
    done = shell(f"ORKA run {write('loud.yml', LOUD)} x --allow-functions {options}")
    assert done.returncode == 0
    answer = (
        json.loads(done.stdout)[0]["payload"]["response"] if options == "--json" else done.stdout.removesuffix("\n")
    )
    assert answer == "the answer"
    printed = ["imported", "printed", "in bytes", "past Python", "of a child"]
    assert [line for line in done.stderr.splitlines() if line in printed] == printed


@pytest.mark.parametrize(
    ("line", "code", "out"),
    [
        ("ORKA run echo.yml x >&-", 0, ""),
        ("ORKA run echo.yml x 2>&-", 0, "x\n"),
        ("ORKA run echo.yml x 2>/dev/full", 0, "x\n"),
        ("ORKA run echo.yml x <&- >&- 2>&-", 0, ""),
        ("ORKA check nowhere.yml >&- 2>&-", 2, ""),
        ("ORKA run nowhere.yml x 2>&-", 2, ""),
        ("ORKA --help >&-", 0, ""),
    ],
)
def test_a_closed_stream_is_like_the_null_device(line: str, code: int, out: str, shell, write: Write) -> None:
    write("echo.yml", ECHO)
    done = shell(line)
    assert (done.returncode, done.stdout, done.stderr) == (code, out, "")


@pytest.mark.parametrize(
    "command", ["runs list", "runs list --json", "check echo.yml", "schema", "--help", "run --help"]
)
def test_a_full_disk_behind_standard_output_is_told(command: str, shell, write: Write) -> None:
    write("echo.yml", ECHO)
    done = shell(f"ORKA {command} >/dev/full")
    assert (done.returncode, done.stderr) == (
        74,
        "error: standard output cannot be written: No space left on device\n",
    )


@pytest.mark.parametrize("options", ["", "--json", "--quiet"])
def test_an_answer_that_had_no_room_can_be_had_again(options: str, shell, here, write: Write) -> None:
    write("echo.yml", ECHO)
    done = shell(f"ORKA run echo.yml x {options} >/dev/full")
    told, error = done.stderr.splitlines()
    assert (done.returncode, error) == (74, "error: standard output cannot be written: No space left on device")
    assert here("resume", told.rpartition(" ")[2]).stdout == "x\n"


def test_a_closed_standard_input_is_a_mistake_of_the_user(shell, write: Write) -> None:
    write("echo.yml", ECHO)
    for line in ("ORKA run echo.yml - <&-", "ORKA check - <&-", "ORKA run - x <&-"):
        done = shell(line)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "error: standard input is closed: '-' needs something to read from\n"


def test_a_graph_may_come_from_standard_input(shell) -> None:
    assert shell("ORKA run - hello", stdin=ECHO).stdout == "hello\n"
    done = shell("ORKA run - hello", stdin=ECHO.replace("[back]", "[bakc]"))
    assert done.returncode == 2
    assert done.stderr.startswith("<stdin>:2:")


def test_descriptors_that_were_closed_do_not_get_the_files_of_a_run(shell, write: Write) -> None:
    """Or else what is printed would go into whatever was opened next."""
    write("loud.py", "import os\ndef speak(task):\n    return os.readlink('/proc/self/fd/0')\n")
    write("loud.yml", LOUD)
    assert shell("ORKA run loud.yml x --allow-functions <&-").stdout == os.devnull + "\n"
