"""The index rebuilt under another layout while the old one serves."""

import asyncio
from typing import Any

import numpy as np
import pytest
from support.indexes import AT_MS, COUNTS, WordCounts, by_meaning, by_words, contents, newest, note, opened, stored
from support.stores import FussyEmbedder

from orka.errors import IndexMismatch, StoreError
from orka.memory.layout import INDEX, Layout
from orka.memory.query import Filters, Look
from orka.memory.record import key_for
from orka.memory.reindex import Reindexed, Stage, reindex
from orka.redis.client import RedisHandle

TEXTS = [f"memory number {n} of {'apples' if n % 2 else 'pears'}" for n in range(700)]


async def rebuilt(redis: RedisHandle, wanted: Layout, embedder: WordCounts, **others: Any) -> Reindexed:
    return await reindex(redis, await redis.open_router(), wanted, embedder, **others)


async def fields(redis: RedisHandle) -> set[bytes]:
    found: set[bytes] = set()
    async for key in redis.client.scan_iter("orka_memory:*"):
        found |= set(await redis.client.hkeys(key))
    return found


async def test_another_model_serves_after_the_rebuild(clean_redis: RedisHandle) -> None:
    async with opened(clean_redis) as store:
        for start in range(0, len(TEXTS), 100):
            await stored(store, *(note(text) for text in TEXTS[start : start + 100]))
    other = WordCounts("others", 48)
    told: list[tuple[Stage, int, int]] = []
    done = await rebuilt(clean_redis, other.layout(m=8), other, on_stage=lambda *stage: told.append(stage))
    assert (done.memories, done.embedded, done.converted, done.layout.version) == (700, 700, 0, 2)
    assert {stage for stage, _, _ in told} >= {"embedding", "removing"}
    assert [n for stage, n, _ in told if stage == "embedding"][-1] == 700
    assert await clean_redis.client.execute_command("FT._LIST") == [b"orka_enhanced_memory:2"]
    assert {name for name in await fields(clean_redis) if name.startswith(b"v")} == {b"v2"}
    with pytest.raises(IndexMismatch):
        async with opened(clean_redis):
            pass
    async with opened(clean_redis, other.layout(m=8)) as store:
        assert store.layout.version == 2
        found = await by_meaning(store, TEXTS[5], by=other)
        assert contents(found)[0] == TEXTS[5]
        assert found[0].similarity == pytest.approx(1, abs=0.01)


async def test_a_text_that_the_model_refuses_does_not_end_the_rebuild(clean_redis: RedisHandle) -> None:
    async with opened(clean_redis) as store:
        await stored(store, *(note(text) for text in ("green tea", "a bad text", "black tea", "bad again")))
    fussy = FussyEmbedder()
    layout = Layout(embedder=fussy.name, dimension=fussy.dimension)
    done = await reindex(clean_redis, await clean_redis.open_router(), layout, fussy)
    assert (done.memories, done.embedded, done.refused) == (4, 2, 2)
    async with opened(clean_redis, layout) as store:
        assert sorted(contents(await by_words(store, "bad"))) == ["a bad text", "bad again"]
        [vector] = await fussy.embed(["green tea"])
        [found] = await store.search([Look(count=9, filters=Filters(), at_ms=AT_MS, vector=vector)])
        assert sorted(contents(found)) == ["black tea", "green tea"]


async def test_the_old_index_serves_and_writers_go_on_meanwhile(clean_redis: RedisHandle) -> None:
    """Same vectors, other graph: a store that was open goes over to the new index by itself, and loses nothing."""
    async with opened(clean_redis) as store:
        for start in range(0, len(TEXTS), 100):
            await stored(store, *(note(text, namespace="old") for text in TEXTS[start : start + 100]))
        written = 0
        ended = asyncio.Event()

        async def write() -> None:
            nonlocal written
            while not ended.is_set():
                text = f"meanwhile {written}"
                await stored(store, note(text, namespace="new"), note(text, key=key_for("same"), namespace="same"))
                written += 1
                assert contents(await by_meaning(store, text, 1, namespace="new")) == [text]
                assert contents(await by_meaning(store, text, namespace="same")) == [text]

        async def rebuild() -> None:
            for m in (8, 12):
                await rebuilt(clean_redis, COUNTS.layout(m=m), COUNTS)
            ended.set()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            tasks.create_task(rebuild())
        assert written > 20
        assert store.layout.version == 3
        assert store.layout.m == 12
        for n in range(written):
            found = await by_meaning(store, f"meanwhile {n}", 1, namespace="new")
            assert contents(found) == [f"meanwhile {n}"]
        assert len(await by_meaning(store, "memory", 1000, namespace="old")) == 700
        vectors = {name for name in await fields(clean_redis) if name.startswith(b"v")}
        assert vectors == {b"v3"}


async def test_a_process_with_the_old_model_is_told(clean_redis: RedisHandle) -> None:
    other = WordCounts("others")
    async with opened(clean_redis) as writer, opened(clean_redis) as reader:
        await stored(writer, note("before"))
        await rebuilt(clean_redis, other.layout(), other)
        with pytest.raises(IndexMismatch, match="'others'"):
            await by_meaning(reader, "before")
        with pytest.raises(IndexMismatch, match="start it again"):
            await stored(writer, note("after the swap"))
    done = await rebuilt(clean_redis, other.layout(), other)
    assert (done.memories, done.embedded, done.layout.version) == (2, 1, 2)
    async with opened(clean_redis, other.layout()) as store:
        assert contents(await by_meaning(store, "after the swap", 1, by=other)) == ["after the swap"]


