"""Memories as every backend keeps them: what is written is found, by meaning, words, filters and time, and nothing else."""

import os
import random
from typing import Any

import anyio
import numpy as np
import pytest
from servers import Servers
from support.journals import own_server
from support.memory import BACKENDS, Memories, contents, distinct, look, open_memories

from orka.clock import now_ms
from orka.errors import RecordRefused, StoreError
from orka.memory.record import PREFIX, key_for, new_key, new_record
from orka.memory.text import query_words
from orka.redis.client import RedisHandle
from orka.redis.wheels import find_wheels
from orka.settings import Settings
from orka.testing import HashEmbedder

MINUTE = 1_767_225_600_000


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def settings(clean_redis: RedisHandle, redis_settings: Settings) -> Settings:
    """Of the session's server, which is empty."""
    return redis_settings


async def eventually(memories: Memories, expected: list[str], **more: Any) -> None:
    """What another process does is known after a moment."""
    found: list[str] = []
    with anyio.move_on_after(10):
        while (found := sorted(await memories.newest(**more))) != expected:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    assert found == expected


async def test_what_is_written_is_found_by_meaning_by_words_and_by_age(backend: str, settings: Settings) -> None:
    async with open_memories(backend, settings) as memories:
        await memories.write(
            distinct("the kettle boils water", timestamp_ms=MINUTE + 2),
            distinct("the printer is out of paper", timestamp_ms=MINUTE + 3),
            distinct("water runs down the hill", timestamp_ms=MINUTE + 1),
        )
        assert (await memories.near("kettle boils"))[0] == "the kettle boils water"
        assert sorted(await memories.words("water")) == ["the kettle boils water", "water runs down the hill"]
        assert await memories.words("hill WATER") == ["water runs down the hill", "the kettle boils water"]
        assert await memories.words("nowhere") == []
        assert await memories.newest() == [
            "the printer is out of paper",
            "the kettle boils water",
            "water runs down the hill",
        ]
        assert await memories.newest(count=1) == ["the printer is out of paper"]


async def test_nothing_is_found_where_nothing_is(backend: str, settings: Settings) -> None:
    async with open_memories(backend, settings) as memories:
        assert await memories.newest() == await memories.near("a") == await memories.words("a") == []
        assert await memories.store.search([]) == []
        assert await memories.store.write([], None) == []
        assert await memories.store.delete([new_key()]) == await memories.store.delete([]) == 0
        assert [batch async for batch in memories.store.scan() if batch] == []


async def test_similarity_is_the_cosine_and_relevance_falls_along_the_list(backend: str, settings: Settings) -> None:
    async with open_memories(backend, settings) as memories:
        axes = np.eye(4, 64, dtype=np.float32)
        slanted = (0.6 * axes[0] + 0.8 * axes[1]).reshape(1, -1)
        records = [new_record(text) for text in ("along", "across", "against", "slanted")]
        await memories.store.write(records, np.concatenate([axes[:2], -axes[:1], slanted]))
        [found] = await memories.store.search([look(vector=axes[0])])
        assert contents(found) == ["along", "slanted", "across", "against"]
        assert [candidate.similarity for candidate in found] == pytest.approx([1, 0.6, 0, -1], abs=2e-3)
        assert [candidate.relevance for candidate in found] == [None] * 4

        await memories.write("a rare word", "a rare word with many other words after it", "another one")
        [found] = await memories.store.search([look(words=("rare", "word"))])
        assert contents(found) == ["a rare word", "a rare word with many other words after it"]
        [first, second] = [candidate.relevance or 0 for candidate in found]
        assert first > second > 0
        assert [candidate.similarity for candidate in found] == [None, None]


