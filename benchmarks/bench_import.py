"""Claim: `import orka` takes less than 150 ms and `orka --help` less than 250 ms, the interpreter's own start included.

Whole processes, started one after another and in turn, so that a busy moment of the machine falls on all of them.
Prints one JSON line; milliseconds of wall time.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version

from orka.version import VERSION

ROUNDS = 21
COMMANDS = {
    "python": ["-c", "pass"],
    "import_orka": ["-c", "import orka"],
    "orka_help": ["-m", "orka.cli.main", "--help"],
    "orka_version": ["-m", "orka.cli.main", "--version"],
    "orka_run_help": ["-m", "orka.cli.main", "run", "--help"],
    "import_orchestrator": ["-c", "from orka import Orchestrator"],
    "import_cyclopts": ["-c", "import cyclopts"],
}
LIMITS_MS = {"import_orka": 150, "orka_help": 250, "orka_version": 250}


def elapsed_ms(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - started) * 1000


def measure(rounds: int = ROUNDS, names: tuple[str, ...] = tuple(COMMANDS)) -> dict[str, list[float]]:
    """Times of every command in milliseconds; the first round only warms the caches of the file system."""
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name in names:
            taken = elapsed_ms(COMMANDS[name])
            if turn:
                times[name].append(taken)
    return times


def main() -> None:
    times = measure()
    figures = {
        name: {"p50": round(statistics.median(values), 1), "p99": round(max(values), 1)}
        for name, values in times.items()
    }
    print(
        json.dumps(
            {
                "bench": "import",
                "unit": "ms",
                "n": ROUNDS,
                **figures,
                "limits": LIMITS_MS,
                "ok": all(figures[name]["p50"] < limit for name, limit in LIMITS_MS.items()),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}",
                "versions": {
                    "python": platform.python_version(),
                    "orka": VERSION,
                    "cyclopts": version("cyclopts"),
                },
            }
        )
    )


if __name__ == "__main__":
    main()
