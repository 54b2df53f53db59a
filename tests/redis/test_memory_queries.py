"""What searches promise on both backends alike: pages, scores, thresholds, filters, and embedders of one's own."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.stores import FussyEmbedder

from orka import Orchestrator
from orka.clock import monotonic, now_ms
from orka.embedding.function import FunctionEmbedder
from orka.errors import EmbeddingError, IndexMismatch, QueryRefused
from orka.memory.query import Filters, MemoryQuery
from orka.memory.record import PREFIX, MemoryHit, MemoryRecord, new_record
from orka.memory_logger import MemoryLogger, create_memory_logger
from orka.redis.client import RedisHandle
from orka.settings import Settings

BACKENDS = ("redis", "redisstack")
WORDS = (
    "green",
    "tea",
    "coffee",
    "customer",
    "likes",
    "drinks",
    "parcel",
    "late",
    "printer",
    "paper",
    "winter",
    "blue",
)


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest, clean_redis: RedisHandle, redis_settings: Settings) -> Settings:
    return replace(redis_settings, backend=request.param)


def note(number: int, content: str, **others: Any) -> MemoryRecord:
    return new_record(content, key=f"{PREFIX}{number:032x}", **others)


def notes(count: int, seed: int = 1) -> list[MemoryRecord]:
    chance = random.Random(seed)
    begin = now_ms() - 48 * 3_600_000
    return [
        note(i, " ".join(chance.choices(WORDS, k=chance.randint(2, 12))), timestamp_ms=begin + chance.randrange(10**8))
        for i in range(count)
    ]


async def stored(memory: MemoryLogger, records: Sequence[MemoryRecord]) -> None:
    assert await memory.write_many(records) == [None] * len(records)


async def hits(memory: MemoryLogger, query: MemoryQuery) -> list[MemoryHit]:
    return await (await memory.opened()).memory.search(query)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "text"},
        {"mode": "hybrid"},
        {"mode": "hybrid", "fusion": "rrf"},
        {"temporal_weight": 0.5},
        {"context": ("blue trains in winter",), "context_weight": 0.4},
    ],
    ids=str,
)
async def test_pages_have_each_memory_once(options: dict[str, Any], settings: Settings) -> None:
    async with create_memory_logger(settings=settings) as memory:
        await stored(memory, notes(400))
        seen: list[str] = []
        while page := await hits(
            memory, MemoryQuery(text="a customer likes tea", limit=20, offset=len(seen), **options)
        ):
            seen += [hit.record.content + hit.record.key for hit in page]
        assert len(set(seen)) == len(seen)
        wanted = {"customer", "likes", "tea"} if options.get("mode") == "text" else set(WORDS)
        assert set(seen) == {one.content + one.key for one in notes(400) if wanted & set(one.content.split())}


async def test_words_count_the_same_on_both_backends(clean_redis: RedisHandle, redis_settings: Settings) -> None:
    found: list[dict[str, tuple[float, float]]] = []
    for backend in BACKENDS:
        async with create_memory_logger(settings=replace(redis_settings, backend=backend)) as memory:
            if backend == BACKENDS[0]:
                await stored(memory, notes(300))
            for text in ("tea", "green tea late", "printer winter invoice"):
                some = await hits(memory, MemoryQuery(text=text, mode="hybrid", limit=300))
                found.append({hit.record.key: (hit.text_score or 0.0, hit.similarity or 0.0) for hit in some})
    half = len(found) // 2
    for one, other in zip(found[:half], found[half:], strict=True):
        assert one.keys() == other.keys()
        for key, (score, similarity) in one.items():
            assert other[key] == (pytest.approx(score, abs=1e-4), pytest.approx(similarity, abs=1e-3))


async def test_what_has_the_word_is_compared_by_meaning_too(settings: Settings) -> None:
    async with create_memory_logger(settings=settings) as memory:
        near = [note(i, f"the parcel of the customer is late again, case {i}") for i in range(100)]
        wanted = note(999, "ZX4711 of March, see the letters of the lawyer about it and what the insurance said")
        await stored(memory, [*near, wanted])
        first, *_ = await hits(memory, MemoryQuery(text="late parcel of ZX4711", mode="hybrid", limit=5))
        assert first.record == wanted
        assert first.similarity is not None
        assert first.score == pytest.approx(0.7 * first.similarity + 0.3)


async def test_a_text_is_wholly_like_itself(settings: Settings) -> None:
    async with create_memory_logger(settings=settings) as memory:
        records = notes(200)
        await stored(memory, records)
        for record in records[::10]:
            query = MemoryQuery(text=record.content, least_similarity=1.0, limit=50, fallback_to_text=False)
            assert record in [hit.record for hit in await hits(memory, query)]


async def test_a_bad_question_is_refused_at_once_and_alone(settings: Settings) -> None:
    async with create_memory_logger(settings=settings) as memory:
        await stored(memory, notes(20))
        good, bad = MemoryQuery(text="tea"), MemoryQuery(text="tea", ef_runtime=2.5)  # type: ignore[arg-type]
        begin = monotonic()
        found = await asyncio.gather(
            *(hits(memory, bad if i % 3 == 0 else good) for i in range(60)), return_exceptions=True
        )
        assert monotonic() - begin < 5
        assert [type(one) for one in found] == [QueryRefused if i % 3 == 0 else list for i in range(60)]


async def test_a_text_that_the_model_refuses_fails_its_own_search_alone(settings: Settings) -> None:
    async with create_memory_logger(settings=settings, embedder=FussyEmbedder()) as memory:
        await memory.write_many(["tea", "coffee"])
        texts = ["tea", "bad one", "coffee", "bad two"] * 5
        found = await asyncio.gather(
            *(memory.search_memories(text, num_results=1) for text in texts), return_exceptions=True
        )
        for text, one in zip(texts, found, strict=True):
            if "bad" in text:
                assert isinstance(one, EmbeddingError)
                assert str(one) == f"refused: {text}"
            else:
                assert isinstance(one, list)
                assert one[0]["content"] == text


async def test_an_embedder_of_ones_own_is_used_and_another_one_refused(settings: Settings) -> None:
    calls: list[list[str]] = []

    def letters(texts: list[str]) -> list[list[float]]:
        calls.append(texts)
        return [[text.count("a") + 0.1, text.count("e") + 0.1] for text in texts]

    embedder = FunctionEmbedder(letters, name="letters-1", dimension=2)
    async with create_memory_logger(settings=settings, embedder=embedder) as memory:
        await memory.write_many(["banana", "beetle"])
        assert [one["content"] for one in await memory.search_memories("papaya", num_results=1)] == ["banana"]
        with pytest.raises(QueryRefused, match="those of the memories have 2"):
            await memory.search_memories(query_vector=[1.0] * 256)
    assert ["papaya"] in calls
    another = FunctionEmbedder(letters, name="letters-2", dimension=2)
    with pytest.raises(IndexMismatch, match="'letters-1' there, 'letters-2' wanted"):
        async with create_memory_logger(settings=settings, embedder=another):
            pass


async def test_runs_use_an_embedder_of_ones_own(settings: Settings, tmp_path: Any) -> None:
    path = tmp_path / "recall.yml"
    path.write_text(
        "orchestrator: {id: recall, agents: [keep, find]}\n"
        "agents:\n"
        "- {id: keep, type: memory, prompt: banana, config: {operation: write}}\n"
        "- {id: find, type: memory, prompt: papaya, config: {operation: read}}\n"
    )

    def letters(texts: list[str]) -> list[list[float]]:
        return [[text.count("a") + 0.1, text.count("e") + 0.1] for text in texts]

    embedder = FunctionEmbedder(letters, name="letters-1", dimension=2)
    assert await Orchestrator(path, settings=settings, embedder=embedder).run("x") == "banana"


async def test_hashes_that_say_never_of_their_expiry_are_found(settings: Settings, clean_redis: RedisHandle) -> None:
    async with create_memory_logger(settings=settings) as memory:
        await stored(memory, [note(1, "green tea")])
        for number, expiry in ((2, "0"), (3, "-1")):
            key = f"{PREFIX}{number:032x}"
            fields = {"content": "green tea", "namespace": "default", "timestamp": "5", "orka_expire_time": expiry}
            await clean_redis.client.hset(key, mapping=fields)  # type: ignore[misc]
    async with create_memory_logger(settings=settings) as memory:
        assert len(await memory.search_memories("tea")) == 1, "two have no vector"
        assert len(await hits(memory, MemoryQuery(text="tea", mode="text"))) == 3
        assert len(await hits(memory, MemoryQuery(filters=Filters(namespace="default")))) == 3


async def test_filters_hold_for_every_number(settings: Settings) -> None:
    soon, later = now_ms() + 600_000, now_ms() + 6_000_000
    async with create_memory_logger(settings=settings) as memory:
        fields = ((0.2, 0), (0.4, soon), (0.6, later), (1.0, 0))
        await stored(
            memory, [note(i, f"tea {i}", importance=one, expire_ms=end) for i, (one, end) in enumerate(fields)]
        )
        for filters, expected in (
            (Filters(most_importance=0.4), "01"),
            (Filters(least_importance=0.4, most_importance=0.6), "12"),
            (Filters(least_importance=0.7, most_importance=0.6), ""),
            (Filters(expires_before_ms=later), "1"),
            (Filters(expires_before_ms=later + 1), "12"),
            (Filters(expires_before_ms=0), ""),
        ):
            for options in ({}, {"text": "tea"}, {"text": "tea", "mode": "text"}):
                found = await hits(memory, MemoryQuery(filters=filters, **options))
                assert "".join(sorted(hit.record.content[-1] for hit in found)) == expected, (filters, options)


async def test_names_in_the_metadata_do_not_take_each_others_places(settings: Settings) -> None:
    async with create_memory_logger(settings=settings) as memory:
        others = [note(i, f"tea {i}", metadata={"a=b": "c"}, timestamp_ms=1000 + i) for i in range(80)]
        wanted = note(999, "tea of the one", metadata={"a": "b=c"}, timestamp_ms=1)
        await stored(memory, [*others, wanted])
        for options in ({}, {"text": "tea"}, {"text": "tea", "mode": "text"}):
            query = MemoryQuery(limit=3, filters=Filters(metadata={"a": "b=c"}), **options)
            assert [hit.record for hit in await hits(memory, query)] == [wanted]
        found = await hits(memory, MemoryQuery(limit=100, filters=Filters(metadata={"a=b": "c"})))
        assert len(found) == 80


async def test_half_a_character_is_looked_for_as_it_was_written(settings: Settings) -> None:
    async with create_memory_logger(settings=settings) as memory:
        await memory.log_memory("tea", namespace="shop\ud800", node_id="\udfff", write="stored")
        found = await memory.search_memories("tea", namespace="shop\ud800", node_id="\udfff")
        assert [one["content"] for one in found] == ["tea"]


async def test_a_metadata_filter_of_a_graph_may_name_several_values(settings: Settings, tmp_path: Any) -> None:
    path = tmp_path / "several.yml"
    path.write_text(
        "orchestrator: {id: several, agents: [one, two, three, find]}\n"
        "agents:\n"
        "- {id: one, type: memory, prompt: green tea 1, config: {operation: write}, metadata: {n: 1}}\n"
        "- {id: two, type: memory, prompt: green tea 2, config: {operation: write}, metadata: {n: 2}}\n"
        "- {id: three, type: memory, prompt: green tea 3, config: {operation: write}, metadata: {n: 3}}\n"
        "- {id: find, type: memory, prompt: green tea, config: {operation: read, metadata_filter: {n: [1, 3.0]}}}\n"
    )
    found = await Orchestrator(path, settings=settings).run("x")
    assert sorted(str(found).splitlines()) == ["green tea 1", "green tea 3"]


async def test_long_words_of_any_script_are_found(settings: Settings) -> None:
    words = [letter * length for letter in "xéท𐐨" for length in (30, 42, 43, 64, 65, 200)]
    async with create_memory_logger(settings=settings) as memory:
        await stored(memory, [note(number, word) for number, word in enumerate(words)])
        for word in words:
            found = await hits(memory, MemoryQuery(text=word, mode="text", limit=100))
            assert word in [hit.record.content for hit in found]
