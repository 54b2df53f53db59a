"""Memories written to a real server: nothing that was acknowledged is lost, and nothing is left behind."""

import asyncio
import signal
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from support.journals import client_of, cut_connections, own_server

from orka.errors import RecordRefused, StoreError, WriteLost
from orka.memory.memory import Memory
from orka.memory.opening import open_memories
from orka.memory.query import MemoryQuery
from orka.memory.record import MemoryRecord, key_for, new_key, new_record
from orka.redis.client import RedisHandle
from orka.redis.wheels import find_wheels
from orka.settings import Settings


@pytest.fixture(params=["redis", "redisstack"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def settings(backend: str, clean_redis: RedisHandle, redis_settings: Settings) -> Settings:
    """Of the session's server, which is empty."""
    return replace(redis_settings, backend=backend)


async def contents(memory: Memory, text: str = "", limit: int = 100) -> list[str]:
    return [hit.record.content for hit in await memory.search(MemoryQuery(text=text, limit=limit, mode="text"))]


async def test_searches_see_what_this_process_wrote_before(settings: Settings) -> None:
    async with open_memories(settings) as (_, memory):
        for number in range(1200):
            await memory.write(new_record(f"memory number{number}", timestamp_ms=number), until="accepted")
        assert await contents(memory, "number1199") == ["memory number1199"]
        assert await contents(memory, limit=2) == ["memory number1199", "memory number1198"]
        record = new_record("read at once")
        await memory.write(record, until="accepted")
        assert await memory.read([record.key, new_key()]) == [record, None]
        await memory.write(record, until="accepted")
        assert await memory.delete([record.key]) == 1
        await memory.write(record, until="accepted")
        assert sum([len(batch) async for batch in memory.scan()]) == 1201


@pytest.mark.parametrize("buffered", [True, False])
async def test_bad_records_are_refused_beside_good_ones(
    buffered: bool, settings: Settings, clean_redis: RedisHandle
) -> None:
    taken = key_for("taken")
    await clean_redis.client.set(taken, "not a hash")
    records = [new_record(f"good {number}") for number in range(8)]
    records[2] = new_record("bad", key=taken)
    records[5] = MemoryRecord(key=new_key(), content="bad \ud800")
    async with open_memories(settings, buffered=buffered) as (_, memory):
        found = await memory.write_many(records)
        assert [i for i, error in enumerate(found) if error is not None] == [2, 5]
        assert all(isinstance(found[i], RecordRefused) and records[i].key in str(found[i]) for i in (2, 5))
        with pytest.raises(RecordRefused):
            await memory.write(records[5], until="stored")
        assert sorted(await contents(memory)) == sorted(r.content for r in records if "good" in r.content)


async def test_errors_of_the_block_and_losses_at_its_end_come_as_they_are(backend: str, tmp_path: Path) -> None:
    with own_server(tmp_path / "redis", "--loadmodule", str(find_wheels().search)) as server:
        settings = replace(server.settings, backend=backend, journal_patience=0.3, redis_timeout=0.5)

        async def fails() -> None:
            async with open_memories(settings) as (_, memory):
                await memory.write(new_record("kept"), until="accepted")
                raise ZeroDivisionError

        async def loses() -> None:
            async with open_memories(settings) as (_, memory):
                server.end(signal.SIGKILL)
                await memory.write(lost, until="accepted")

        with pytest.raises(ZeroDivisionError):
            await fails()
        with anyio.move_on_after(0.3) as scope:
            async with open_memories(settings) as (_, memory):
                await memory.write(new_record("kept too"), until="accepted")
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        async with open_memories(settings) as (_, memory):
            assert sorted(await contents(memory)) == ["kept", "kept too"]
        lost = new_record("lost")
        with pytest.raises(WriteLost, match=lost.key) as caught:
            await loses()
        assert caught.value.keys == (lost.key,)


@pytest.mark.parametrize("buffered", [True, False])
async def test_a_server_that_restarts_under_load_costs_nothing_that_was_acknowledged(
    buffered: bool, backend: str, tmp_path: Path
) -> None:
    acknowledged: dict[str, str] = {}
    with own_server(tmp_path / "redis", "--loadmodule", str(find_wheels().search)) as server:
        settings = replace(server.settings, backend=backend)
        async with open_memories(settings, buffered=buffered) as (_, memory):
            going = True

            async def write(name: int) -> None:
                number = 0
                while going:
                    number += 1
                    record = new_record(f"number {number}", key=key_for(f"{name}", f"{number // 2}"))
                    await memory.write(record, until="stored")
                    acknowledged[record.key] = record.content

            async with asyncio.TaskGroup() as tasks:
                for name in range(40):
                    tasks.create_task(write(name))
                for _ in range(3):
                    before = len(acknowledged)
                    async with asyncio.timeout(10):
                        while len(acknowledged) < before + 100:  # noqa: ASYNC110
                            await asyncio.sleep(0.005)
                    await asyncio.to_thread(server.end, signal.SIGTERM)
                    await asyncio.to_thread(server.start)
                before = len(acknowledged)
                async with asyncio.timeout(10):
                    while len(acknowledged) < before + 100:  # noqa: ASYNC110
                        await asyncio.sleep(0.005)
                going = False
            found = await memory.read(list(acknowledged))
            assert [record and record.content for record in found] == list(acknowledged.values())
            assert len(await contents(memory, limit=10_000)) == min(10_000, len(acknowledged))
            if memory.writer is not None:
                statistics = memory.writer.statistics()
                assert (statistics.lost, statistics.refused, statistics.waiting) == (0, 0, 0)
                assert statistics.retried >= 1


async def test_lost_connections_are_made_again(settings: Settings, clean_redis: RedisHandle) -> None:
    async with open_memories(settings) as (_, memory):
        for number in range(5):
            await memory.write(new_record(f"{number}"), until="stored")
            await cut_connections(clean_redis.client)
        assert len(await contents(memory)) == 5


async def test_no_task_and_no_connection_is_left_behind(settings: Settings) -> None:
    async with client_of(settings) as client:
        before = asyncio.all_tasks(), await client.client_list()
        for _ in range(3):
            async with open_memories(settings) as (_, memory):
                await memory.write_many([new_record(f"{number}") for number in range(700)])
                assert len(await contents(memory)) == 100
            with pytest.raises(StoreError, match="closed"):
                await memory.write(new_record("late"))
        async with asyncio.timeout(5):
            while len(await client.client_list()) > len(before[1]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == before[0]
