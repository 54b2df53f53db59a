"""Writers of memories and their server are killed and stopped at any moment: what was acknowledged as stored stays, searches
give what they gave before, and the memory of a process is bounded."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from servers import Users, server_processes, until, wait_until
from support.journals import OwnServer, own_server
from support.killing import TESTS, is_gone, send

from orka.memory.memory import Memory
from orka.memory.opening import open_memories
from orka.memory.query import Filters, MemoryQuery
from orka.memory.record import new_record
from orka.redis.wheels import find_wheels
from orka.settings import Settings

KILLS = {"redis": 20, "redisstack": 30}
AT_ONCE = 8
EVERYSEC = 1.0
"""Seconds that a crash of the server may cost: docs/durability.md."""


class Writers:
    """Starts writers; see tests/support/memory_writers.py."""

    def __init__(self) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("ORKA_", "REDIS_"))}
        self._pids: list[int] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.memory_writers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=TESTS,
            env=clean,
        )
        assert self._read() == "ready"

    def start(self, settings: Settings, log: Path, *, mode: str = "stored") -> int:
        environment = {"ORKA_MEMORY_BACKEND": settings.memory_backend, "ORKA_SERVER_LINGER": "0"}
        environment["ORKA_LOG_LEVEL"] = "critical"
        environment |= {"REDIS_URL": settings.redis_url} if settings.redis_url else {"ORKA_HOME": str(settings.home)}
        job = {"environment": environment, "name": log.stem, "log": str(log), "mode": mode}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        self._pids.append(int(self._read()))
        return self._pids[-1]

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        for pid in self._pids:
            send(pid, signal.SIGKILL)
        self._process.communicate(timeout=10)


@pytest.fixture(scope="module")
def writers() -> Iterator[Writers]:
    with closing(Writers()) as started:
        yield started


@pytest.fixture(params=["redis", "redisstack"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def server() -> Iterator[OwnServer]:
    """With the search module, in a folder whose path is short enough for a socket."""
    module = str(find_wheels().search)
    with (
        tempfile.TemporaryDirectory(prefix="orka-") as folder,
        own_server(Path(folder) / "redis", "--loadmodule", module) as started,
    ):
        yield started


def acknowledged(*logs: Path) -> dict[str, tuple[float, str]]:
    """(when, content) of every memory, by key; a last line that is not whole was cut off by the kill."""
    found: dict[str, tuple[float, str]] = {}
    for log in logs:
        for line in log.read_text().split("\n")[:-1] if log.exists() else []:
            key, at, content = line.split(" ", 2)
            found[key] = float(at), content
    return found


def number_of(content: str) -> int:
    return int(content.rpartition(" ")[2])


async def check_stored(memory: Memory, expected: dict[str, tuple[float, str]]) -> None:
    """Each is there as it was acknowledged, or as it was written after that, when the kill took the acknowledgement."""
    keys = list(expected)
    lost: list[tuple[str, float]] = []
    for key, record in zip(keys, await memory.read(keys), strict=True):
        at, content = expected[key]
        if record is None or number_of(record.content) < number_of(content):
            lost.append((content, at))
    assert lost == []


async def test_killed_writers_lose_nothing_that_was_acknowledged(
    backend: str, writers: Writers, server: OwnServer, tmp_path: Path
) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    settings = replace(server.settings, backend=backend)
    logs: list[Path] = []

    def kill_some() -> int:
        """Kills those of one round, each at a moment of its own; how many had acknowledged something."""
        began = time.monotonic()
        plan: list[tuple[float, int, Path]] = []
        for _ in range(AT_ONCE):
            logs.append(tmp_path / f"w{len(logs)}")
            plan.append((chance.uniform(0.1, 0.6), writers.start(settings, logs[-1]), logs[-1]))
        for moment, pid, _ in sorted(plan):
            time.sleep(max(0.0, began + moment - time.monotonic()))
            assert send(pid, signal.SIGKILL), "it ended by itself"
        wait_until(lambda: all(is_gone(pid) for _, pid, _ in plan))
        return sum(log.exists() and log.stat().st_size > 0 for _, _, log in plan)

    kills = 0
    while kills < KILLS[backend]:
        kills += await asyncio.to_thread(kill_some)
    expected = acknowledged(*logs)
    assert len(expected) > 20 * kills
    async with open_memories(settings) as (_, memory):
        await check_stored(memory, expected)
        for content in chance.sample([content for _, content in expected.values()], 20):
            if "batch" in content:
                query = MemoryQuery(text=content, limit=300, mode="text")
                assert content in [hit.record.content for hit in await memory.search(query)]


async def test_a_killed_private_server_costs_a_second_at_most_and_the_writer_goes_on_by_itself(
    backend: str, writers: Writers, users: Users, home: Settings, tmp_path: Path
) -> None:
    settings = replace(home, backend=backend)
    holder = users.start(home)  # it stays until the end of the test, when its server is stopped
    await asyncio.to_thread(holder.ready)
    log = tmp_path / "w"
    writer = writers.start(settings, log)

    async def lived() -> float:
        """Kills the server when the writer has written for longer than a crash may cost; gives when."""
        began = time.time()
        await until(lambda: any(at > began + 1.3 * EVERYSEC for at, _ in acknowledged(log).values()), 20, 0.1)
        [pid] = await asyncio.to_thread(server_processes, home.home)
        assert send(pid, signal.SIGKILL)
        return time.time()

    killed = await lived()
    before = acknowledged(log)
    await until(lambda: any(at > killed + 0.1 for at, _ in acknowledged(log).values()), 20, 0.1)
    assert send(writer, signal.SIGKILL)
    old = {key: (at, content) for key, (at, content) in before.items() if at < killed - EVERYSEC}
    new = {key: (at, content) for key, (at, content) in acknowledged(log).items() if at > killed + 0.1}
    assert min(len(old), len(new)) > 0
    async with open_memories(settings) as (_, memory):
        await check_stored(memory, old | new)


def resident(pid: int) -> float:
    """MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def test_a_stopped_server_does_not_let_the_memory_of_a_writer_grow(
    backend: str, writers: Writers, server: OwnServer, tmp_path: Path
) -> None:
    log = tmp_path / "statistics"
    pid = await asyncio.to_thread(writers.start, replace(server.settings, backend=backend), log, mode="flood")

    def statistics() -> dict[str, Any]:
        return json.loads(log.read_text()) if log.exists() else {}

    await until(lambda: statistics().get("stored", 0) > 200)
    server.send(signal.SIGSTOP)
    await until(lambda: statistics()["waiting"] * 20_000 > 60 * 2**20)
    await asyncio.sleep(0.3)
    first, accepted = resident(pid), statistics()["accepted"]
    await asyncio.sleep(1)
    assert resident(pid) < first + 30
    assert statistics()["accepted"] <= accepted + 100
    assert resident(pid) < 500
    stored = statistics()["stored"]
    server.send(signal.SIGCONT)
    await until(lambda: statistics()["stored"] > stored + 1000)
    assert statistics()["lost"] == 0
    assert send(pid, signal.SIGKILL)


