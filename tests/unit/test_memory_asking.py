"""What callers may ask of a search."""

from typing import Any

import numpy as np
import pytest

from orka.errors import QueryRefused
from orka.memory.asking import checked
from orka.memory.query import Filters, MemoryQuery
from orka.memory.ranking import window
from orka.memory.record import new_record
from orka.memory.text import READ, query_words
from orka.memory.vectors import unit_vector


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": 5}, "text=5 of a search must be text"),
        ({"text": b"tea"}, "text=b'tea' of a search must be text"),
        ({"limit": 0}, "limit=0, offset=0: a search gives 1 to 10,000 memories"),
        ({"limit": 9_999, "offset": 2}, "limit=9999, offset=2"),
        ({"offset": -1}, "offset=-1"),
        ({"limit": 2.5}, "limit=2.5 of a search must be a whole number"),
        ({"limit": "3"}, "limit='3'"),
        ({"ef_runtime": 2.5}, "ef_runtime=2.5 of a search must be a whole number"),
        ({"mode": "fuzzy"}, "mode='fuzzy' must be one of vector, text, hybrid"),
        ({"fusion": "max"}, "fusion='max' must be one of weighted, rrf"),
        ({"vector_weight": float("nan")}, "vector_weight=nan of a search must be a finite number from 0 on"),
        ({"text_weight": -0.5}, "text_weight=-0.5"),
        ({"temporal_weight": "1"}, "temporal_weight='1'"),
        ({"context_weight": 10**400}, "context_weight=1000"),
        ({"temporal_decay_hours": float("inf")}, "temporal_decay_hours=inf"),
        ({"least_similarity": "high"}, "least_similarity='high' of a search must be a finite number"),
        ({"context": (5,)}, "context=5 of a search must be text"),
        ({"filters": {"namespace": "shop"}}, "must be Filters"),
        ({"filters": Filters(namespace=5)}, "namespace=5 of a search must be text"),  # type: ignore[arg-type]
        ({"filters": Filters(session=("a", b"b"))}, "session=b'b'"),  # type: ignore[arg-type]
        ({"filters": Filters(least_importance=float("nan"))}, "least_importance=nan"),
        ({"filters": Filters(since_ms="today")}, "since_ms='today'"),  # type: ignore[arg-type]
        ({"filters": Filters(metadata=["a"])}, "must be a mapping"),  # type: ignore[arg-type]
        ({"filters": Filters(metadata={5: 5})}, "name of a metadata filter=5"),  # type: ignore[dict-item]
        ({"filters": Filters(metadata={"a": {"b": 1}})}, "metadata filter 'a': {'b': 1} is no text, number"),  # type: ignore[dict-item]
        ({"filters": Filters(metadata={"a": (1, float("nan"))})}, "metadata filter 'a': nan"),
    ],
)
def test_what_cannot_be_asked_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryRefused) as caught:
        checked(MemoryQuery(**{"text": "tea", **options}))
    assert message in str(caught.value)


def test_a_text_is_no_query() -> None:
    with pytest.raises(QueryRefused, match="'tea' is no MemoryQuery"):
        checked("tea")  # type: ignore[arg-type]


def test_whatever_can_be_meant_is_brought_into_one_form() -> None:
    filters = Filters(
        namespace=["shop", "\ud800"],  # type: ignore[arg-type]
        session={"a"},  # type: ignore[arg-type]
        least_importance=np.float32(0.5),  # type: ignore[arg-type]
        since_ms=1000.5,  # type: ignore[arg-type]
        until_ms=np.int64(7),  # type: ignore[arg-type]
        metadata={"n": [np.int64(5), None], "ok": np.bool_(True), "half": np.float64(0.5)},  # type: ignore[dict-item]
    )
    query = checked(MemoryQuery(text=None, limit=np.int64(3), context="one text", ef_runtime=0, filters=filters))  # type: ignore[arg-type]
    assert (query.text, query.limit, query.context, query.ef_runtime) == ("", 3, ("one text",), 1)
    assert query.filters == Filters(
        namespace=("shop", "?"),
        session=("a",),
        least_importance=0.5,
        since_ms=1001,
        until_ms=7,
        metadata={"n": (5, None), "ok": True, "half": 0.5},
    )
    assert checked(query) == query


def test_a_number_is_the_same_however_it_is_written() -> None:
    whole, broken = new_record("a", metadata={"n": 1}), new_record("b", metadata={"n": 1.0})
    for wanted in (1, 1.0):
        assert all(Filters(metadata={"n": wanted}).match(record, 0) for record in (whole, broken))
    assert not Filters(metadata={"n": True}).match(whole, 0)
    assert not Filters(metadata={"n": 1.5}).match(whole, 0)


@pytest.mark.parametrize("size", [1e-300, 1e200, 10**30])
def test_vectors_of_any_length_have_length_one(size: float) -> None:
    assert unit_vector([3 * size, 4 * size], 2).tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1.0], "has 1 numbers, and those of the memories have 2"),
        ([[1.0, 2.0]], "the shape \\(1, 2\\)"),
        (5, "the shape \\(\\)"),
        ("xy", "a str has none"),
        ([1j, 1], "a list has none"),
        ([10**400, 1], "a list has none"),
        ([None, 1], "finite numbers"),
        ([0, 0], "not all 0"),
    ],
)
def test_what_is_no_vector_is_refused(given: Any, message: str) -> None:
    with pytest.raises(QueryRefused, match=message):
        unit_vector(given, 2)


def test_a_page_is_cut_from_whole_windows() -> None:
    assert window(MemoryQuery(text="q", limit=5)) == 5
    assert window(MemoryQuery(text="q", limit=5, mode="hybrid")) == 30
    assert window(MemoryQuery(text="q", limit=50, temporal_weight=0.1)) == 150
    assert window(MemoryQuery(text="q", limit=5, context=("c",), context_weight=0.1)) == 30
    assert window(MemoryQuery(text="q", limit=5, context_weight=0.1)) == 5


def test_so_much_of_a_query_is_read_for_words() -> None:
    assert query_words("tea " * READ + "late") == ("tea",)
