"""Tokens of a Redis that is slow, away or cut off: bounded, counted, and nobody's business but the watcher's."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from support.crew import becomes
from support.journals import OwnServer, cut_connections, own_server, registry_of
from support.running import opened

from orka.agents.base import AgentInput
from orka.journal.events import Token
from orka.journal.tokens import Tokens
from orka.redis.client import RedisHandle, open_redis
from orka.redis.keys import run_keys
from orka.redis.pipeline import Pipe
from orka.settings import Settings
from orka.types import RunId


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnServer]:
    with own_server(tmp_path / "own") as started:
        yield started


@asynccontextmanager
async def sending(settings: Settings) -> AsyncIterator[Tokens]:
    async with open_redis(settings) as redis, anyio.create_task_group() as group:
        pipe = Pipe(await redis.open_router())
        tokens = Tokens(pipe)
        group.start_soon(tokens.run)
        yield tokens
        group.cancel_scope.cancel()
        await pipe.aclose()


async def test_a_server_that_stands_still_costs_the_oldest_tokens_and_no_time(server: OwnServer) -> None:
    keys = run_keys(RunId("run"), 16)
    shown: list[tuple[str, Token]] = []
    async with sending(server.settings) as tokens:
        run = tokens.of(keys, lambda path, token: shown.append((path, token)))
        first = run.emitter("a", "a", 1)
        first("hello")
        await becomes(lambda: _written(tokens, 1))
        server.send(signal.SIGSTOP)
        began = time.perf_counter()
        for number in range(10_000):
            first(f"{number:0100} ")
        assert time.perf_counter() - began < 0.5
        await asyncio.sleep(0.05)
        first("the last")
        counts = tokens.statistics()
        assert counts.accepted == 10_002
        assert counts.lost > 7_000
        assert counts.waiting == 10_002 - counts.lost - 1
        server.send(signal.SIGCONT)
        await becomes(lambda: _written(tokens, 10_002 - counts.lost))
        assert tokens.statistics().waiting == 0
    async with open_redis(server.settings) as redis:
        raw = await redis.client.xrevrange(keys.tokens, count=1)  # pyright: ignore
        assert b"the last" in raw[0][1][b"data"]
    assert shown[0] == ("a", Token(id="a", attempt=1, text="hello", seq=0))
    assert shown[-1][1].text.endswith("the last")
    lengths = [(token.seq, token.seq + len(token.text)) for _, token in shown]
    assert lengths == sorted(lengths)
    assert lengths[-1][1] == first.chars


async def _written(tokens: Tokens, count: int) -> bool:
    return tokens.statistics().written >= count


async def test_many_runs_together_are_bounded_too(server: OwnServer) -> None:
    async with sending(server.settings) as tokens:
        server.send(signal.SIGSTOP)
        runs = [tokens.of(run_keys(RunId(f"run{number}"), 16)) for number in range(40)]
        for number, run in enumerate(runs):
            emit = run.emitter("a", "a", 1)
            for _ in range(130):
                emit("x" * 2000)
            if number == 20:
                await asyncio.sleep(0.01)
        waiting = sum(run.chars for run in runs)
        assert 3_000_000 < waiting <= 4_000_000
        server.send(signal.SIGCONT)


async def test_one_piece_larger_than_all_room_keeps_its_end(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    keys = run_keys(RunId("run"), redis_settings.partitions)
    async with sending(redis_settings) as tokens:
        emitter = tokens.of(keys).emitter("a", "a", 1)
        emitter("x" * 1_000_000 + "end")
        await tokens.aclose()
        counts = tokens.statistics()
        assert counts.lost > 300
        assert counts.written + counts.lost == counts.accepted
    raw = await clean_redis.client.xrevrange(keys.tokens, count=1)  # pyright: ignore
    assert json.loads(raw[0][1][b"data"]) == {"id": "a", "attempt": 1, "text": "end", "seq": 1_000_000}


async def test_cut_connections_repeat_and_lose_nothing(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    async def talks(task: AgentInput) -> str:
        assert task.emit is not None
        for number in range(60):
            task.emit(f"{number} ")
            await asyncio.sleep(0.005)
        return "done"

    graph = "orchestrator: {agents: [a]}\nagents: [{id: a, type: talks}]"
    text = ""
    async with opened(redis_settings, graph, registry=registry_of(talks=talks)) as orchestrator:
        count = 0
        async for event in orchestrator.stream("x"):
            if event.kind == "node.token":
                count += 1
                assert event.data["seq"] == len(text)
                text += str(event.data["text"])
                if count in (5, 20, 35):
                    await cut_connections(clean_redis.client)
    assert text == "".join(f"{number} " for number in range(60))
