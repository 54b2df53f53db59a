"""`orka check`, `orka schema`, `orka --help` and `make help`: no server, and exit codes that a script can use."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Write = Callable[[str, str], str]

CLEAN = "orchestrator: {id: ok, strategy: sequential, agents: [a]}\nagents: [{id: a, type: echo}]\n"
WARNED = "orchestrator: {id: ok, strategy: sequential, agents: [a]}\nagents: [{id: a, type: echo, colour: red}]\n"
BROKEN = "orchestrator: {id: ok, strategy: sequential, agents: [b]}\nagents: [{id: a, type: echo}]\n"


@pytest.fixture
def files(write: Write) -> None:
    write("clean.yml", CLEAN)
    write("warned.yml", WARNED)
    write("broken.yml", BROKEN)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("command", ["check", "validate"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("clean.yml",), 0),
        (("clean.yml", "--strict"), 0),
        (("warned.yml",), 0),
        (("warned.yml", "--strict"), 1),
        (("broken.yml",), 2),
        (("clean.yml", "warned.yml", "broken.yml", "--strict"), 2),
        (("nowhere.yml", "clean.yml"), 2),
        ((), 2),
    ],
)
def test_the_exit_code_tells_the_worst_fault(command: str, arguments: tuple[str, ...], code: int, orka) -> None:
    assert orka(command, *arguments).returncode == code


@pytest.mark.usefixtures("files")
def test_every_file_is_reported(orka) -> None:
    done = orka("check", "clean.yml", "broken.yml", "nowhere.yml")
    assert "clean.yml: ok" in done.stdout
    assert "broken.yml:1:" in done.stdout
    assert "nowhere.yml" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("files")
def test_json_is_a_list_with_one_object_per_file(orka) -> None:
    reports = json.loads(orka("check", "clean.yml", "broken.yml", "--json").stdout)
    assert reports[0] == {"file": "clean.yml", "ok": True, "faults": []}
    assert (reports[1]["file"], reports[1]["ok"]) == ("broken.yml", False)
    assert reports[1]["faults"][0]["severity"] == "error"
    assert reports[1]["faults"][0]["line"] == 1


def test_the_schema_is_json_and_can_be_written_to_a_file(orka, tmp_path: Path) -> None:
    printed = orka("schema")
    assert json.loads(printed.stdout)["$schema"].startswith("https://json-schema.org/")
    assert orka("schema", "--output", "schema.json").returncode == 0
    assert (tmp_path / "schema.json").read_text() == printed.stdout
    assert orka("schema", "--output", "no/such/folder.json").returncode == 2


def test_help_and_version_need_nothing_else(orka) -> None:
    assert orka("--version").stdout == orka("-V").stdout == "orka 0.1.0\n"
    text = orka("--help").stdout
    assert orka("-h").stdout == orka().stdout == text
    for command in ("run", "resume", "check", "runs events", "schema", "system stop"):
        assert f"\n  {command} " in text


@pytest.mark.parametrize("command", ["run", "resume", "check", "schema", "runs list", "system status"])
def test_every_command_has_help(command: str, orka) -> None:
    done = orka(*command.split(), "--help")
    assert done.returncode == 0
    assert f"orka {command}" in done.stdout


def elapsed(*arguments: str) -> float:
    started = time.monotonic()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.monotonic() - started


def test_import_and_help_are_quick() -> None:
    """Twice the promised 150 and 250 ms, for a busy machine; benchmarks/bench_import.py has the figures."""
    assert statistics.median(elapsed("-c", "import orka") for _ in range(5)) < 0.3
    assert statistics.median(elapsed("-m", "orka.cli.main", "--help") for _ in range(5)) < 0.5


def test_make_help_lists_the_verbs() -> None:
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    verbs = [line.split()[1] for line in text.splitlines()]
    assert verbs == ["help", "install", "run", "test", "check", "bench", "chaos", "fuzz", "clean"]
