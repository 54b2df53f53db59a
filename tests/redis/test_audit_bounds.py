"""Events of runs when Redis is slow, away, or does not take them: bounded, counted, and never a run's business."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from redis.asyncio import Redis
from servers import Servers
from support.crew import becomes
from support.journals import OwnServer, cut_connections, own_server
from support.running import opened

from orka.memory.audit import Audit, Happening
from orka.redis.client import RedisHandle, open_redis
from orka.redis.keys import memory_events_key
from orka.redis.pipeline import Pipe
from orka.settings import Settings
from orka.types import RunStatus

ECHO = "orchestrator: {id: g, agents: [a]}\nagents: [{id: a, type: echo}]"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnServer]:
    with own_server(tmp_path / "own") as started:
        yield started


@asynccontextmanager
async def sending(settings: Settings) -> AsyncIterator[Audit]:
    async with open_redis(settings) as redis, anyio.create_task_group() as group:
        pipe = Pipe(await redis.open_router())
        audit = Audit(pipe, "agents")
        group.start_soon(audit.run)
        yield audit
        await audit.aclose()
        await pipe.aclose()


def event(number: int, text: str = "") -> Happening:
    return Happening(f"a{number}", "Kind", {"n": number}, {"response": text}, {"run_id": "r"}, 1_767_225_600_000)


async def _written(audit: Audit, count: int) -> bool:
    return audit.statistics().written >= count


async def agents(settings: Settings, key: str = memory_events_key()) -> list[str]:
    async with open_redis(settings) as redis:
        return [fields[b"agent_id"].decode() for _, fields in await redis.client.xrange(key)]  # pyright: ignore


def lost(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Reasons that were logged for losing events."""
    facts = [record.__dict__["orka"] for record in caplog.records if record.name == "orka"]
    return [fact["why"] for fact in facts if fact["event"] == "audit.lost"]


