"""Memories without a search module: when they are read, what follows their changes, and what that costs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import numpy as np
import pytest
from servers import Servers, start_cluster
from support.journals import OwnServer, cut_connections, own_server
from support.memory import LAYOUT, Memories, contents, look, open_memories

from orka.clock import now_ms
from orka.errors import QueryRefused, StoreError
from orka.memory import following
from orka.memory.basic import BasicStore, open_basic
from orka.memory.record import PREFIX, new_key, new_record
from orka.redis.client import RedisHandle, open_redis
from orka.redis.keys import memory_changes_key
from orka.settings import Settings


@pytest.fixture
def settings(clean_redis: RedisHandle, redis_settings: Settings) -> Settings:
    """Of the session's server, which is empty."""
    return redis_settings


def basic(memories: Memories) -> BasicStore:
    assert isinstance(memories.store, BasicStore)
    return memories.store


async def changes_of(redis: RedisHandle) -> int:
    return await redis.client.xlen(memory_changes_key())


async def calls_of(redis: RedisHandle) -> dict[str, int]:
    """Commands that the server has executed, by name."""
    info = await redis.client.info("commandstats")
    return {name.removeprefix("cmdstat_"): stats["calls"] for name, stats in info.items()}


async def test_a_process_that_only_writes_reads_nothing(settings: Settings, clean_redis: RedisHandle) -> None:
    async with open_memories("redis", settings) as memories:
        await memories.write(*(f"memory {number}" for number in range(250)))
        await memories.store.delete([new_key()])
        statistics = basic(memories).statistics()
        assert (statistics.loads, statistics.memories) == (0, 0)
        assert await changes_of(clean_redis) == 4
        assert len(await memories.newest(count=300)) == 250
        assert basic(memories).statistics().loads == 1


async def test_a_search_asks_what_has_changed_and_reads_that_and_its_hits(
    settings: Settings, clean_redis: RedisHandle
) -> None:
    async with open_memories("redis", settings) as memories:
        await memories.newest()
        before = await calls_of(clean_redis)
        await memories.write(*(f"memory {number}" for number in range(200)))
        for _ in range(2):
            assert len(await memories.words("memory", count=10)) == 10
        after = await calls_of(clean_redis)
        cost = {name: after[name] - before.get(name, 0) for name in ("hmget", "hset", "xadd", "xread")}
        # What is new is read once, the 10 hits twice, and the layout of memories twice with the write and once with each look
        # at what has changed: the first search looks until there is no more.
        assert cost == {"hmget": 200 + 2 * 10 + 2 + 3, "hset": 200, "xadd": 2, "xread": 3}
        assert after.get("scan") == before.get("scan")


async def test_a_stream_cut_past_its_reader_is_made_up_for(settings: Settings, clean_redis: RedisHandle) -> None:
    async with open_memories("redis", settings) as here, open_memories("redis", settings) as there:
        await here.write("before")
        assert await here.newest() == ["before"]
        async with clean_redis.client.pipeline(transaction=True) as pipe:
            # As if more had been written at once than the stream keeps.
            pipe.hset(new_key(), mapping={"content": "unannounced", "timestamp": str(now_ms() + 1000)})
            pipe.xtrim(memory_changes_key(), maxlen=0, approximate=False)
            await pipe.execute()
        await there.write(new_record("after", timestamp_ms=now_ms() + 2000))
        with anyio.fail_after(10):
            while await here.newest() != ["after", "unannounced", "before"]:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        assert basic(here).statistics().loads == 2


async def test_a_flushed_server_gives_nothing_and_takes_new_memories(
    settings: Settings, clean_redis: RedisHandle
) -> None:
    async with open_memories("redis", settings) as memories:
        await memories.write(*(f"old {number}" for number in range(500)))
        assert len(await memories.newest()) == 10
        await clean_redis.client.flushall()
        assert await memories.newest() == await memories.words("old") == await memories.near("old") == []
        await memories.write("new")
        assert await memories.newest() == ["new"]