async def test_a_record_comes_back_as_it_was(backend: str, settings: Settings) -> None:
    record = new_record(
        "all of it",
        namespace="n",
        memory_type="long_term",
        category="log",
        session="s",
        node_id="flow.fork[0]/agent",
        trace_id="t",
        importance=0.123456789,
        timestamp_ms=MINUTE,
        expire_ms=now_ms() + 3_600_000,
        metadata={"deep": {"list": [1, 2.5, None, True]}, "text": "ü", "number": 7},
    )
    async with open_memories(backend, settings) as memories:
        await memories.write(record)
        for chosen in (look(), look(words=("all",)), look(vector=(await HashEmbedder(64).embed(["all of it"]))[0])):
            [[candidate]] = await memories.store.search([chosen])
            assert candidate.record == record


FILTERS: list[tuple[dict[str, Any], str]] = [
    ({"namespace": "red"}, "abc"),
    ({"namespace": ("red", "blue")}, "abcde"),
    ({"namespace": "re"}, ""),
    ({"namespace": "default"}, "f"),
    ({"namespace": ()}, ""),
    ({"memory_type": "long_term"}, "ad"),
    ({"category": "log"}, "b"),
    ({"session": "s1"}, "ab"),
    ({"session": ""}, "abcdef"),
    ({"session": ("", "s1")}, "abcdef"),
    ({"node_id": "n-1"}, "c"),
    ({"trace_id": "t:1"}, "d"),
    ({"least_importance": 0.7}, "ae"),
    ({"since_ms": MINUTE + 3}, "def"),
    ({"until_ms": MINUTE + 3}, "abc"),
    ({"since_ms": MINUTE + 1, "until_ms": MINUTE + 3}, "bc"),
    ({"namespace": "red", "session": "s1"}, "ab"),
    ({"namespace": ("red", "blue"), "session": "", "since_ms": MINUTE + 3, "least_importance": 0.6}, "e"),
    ({"metadata": {"colour": "dark red"}}, "a"),
    ({"metadata": {"colour": ("dark red", "red")}}, "ab"),
    ({"metadata": {"n": 1}}, "a"),
    ({"metadata": {"n": "1"}}, "a"),
    ({"metadata": {"n": (1, 2)}}, "ab"),
    ({"metadata": {"n": 2.5}}, "c"),
    ({"metadata": {"flag": True}}, "d"),
    ({"metadata": {"flag": None}}, "e"),
    ({"metadata": {"n": 1, "colour": "red"}}, ""),
    ({"metadata": {"n": 2, "colour": "red"}, "namespace": "red"}, "b"),
    ({"metadata": {"missing": "x"}}, ""),
    ({"metadata": {"list": "x"}}, ""),
]


async def test_filters_hold_for_every_kind_of_look(backend: str, settings: Settings) -> None:
    records = [
        _lettered(
            "a", 0, namespace="red", memory_type="long_term", session="s1", importance=0.7, n=1, colour="dark red"
        ),
        _lettered("b", 1, namespace="red", category="log", session="s1", n=2, colour="red"),
        _lettered("c", 2, namespace="red", node_id="n-1", n=2.5),
        _lettered("d", 3, namespace="blue", memory_type="long_term", trace_id="t:1", flag=True),
        _lettered("e", 4, namespace="blue", importance=1.0, flag=None, list=["x"]),
        _lettered("f", 5),
    ]
    async with open_memories(backend, settings) as memories:
        await memories.write(*records)
        [vector] = await HashEmbedder(64).embed(["word"])
        for filters, expected in FILTERS:
            ways: list[dict[str, Any]] = [{}, {"vector": vector}, {"words": ("word",)}]
            found = await memories.store.search([look(**way, **filters) for way in ways])
            letters = ["".join(sorted(text[-1] for text in contents(candidates))) for candidates in found]
            assert letters == [expected] * 3, filters


def _lettered(letter: str, number: int, **fields: Any) -> Any:
    known = ("namespace", "memory_type", "category", "session", "node_id", "trace_id", "importance")
    metadata = {name: value for name, value in fields.items() if name not in known}
    plain = {name: value for name, value in fields.items() if name in known}
    return distinct(f"word {letter}", timestamp_ms=MINUTE + number, metadata=metadata, **plain)


