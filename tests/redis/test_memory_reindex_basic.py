"""Memories without a search module embedded anew: those of OrKa 0.9, and under another model, while processes search them."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from servers import Servers

from orka.embedding.choice import open_embedder
from orka.errors import BackendMissing, IndexMismatch
from orka.memory.layout import Layout
from orka.memory.memory import Memory
from orka.memory.opening import open_memories
from orka.memory.query import Filters, MemoryQuery
from orka.memory.record import PREFIX, new_record
from orka.memory.reindex import Reindexed, reindex
from orka.redis.client import open_redis
from orka.settings import Settings


@pytest.fixture
def plain(servers: Servers) -> Settings:
    return Settings(redis_url=servers.start().url, backend="redis")


async def rebuilt(settings: Settings, *, indexed: bool = False, **form: Any) -> Reindexed:
    async with open_redis(settings) as redis, open_embedder(settings) as embedder:
        wanted = Layout(embedder=embedder.name, dimension=embedder.dimension, **form)
        return await reindex(redis, await redis.open_router(), wanted, embedder, indexed=indexed)


async def nearest(memory: Memory, text: str, **filters: Any) -> list[str]:
    query = MemoryQuery(text=text, mode="vector", limit=1, filters=Filters(**filters))
    return [hit.record.content for hit in await memory.search(query)]


async def former(settings: Settings, text: str, number: int, **metadata: Any) -> None:
    """A memory as OrKa 0.9 left it."""
    fields = {
        "content": text,
        "timestamp": "1700000000000",
        "metadata": json.dumps(metadata),
        "content_vector": b"\1" * 1536,
    }
    async with open_redis(settings) as redis:
        await redis.client.hset(f"{PREFIX}{number:032x}", mapping=fields)  # type: ignore[misc]


async def test_memories_of_orka_0_9_are_found_by_meaning_by_a_process_that_searches_already(plain: Settings) -> None:
    await former(plain, "The parcel of Tuesday has not arrived", 1, namespace="shop", customer=7)
    await former(plain, "The printer is out of paper", 2, namespace="office")
    async with open_memories(plain) as (_, memory):
        assert await nearest(memory, "a package that is late") == []
        done = await rebuilt(plain)
        assert (done.memories, done.embedded, done.converted, done.layout.version) == (2, 2, 2, 1)
        assert await nearest(memory, "a package that is late", metadata={"customer": 7}) == [
            "The parcel of Tuesday has not arrived"
        ]
        assert await nearest(memory, "a package that is late", namespace="office") == ["The printer is out of paper"]
    async with open_redis(plain) as redis:
        assert await redis.client.hget(f"{PREFIX}{1:032x}", "content_vector") is None  # type: ignore[misc]
    again = await rebuilt(plain)
    assert (again.embedded, again.converted) == (0, 0)


async def test_without_a_search_module_there_can_be_no_index(plain: Settings) -> None:
    with pytest.raises(BackendMissing, match="ORKA_MEMORY_BACKEND=redis"):
        await rebuilt(plain, indexed=True)


async def test_another_model_serves_and_processes_with_the_old_one_are_told(plain: Settings) -> None:
    other = replace(plain, embedding_model="wordllama-128")
    async with AsyncExitStack() as stack:
        _, searching = await stack.enter_async_context(open_memories(plain))
        _, writing = await stack.enter_async_context(open_memories(plain, buffered=False))
        await writing.write(new_record("The parcel of Tuesday has not arrived"))
        assert await nearest(searching, "a package that is late") == ["The parcel of Tuesday has not arrived"]
        done = await rebuilt(other)
        assert (done.embedded, done.layout.version, done.layout.dimension) == (1, 2, 128)
        with pytest.raises(IndexMismatch, match="wordllama-128"):
            await nearest(searching, "a package that is late")
        [error] = await writing.write_many([new_record("The printer is out of paper")])
        assert "start it again with that model" in str(error)
    with pytest.raises(IndexMismatch, match="orka memory reindex"):
        async with open_memories(plain):
            pass
    done = await rebuilt(other)
    assert done.embedded == 1  # which the process with the old model had written
    async with open_memories(other) as (_, memory):
        assert await nearest(memory, "no sheets in the machine") == ["The printer is out of paper"]


async def test_writers_and_searches_go_over_to_another_form_of_the_same_vectors(plain: Settings) -> None:
    async with open_memories(plain) as (redis, memory):
        await memory.write(new_record("The parcel of Tuesday has not arrived", key=f"{PREFIX}named"))
        ended = False

        async def write() -> int:
            written = 0
            while not ended:
                await memory.write(new_record(f"The printer {written} is out of paper", namespace=f"n{written}"))
                assert await nearest(memory, "printer", namespace=f"n{written}") == [
                    f"The printer {written} is out of paper"
                ]
                written += 1
            return written

        writing = asyncio.create_task(write())
        for precision in ("FLOAT32", "FLOAT16"):
            await rebuilt(plain, precision=precision)
        ended = True
        written = await writing
        await memory.write(new_record("The order has been cancelled", key=f"{PREFIX}named"))
        assert await nearest(memory, "they do not want it any more", namespace="default") == [
            "The order has been cancelled"
        ]
        assert written > 0
        for number in range(written):
            assert await nearest(memory, "printer", namespace=f"n{number}") == [f"The printer {number} is out of paper"]
        fields = {name async for key in redis.client.scan_iter(f"{PREFIX}*") for name in await redis.client.hkeys(key)}  # type: ignore[misc]
        assert {name for name in fields if name.startswith(b"v")} == {b"v3"}


async def test_an_emptied_database_keeps_the_model_of_the_process_that_writes(plain: Settings) -> None:
    async with open_memories(plain, buffered=False) as (redis, memory):
        await memory.write(new_record("before"))
        await redis.client.flushall()
        await memory.write(new_record("after"))
        with pytest.raises(IndexMismatch):
            async with open_memories(replace(plain, embedding_model="wordllama-128")):
                pass
