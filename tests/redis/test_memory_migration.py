"""Memories stay when the backend changes, in both directions, and those of OrKa 0.9 are there."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orka.memory.opening import open_memories
from orka.memory.query import Filters, MemoryQuery
from orka.memory.record import PREFIX
from orka.memory.reindex import reindex
from orka.memory_logger import MemoryLogger, create_memory_logger
from orka.redis.client import RedisHandle
from orka.settings import Settings

WAYS = [("redis", "redisstack"), ("redisstack", "redis")]


@pytest.fixture
def settings(clean_redis: RedisHandle, redis_settings: Settings) -> Settings:
    """Of the session's server, which is empty."""
    return redis_settings


def logger(settings: Settings, backend: str) -> MemoryLogger:
    return create_memory_logger(backend=backend, settings=settings)


async def found(memory: MemoryLogger, text: str = "", **more: Any) -> list[str]:
    return [one["content"] for one in await memory.search(MemoryQuery(text=text, **more))]  # type: ignore[misc]


@pytest.mark.parametrize(("former", "latter"), WAYS)
async def test_what_one_backend_wrote_the_other_finds_and_back(former: str, latter: str, settings: Settings) -> None:
    async with logger(settings, former) as memory:
        keys = [
            await memory.log_memory(text, namespace=space, memory_type=kind, importance_score=0.5, metadata={"n": n})
            for n, (text, space, kind) in enumerate(
                [
                    ("the parcel has not arrived", "post", "short_term"),
                    ("green tea is served warm", "kitchen", "long_term"),
                    ("the printer is out of paper", "office -:{}@*|", "long_term"),
                ]
            )
        ]
        before = await memory.get_memory_stats()
    async with logger(settings, latter) as memory:
        after = await memory.get_memory_stats()
        for name in ("total_entries", "entries_by_memory_type", "entries_by_namespace", "entries_by_category"):
            assert after[name] == before[name]
        assert await found(memory, "a package that is late", mode="vector", limit=1) == ["the parcel has not arrived"]
        assert await found(memory, "paper", mode="text") == ["the printer is out of paper"]
        assert await found(memory, "something hot to drink", limit=1) == ["green tea is served warm"]
        assert await found(memory, filters=Filters(namespace="office -:{}@*|")) == ["the printer is out of paper"]
        assert await found(memory, filters=Filters(metadata={"n": 0})) == ["the parcel has not arrived"]
        assert await memory.delete_memory(keys[0])
        await memory.log_memory("the parcel is here", namespace="post")
        await memory.log_memory("oolong is served warm", key="tea", namespace="kitchen")
    async with logger(settings, former) as memory:
        assert sorted(await found(memory)) == [
            "green tea is served warm",
            "oolong is served warm",
            "the parcel is here",
            "the printer is out of paper",
        ]
        assert await found(memory, "a package that is late", mode="vector", limit=1) == ["the parcel is here"]
        await memory.log_memory("black tea is served warm", key="tea", namespace="kitchen")
    async with logger(settings, latter) as memory:
        assert await found(memory, "oolong", mode="text") == []
        assert await found(memory, "black", mode="text") == ["black tea is served warm"]


async def test_many_are_indexed_before_the_first_search_is_answered(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with logger(settings, "redis") as memory:
        await memory.write_many([f"memory number {number}" for number in range(3000)])
    async with open_memories(replace(settings, backend="redisstack"), buffered=False) as (_, memory):
        assert len(await memory.search(MemoryQuery(text="memory", mode="text", limit=5000))) == 3000
    async with open_memories(replace(settings, backend="redisstack"), buffered=False):
        pass
    facts = [getattr(record, "orka", {}) for record in caplog.records]
    reported = [fact["memories"] for fact in facts if fact.get("event") == "memory.indexed"]
    assert reported == [3000], "counted and reported, once"


@pytest.mark.parametrize("backend", ["redis", "redisstack"])
async def test_memories_of_the_old_orka_are_found_counted_and_embedded(
    backend: str, settings: Settings, clean_redis: RedisHandle
) -> None:
    client: Any = clean_redis.client
    metadata = {"namespace": "faults", "session": "s", "category": "stored", "log_type": "memory", "content_type": "x"}
    for number, text in enumerate(("the router forgets its address", "a cable was unplugged")):
        fields: dict[str, Any] = {
            "content": text,
            "node_id": "writer",
            "trace_id": "old-run",
            "timestamp": 1_700_000_000_000 + number,
            "importance_score": 0.9,
            "memory_type": "long_term",
            "metadata": json.dumps(metadata),
            "content_vector": np.random.default_rng(number).standard_normal(384).astype(np.float32).tobytes(),
        }
        await client.hset(f"{PREFIX}{number:032x}", mapping=fields)
    both = ["a cable was unplugged", "the router forgets its address"]
    async with logger(settings, backend) as memory:
        await memory.log_memory("of today", namespace="today")
        assert await found(memory, "router", mode="text") == ["the router forgets its address"]
        assert sorted(await found(memory)) == [both[0], "of today", both[1]]
        stats = await memory.get_memory_stats()
        assert stats["entries_by_namespace"] == {"faults": 2, "today": 1}
        assert await memory.get_all_memories("old-run") != []
    if backend == "redisstack":  # until then its filters know what the module has indexed
        async with open_memories(replace(settings, backend=backend), buffered=False) as (redis, opened):
            done = await reindex(redis, await redis.open_router(), opened.layout, opened.embedder)
            assert (done.memories, done.embedded, done.converted) == (3, 2, 2)
    async with logger(settings, backend) as memory:
        assert await found(memory, filters=Filters(namespace="faults", session="s")) == both
        assert await found(memory, filters=Filters(trace_id="old-run", node_id="writer")) == both
        assert await found(memory, filters=Filters(metadata={"content_type": "x"})) == both
        if backend == "redisstack":
            assert await found(memory, "network device", mode="vector", limit=1) == ["the router forgets its address"]
