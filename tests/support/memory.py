"""For tests of memories: the backends, a store of either with words for it, and records that filters tell apart."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orka.clock import now_ms
from orka.memory.basic import open_basic
from orka.memory.layout import Layout
from orka.memory.query import Candidate, Filters, Look
from orka.memory.record import MemoryRecord, new_record
from orka.memory.redisstack import open_redisstack
from orka.memory.store import MemoryStore
from orka.memory.text import query_words
from orka.redis.client import NodeRouter, RedisHandle, open_redis
from orka.settings import Settings
from orka.testing import HashEmbedder

Opener = Callable[[RedisHandle, NodeRouter, Layout], contextlib.AbstractAsyncContextManager[MemoryStore, bool | None]]

BACKENDS: dict[str, Opener] = {"redis": open_basic, "redisstack": open_redisstack}
"""Every test of the behaviour suite runs on each of them."""

LAYOUT = Layout(embedder="hash-64", dimension=64)


@dataclass(frozen=True)
class Memories:
    """A store that is open."""

    store: MemoryStore

    async def write(self, *memories: str | MemoryRecord) -> list[MemoryRecord]:
        """All of them are taken."""
        records = [new_record(memory) if isinstance(memory, str) else memory for memory in memories]
        vectors = await HashEmbedder(64).embed([record.content for record in records])
        assert await self.store.write(records, vectors) == [None] * len(records)
        return records

    async def near(self, text: str, **more: Any) -> list[str]:
        [vector] = await HashEmbedder(64).embed([text])
        return contents((await self.store.search([look(vector=vector, **more)]))[0])

    async def words(self, text: str, **more: Any) -> list[str]:
        return contents((await self.store.search([look(words=query_words(text), **more)]))[0])

    async def newest(self, **more: Any) -> list[str]:
        return contents((await self.store.search([look(**more)]))[0])


def look(
    *,
    count: int = 10,
    at_ms: int | None = None,
    vector: Any = None,
    words: Sequence[str] = (),
    offset: int = 0,
    **filters: Any,
) -> Look:
    """Other names are those of filters."""
    return Look(
        count=count,
        filters=Filters(**filters),
        at_ms=now_ms() if at_ms is None else at_ms,
        vector=None if vector is None else np.asarray(vector, dtype=np.float32),
        words=tuple(words),
        offset=offset,
    )


def contents(candidates: Sequence[Candidate]) -> list[str]:
    return [candidate.record.content for candidate in candidates]


@contextlib.asynccontextmanager
async def open_memories(backend: str, settings: Settings) -> AsyncIterator[Memories]:
    """As a process opens them: with a connection of its own to the server."""
    async with open_redis(settings) as redis:
        router = await redis.open_router()
        async with BACKENDS[backend](redis, router, LAYOUT) as store:
            yield Memories(store)


def distinct(content: str, **fields: Any) -> MemoryRecord:
    """A record of the first minute of 2026, unless `fields` say otherwise."""
    return new_record(content, **{"timestamp_ms": 1_767_225_600_000, **fields})
