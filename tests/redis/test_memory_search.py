"""What the search module's index finds: by meaning, by words, the newest; and what it never gives."""

import random
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest
from support.indexes import AT_MS, COUNTS, by_meaning, by_words, contents, newest, note, opened, stored

from orka.errors import QueryRefused
from orka.memory.query import Filters, Look
from orka.memory.record import key_for, new_record
from orka.memory.redisstack import RedisStackStore
from orka.redis.client import RedisHandle


@pytest.fixture
async def store(clean_redis: RedisHandle) -> AsyncIterator[RedisStackStore]:
    async with opened(clean_redis) as store:
        yield store


async def test_similarity_is_one_minus_distance_and_the_nearest_come_first(store: RedisStackStore) -> None:
    texts = ["the printer is out of paper", "the printer has no toner", "lunch at noon"]
    await stored(store, *(note(text) for text in texts))
    found = await by_meaning(store, texts[0])
    true = (COUNTS.vectors(texts) @ COUNTS.vectors([texts[0]])[0]).tolist()
    assert contents(found) == [text for _, text in sorted(zip(true, texts, strict=True), reverse=True)]
    assert [one.similarity for one in found] == pytest.approx(sorted(true, reverse=True), abs=0.01)
    assert found[0].similarity == pytest.approx(1.0, abs=0.01)


async def test_a_record_comes_back_as_it_was_written(store: RedisStackStore) -> None:
    record = note(
        "größer — “better”\nline two",
        namespace="a b-c{}|",
        memory_type="long_term",
        category="notes",
        session="s 1",
        node_id="n:1",
        trace_id="",
        importance=2 / 3,
        metadata={"n": 1, "nested": {"a": [None, True]}, "text": "x=y"},
    )
    await stored(store, record)
    assert [one.record for one in await by_meaning(store, record.content)] == [record]
    assert [one.record for one in await by_words(store, "better")] == [record]
    assert [one.record for one in await newest(store)] == [record]


async def test_filters_of_every_kind(store: RedisStackStore) -> None:
    base = {"namespace": "ns", "memory_type": "long_term", "category": "c", "session": "s", "node_id": "n"}
    wanted = note("wanted", **base, trace_id="t", importance=0.8, metadata={"topic": "a|b", "n": 3, "no": None})
    others = [
        *(note("other", **{**base, name: "else"}, importance=0.8) for name in base),
        note("other", **base, importance=0.2),
        note("other", **base, importance=0.8, timestamp_ms=AT_MS - 5000),
        note("other", **base, importance=0.8, timestamp_ms=AT_MS + 5000, metadata={"topic": "a", "n": 30}),
    ]
    await stored(store, wanted, *others)
    filters = Filters(
        **base,  # type: ignore[arg-type]
        trace_id=("x", "t"),
        least_importance=0.8,
        since_ms=AT_MS,
        until_ms=AT_MS + 1,
        metadata={"topic": ("a|b", "zz"), "n": 3, "no": None},
    )
    look = Look(count=20, filters=filters, at_ms=AT_MS)
    [vector] = COUNTS.vectors(["other"])
    looks = [look, replace(look, vector=vector), replace(look, words=("wanted", "other"))]
    assert [contents(found) for found in await store.search(looks)] == [["wanted"]] * 3
    for name, value in base.items():
        assert len(await newest(store, 20, at_ms=AT_MS, **{name: value})) == 8, name
    assert len(await newest(store, 20, namespace=("ns", "else"))) == 9
    assert await newest(store, namespace=()) == await newest(store, metadata={"n": ()}) == []
    assert contents(await newest(store, metadata={"topic": "a|b"})) == ["wanted"]
    assert len(await newest(store, least_importance=0.8)) == 8
    assert len(await newest(store, until_ms=AT_MS)) == 1
    assert len(await newest(store, since_ms=10**400, until_ms=-(10**400))) == 0


async def test_words_of_a_query_count_all_of_them_beside_a_filter(store: RedisStackStore) -> None:
    """Inside an intersection the module scores one word of an alternative: the best match would be no better."""
    await stored(
        store,
        *(note(f"printer report number {n}") for n in range(20)),
        *(note(f"toner delivery number {n}") for n in range(20)),
        note("the printer needs more toner now"),
        note("printers and toners"),
    )
    for filters in ({}, {"namespace": "default"}, {"namespace": "default", "since_ms": 5}):
        found = await by_words(store, "Printer TONER", 50, **filters)
        assert contents(found)[0] == "the printer needs more toner now"
        assert len(found) == 41, "no stems"
        assert found[0].relevance is not None
        assert found[1].relevance is not None
        assert found[0].relevance > 1.2 * found[1].relevance
    for text in ("toner", "printer toner", "the number of printers needs more toner delivery 7"):
        scores = [one.relevance for one in await by_words(store, text, 50)]
        beside = [one.relevance for one in await by_words(store, text, 50, namespace="default", since_ms=5)]
        assert beside == pytest.approx(scores), "conditions weigh nothing"


async def test_the_newest_come_first_and_in_pages(store: RedisStackStore) -> None:
    await stored(store, *(note(f"n{n}", timestamp_ms=AT_MS + n * 7 % 100, namespace=f"n{n % 2}") for n in range(100)))
    times = [AT_MS + n for n in range(99, -1, -1)]
    assert [one.record.timestamp_ms for one in await newest(store, 100)] == times
    assert [one.record.timestamp_ms for one in await newest(store, 10, 35)] == times[35:45]
    even = [AT_MS + n * 7 % 100 for n in range(0, 100, 2)]
    assert [one.record.timestamp_ms for one in await newest(store, 100, namespace="n0")] == sorted(even, reverse=True)
    with pytest.raises(QueryRefused, match="that far down"):
        await newest(store, 10, 5_000_000)
    assert await newest(store, 0) == []


