"""Random writes, deletes and searches on both backends, each on a server of its own: what one finds the other finds."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from servers import Servers

from orka.clock import now_ms
from orka.memory.query import Filters, MemoryQuery
from orka.memory.record import PREFIX, MemoryHit, MemoryRecord, new_record
from orka.memory_logger import MemoryLogger, create_memory_logger
from orka.redis.client import RedisHandle
from orka.settings import Settings

WORDS = (
    *("apple", "late", "parcel", "printer", "the", "of", "customer", "invoice", "7", "x", "é", "straße", "ΣΊΣΥΦΟΣ"),
    *(
        "東京都",
        "한국어",
        "naïve",
        "İstanbul",
        "don't",
        "e-mail",
        "foo_bar",
        "C++",
        "100%",
        "a\\b",
        "nbsp\u00a0y",
        "ﬁne",
    ),
)
NAMES = ("default", "shop", "", "日本", "a,b", "x|y", "*", "~x", " lead", "trail ", "\x1f", "n\0ul", "A", "a", "a=b")
VALUES = (1, 1.0, 2, True, False, None, 0.5, 1e300, -3, "1", "true", "x=y", "日本", 2**60)
KEYS = (*(f"{PREFIX}{number:032x}" for number in range(80)), f"{PREFIX}odd:1", f"{PREFIX}ünï")
TAGS = ("namespace", "memory_type", "category", "session", "node_id", "trace_id")


class Random:
    """What is written and asked."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.choice = self._random.choice
        self.chance = lambda share: self._random.random() < share
        self.begin = now_ms()

    def text(self) -> str:
        kind = self._random.randrange(20)
        if kind < 2:
            return ("", "  \n")[kind]
        between = self.choice((" ", " ", " ", "-", "_", "—", "\n", "，"))
        return between.join(self.choice(WORDS) for _ in range(self._random.randint(1, 12)))

    def record(self) -> MemoryRecord:
        tags = {name: self.choice(NAMES) for name in TAGS if self.chance(0.5)}
        return new_record(
            self.text(),
            key=self.choice(KEYS),
            importance=self.choice((0, 0.5, 1 / 3, 1)),
            timestamp_ms=self.choice((0, self.begin + 10**9, self.begin - self._random.randrange(10**9))),
            expire_ms=self.choice((0, 0, self.begin - 5000, self.begin + 10**7)),
            metadata={name: self.choice(VALUES) for name in ("n", "", "a=b", "a") if self.chance(0.4)},
            **tags,
        )

    def filters(self, record: MemoryRecord) -> Filters:
        wanted: dict[str, Any] = {}
        for name in TAGS:
            if self.chance(0.2):
                value = record.tag(name)
                wanted[name] = self.choice((value, (value, self.choice(NAMES)), [self.choice(NAMES)], ()))
        numbers = {
            "least_importance": (record.importance, 0.5, -1),
            "most_importance": (record.importance, 0.5, 2),
            "since_ms": (record.timestamp_ms, -(10**18), 0.5),
            "until_ms": (record.timestamp_ms, record.timestamp_ms + 1, 2**63),
            "expires_before_ms": (record.expire_ms, record.expire_ms + 1, 2**63),
        }
        wanted |= {name: self.choice(values) for name, values in numbers.items() if self.chance(0.1)}
        if record.metadata and self.chance(0.3):
            name = self.choice(tuple(record.metadata))
            wanted["metadata"] = {name: self.choice((record.metadata[name], [record.metadata[name], 2]))}
        return Filters(**wanted)

    def query(self, record: MemoryRecord) -> MemoryQuery:
        return MemoryQuery(
            text=self.choice((self.text(), record.content, "", self.choice(WORDS))),
            mode=self.choice(("vector", "vector", "text", "hybrid")),
            fusion=self.choice(("weighted", "rrf")),
            limit=self.choice((len(KEYS), len(KEYS), 5)),
            offset=self.choice((0, 0, 3)),
            filters=self.filters(record) if self.chance(0.7) else Filters(),
            least_similarity=self.choice((None, 0.3, 1.0)),
            temporal_weight=self.choice((0, 0.3)),
            context=self.choice(((), ("the late printer",))),
            context_weight=0.4,
            ef_runtime=self.choice((None, 1, 500)),
        )


@asynccontextmanager
async def both(redis_settings: Settings, servers: Servers) -> AsyncIterator[tuple[MemoryLogger, MemoryLogger]]:
    plain = replace(redis_settings, backend="redis", redis_url=servers.start().url)
    async with create_memory_logger(settings=redis_settings) as one, create_memory_logger(settings=plain) as other:
        yield one, other


async def agree(memories: tuple[MemoryLogger, MemoryLogger], seed: int, rounds: int) -> None:
    chance = Random(seed)
    there: dict[str, MemoryRecord] = {}
    for _ in range(rounds):
        records = [chance.record() for _ in range(chance.choice((1, 3, 12)))]
        for memory in memories:
            assert await memory.write_many(records) == [None] * len(records)
        there |= {record.key: record for record in records}
        if chance.chance(0.3):
            key = chance.choice(KEYS)
            alive = key in there and not there[key].expired(chance.begin)
            assert [await memory.delete_memory(key) for memory in memories] == [alive, alive], (seed, key)
            there.pop(key, None)
        for _ in range(4):
            query = chance.query(chance.choice(tuple(there.values()) or tuple(records)))
            one, other = [await (await memory.opened()).memory.search(query) for memory in memories]
            for hit in (*one, *other):
                assert there[hit.record.key] == hit.record, (seed, query)
                assert not hit.record.expired(chance.begin), (seed, query)
            assert len(one) == len(other), (seed, query)
            if query.limit == len(KEYS) and not query.offset:
                compare(one, other, (seed, query))


def compare(one: list[MemoryHit], other: list[MemoryHit], why: object) -> None:
    """How words count drifts apart, since the module goes on counting what was replaced: only that they do is compared."""
    found = {hit.record.key: hit for hit in other}
    assert {hit.record.key for hit in one} == found.keys(), why
    for hit in one:
        twin = found[hit.record.key]
        assert (hit.text_score is None) == (twin.text_score is None), why
        assert (hit.similarity is None) == (twin.similarity is None), why
        assert hit.similarity is None or hit.similarity == pytest.approx(twin.similarity, abs=1e-3), why


async def test_both_backends_find_the_same(
    clean_redis: RedisHandle, redis_settings: Settings, servers: Servers
) -> None:
    async with both(redis_settings, servers) as memories:
        await agree(memories, random.SystemRandom().randrange(10**6), 40)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(5))
async def test_both_backends_find_the_same_for_long(
    clean_redis: RedisHandle, redis_settings: Settings, servers: Servers, seed: int
) -> None:
    async with both(redis_settings, servers) as memories:
        await agree(memories, seed, 300)