async def test_a_vector_of_another_size_is_made_anew(clean_redis: RedisHandle) -> None:
    """The search module leaves such a hash out, also where words are looked for."""
    async with opened(clean_redis) as store:
        record = note("apples")
        await stored(store, record)
        await clean_redis.client.hset(record.key, store.layout.field, b"\1" * 7)  # type: ignore[misc]
        assert contents(await by_words(store, "apples")) == []
        done = await rebuilt(clean_redis, COUNTS.layout(), COUNTS)
        assert (done.memories, done.embedded) == (1, 1)
        assert contents(await by_words(store, "apples")) == ["apples"]


class _Breaks(WordCounts):
    def __init__(self, after: int) -> None:
        super().__init__("others")
        self._after = after

    async def embed(self, texts: Any, /) -> Any:
        if self.embedded >= self._after:
            raise StoreError("broken off")
        return await super().embed(texts)


async def test_broken_off_it_serves_as_before_and_goes_on_where_it_was(clean_redis: RedisHandle) -> None:
    async with opened(clean_redis) as store:
        for start in range(0, len(TEXTS), 100):
            await stored(store, *(note(text) for text in TEXTS[start : start + 100]))
        breaking = _Breaks(300)
        with pytest.raises(StoreError, match="broken off"):
            await rebuilt(clean_redis, breaking.layout(), breaking)
        assert contents(await by_meaning(store, TEXTS[3], 1)) == [TEXTS[3]]
        rewritten = note("rewritten meanwhile", key=(await newest(store, 1))[0].record.key)
        await stored(store, rewritten)
        whole = WordCounts("others")
        done = await rebuilt(clean_redis, whole.layout(), whole)
        assert whole.embedded == done.embedded
        assert 700 - breaking.embedded <= done.embedded <= 701 - breaking.embedded
    async with opened(clean_redis, whole.layout()) as store:
        [found] = await by_meaning(store, "rewritten meanwhile", 1, by=whole)
        assert found.record.content == "rewritten meanwhile"
        assert found.similarity == pytest.approx(1, abs=0.01), "not the vector of the text before"


async def test_one_that_was_begun_with_another_model_is_abandoned(clean_redis: RedisHandle) -> None:
    async with opened(clean_redis) as store:
        await stored(store, *(note(text) for text in TEXTS[:300]))
    breaking = _Breaks(100)
    with pytest.raises(StoreError):
        await rebuilt(clean_redis, breaking.layout(), breaking)
    third = WordCounts("third")
    done = await rebuilt(clean_redis, third.layout(), third)
    assert (done.embedded, done.layout.version) == (300, 2)
    async with opened(clean_redis, third.layout()) as store:
        for text in TEXTS[:300:29]:
            [found] = await by_meaning(store, text, 1, by=third)
            assert (found.record.content, round(found.similarity or 0, 2)) == (text, 1)


async def test_memories_of_orka_0_9_are_embedded_and_filtered_by(clean_redis: RedisHandle) -> None:
    for n in range(20):
        old = {
            "content": f"größe {n}",
            "node_id": "writer",
            "trace_id": "t",
            "timestamp": str(AT_MS + n),
            "importance_score": "0.7",
            "memory_type": "long_term",
            "metadata": f'{{"namespace":"n{n % 2}","log_type":"memory","category":"stored","round":{n}}}',
            "orka_expire_time": str(AT_MS * 2),
            "content_vector": np.random.default_rng(n).normal(size=384).astype(np.float32).tobytes(),
        }
        key = f"orka_memory:{n:032x}"
        await clean_redis.client.hset(key, mapping=old)
        await clean_redis.client.pexpireat(key, AT_MS * 2)
    async with opened(clean_redis) as store:
        assert contents(await newest(store, 1)) == ["größe 19"]
        assert await by_meaning(store, "größe 3") == []
        done = await rebuilt(clean_redis, COUNTS.layout(), COUNTS)
        assert (done.memories, done.embedded, done.converted, done.layout.version) == (20, 20, 20, 1)
        found = await by_meaning(store, "größe 3", 20, namespace="n1", category="stored")
        assert len(found) == 10
        assert contents(found)[0] == "größe 3"
        assert contents(await by_words(store, "größe", metadata={"round": 4})) == ["größe 4"]
        assert b"content_vector" not in await fields(clean_redis)
        assert await clean_redis.client.pexpiretime(f"orka_memory:{5:032x}") == AT_MS * 2
        again = await rebuilt(clean_redis, COUNTS.layout(), COUNTS)
        assert (again.memories, again.embedded, again.converted) == (20, 0, 0)


async def test_a_wider_search_is_settled_without_a_rebuild(clean_redis: RedisHandle) -> None:
    async with opened(clean_redis) as store:
        await stored(store, note("x"))
        done = await rebuilt(clean_redis, COUNTS.layout(ef_runtime=300), COUNTS)
        assert (done.embedded, done.layout.version, done.layout.ef_runtime) == (0, 1, 300)
        await stored(store, note("y"))
        assert store.layout.ef_runtime == 300
        assert (await clean_redis.client.execute_command("FT._LIST")) == [f"{INDEX}:1".encode()]


async def test_two_rebuilds_at_once_are_refused(clean_redis: RedisHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orka.memory.reindex.PATIENCE", 0.1)
    async with opened(clean_redis) as store:
        await stored(store, note("x"))
    other = WordCounts("others")
    started, go = asyncio.Event(), asyncio.Event()

    class Waiting(WordCounts):
        async def embed(self, texts: Any, /) -> Any:
            started.set()
            await go.wait()
            return await super().embed(texts)

    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(rebuilt(clean_redis, other.layout(), Waiting("others")))
        await started.wait()
        with pytest.raises(StoreError, match="another process"):
            await rebuilt(clean_redis, other.layout(), other)
        go.set()
    assert first.result().embedded == 1
