"""Claims: 200 concurrent runs of 5 model steps cost at most 1.15 times the same calls through the bare `openai` client,
which is measured in the same process, turn about; with answers that take 2 seconds they end within 1.25 times the
ideal; the first token of a streamed answer reaches the caller of `orchestrator.stream()` within 10 ms of leaving the
server; a file of 200 agents is loaded and checked within 250 ms.

The model is the test server of this repository in a process of its own. Every run is journaled to the private server, AOF on.

Run: python benchmarks/bench_llm.py [--runs 200] [--repeats 5]. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from orka.orchestrator import Orchestrator
from orka.settings import Settings
from orka.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
STEPS = 5
DELAY, SLOW = 0.05, 2.0


@contextmanager
def server(*options: str) -> Iterator[str]:
    """Address of a model server of its own process."""
    command = [sys.executable, "-m", "tests.support.openai_server", "--port", "0", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)


def chain(url: str, steps: int) -> str:
    lines = ["orchestrator:", "  id: chain", f"  agents: [{', '.join(f's{i}' for i in range(steps))}]", "agents:"]
    for i in range(steps):
        before = f"{{{{ previous_outputs.s{i - 1}.response[:20] }}}}" if i else "{{ input }}"
        lines.append(f"  - {{id: s{i}, type: llm, model: m, model_url: '{url}', prompt: 'Go on: {before}'}}")
    return "\n".join(lines)


async def together(once: Callable[[], Awaitable[object]], runs: int) -> dict[str, float]:
    """Seconds until all of `runs` calls that begin at once have ended, and the CPU of this process for one question."""
    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(once() for _ in range(runs)))
    seconds = time.perf_counter() - began
    return {"s": seconds, "cpu_us": (time.process_time() - cpu) / (runs * STEPS) * 1e6}


async def crowd(url: str, folder: Path, settings: Settings, runs: int, repeats: int) -> dict[str, Any]:
    """Orka and the bare client, turn about."""
    from openai import AsyncOpenAI

    file = folder / "chain.yml"
    file.write_text(chain(url, STEPS), encoding="utf-8")
    client: Any = AsyncOpenAI(api_key="none", base_url=f"{url}/v1", max_retries=3, timeout=120)

    async def bare() -> None:
        text = "hello"
        for _ in range(STEPS):
            turn = [{"role": "user", "content": f"Go on: {text[:20]}"}]
            answer = await client.chat.completions.create(model="m", messages=turn)
            text = answer.choices[0].message.content

    found: dict[str, list[dict[str, float]]] = {"orka": [], "bare": []}
    async with Orchestrator(file, settings=settings) as orchestrator, client:

        async def once() -> None:
            result = await orchestrator.execute("hello")
            assert result.status == "completed", result.error

        for work in (once, bare):  # connections are made
            await together(work, runs)
        for _ in range(repeats):
            for name, work in (("bare", bare), ("orka", once)):
                found[name].append(await together(work, runs))
    figures: dict[str, Any] = {
        name: {key: round(statistics.median(one[key] for one in times), 4) for key in ("s", "cpu_us")}
        for name, times in found.items()
    }
    pairs = [ours["s"] / theirs["s"] for ours, theirs in zip(found["orka"], found["bare"], strict=True)]
    return {
        **figures,
        "ratio": round(statistics.median(pairs), 3),
        "least": round(min(pairs), 3),
        "most": round(max(pairs), 3),
    }


async def slow(url: str, folder: Path, settings: Settings, runs: int) -> dict[str, Any]:
    file = folder / "slow.yml"
    file.write_text(chain(url, STEPS), encoding="utf-8")
    async with Orchestrator(file, settings=settings) as orchestrator:
        took = await together(lambda: orchestrator.execute("hello"), runs)
    ideal = SLOW * STEPS
    return {"s": round(took["s"], 3), "ideal_s": ideal, "ratio": round(took["s"] / ideal, 3)}


async def first_token(url: str, folder: Path, settings: Settings, repeats: int) -> dict[str, Any]:
    """Milliseconds from the clock in the first piece, read as it left the server, to the event in this process."""
    file = folder / "one.yml"
    file.write_text(chain(url, 1), encoding="utf-8")
    times: list[float] = []
    async with Orchestrator(file, settings=settings) as orchestrator:
        for _ in range(repeats):
            async for event in orchestrator.stream("hello"):
                if event.kind == "node.token":
                    now = time.monotonic_ns()
                    times.append((now - int(str(event.data["text"]).split()[0])) / 1e6)
                    break
    times.sort()
    return {
        "n": len(times),
        "p50_ms": round(statistics.median(times), 3),
        "p99_ms": round(times[int(len(times) * 0.99)], 3),
        "most_ms": round(times[-1], 3),
    }


def load(folder: Path, repeats: int) -> dict[str, Any]:
    """A file of 200 agents: text to checked graph, agent types known."""
    file = folder / "large.yml"
    file.write_text(chain("http://localhost:1234", 200), encoding="utf-8")
    times: list[float] = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        Orchestrator(file)
        times.append((time.perf_counter() - began) * 1000)
    return {"first_ms": round(times[0], 1), "p50_ms": round(statistics.median(times[1:]), 1)}


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures: dict[str, Any] = {"load_200_agents": load(folder, 10)}
        settings = Settings(home=folder / "home", server_linger=0)
        with server("--delay", str(DELAY), "--text", "Once upon a time there was a whale.") as url:
            figures["crowd"] = await crowd(url, folder, settings, options.runs, options.repeats)
        with server("--delay", str(SLOW), "--text", "Once upon a time there was a whale.") as url:
            figures["slow"] = await slow(url, folder, settings, options.runs)
        with server("--stamp", "--pause", "0.02", "--text", "Once upon a time.") as url:
            figures["first_token"] = await first_token(url, folder, settings, 100)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    figures = asyncio.run(measure(options))
    print(
        json.dumps(
            {
                "bench": "llm",
                "orka": VERSION,
                "openai": version("openai"),
                "python": platform.python_version(),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
                "runs": options.runs,
                "steps": STEPS,
                "delay_s": DELAY,
                **figures,
            }
        )
    )


if __name__ == "__main__":
    main()
