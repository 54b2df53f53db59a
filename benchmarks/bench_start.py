"""Claim: the private server is ready within 1 s on an empty folder; joining one that runs and leaving it cost little.

`ready` is from the call to the first answered command, the folder new each time; `join` the same on a running server;
`stop` is leaving as the last user. `ceiling` is the bare server program, with module and options, from its start to its
first answer. Prints one JSON line; milliseconds of wall time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from orka.redis.control import Unreachable, ask
from orka.redis.server import private_server
from orka.redis.wheels import find_wheels
from orka.settings import Settings
from orka.version import VERSION

ROUNDS = 21
LIMIT_MS = 1000


async def bare(folder: Path) -> float:
    wheels = find_wheels()
    path = folder / "bare.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--appendonly", "yes", "--save", ""]
    started = time.perf_counter()
    server = await asyncio.create_subprocess_exec(
        str(wheels.server), *options, "--loadmodule", str(wheels.search), stdout=subprocess.DEVNULL
    )
    while True:
        with contextlib.suppress(Unreachable):
            await ask(path, "PING", timeout=5)
            break
        await asyncio.sleep(0.002)
    taken = time.perf_counter() - started
    server.kill()
    await server.wait()
    return taken * 1000


async def measure(folder: Path) -> dict[str, float]:
    settings = Settings(home=folder / ".orka", server_linger=0)
    began = time.perf_counter()
    async with private_server(settings) as server:
        await ask(server.socket, "PING", timeout=5)
        ready = time.perf_counter()
        async with private_server(settings) as joined:
            await ask(joined.socket, "PING", timeout=5)
            join = time.perf_counter()
        left = time.perf_counter()
    stopped = time.perf_counter()
    return {
        "ready": (ready - began) * 1000,
        "join": (join - ready) * 1000,
        "stop": (stopped - left) * 1000,
        "ceiling": await bare(folder),
    }


async def main() -> None:
    rounds: list[dict[str, float]] = []
    for turn in range(ROUNDS + 1):
        with tempfile.TemporaryDirectory() as folder:
            figures = await measure(Path(folder))
        if turn:  # the first one warms the caches of the file system
            rounds.append(figures)
    print(
        json.dumps(
            {
                "bench": "start",
                "unit": "ms",
                "n": ROUNDS,
                **{
                    name: {
                        "p50": round(statistics.median(row[name] for row in rounds), 1),
                        "p99": round(max(row[name] for row in rounds), 1),
                    }
                    for name in rounds[0]
                },
                "limit": {"ready": LIMIT_MS},
                "kept": max(row["ready"] for row in rounds) <= LIMIT_MS,
                "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
                "versions": {"orka": VERSION, "python": platform.python_version()},
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