async def test_a_memory_removed_by_hand_gives_way_to_the_next(settings: Settings, clean_redis: RedisHandle) -> None:
    async with open_memories("redis", settings) as memories:
        records = await memories.write(*(new_record(f"plum {n}", timestamp_ms=n + 1) for n in range(400)))
        assert await memories.newest(count=1) == ["plum 399"]
        await clean_redis.client.unlink(*(record.key for record in records[3:]))
        assert await memories.newest(count=2) == ["plum 2", "plum 1"]
        assert sorted(await memories.words("plum")) == ["plum 0", "plum 1", "plum 2"]
        assert basic(memories).statistics().memories == 3


async def test_a_hash_changed_by_hand_is_not_given_where_it_does_not_belong(
    settings: Settings, clean_redis: RedisHandle
) -> None:
    async with open_memories("redis", settings) as memories:
        records = await memories.write(*(new_record(f"plum {n}", namespace="a") for n in range(30)))
        assert len(await memories.newest(count=99, namespace="a")) == 30
        for record in records[:29]:
            await clean_redis.client.hset(record.key, "namespace", "b")  # type: ignore[misc]
        assert await memories.newest(count=5, namespace="a") == ["plum 29"]


async def test_the_reader_comes_back_when_its_connection_is_cut(settings: Settings, clean_redis: RedisHandle) -> None:
    async with open_memories("redis", settings) as here, open_memories("redis", settings) as there:
        assert await here.newest() == []
        for number in range(5):
            await cut_connections(clean_redis.client)
            with contextlib.suppress(StoreError):
                await there.write("lost or not")
            await there.write(new_record(f"memory {number}", namespace="n"))
            with anyio.fail_after(10):
                while len(await here.newest(namespace="n")) != number + 1:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
        assert basic(here).statistics().reconnects >= 5
        assert basic(here).statistics().loads == 1


