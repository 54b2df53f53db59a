"""Runs on a real server, and the server's state as a crash would have left it.

A process that dies leaves the entries it had sent: `cut` puts a run back to its first n entries, which is what a new
process would find, whatever else the dead one was doing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from support import probe
from support.reference import Reference, comparable

from orka.engine.foresight import check_paths
from orka.graph.graph import Graph
from orka.ids import new_run_id
from orka.journal.replay import build_replay
from orka.lifecycle import finish_run, start_run
from orka.redis.keys import ended_runs_key, graph_key, open_runs_key, run_keys
from orka.results import RunResult
from orka.services import Services, open_services
from orka.settings import Settings
from orka.types import Json, RunId


@dataclass(frozen=True)
class Entry:
    id: str
    kind: str
    path: str
    data: dict[str, Any]


class Bench:
    """Services that any graph may use, and the server behind them. Opening an Orchestrator for every graph would cost
    ten times what running it does."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.settings = services.settings
        self.client: Any = services.redis.client

    async def run(self, graph: Graph, given: Json = "input") -> RunResult:
        """`Orchestrator(graph).execute(given)`."""
        return await start_run(self.services, self.services.build(graph), given, new_run_id())

    async def finish(self, run_id: str, graph: Graph | None = None) -> RunResult:
        """`Orchestrator(graph).finish(run_id, changed_graph=graph is not None)`."""
        return await finish_run(self.services, RunId(run_id), graph=graph)

    async def entries(self, run_id: str) -> list[Entry]:
        key = run_keys(run_id, self.settings.partitions).journal
        return [
            Entry(text(entry_id), text(fields[b"kind"]), text(fields[b"path"]), json.loads(fields[b"data"]))
            for entry_id, fields in await self.client.xrange(key)
        ]

    async def state(self, run_id: str) -> tuple[Any, ...]:
        """Everything that a run is on the server."""
        keys = run_keys(run_id, self.settings.partitions)
        return (
            await self.client.hgetall(keys.run),
            await self.client.xrange(keys.journal),
            await self.client.hgetall(keys.values),
        )

    async def cut(self, run_id: str, keep: int) -> None:
        """As if the process had died when exactly `keep` entries were stored."""
        keys = run_keys(run_id, self.settings.partitions)
        entries = await self.client.xrange(keys.journal)
        status, digest = await self.client.hmget(keys.run, "status", "digest")
        pipe = self.client.pipeline(transaction=False)
        if entries[keep:]:
            pipe.xdel(keys.journal, *(entry_id for entry_id, _ in entries[keep:]))
        pipe.hset(keys.run, mapping={"seq": keep, "status": "running", "lease_until": 0})
        pipe.hdel(keys.run, "ended_ms")
        for key in (keys.run, keys.journal, keys.values):
            pipe.persist(key)
        pipe.zrem(ended_runs_key(keys.tag), run_id)
        pipe.zadd(open_runs_key(keys.tag), {run_id: 1})
        if text(status) != "running":
            pipe.hincrby(graph_key(keys.tag, text(digest)), "runs", 1)
            pipe.persist(graph_key(keys.tag, text(digest)))
        await pipe.execute()


def text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


@asynccontextmanager
async def open_bench(settings: Settings) -> AsyncIterator[Bench]:
    async with open_services(settings, registry=probe.registry()) as services:
        yield Bench(services)


def decisions_of(entries: list[Entry]) -> dict[str, tuple[int, ...]]:
    """Branches that each join had seen when it decided, by the join's path."""
    return {
        entry.path: tuple(entry.data.get("settled") or ())
        for entry in entries
        if entry.kind == "node.finished" and entry.data.get("fork") and entry.data["fork"] != entry.path
    }


def check_result(graph: Graph, result: RunResult, entries: list[Entry]) -> None:
    """The run came to what the reference comes to, and its journal is in order."""
    decisions = decisions_of(entries)
    expected = Reference(graph, lambda path: decisions.get(path, ()))
    same(comparable(result.results), comparable(expected.results))
    answer = expected.answer if expected.status == "completed" else None
    assert (str(result.status), result.output) == (expected.status, answer)
    check_journal(entries)


def same(given: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> None:
    """Equal lists of results; says where they part."""
    for index, (one, other) in enumerate(zip(given, expected, strict=False)):
        assert one == other, f"result {index}: {one} is not {other}"
    paths = [seen[0] for seen in given], [seen[0] for seen in expected]
    assert len(given) == len(expected), f"{paths[0]} is not {paths[1]}"


def check_journal(entries: list[Entry]) -> None:
    """In order: no entry twice in a generation, and a success never again."""
    assert [entry.path for entry in entries if entry.kind == "run.started"] == [""]
    assert entries[0].kind == "run.started"
    assert entries[-1].kind in {"run.completed", "run.failed"}
    done: set[str] = set()
    generation: set[tuple[Any, ...]] = set()
    for entry in entries[1:-1]:
        assert entry.kind not in {"run.started", "run.completed"}, f"{entry} in the middle"
        if entry.kind == "run.resumed":
            generation.clear()
            continue
        name = (entry.kind, entry.path, entry.data.get("attempt", 1))
        assert name not in generation, f"twice in one generation: {name}"
        generation.add(name)
        assert entry.path not in done, f"{entry.kind} after the end of {entry.path}"
        if entry.kind == "node.finished" and entry.data.get("status", "success") != "error":
            done.add(entry.path)


def succeeded(entries: list[Entry]) -> set[str]:
    """Paths of visits that nobody may execute again."""
    return {
        entry.path
        for entry in entries
        if entry.kind == "node.finished" and entry.data.get("status", "success") != "error"
    }


def check_calls(kept: list[Entry], before: list[probe.Call], after: list[probe.Call]) -> None:
    """What a resumed run called fits what the crash had left behind."""
    again = {call.path for call in after} & succeeded(kept)
    assert not again, f"executed again: {again}"
    last = {entry.path: entry for entry in kept}
    calls = {call.path: call for call in reversed(after)}
    for path, entry in last.items():
        if entry.kind not in {"node.started", "node.retrying"} or path not in calls:
            continue  # not called: its branch was cut off
        call = calls[path]
        assert call.attempt == entry.data.get("attempt", 1) + (entry.kind == "node.retrying"), f"attempts of {path}"
        assert call.now_ms == entry.data["at_ms"], f"time of {path}"
        if not call.pure:
            earlier = [one for one in before if one.path == path]
            assert {(one.key, one.prompt) for one in earlier} <= {(call.key, call.prompt)}, f"arguments of {path}"


async def check_kill(bench: Bench, graph: Graph, run_id: str, keep: int, before: list[probe.Call]) -> RunResult:
    """Puts an ended run back to its first `keep` entries, resumes it, and holds everything against the rules."""
    kept = (await bench.entries(run_id))[:keep]
    await bench.cut(run_id, keep)
    # The graph is the run's own, so that nothing in its journal may look strange.
    check_paths(bench.services.build(graph), build_replay(run_id, await bench.services.registry.history(RunId(run_id))))
    probe.CALLS.clear()
    result = await bench.finish(run_id)
    after = list(probe.CALLS)
    entries = await bench.entries(run_id)
    assert entries[:keep] == kept
    assert entries[keep].kind == "run.resumed"
    check_calls(kept, before, after)
    check_result(graph, result, entries)
    before += after
    return result