async def test_a_server_that_stands_still_costs_the_oldest_events_and_no_time(
    server: OwnServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with sending(server.settings) as audit:
        audit.add(event(0))
        await becomes(lambda: _written(audit, 1))
        server.send(signal.SIGSTOP)
        audit.add(event(1))
        await asyncio.sleep(0.1)  # it is under way
        began = time.perf_counter()
        for number in range(2, 10_000):
            audit.add(event(number, "x" * 10_000))
        assert time.perf_counter() - began < 1
        counts = audit.statistics()
        assert (counts.accepted, counts.waiting, counts.lost) == (10_000, 4097, 10_000 - 4098)
        assert counts.oldest_ms > 0
        server.send(signal.SIGCONT)
        await becomes(lambda: _written(audit, 4098))
        assert audit.statistics().waiting == 0
    assert lost(caplog) == ["the buffer is full"]
    assert await agents(server.settings) == ["a0", "a1", *(f"a{number}" for number in range(10_000 - 4096, 10_000))]


async def test_a_restart_of_redis_loses_nothing_that_waits(server: OwnServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with sending(server.settings) as audit:
        audit.add(event(0))
        await becomes(lambda: _written(audit, 1))
        server.end(signal.SIGTERM)
        for number in range(1, 500):
            audit.add(event(number))
        await asyncio.sleep(0.2)
        assert audit.statistics().waiting == 499
        server.start()
        await becomes(lambda: _written(audit, 500))
        assert audit.statistics().retried > 0
    assert lost(caplog) == []
    assert await agents(server.settings) == [f"a{number}" for number in range(500)]


async def test_cut_connections_lose_nothing(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    async with sending(redis_settings) as audit:
        for number in range(100):
            audit.add(event(number))
            if number % 20 == 10:
                await cut_connections(clean_redis.client)
            await asyncio.sleep(0.002)
    found = await agents(redis_settings)
    assert list(dict.fromkeys(found)) == [
        f"a{number}" for number in range(100)
    ]  # one of a lost reply may be there twice


async def test_the_end_does_not_wait_for_a_server_that_is_gone(
    server: OwnServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_redis(server.settings) as redis, anyio.create_task_group() as group:
        pipe = Pipe(await redis.open_router())
        audit = Audit(pipe, "runs")
        group.start_soon(audit.run)
        audit.add(event(0))
        await becomes(lambda: _written(audit, 1))
        server.send(signal.SIGSTOP)
        for number in range(1, 4):
            audit.add(event(number))
        with anyio.fail_after(2):
            await audit.aclose()
        assert (audit.statistics().written, audit.statistics().lost, audit.statistics().waiting) == (1, 3, 0)
        server.send(signal.SIGCONT)
        await pipe.aclose()
    assert lost(caplog) == ["Redis did not take them before the end"]


async def test_what_is_added_just_before_the_end_is_sent(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    async with sending(redis_settings) as audit:
        for number in range(600):
            audit.add(event(number))
    assert len(await agents(redis_settings)) == 600


async def test_cancelling_around_it_does_not_keep_it_from_the_end(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    with anyio.CancelScope() as scope:
        async with opened(replace(redis_settings, audit="runs"), ECHO) as orchestrator:
            await orchestrator.execute("x")
            scope.cancel()
            await orchestrator.execute("y")
    assert scope.cancelled_caught
    assert await agents(redis_settings) == ["g", "g"]


async def test_a_user_who_may_not_write_the_stream_is_told_once_and_runs_go_on(
    servers: Servers, with_url: Callable[[str], Settings], caplog: pytest.LogCaptureFixture
) -> None:
    started = servers.start()
    async with Redis(port=started.port) as client:
        user = ["ACL", "SETUSER", "me", "on", ">pw", "~{orka:*", "+@all", "-@admin"]
        await client.execute_command(*user)  # pyright: ignore[reportUnknownMemberType]
    settings = replace(with_url(f"redis://me:pw@127.0.0.1:{started.port}/0"), audit="agents")
    async with opened(settings, ECHO) as orchestrator:
        for _ in range(5):
            assert (await orchestrator.execute("x")).status is RunStatus.COMPLETED
            await asyncio.sleep(0.03)
        await becomes(lambda: _idle(orchestrator.statistics))
        counts = orchestrator.statistics().audit
        assert (counts.accepted, counts.written, counts.lost) == (15, 0, 15)
        assert counts.round_trips > 1
    [fact] = [
        record.__dict__["orka"]
        for record in caplog.records
        if record.__dict__.get("orka", {}).get("event") == "audit.lost"
    ]
    assert fact["why"] == "Redis refuses them"
    assert "permissions" in fact["error"]
    assert fact["advice"] == "let this user write 'orka:memory', or set ORKA_AUDIT=off"


async def _idle(statistics: Callable[[], object]) -> bool:
    return statistics().audit.waiting == 0  # type: ignore[attr-defined]


async def test_a_key_of_another_kind_is_left_as_it_is(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    await clean_redis.client.set(memory_events_key(), "somebody's")
    async with opened(redis_settings, ECHO) as orchestrator:
        assert (await orchestrator.execute("x")).output == "x"
        await becomes(lambda: _idle(orchestrator.statistics))
        assert orchestrator.statistics().audit.lost == 2
    assert await clean_redis.client.get(memory_events_key()) == b"somebody's"


async def test_a_server_without_room_is_asked_again(
    servers: Servers, with_url: Callable[[str], Settings], caplog: pytest.LogCaptureFixture
) -> None:
    settings = with_url(servers.start().url)
    async with sending(settings) as audit, open_redis(settings) as redis:
        await redis.client.config_set("maxmemory", 1)
        for number in range(3):
            audit.add(event(number))
        await becomes(lambda: _retried(audit))
        await redis.client.config_set("maxmemory", 0)
        await becomes(lambda: _written(audit, 3))
    assert lost(caplog) == []
    assert await agents(settings) == ["a0", "a1", "a2"]


async def _retried(audit: Audit) -> bool:
    return audit.statistics().retried > 0