async def test_what_has_expired_is_not_given(backend: str, settings: Settings) -> None:
    async with open_memories(backend, settings) as memories:
        soon = now_ms() + 1_000
        await memories.write(new_record("milk", expire_ms=soon), new_record("milk honey", expire_ms=soon + 3_600_000))
        assert sorted(await memories.words("milk", at_ms=soon - 1)) == ["milk", "milk honey"]
        for at_ms in (soon, soon + 3_599_999):
            assert await memories.words("milk", at_ms=at_ms) == ["milk honey"]
            assert await memories.near("milk", at_ms=at_ms) == ["milk honey"]
            assert await memories.newest(at_ms=at_ms) == ["milk honey"]
        await anyio.sleep(max(0, soon + 5 - now_ms()) / 1000)
        # The clock of whoever asks may be behind: what is not there is not given.
        assert await memories.words("milk", at_ms=soon - 1) == ["milk honey"]


async def test_what_is_deleted_is_not_given(backend: str, settings: Settings) -> None:
    async with open_memories(backend, settings) as memories:
        records = await memories.write(*(f"apple number{number}" for number in range(20)))
        assert len(await memories.words("apple", count=50)) == 20
        assert await memories.store.delete([*(record.key for record in records[:15]), new_key(), records[0].key]) == 15
        expected = sorted(record.content for record in records[15:])
        assert sorted(await memories.words("apple", count=50)) == expected
        assert sorted(await memories.near("apple", count=50)) == expected
        assert sorted(await memories.newest(count=50)) == expected
        assert await memories.words("number3") == []


async def test_a_key_written_again_has_only_what_came_last(backend: str, settings: Settings) -> None:
    key = key_for("tests", "one")
    async with open_memories(backend, settings) as memories:
        await memories.write(
            new_record(
                "green grass",
                key=key,
                namespace="meadow",
                session="s",
                trace_id="t",
                expire_ms=now_ms() + 3_600_000,
                metadata={"old": 1},
            ),
            new_record("blue sky", namespace="other"),
        )
        assert await memories.words("grass") == ["green grass"]
        await memories.write(new_record("red brick", key=key, namespace="house", metadata={"new": 1}))
        assert await memories.words("grass green") == []
        assert await memories.words("brick") == ["red brick"]
        assert (await memories.near("red brick"))[0] == "red brick"
        for gone in ({"namespace": "meadow"}, {"session": "s"}, {"trace_id": "t"}, {"metadata": {"old": 1}}):
            assert await memories.newest(**gone) == [], gone
        assert await memories.newest(namespace="house", metadata={"new": 1}) == ["red brick"]
        assert await memories.newest(namespace="house", at_ms=now_ms() + 7_200_000) == ["red brick"]
        await memories.store.write([new_record("no direction", key=key)], None)
        assert "no direction" not in await memories.near("red brick", count=50)
        assert await memories.newest(namespace="default") == ["no direction"]


ODD = [
    "",
    " ",
    "-:{}@*|\"\\'%()[]<>~!=&^$;,.?/#+`_",
    '@namespace:{default} | *=>[KNN 10 @v1 $q]"',
    "a,b",
    "tab\tand\nline\r\nbreaks\x00nul\x1funit",
    "e\u0301 \u00e9 \u00df \u0130stanbul \u03a3\u03c2",
    "\u6771\u4eac\u90fd\u306b\u4f4f\u3093\u3067\u3044\u307e\u3059",
    "\U0001f680 \U0001f468\u200d\U0001f469\u200d\U0001f467 \u202eright to left \u05e9\u05dc\u05d5\u05dd",
    "".join(map(chr, range(1, 0x300))),
    "x" * 4096,
    "long words " * 400,
    "trailing space ",
    "~tilde",
    "*",
    "'; DROP TABLE memories; --",
    "\ufeff\ufffe\uffff\U0010ffff",
]