QUERIES = (
    MemoryQuery(text="green tea for the customer", limit=20),
    MemoryQuery(text="customer", limit=20, mode="text"),
    MemoryQuery(text="something warm to drink", limit=20, mode="vector"),
    MemoryQuery(limit=20, offset=5),
    MemoryQuery(text="parcel", limit=7, offset=3, filters=Filters(namespace=("n1", "n2"), least_importance=0.3)),
    MemoryQuery(text="late parcels", limit=20, filters=Filters(metadata={"even": True})),
)
WORDS = ("tea", "customer", "parcel", "late", "green", "office", "printer", "drink", "warm", "paper")


async def answers(memory: Memory) -> list[list[tuple[str, float]]]:
    return [[(hit.record.key, hit.score) for hit in await memory.search(query)] for query in QUERIES]


def check_same(now: list[list[tuple[str, float]]], before: list[list[tuple[str, float]]], within: float) -> None:
    """The same scores in the same order, and the same memories; of those as good as the last one any may be left out."""
    for found, expected in zip(now, before, strict=True):
        assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=within)
        least = expected[-1][1] + 2 * within
        assert {key for key, score in expected if score > least} <= {key for key, _ in found}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_recall_after_a_restart_is_recall_before(number: signal.Signals, backend: str, server: OwnServer) -> None:
    chance = random.Random(5)
    settings = replace(server.settings, backend=backend)
    records = [
        new_record(
            " ".join(chance.choices(WORDS, k=6)) + f" {i}",
            namespace=f"n{i % 4}",
            importance=chance.random(),
            timestamp_ms=1_767_225_600_000 + i,
            metadata={"even": i % 2 == 0},
        )
        for i in range(400)
    ]
    # The search module counts a text that it indexes once more, as after a restart, twice in the mean length of texts.
    within = 0.05 if backend == "redisstack" else 1e-6
    async with open_memories(settings) as (_, memory):
        assert set(await memory.write_many(records)) == {None}
        before = await answers(memory)
        assert [len(found) for found in before] == [20, 20, 20, 20, 7, 20]
        await asyncio.sleep(1.2 if number == signal.SIGKILL else 0)  # what a crash may cost
        await asyncio.to_thread(server.end, number)
        await asyncio.to_thread(server.start)
        check_same(await answers(memory), before, within)
    async with open_memories(settings) as (_, memory):
        check_same(await answers(memory), before, within)
