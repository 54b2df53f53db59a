"""A server that is full, or a user who may only read: memories that are there stay whole and are found, and errors say why."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis
from servers import Servers, Started

from orka.errors import StoreError, WriteLost
from orka.memory_logger import MemoryLogger, create_memory_logger
from orka.settings import Settings

BOTH = pytest.mark.parametrize("backend", ["redis", "redisstack"])


@pytest.fixture
def server(servers: Servers) -> Started:
    return servers.start(search=True)


@pytest.fixture
async def client(server: Started) -> AsyncIterator[Any]:
    async with Redis(port=server.port) as client:
        yield client


def logger(server: Started, backend: str, user: str = "") -> MemoryLogger:
    url = server.url.replace("//", f"//{user}:pw@") if user else server.url
    settings = Settings(redis_url=url, journal_patience=0.2)
    return create_memory_logger(backend=backend, settings=settings, write="stored")


@BOTH
async def test_a_memory_that_cannot_be_replaced_stays_whole(backend: str, server: Started, client: Any) -> None:
    async with logger(server, backend) as memory:
        told = {"session": "s", "trace_id": "t", "metadata": {"a": 1}, "expiry_hours": 1}
        key = await memory.log_memory("green tea", key="k", **told)
        before = await client.hgetall(key)
        await client.config_set("maxmemory", 1)
        with pytest.raises(WriteLost, match=r"is full .*: give it more memory or delete data"):
            await memory.log_memory("black tea", key="k")
        assert await client.hgetall(key) == before
        assert 0 < await client.pttl(key) <= 3_600_000
        await client.config_set("maxmemory", 0)
        assert await memory.log_memory("black tea", key="k") == key
        assert await client.pttl(key) == -1
        left = await client.hgetall(key)
        assert left[b"content"] == b"black tea"
        assert not {b"session", b"trace_id", b"metadata", b"facets", b"orka_expire_time"} & set(left)


@BOTH
async def test_memories_in_a_full_server_are_found_and_deleted(backend: str, server: Started, client: Any) -> None:
    async with logger(server, backend) as memory:
        key = await memory.log_memory("green tea")
    await client.config_set("maxmemory", 1)
    async with logger(server, backend) as memory:
        [found] = await memory.search_memories("tea")
        assert found["key"] == key
        assert (await memory.get_memory_stats())["total_entries"] == 1
        assert await memory.delete_memory(key)


@BOTH
async def test_a_full_server_without_memories_says_so(backend: str, server: Started, client: Any) -> None:
    await client.config_set("maxmemory", 1)
    with pytest.raises(StoreError, match="is full"):
        async with logger(server, backend):
            pass


@BOTH
async def test_a_user_who_may_not_write_hashes_is_told_and_no_memory_is_blamed(
    backend: str, server: Started, client: Any
) -> None:
    await client.acl_setuser("app", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-hset"])
    async with logger(server, backend, "app") as memory:
        for name in (None, "named"):
            with pytest.raises(WriteLost, match="does not allow this user"):
                await memory.log_memory("green tea", key=name)
        assert (await memory.statistics()).writer.lost == 2  # type: ignore[union-attr]


@BOTH
async def test_a_user_who_may_only_read_finds_what_others_wrote(backend: str, server: Started, client: Any) -> None:
    async with logger(server, backend) as memory:
        key = await memory.log_memory("green tea")
    allowed = ["+@read", "+@connection", "+info", "+ft.search", "+ft.info", "+ft._list", "+script|load", "+config|get"]
    await client.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["*"], commands=allowed)
    memory = logger(server, backend, "reader")
    assert [one["content"] for one in await memory.search_memories("tea")] == ["green tea"]
    assert len(await memory.get_all_memories()) == 1
    with pytest.raises(WriteLost, match="does not allow this user"):
        await memory.log_memory("black tea")
    with anyio.fail_after(5), pytest.raises(StoreError, match="does not allow this user"):
        await memory.delete_memory(key)
    await memory.close()
    assert await client.exists(key)


async def test_who_may_only_read_needs_no_permission_for_scripts(server: Started, client: Any) -> None:
    async with logger(server, "redis") as memory:
        await memory.log_memory("green tea", key="k")
    await client.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@read", "+info"])
    memory = logger(server, "redis", "reader")
    with anyio.fail_after(5):
        assert [one["content"] for one in await memory.search_memories("tea")] == ["green tea"]
        with pytest.raises(WriteLost, match="does not allow this user"):
            await memory.log_memory("black tea", key="k")
    await memory.close()


async def test_a_user_without_rights_on_the_keys_of_memories_is_told(server: Started, client: Any) -> None:
    await client.acl_setuser("other", enabled=True, passwords=["+pw"], keys=["other:*"], commands=["+@all"])
    settings = replace(Settings(redis_url=server.url.replace("//", "//other:pw@")), backend="redis")
    with pytest.raises(StoreError, match="does not allow this user"):
        async with create_memory_logger(settings=settings):
            pass


async def test_counts_do_not_take_the_news_of_a_loss_away(server: Started, client: Any) -> None:
    async with logger(server, "redisstack") as memory:
        await memory.log_memory("green tea")
        await client.config_set("maxmemory", 1)
        await memory.log_memory("black tea", write="accepted")
        assert (await memory.get_memory_stats())["total_entries"] == 1
        assert (await memory.cleanup_expired_memories())["total_checked"] == 1
        with pytest.raises(WriteLost, match="is full"):
            await memory.flush()
