"""Memories for tests of the index: an embedder of word counts, records, and the store opened on a layout."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
from numpy.typing import NDArray

from orka.memory.index import OnProgress
from orka.memory.layout import Layout, agree_on
from orka.memory.query import Candidate, Filters, Look
from orka.memory.record import MemoryRecord, new_record
from orka.memory.redisstack import RedisStackStore, open_redisstack
from orka.memory.text import query_words, words_of
from orka.redis.client import RedisHandle, open_redis
from orka.settings import Settings

AT_MS = 1_764_000_000_000


class WordCounts:
    """Texts with the same words have the same vector."""

    def __init__(self, name: str = "counts", dimension: int = 32) -> None:
        self.name = name
        self.dimension = dimension
        self.embedded = 0

    async def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        self.embedded += len(texts)
        return self.vectors(texts)

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in words_of(text):
                seed = int.from_bytes(hashlib.blake2b(f"{self.name} {word}".encode(), digest_size=8).digest(), "big")
                row += np.random.default_rng(seed).normal(size=self.dimension).astype(np.float32)
            row /= np.linalg.norm(row) or 1.0
        return rows

    def layout(self, **others: object) -> Layout:
        return Layout(embedder=self.name, dimension=self.dimension, **others)  # type: ignore[arg-type]


COUNTS = WordCounts()


@asynccontextmanager
async def opened(
    redis: RedisHandle, layout: Layout | None = None, on_progress: OnProgress | None = None
) -> AsyncIterator[RedisStackStore]:
    agreed = await agree_on(redis.client, layout or COUNTS.layout())
    async with open_redisstack(redis, await redis.open_router(), agreed, on_progress=on_progress) as store:
        yield store


@asynccontextmanager
async def opened_at(settings: Settings, layout: Layout | None = None) -> AsyncIterator[RedisStackStore]:
    async with open_redis(settings) as redis, opened(redis, layout) as store:
        yield store


async def stored(store: RedisStackStore, *records: MemoryRecord, by: WordCounts = COUNTS) -> None:
    refused = await store.write(records, by.vectors([record.content for record in records]))
    assert list(refused) == [None] * len(records), refused


def note(content: str, **others: object) -> MemoryRecord:
    return new_record(content, **{"timestamp_ms": AT_MS, **others})  # type: ignore[arg-type]


async def by_meaning(
    store: RedisStackStore, text: str, count: int = 10, by: WordCounts = COUNTS, at_ms: int = AT_MS, **filters: object
) -> list[Candidate]:
    [vector] = by.vectors([text])
    look = Look(count=count, filters=Filters(**filters), at_ms=at_ms, vector=vector)  # type: ignore[arg-type]
    [found] = await store.search([look])
    return list(found)


async def by_words(store: RedisStackStore, text: str, count: int = 10, **filters: object) -> list[Candidate]:
    look = Look(count=count, filters=Filters(**filters), at_ms=AT_MS, words=query_words(text))  # type: ignore[arg-type]
    [found] = await store.search([look])
    return list(found)


async def newest(
    store: RedisStackStore, count: int = 10, offset: int = 0, at_ms: int = AT_MS, **filters: object
) -> list[Candidate]:
    look = Look(count=count, offset=offset, filters=Filters(**filters), at_ms=at_ms)  # type: ignore[arg-type]
    [found] = await store.search([look])
    return list(found)


def contents(found: Sequence[Candidate]) -> list[str]:
    return [candidate.record.content for candidate in found]