async def test_without_a_server_a_search_fails_and_says_why(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_PATIENCE", 0.3)
    with own_server(tmp_path / "own") as server:
        async with open_memories("redis", server.settings) as memories:
            stop(server)
            with anyio.fail_after(10), pytest.raises(StoreError, match=r"redis\.sock"):
                await memories.newest()
            server.start()
            await wait_for(memories.newest, [])
            await memories.write("here")
            assert await memories.newest() == ["here"]
            stop(server)
            with anyio.fail_after(10), pytest.raises(StoreError, match=r"redis\.sock"):
                await memories.newest()


def stop(server: OwnServer) -> None:
    server.end(9)  # type: ignore[arg-type]


async def wait_for(search: Callable[[], Any], expected: list[str]) -> None:
    with anyio.fail_after(10):
        while True:
            with contextlib.suppress(StoreError):
                assert await search() == expected
                return
            await anyio.sleep(0.02)


async def test_progress_of_a_long_loading_is_told(
    settings: Settings, clean_redis: RedisHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_AWHILE", 0.0)
    told: list[int] = []
    async with open_memories("redis", settings) as memories:
        await memories.write(*(f"memory {number}" for number in range(3000)))
    router = await clean_redis.open_router()
    async with open_basic(clean_redis, router, LAYOUT, on_progress=lambda done, total: told.append(done)) as store:
        assert len((await store.search([look(count=1)]))[0]) == 1
    assert told[-1] == 3000
    assert told == sorted(told)
    assert len(told) >= 3


async def test_writes_during_the_first_loading_are_found(settings: Settings) -> None:
    async with open_memories("redis", settings) as writer:
        await writer.write(*(f"memory {number}" for number in range(5000)))
    async with open_memories("redis", settings) as memories:

        async def write(number: int) -> None:
            await memories.write(new_record(f"late {number}", namespace="late"))
            assert f"late {number}" in await memories.newest(count=99, namespace="late")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(memories.newest)
            for number in range(20):
                tasks.start_soon(write, number)
                await anyio.sleep(0.005)
        assert basic(memories).statistics().memories == 5020


async def test_a_vector_of_another_size_is_refused(settings: Settings) -> None:
    async with open_memories("redis", settings) as memories:
        with pytest.raises(QueryRefused, match=r"\(3,\).*\(64,\).*'hash-64'"):
            await memories.store.search([look(vector=np.ones(3))])


async def test_closed_memories_leave_no_connection(settings: Settings, clean_redis: RedisHandle) -> None:
    async def clients() -> int:
        return len(await clean_redis.client.client_list())

    before = await clients()
    async with open_memories("redis", settings) as memories:
        await memories.write("one")
        await memories.newest()
    counts: list[int] = []
    with anyio.fail_after(5):
        while (counts := [*counts, await clients()])[-1] > before:  # noqa: ASYNC110
            await anyio.sleep(0.01)


@contextlib.asynccontextmanager
async def cluster(servers: Servers, with_url: Callable[[str], Settings]) -> AsyncIterator[Settings]:
    nodes = await start_cluster(servers)
    yield with_url(f"redis://:hunter2@127.0.0.1:{nodes[0].port}")


async def test_on_a_cluster_memories_of_all_primaries_are_found(
    servers: Servers, with_url: Callable[[str], Settings]
) -> None:
    async with cluster(servers, with_url) as settings, open_memories("redis", settings) as here:
        records = await here.write(*(new_record(f"grape {n}", timestamp_ms=n + 1) for n in range(300)))
        assert len(await here.words("grape", count=999)) == 300
        async with open_memories("redis", settings) as there:
            assert await there.newest(count=2) == ["grape 299", "grape 298"]
            await there.write(new_record("grape last", key=records[5].key, timestamp_ms=1000))
            assert await there.store.delete([record.key for record in records[200:]]) == 100
            with anyio.fail_after(10):
                while await here.newest(count=2) != ["grape last", "grape 199"]:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
        assert len([record async for batch in here.store.scan() for record in batch]) == 200
        [found] = await here.store.search([look(count=999, words=("grape",))])
        assert len(contents(found)) == 200


async def test_a_search_that_asyncio_cancels_leaves_the_mirror_whole(settings: Settings) -> None:
    async with open_memories("redis", settings) as memories:
        await memories.write(*(f"fig {number}" for number in range(3000)))
        assert len(await memories.newest(count=5)) == 5
        for number in range(30):
            task = asyncio.ensure_future(memories.words("fig", count=2000))
            writing = asyncio.ensure_future(memories.write(*(f"more {number} {n}" for n in range(30))))
            await asyncio.sleep(number / 3000)
            task.cancel()
            await writing
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert len(await memories.newest(count=9999)) == 3900


async def test_a_full_server_refuses_writes_and_takes_deletes(
    servers: Servers, with_url: Callable[[str], Settings], clean_redis: RedisHandle
) -> None:
    settings = with_url(servers.start().url)
    async with open_redis(settings) as redis, open_memories("redis", settings) as memories:
        records = await memories.write("one", "two")
        assert len(await memories.newest()) == 2
        await redis.client.config_set("maxmemory", 1)
        with pytest.raises(StoreError, match="maxmemory"):
            await memories.write("three")
        assert await memories.store.delete([records[0].key]) == 1
        assert await memories.newest() == ["two"]
        await redis.client.config_set("maxmemory", 0)
        await memories.write("three")
        assert sorted(await memories.newest()) == ["three", "two"]


async def test_keys_that_are_no_hashes_are_no_memories(settings: Settings, clean_redis: RedisHandle) -> None:
    async with open_memories("redis", settings) as memories:
        await clean_redis.client.set(PREFIX + "text", "x")
        await memories.write("one")
        assert await memories.newest() == ["one"]
        assert await memories.store.delete([PREFIX + "text"]) == 1