async def test_expired_memories_are_never_given_and_do_not_crowd_out_others(store: RedisStackStore) -> None:
    expired = [note("the same words", expire_ms=AT_MS + 60_000) for _ in range(30)]
    far = int(time.time() * 1000) + 10**9
    records = [replace_expiry(record, far) for record in expired]
    await stored(store, *records, note("words that live"), note("the words live on", expire_ms=far + 5))
    later = far + 1
    assert len(await by_meaning(store, "the same words", 5)) == 5
    assert set(contents(await by_meaning(store, "the same words", 5, at_ms=later))) == {
        "words that live",
        "the words live on",
    }
    assert set(contents(await newest(store, at_ms=later))) == {"words that live", "the words live on"}


def replace_expiry(record: object, expire_ms: int) -> object:
    import msgspec

    return msgspec.structs.replace(record, expire_ms=expire_ms)  # type: ignore[type-var]


async def test_a_key_whose_time_is_over_is_gone(store: RedisStackStore) -> None:
    soon = int(time.time() * 1000) + 30
    await stored(store, note("brief", expire_ms=soon), note("lasting"))
    while (now := int(time.time() * 1000)) <= soon:
        time.sleep((soon - now) / 1000)  # noqa: ASYNC251  a clock, nothing to wait for
    for found in (await by_meaning(store, "brief"), await by_words(store, "brief lasting"), await newest(store)):
        assert contents(found) == ["lasting"]


async def test_what_was_written_last_is_found_and_what_it_replaced_is_not(store: RedisStackStore) -> None:
    key = key_for("one")
    await stored(store, note("first text", key=key, session="s", metadata={"a": 1}))
    await stored(store, note("second thing", key=key))
    assert contents(await newest(store)) == ["second thing"]
    assert await by_words(store, "first text") == await newest(store, session="s") == []
    assert await newest(store, metadata={"a": 1}) == []
    assert await store.delete([key, key_for("none")]) == 1
    assert await by_meaning(store, "second thing") == []


async def test_without_a_vector_a_memory_is_found_by_words_and_time(store: RedisStackStore) -> None:
    assert list(await store.write([note("no vector at all")], None)) == [None]
    assert list(await store.write([note("zeros")], np.zeros((1, COUNTS.dimension), np.float32))) == [None]
    assert await by_meaning(store, "no vector at all") == []
    assert contents(await by_words(store, "vector")) == ["no vector at all"]
    assert len(await newest(store)) == 2


async def test_vectors_of_another_size_are_refused(store: RedisStackStore) -> None:
    with pytest.raises(QueryRefused, match="32"):
        await by_meaning(store, "x", by=type(COUNTS)(dimension=8))
    with pytest.raises(QueryRefused, match="32"):
        await store.write([note("x")], np.zeros((1, 8), np.float32))


async def test_all_looks_of_a_search_leave_in_one_round_trip(store: RedisStackStore) -> None:
    await stored(store, *(note(f"number {n}") for n in range(20)))
    before = store._searching.round_trips
    [vector] = COUNTS.vectors(["number 3"])
    look = Look(count=3, filters=Filters(), at_ms=AT_MS)
    looks = [look, replace(look, vector=vector), replace(look, words=("number",))] * 20
    assert [len(found) for found in await store.search(looks)] == [3] * 60
    assert store._searching.round_trips == before + 1


async def test_walking_through_gives_all_that_live(store: RedisStackStore) -> None:
    await stored(store, *(note(f"number {n}") for n in range(50)), new_record("over", expire_ms=1))
    found = [record.content async for records in store.scan() for record in records]
    assert sorted(found) == sorted(f"number {n}" for n in range(50))


async def test_the_newest_are_right_under_any_filters(store: RedisStackStore) -> None:
    """Held against a plain sort: the module's shortcut for sorting by a number has gone wrong in intersections."""
    chance = random.Random(20)
    records = [
        note(
            f"text {n}",
            namespace=f"n{chance.randrange(4)}",
            session=f"s{chance.randrange(50)}",
            category="stored" if chance.random() < 0.9 else "log",
            importance=chance.randrange(10) / 10,
            timestamp_ms=AT_MS + chance.randrange(5000),
            expire_ms=chance.choice((0, 0, AT_MS * 2)),
            metadata={"a": chance.randrange(3)},
        )
        for n in range(4000)
    ]
    for start in range(0, len(records), 500):
        await stored(store, *records[start : start + 500])
    looks: list[Look] = []
    for _ in range(600):
        since = AT_MS + chance.randrange(5000) if chance.random() < 0.4 else None
        filters = Filters(
            namespace=chance.choice((None, "n1", ("n1", "n2"))),
            session=chance.choice((None, None, "s7")),
            category=chance.choice((None, "stored", "log")),
            least_importance=chance.choice((None, 0.3, 0.9)),
            since_ms=since,
            until_ms=AT_MS + chance.randrange(6000) if chance.random() < 0.4 else None,
            metadata=chance.choice(({}, {"a": 1}, {"a": (0, 2)})),
        )
        at_ms = chance.choice((AT_MS, AT_MS * 2))
        looks.append(
            Look(count=chance.choice((1, 10, 100)), offset=chance.choice((0, 0, 5, 300)), filters=filters, at_ms=at_ms)
        )
    for look, found in zip(looks, await store.search(looks), strict=True):
        times = sorted((one.timestamp_ms for one in records if look.filters.match(one, look.at_ms)), reverse=True)
        assert [one.record.timestamp_ms for one in found] == times[look.offset : look.offset + look.count], look
