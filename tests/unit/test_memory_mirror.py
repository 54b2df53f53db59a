"""What a process keeps of memories gives what looking at every record would, whatever was written and removed before."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from orka.memory import mirror as mirror_module
from orka.memory.bm25 import Words
from orka.memory.mirror import Mirror
from orka.memory.query import Filters, Look
from orka.memory.record import PREFIX, MemoryRecord, new_record
from orka.memory.rows import Rows, best, grown

AT = 1_000_000
DIMENSION = 8
VOCABULARY = [f"word{number}" for number in range(30)]


def made(chance: random.Random, key: str) -> MemoryRecord:
    return new_record(
        " ".join(chance.choices(VOCABULARY, k=chance.randrange(9))),
        key=key,
        namespace=chance.choice(["a", "b", "c"]),
        session=chance.choice(["", "s1", "s2"]),
        trace_id=f"t{chance.randrange(2000)}",
        importance=chance.choice([0.1, 0.5, 0.9]),
        timestamp_ms=chance.randrange(100),
        expire_ms=chance.choice([0, 0, AT, AT + 1]),
        metadata=chance.choice([{}, {"n": 1}, {"n": 2, "list": [1]}, {"n": "1", "flag": True}]),
    )


def drawn(chance: random.Random) -> Filters:
    options: dict[str, list[Any]] = {
        "namespace": ["a", ("a", "b"), ("z",), ("a", "b", "c", "d", "e", "f"), ()],
        "session": ["s1", ("s1", "s2"), ""],
        "trace_id": ["t1", tuple(f"t{n}" for n in range(1000))],
        "least_importance": [0.5, 2.0],
        "since_ms": [50],
        "until_ms": [50],
        "metadata": [{"n": 1}, {"n": (1, 2)}, {"n": "1", "flag": True}, {"n": 3}, {"list": 1}],
    }
    names = chance.sample(sorted(options), k=chance.choice([0, 1, 1, 2, 3]))
    return Filters(**{name: chance.choice(options[name]) for name in names})


@pytest.mark.parametrize("seed", range(8))
def test_searches_agree_with_looking_at_every_record(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "_SLACK", 20)  # numbers are given anew often
    chance, numbers = random.Random(seed), np.random.default_rng(seed)
    mirror, records, vectors = Mirror(DIMENSION), dict[str, MemoryRecord](), dict[str, Any]()
    for _ in range(40):
        keys = [f"{PREFIX}{chance.randrange(300)}" for _ in range(chance.randrange(1, 60))]
        if chance.random() < 0.4:
            mirror.remove(keys)
            for key in keys:
                records.pop(key, None)
            continue
        batch = [made(chance, key) for key in keys]
        rows = numbers.standard_normal((len(batch), DIMENSION)).astype(np.float32)
        rows[[chance.random() < 0.2 for _ in keys]] = 0
        mirror.put(batch, rows)
        records |= {record.key: record for record in batch}
        vectors |= {record.key: row for record, row in zip(batch, rows, strict=True)}
        compare(mirror, records, vectors, chance, numbers)
    assert len(mirror) == len(records)


def compare(mirror: Mirror, records: Any, vectors: Any, chance: random.Random, numbers: np.random.Generator) -> None:
    queries = [numbers.standard_normal(DIMENSION).astype(np.float32) for _ in range(6)]
    queries = [query / np.linalg.norm(query) for query in queries]
    chosen = [drawn(chance) for _ in queries]
    words = tuple(chance.sample(VOCABULARY, k=3))
    near = [Look(count=5, filters=f, at_ms=AT, vector=q) for f, q in zip(chosen, queries, strict=True)]
    newest = [Look(count=7, filters=f, at_ms=AT, offset=3) for f in chosen]
    texts = [Look(count=400, filters=f, at_ms=AT, words=words) for f in chosen]
    found = mirror.search([*near, *newest, *texts], 2)
    for look, one, two, three in zip(near, found[:6], found[6:12], found[12:], strict=True):
        meant = {key for key, record in records.items() if look.filters.match(record, AT)}
        cosines = sorted(
            (float(vectors[k] @ look.vector / np.linalg.norm(vectors[k])), k) for k in meant if vectors[k].any()
        )
        assert [f.score for f in one] == pytest.approx([cosine for cosine, _ in reversed(cosines)][:7], abs=1e-5)
        assert {f.key for f in one} <= meant
        times = sorted((records[key].timestamp_ms for key in meant), reverse=True)
        assert [records[f.key].timestamp_ms for f in two] == times[3:12]
        assert {f.key for f in three} == {key for key in meant if set(words) & set(records[key].content.split())}
        assert [f.score for f in three] == sorted((f.score for f in three), reverse=True)


def test_bm25_is_the_published_formula_with_the_constants_of_the_search_module() -> None:
    rows = Rows()
    words = Words(rows)
    texts = ["red apple", "red red wine and more red wine", "green apple tree"]
    places, numbers = rows.place(["0", "1", "2"])
    words.put(places, numbers, texts)
    order, scores = words.rank(("red", "tree", "absent"), np.ones(3, dtype=np.bool_), 10)
    # Three texts of 2, 7 and 3 words, 4 on average; `red` is in two of them, `tree` in one.
    rare = {"red": math.log(1 + 1.5 / 2.5), "tree": math.log(1 + 2.5 / 1.5)}
    expected = {
        0: rare["red"] * 1 * 2.2 / (1 + 1.2 * (0.5 + 0.5 * 2 / 4)),
        1: rare["red"] * 3 * 2.2 / (3 + 1.2 * (0.5 + 0.5 * 7 / 4)),
        2: rare["tree"] * 1 * 2.2 / (1 + 1.2 * (0.5 + 0.5 * 3 / 4)),
    }
    assert dict(zip(order.tolist(), scores.tolist(), strict=True)) == pytest.approx(expected)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 1000, 10_001])
@pytest.mark.parametrize("count", [1, 10, 200])
def test_best_are_those_of_a_full_sort(size: int, count: int) -> None:
    chance = np.random.default_rng(size)
    scores = chance.integers(0, 50, size).astype(np.float32)
    scores[chance.random(size) < 0.3] = -np.inf
    later = chance.permutation(size).astype(np.int32)
    wanted = [i for i in sorted(range(size), key=lambda i: (-scores[i], -later[i])) if scores[i] > -np.inf]
    assert best(scores, count, later).tolist() == wanted[:count]


def test_what_is_no_direction_is_not_near_anything() -> None:
    mirror = Mirror(2)
    rows = np.array([[0, 0], [math.nan, 1], [math.inf, 1], [3, 4]], dtype=np.float32)
    mirror.put([new_record(f"{i}", key=f"{PREFIX}{i}") for i in range(4)], rows)
    query = np.array([0.6, 0.8], dtype=np.float32)
    [found] = mirror.search([Look(count=9, filters=Filters(), at_ms=0, vector=query)], 0)
    assert [(one.key, one.score) for one in found] == [(f"{PREFIX}3", pytest.approx(1))]


def test_numbers_of_any_size_are_taken() -> None:
    mirror = Mirror(2)
    times = [10**400, -(10**400), 5]
    mirror.put(
        [MemoryRecord(key=f"{PREFIX}{t % 7}", content="", timestamp_ms=t, expire_ms=10**400) for t in times],
        np.zeros((3, 2), np.float32),
    )
    [found] = mirror.search([Look(count=9, filters=Filters(), at_ms=10)], 0)
    assert [one.key for one in found] == [f"{PREFIX}{t % 7}" for t in (10**400, 5, -(10**400))]


def test_what_was_changed_since_it_was_found_is_not_forgotten() -> None:
    mirror = Mirror(2)
    record = new_record("text")
    mirror.put([record], np.zeros((1, 2), np.float32))
    look = Look(count=1, filters=Filters(), at_ms=0)
    [old] = mirror.search([look], 0)
    mirror.put([record], np.zeros((1, 2), np.float32))
    mirror.forget(old)
    [new] = mirror.search([look], 0)
    assert [one.key for one in new] == [record.key]
    mirror.forget(new)
    assert mirror.search([look], 0) == [[]]


def test_many_that_have_expired_are_dropped_together() -> None:
    mirror = Mirror(2)
    records = [new_record("text", expire_ms=100 if i % 2 else 0) for i in range(4000)]
    mirror.put(records, np.zeros((4000, 2), np.float32))
    mirror.drop_expired(99)
    assert len(mirror) == 4000
    mirror.drop_expired(100)
    assert len(mirror) == 2000


def test_what_takes_long_is_known_before(monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(2)
    records = [new_record("text", expire_ms=100 if i < 1500 else 0) for i in range(4000)]
    mirror.put(records, np.zeros((4000, 2), np.float32))
    assert not mirror.takes_easily(1, 0)  # the first batch had room for itself
    mirror.put([new_record("text")], np.zeros((1, 2), np.float32))
    assert mirror.takes_easily(20, 0)
    assert not mirror.takes_easily(20, 100)  # many have expired
    assert not mirror.takes_easily(4000, 0)
    monkeypatch.setattr(mirror_module, "_SLACK", 50)
    mirror.remove([record.key for record in records])  # which is swept out at once
    for _ in range(40):
        mirror.put(records[:1], np.zeros((1, 2), np.float32))
    assert mirror.takes_easily(5, 0)
    assert not mirror.takes_easily(20, 0)


def test_arrays_grow_twofold() -> None:
    array = np.arange(4)
    assert grown(array, 4) is array
    assert len(grown(array, 5)) == 8
    assert grown(array, 100)[:5].tolist() == [0, 1, 2, 3, 0]
    assert len(grown(array, 100)) == 100


def test_memory_per_record_is_what_the_docstring_says() -> None:
    import tracemalloc

    chance = random.Random(1)
    tracemalloc.start()
    mirror = Mirror(64)
    for _ in range(4):
        records = [
            new_record(" ".join(chance.choices(VOCABULARY, k=10)), namespace="n", session=f"s{chance.randrange(99)}")
            for _ in range(1000)
        ]
        mirror.put(records, np.ones((1000, 64), np.float32))
    del records
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / 4_000 < 8 * 64 + 4 * 10 + 350