async def test_odd_texts_are_kept_found_and_told_apart(backend: str, settings: Settings) -> None:
    async with open_memories(backend, settings) as memories:
        records = [
            new_record(text, namespace=text, session=text, trace_id=text, metadata={"text": text, text: 1})
            for text in ODD
        ]
        await memories.write(*records)
        for text in ODD:
            for filters in (
                {"namespace": text},
                {"session": text, "trace_id": text},
                {"namespace": (text, "none"), "metadata": {"text": text, text: 1}},
            ):
                if text or "session" not in filters:  # an empty session is no filter
                    assert await memories.newest(**filters) == [text], (text, filters)
            if words := query_words(text):
                assert text in await memories.words(text, count=50), text
                assert await memories.words(words[0], namespace=text) == [text], text
        assert sorted(await memories.newest(count=50)) == sorted(ODD)


def random_texts(count: int) -> list[str]:
    """Different ones of all of Unicode, of marks that query languages use, and such as differ by one blank or case only."""
    chance = random.Random(20)
    marks = "-:{}@*|\"\\'%()[]<>~!=&^$;,.?/#+`_ \t\n\x00aA1\u00e9\u6771"
    texts: dict[str, None] = {}
    while len(texts) < count:
        size = chance.choice([1, 2, 3, 8, 30, 300])
        if chance.random() < 0.5:
            text = "".join(chance.choices(marks, k=size))
        else:
            points = [chance.randrange(chance.choice([0x80, 0x3000, 0x110000])) for _ in range(size)]
            text = "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)
        texts |= dict.fromkeys(filter(None, (text, text + " ", " " + text, text.swapcase(), text.strip())))
    return list(texts)


async def test_no_text_reaches_the_memories_of_another(backend: str, settings: Settings) -> None:
    texts = random_texts(600)
    async with open_memories(backend, settings) as memories:
        await memories.write(
            *(new_record(f"common {text}", namespace=text, session=text, metadata={"t": text}) for text in texts)
        )
        for ways in ({}, {"words": ("common",)}):
            for name in ("namespace", "session", "metadata"):
                wanted: list[Any] = [{"t": text} if name == "metadata" else text for text in texts]
                found = await memories.store.search([look(**ways, **{name: value}) for value in wanted])
                wrong = [t for t, hits in zip(texts, found, strict=True) if contents(hits) != [f"common {t}"]]
                assert wrong == [], name
        for text in texts:  # as words of a query it finds something or nothing, and is never an error
            await memories.words(text, count=1)


@pytest.mark.parametrize(
    ("content", "question"),
    [
        ("\u6771\u4eac\u90fd\u306b\u4f4f\u3093\u3067\u3044\u307e\u3059", "\u6771\u4eac"),
        ("first line\nsecond line", "second"),
        ("snake_case and kebab-case", "case"),
        ("caf\u00e9\u2014bar", "CAF\u00c9"),
        ("Stra\u00dfe nach Norden", "STRASSE"),
        ("he said \u201cquoted\u201d twice", "quoted"),
        ("C:\\folder\\file.txt", "folder"),
        ("mail someone@example.org now", "example"),
    ],
)
async def test_words_are_found_in_any_script_and_beside_any_mark(
    backend: str, settings: Settings, content: str, question: str
) -> None:
    async with open_memories(backend, settings) as memories:
        await memories.write(content, "something else")
        assert await memories.words(question) == [content]


async def test_a_memory_without_a_vector_is_found_by_words_and_age_only(backend: str, settings: Settings) -> None:
    async with open_memories(backend, settings) as memories:
        vectors = np.zeros((2, 64), dtype=np.float32)
        vectors[1, 0] = 1
        assert await memories.store.write([new_record("empty one"), new_record("full one")], vectors) == [None, None]
        assert await memories.store.write([new_record("one more")], None) == [None]
        [found] = await memories.store.search([look(vector=vectors[1])])
        assert contents(found) == ["full one"]
        assert len(await memories.words("one")) == len(await memories.newest()) == 3


