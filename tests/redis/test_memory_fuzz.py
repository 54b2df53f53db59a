"""Odd texts, names, metadata and queries: no error, nothing that exists is missed, nothing of others is given."""

import random
from typing import Any

import pytest
from support.indexes import AT_MS, COUNTS, opened

from orka.memory.query import Filters, Look
from orka.memory.record import MemoryRecord, new_record
from orka.memory.redisstack import RedisStackStore
from orka.memory.text import query_words
from orka.redis.client import RedisHandle

SYNTAX = "-:{}[]()@*|\"'\\~%$=><!&^#;,./?+_` \t\n\r\x00\x1f\x7f"
QUERIES = (
    *(
        "*",
        "",
        "-",
        "@namespace:{*}",
        "*=>[KNN 10 @v1 $vector]",
        ")|(*",
        "} | @namespace:{*",
        "$p0",
        "$vector",
        "(",
        "|",
    ),
    *('"', "\\", "w'*'", "%%x%%", "ismissing(@session)", "=>{$weight: 0}", "nan", "inf", "~x", "[-inf +inf]", "a\x1fb"),
    *("\r\n*1\r\n$8\r\nFLUSHALL", "LIMIT 0 0", "AS distance", "DIALECT", "~" + "0" * 32, "a=b", "=", "a=b=c", "A", "a"),
    *(
        "é",
        "e\u0301",
        "Ω",
        "\u2126",
        "ﬃ",
        "İ",
        "i\u0307",
        "ᾳ",
        "Ꭰ",
        "ꭰ",
        "ǅ",
        "👩\u200d👧",
        "\u202eabc",
        "\ufeff",
        "\u200b",
    ),
)
BATCH = 200


class Odd:
    """Text that somebody will send one day."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def text(self, most: int = 12) -> str:
        chance = self._random
        kind = chance.randrange(10)
        if kind == 0:
            return ""
        if kind == 1:
            return chance.choice(QUERIES)
        if kind == 2:
            return "".join(chance.choice(SYNTAX) for _ in range(chance.randint(1, most)))
        if kind == 3:
            return chance.choice(("x", "ß", "字", "-", " ", "é", "\ud800")) * chance.choice((1, 255, 256, 257, 4096))
        if kind == 4:
            return "".join(chr(chance.randrange(0x110000)) for _ in range(chance.randint(1, most)))
        if kind == 5:
            return "".join(chr(chance.randrange(0x3000)) for _ in range(chance.randint(1, most)))
        words = ["".join(chance.choice("abcEFGéßİσ字한0 9") for _ in range(chance.randint(1, 5))) for _ in range(3)]
        return chance.choice((" ", "-", "_", "—", "\n", "'", ":")).join(words)

    def sound(self) -> str:
        """Without halves of surrogate pairs: metadata that have them are refused."""
        return self.text().encode("utf-8", "replace").decode()

    def scalar(self) -> Any:
        chance = self._random
        number = chance.choice((chance.randint(-(2**60), 2**60), chance.random(), 0, 1e300))
        return chance.choice((self.sound(), None, True, False, number))

    def record(self) -> MemoryRecord:
        chance = self._random
        return new_record(
            " ".join(self.text(60) for _ in range(chance.randint(1, 4))),
            namespace=self.text(),
            memory_type=self.text() if chance.random() < 0.3 else "short_term",
            category=self.text() if chance.random() < 0.3 else "stored",
            session=self.text(),
            node_id=self.text(),
            trace_id=self.text() if chance.random() < 0.3 else "",
            importance=chance.random(),
            timestamp_ms=AT_MS - chance.randrange(10**6),
            expire_ms=chance.choice((0, AT_MS * 2)),
            metadata={self.sound(): self.scalar() for _ in range(chance.randint(0, 3))},
        )

    def looks(self, record: MemoryRecord) -> list[Look]:
        """All of which must find the record, and only records of its namespace."""
        chance = self._random
        names = ("memory_type", "category", "session", "node_id", "trace_id")
        tags = {name: record.tag(name) for name in names if chance.random() < 0.6}
        metadata = dict(record.metadata) if chance.random() < 0.7 else {}
        narrow = Filters(
            namespace=record.namespace,
            least_importance=record.importance,
            since_ms=record.timestamp_ms,
            until_ms=record.timestamp_ms + 1,
            metadata=metadata,
            **tags,
        )
        among = Filters(namespace=(self.text(), record.namespace), session=(record.session, self.text()))
        [vector] = COUNTS.vectors([record.content])
        looks = [Look(count=BATCH, filters=narrow, at_ms=AT_MS), Look(count=20_000, filters=among, at_ms=AT_MS)]
        if vector.any():
            looks.append(Look(count=BATCH, filters=narrow, at_ms=AT_MS, vector=vector))
        if words := query_words(record.content):
            several = tuple(chance.sample(words, min(3, len(words))))
            looks += [Look(count=BATCH, filters=narrow, at_ms=AT_MS, words=one) for one in (several, words)]
            if chance.random() < 0.2:
                looks.append(Look(count=20_000, filters=among, at_ms=AT_MS, words=(chance.choice(words),)))
        return looks

    def stray(self) -> Look:
        """Need not find anything."""
        filters = Filters(
            namespace=self.text(), metadata={self.text(): self.scalar()} if self._random.random() < 0.5 else {}
        )
        words = query_words(self.text(4000)) or ("x",)
        return Look(count=50, filters=filters, at_ms=AT_MS, words=words if self._random.random() < 0.7 else ())


async def fuzz(store: RedisStackStore, rounds: int, seed: int) -> None:
    odd = Odd(seed)
    for _ in range(rounds):
        records = [odd.record() for _ in range(BATCH)]
        refused = await store.write(records, COUNTS.vectors([record.content for record in records]))
        assert set(refused) == {None}, refused
        asked = [(record, look) for record in records for look in odd.looks(record)]
        for start in range(0, len(asked), 500):
            part = asked[start : start + 500]
            for (record, look), found in zip(part, await store.search([look for _, look in part]), strict=True):
                assert record in [one.record for one in found], (seed, record, look)
                wanted = dict(look.filters.tags())["namespace"]
                assert {one.record.namespace for one in found} <= set(wanted), (seed, record, look)
        strays = [odd.stray() for _ in range(BATCH)]
        for look, found in zip(strays, await store.search(strays), strict=True):
            assert {one.record.namespace for one in found} <= {look.filters.namespace}, (seed, look)


async def test_nothing_odd_is_an_error_missed_or_given_to_others(clean_redis: RedisHandle) -> None:
    seed = random.SystemRandom().randrange(10**6)
    async with opened(clean_redis) as store:
        await fuzz(store, 5, seed)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(4))
async def test_nothing_odd_among_five_thousand_records(clean_redis: RedisHandle, seed: int) -> None:
    async with opened(clean_redis) as store:
        await fuzz(store, 25, seed)
