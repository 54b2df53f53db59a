"""`orka --help`, `orka --version` and `make help`: instant, and complete."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_help_and_version_need_nothing_else(orka) -> None:
    assert orka("--version").stdout == orka("-V").stdout == "orka 0.1.0\n"
    text = orka("--help").stdout
    assert orka("-h").stdout == orka().stdout == text
    for command in ("run", "resume", "check", "runs events", "schema", "system stop"):
        assert f"\n  {command} " in text


def elapsed(*arguments: str) -> float:
    started = time.monotonic()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.monotonic() - started


def test_import_and_help_are_quick() -> None:
    """Twice the promised 150 and 250 ms, for a busy machine; benchmarks/bench_import.py has the figures."""
    assert statistics.median(elapsed("-c", "import orka") for _ in range(5)) < 0.3
    assert statistics.median(elapsed("-m", "orka.cli.main", "--help") for _ in range(5)) < 0.5


def test_make_help_lists_the_verbs() -> None:
    command = ["make", "--no-print-directory", "help"]  # another make, running the tests, would have it told
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    verbs = [line.split()[1] for line in text.splitlines()]
    assert verbs == ["help", "install", "run", "test", "check", "bench", "chaos", "fuzz", "clean"]