async def test_pages_of_the_newest_have_each_memory_once(backend: str, settings: Settings) -> None:
    async with open_memories(backend, settings) as memories:
        numbers = list(range(95))
        random.Random(7).shuffle(numbers)
        await memories.write(*(distinct(f"number {n}", timestamp_ms=MINUTE + n // 2 * 2) for n in numbers))
        pages = [await memories.newest(count=20, offset=offset) for offset in range(0, 120, 20)]
        assert [len(page) for page in pages] == [20, 20, 20, 20, 15, 0]
        seen = [int(text.split()[1]) for page in pages for text in page]
        assert sorted(seen) == list(range(95))
        assert [n // 2 for n in seen] == sorted((n // 2 for n in seen), reverse=True)


async def test_a_refused_record_leaves_its_neighbours_alone(
    backend: str, settings: Settings, clean_redis: RedisHandle
) -> None:
    async with open_memories(backend, settings) as memories:
        await memories.write("there from the beginning")
        assert len(await memories.newest()) == 1
        taken = new_key()
        await clean_redis.client.set(taken, "no memory")
        records = [new_record("plum one"), new_record("plum two", key=taken), new_record("plum three")]
        vectors = await HashEmbedder(64).embed([record.content for record in records])
        first, second, third = await memories.store.write(records, vectors)
        assert (first, third) == (None, None)
        assert isinstance(second, RecordRefused)
        assert taken in str(second)
        assert sorted(await memories.words("plum")) == ["plum one", "plum three"]
        assert sorted(await memories.near("plum"))[:2] == ["plum one", "plum three"]
        assert await clean_redis.client.get(taken) == b"no memory"


async def test_many_looks_at_once_each_have_their_own_answer(backend: str, settings: Settings) -> None:
    async with open_memories(backend, settings) as memories:
        texts = [f"subject{number} in hand" for number in range(100)]
        vectors = np.random.default_rng(7).standard_normal((100, 64)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1)[:, None]
        await memories.store.write([new_record(text, namespace=text[:8]) for text in texts], vectors)
        looks = [look(count=3, vector=vector) for vector in vectors]
        looks += [look(count=3, words=(text.split()[0],)) for text in texts]
        looks += [look(count=200, namespace=text[:8]) for text in texts]
        found = await memories.store.search(looks)
        assert [contents(candidates)[0] for candidates in found[:100]] == texts
        assert [contents(candidates) for candidates in found[100:200]] == [[text] for text in texts]
        for text, candidates in zip(texts, found[200:], strict=True):
            assert sorted(contents(candidates)) == sorted(t for t in texts if t[:8] == text[:8])

        answers: dict[int, str] = {}

        async def ask(number: int) -> None:
            [candidates] = await memories.store.search([look(count=1, vector=vectors[number % 100])])
            answers[number] = candidates[0].record.content

        async with anyio.create_task_group() as tasks:
            for number in range(1000):
                tasks.start_soon(ask, number)
        assert answers == {number: texts[number % 100] for number in range(1000)}


async def test_a_search_that_is_given_up_leaves_others_alone(backend: str, settings: Settings) -> None:
    async with open_memories(backend, settings) as memories:
        await memories.write("still here")
        for seconds in (0, 0.0001, 0.001, 0.003):
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(memories.newest)
                with anyio.move_on_after(seconds):
                    await memories.words("still")
                tasks.cancel_scope.cancel()
            assert await memories.words("still") == ["still here"]


async def test_scan_gives_everything(backend: str, settings: Settings, clean_redis: RedisHandle) -> None:
    async with open_memories(backend, settings) as memories:
        await clean_redis.client.set("orka_memory_of_somebody", "else")
        written = await memories.write(*(f"memory {number}" for number in range(2500)))
        found = {record.key: record async for batch in memories.store.scan() for record in batch}
        assert found == {record.key: record for record in written}


async def test_what_another_process_does_is_found(backend: str, settings: Settings) -> None:
    key = key_for("tests", "shared")
    async with open_memories(backend, settings) as here, open_memories(backend, settings) as there:
        assert await here.newest() == []
        await there.write(new_record("first state", key=key, namespace="a"))
        await eventually(here, ["first state"])
        await here.write(new_record("second state", key=key, namespace="b"))
        assert await here.words("state") == ["second state"]
        await eventually(there, ["second state"])
        assert await there.newest(namespace="a") == []
        await there.store.delete([key])
        await eventually(here, [])


async def test_writers_of_the_same_key_agree_in_the_end(backend: str, settings: Settings) -> None:
    keys = [key_for("tests", str(number)) for number in range(5)]

    async def write(memories: Memories, name: str) -> None:
        for number in range(40):
            chosen = random.Random(f"{name}{number}").sample(keys, 3)
            await memories.write(*(new_record(f"{name} {number}", key=key, namespace=name) for key in chosen))

    async with open_memories(backend, settings) as one, open_memories(backend, settings) as two:
        assert await one.newest() == await two.newest() == []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, one, "one")
            tasks.start_soon(write, two, "two")
        stored = sorted([record.content async for batch in one.store.scan() for record in batch])
        assert len(stored) == 5
        for memories in (one, two):
            await eventually(memories, stored)
            by_name = [await memories.newest(namespace=name) for name in ("one", "two")]
            assert sorted(by_name[0] + by_name[1]) == stored
            assert {text[:3] for text in by_name[0]} <= {"one"}


async def test_memories_survive_a_restart_of_the_server(backend: str, servers: Servers, tmp_path: Any) -> None:
    module = ("--loadmodule", str(find_wheels().search)) if backend == "redisstack" else ()
    with own_server(tmp_path / "own", *module, "--appendfsync", "always") as server:
        async with open_memories(backend, server.settings) as memories:
            await memories.write("before the restart")
            assert await memories.words("restart") == ["before the restart"]
            server.end(15)  # type: ignore[arg-type]
            server.start()
            assert await memories.words("restart") == ["before the restart"]
            with anyio.fail_after(10):
                while True:
                    try:
                        await memories.write(new_record("after the restart", key=key_for("after")))
                        break
                    except StoreError:
                        await anyio.sleep(0.05)
            assert sorted(await memories.words("restart")) == ["after the restart", "before the restart"]
            assert sorted(await memories.near("restart")) == ["after the restart", "before the restart"]


async def test_hashes_of_the_old_orka_are_found_by_words_and_filters(
    backend: str, settings: Settings, clean_redis: RedisHandle
) -> None:
    key = PREFIX + os.urandom(16).hex()
    fields: dict[str, str | bytes] = {
        "content": "the router forgets its address",
        "node_id": "writer-1",
        "trace_id": "trace-9",
        "timestamp": str(MINUTE),
        "importance_score": "0.8",
        "memory_type": "long_term",
        "metadata": '{"namespace": "faults", "session": "s9", "category": "stored", "log_type": "memory"}',
        "content_vector": np.ones(384, dtype=np.float32).tobytes(),
    }
    await clean_redis.client.hset(key, mapping=fields)  # type: ignore[misc, arg-type]
    async with open_memories(backend, settings) as memories:
        assert await memories.words("router address") == ["the router forgets its address"]
        assert await memories.near("router address") == []
        own: list[dict[str, Any]] = [
            {"memory_type": "long_term", "least_importance": 0.8},
            {"node_id": "writer-1"},
            {"trace_id": "trace-9"},
            {"since_ms": MINUTE, "until_ms": MINUTE + 1},
        ]
        in_metadata: list[dict[str, Any]] = [
            {"namespace": "faults"},
            {"session": "s9", "category": "stored"},
            {"metadata": {"log_type": "memory"}},
        ]
        # What the old version kept in the metadata only, the search module sees after `orka memory reindex`.
        for filters in own if backend == "redisstack" else [*own, *in_metadata]:
            assert await memories.newest(**filters) == ["the router forgets its address"], filters
        assert await memories.newest(namespace="default") == []
        [[candidate]] = await memories.store.search([look()])
        record = candidate.record
        assert (record.key, record.namespace, record.session, record.importance) == (key, "faults", "s9", 0.8)
