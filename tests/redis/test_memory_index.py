"""The index itself: made once by many, compared, named by an alias, made again when it is gone."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from servers import Servers
from support.indexes import AT_MS, COUNTS, WordCounts, by_meaning, by_words, contents, newest, note, opened, stored

from orka.errors import BackendMissing, IndexMismatch, StoreError
from orka.memory.index import Indexes, definition, differences, place_tags
from orka.memory.index_lock import IndexLock
from orka.memory.layout import INDEX, Layout
from orka.redis.client import RedisHandle, open_redis
from orka.redis.keys import memory_lock_key
from orka.redis.pipeline import Pipe
from orka.settings import Settings

LAYOUT = COUNTS.layout()


async def info(redis: RedisHandle, name: str = INDEX) -> dict[str, Any]:
    reply = await redis.client.execute_command("FT.INFO", name)
    return {reply[i].decode(): reply[i + 1] for i in range(0, len(reply), 2)}


async def test_the_documented_name_answers_for_the_index(clean_redis: RedisHandle) -> None:
    async with opened(clean_redis) as store:
        await stored(store, note("hello"))
        assert await clean_redis.client.execute_command("FT._LIST") == [b"orka_enhanced_memory:1"]
        assert (await info(clean_redis))["index_name"] == b"orka_enhanced_memory:1"
        found = await clean_redis.client.execute_command("FT.SEARCH", INDEX, "*", "NOCONTENT")
        assert found[0] == 1


async def test_many_processes_that_open_at_once_make_one_index(
    clean_redis: RedisHandle, redis_settings: Settings
) -> None:
    async def one(number: int) -> None:
        async with open_redis(redis_settings) as redis, opened(redis) as store:
            await stored(store, note(f"from {number}"))

    await asyncio.gather(*(one(number) for number in range(25)))
    async with opened(clean_redis) as store:
        assert len(await newest(store, 50)) == 25
    assert await clean_redis.client.execute_command("FT._LIST") == [b"orka_enhanced_memory:1"]
    assert not await clean_redis.client.exists(memory_lock_key())


async def test_an_index_that_is_as_it_should_be_takes_no_lock(clean_redis: RedisHandle) -> None:
    async with opened(clean_redis):
        pass
    await clean_redis.client.set(memory_lock_key(), "another")
    async with asyncio.timeout(5), opened(clean_redis) as store:
        await stored(store, note("x"))


async def test_another_layout_is_a_mismatch_with_the_remedy(clean_redis: RedisHandle) -> None:
    async with opened(clean_redis):
        pass
    for other in (
        WordCounts("others").layout(),
        WordCounts(dimension=64).layout(),
        COUNTS.layout(m=32),
        COUNTS.layout(precision="FLOAT32"),
    ):
        with pytest.raises(IndexMismatch, match="orka memory reindex"):
            async with opened(clean_redis, other):
                pass


async def test_an_index_that_somebody_made_otherwise_is_a_mismatch(clean_redis: RedisHandle) -> None:
    words = ["PREFIX", "1", "orka_memory:", "SCHEMA", "content", "TEXT", "v1", "VECTOR", "HNSW", "6"]
    words += ["TYPE", "FLOAT32", "DIM", "384", "DISTANCE_METRIC", "COSINE"]
    await clean_redis.client.execute_command("FT.CREATE", f"{INDEX}:1", *words)
    with pytest.raises(IndexMismatch) as caught:
        async with opened(clean_redis):
            pass
    for part in ("v1: data_type FLOAT32 there, FLOAT16 wanted", "dim 384 there, 32 wanted", "NOSTEM", "FT.DROPINDEX"):
        assert part in str(caught.value)
    await clean_redis.client.execute_command("FT.DROPINDEX", f"{INDEX}:1")
    async with opened(clean_redis):
        pass


async def test_differences_are_none_for_what_was_made_and_each_is_named(clean_redis: RedisHandle) -> None:
    layout = Layout(embedder="e", dimension=24, precision="FLOAT32", m=7, ef_construction=33, version=4)
    await clean_redis.client.execute_command("FT.CREATE", layout.index, *definition(layout))
    there = await info(clean_redis, layout.index)
    assert differences(there, layout) == []
    for name, value in (("dimension", 25), ("precision", "FLOAT16"), ("m", 8), ("ef_construction", 34), ("version", 5)):
        found = differences(there, msgspec.structs.replace(layout, **{name: value}))
        assert len(found) == 1, (name, found)


async def test_an_index_of_orka_0_9_gives_its_name_up_and_its_hashes_stay(clean_redis: RedisHandle) -> None:
    """An alias over the name of a real index would be accepted and ignored."""
    words = ["ON", "HASH", "PREFIX", "1", "orka_memory:", "SCHEMA", "content", "TEXT", "WEIGHT", "5", "SORTABLE"]
    words += ["node_id", "TEXT", "trace_id", "TEXT", "orka_expire_time", "NUMERIC", "content_vector", "VECTOR", "HNSW"]
    words += ["10", "TYPE", "FLOAT32", "DIM", "384", "DISTANCE_METRIC", "COSINE", "M", "16", "EF_CONSTRUCTION", "200"]
    await clean_redis.client.execute_command("FT.CREATE", INDEX, *words)
    old = {"content": "from long ago", "node_id": "n", "timestamp": str(AT_MS), "importance_score": "0.7"}
    old |= {"memory_type": "long_term", "metadata": '{"namespace":"tickets","log_type":"memory"}'}
    vector = np.ones(384, np.float32).tobytes()
    await clean_redis.client.hset(f"orka_memory:{'0' * 32}", mapping={**old, "content_vector": vector})
    async with opened(clean_redis) as store:
        assert (await info(clean_redis))["index_name"] == b"orka_enhanced_memory:1"
        [found] = await by_words(store, "long ago")
        assert (found.record.namespace, found.record.importance) == ("tickets", 0.7)
        assert contents(await newest(store)) == ["from long ago"]


async def test_a_foreign_index_under_the_documented_name_is_left_alone(clean_redis: RedisHandle) -> None:
    await clean_redis.client.execute_command("FT.CREATE", INDEX, "PREFIX", "1", "shop:", "SCHEMA", "x", "TEXT")
    with pytest.raises(IndexMismatch, match=r"not of memories.*FT.DROPINDEX"):
        async with opened(clean_redis):
            pass
    assert (await info(clean_redis))["index_name"] == INDEX.encode()


async def test_hashes_that_were_there_before_are_indexed_before_the_store_opens(clean_redis: RedisHandle) -> None:
    many = 20_000
    pipe = clean_redis.client.pipeline(transaction=False)
    [row] = LAYOUT.pack(COUNTS.vectors(["text"]))
    for n in range(many):
        pipe.hset(f"orka_memory:{n:032x}", mapping={"content": f"text {n}", "timestamp": str(n), LAYOUT.field: row})
    await pipe.execute()
    told: list[tuple[int, int]] = []
    async with opened(clean_redis, on_progress=lambda done, total: told.append((done, total))) as store:
        assert (await info(clean_redis))["num_docs"] == many
        assert contents(await by_words(store, "19999")) == ["text 19999"]
    assert told, "it takes longer than a moment"
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert all(done <= total <= 2 * many for done, total in told)


async def test_a_store_that_is_open_survives_an_emptied_database(clean_redis: RedisHandle) -> None:
    async with opened(clean_redis) as store:
        await stored(store, note("before"))
        await clean_redis.client.flushall()
        assert await newest(store) == []
        await stored(store, note("after"))
        assert contents(await by_meaning(store, "after")) == ["after"]
        await clean_redis.client.flushall()
        await stored(store, note("a write first"))
        assert contents(await by_words(store, "write")) == ["a write first"]
        assert (await info(clean_redis))["index_name"] == b"orka_enhanced_memory:1"


async def test_without_the_search_module_both_ways_out_are_named(
    servers: Servers, with_url: Callable[[str], Settings]
) -> None:
    async with open_redis(with_url(servers.start().url)) as redis:
        with pytest.raises(BackendMissing, match=r"Redis Stack.*ORKA_MEMORY_BACKEND=redis"):
            async with opened(redis):
                pass


async def test_the_lock_is_exclusive_and_says_who_is_slow(clean_redis: RedisHandle) -> None:
    router = await clean_redis.open_router()
    pipe = Pipe(router)
    try:
        async with IndexLock(pipe).held():
            with pytest.raises(StoreError, match="another process"):
                async with IndexLock(pipe, patience=0.2).held():
                    pass
        with pytest.raises(IndexMismatch):
            async with IndexLock(pipe).held():
                raise IndexMismatch("as it was raised")
        assert not await clean_redis.client.exists(memory_lock_key())
        assert await Indexes(pipe, router, "x").places(LAYOUT) != []
    finally:
        await pipe.aclose()


def test_every_primary_has_a_tag_of_its_own() -> None:
    nodes = [f"n{number}" for number in range(40)]
    tags = place_tags(lambda slot: nodes[slot * 40 // 16384], nodes)
    assert set(tags) == set(nodes)
    assert INDEX in tags.values()
