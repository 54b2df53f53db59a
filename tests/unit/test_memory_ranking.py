"""Hits from candidates."""

import pytest

from orka.memory.query import Candidate, MemoryQuery
from orka.memory.ranking import rank
from orka.memory.record import new_record

HOUR = 3_600_000
NOW = 1000 * HOUR


def meant(name, similarity, **fields):
    return Candidate(record=made(name, **fields), similarity=similarity)


def said(name, relevance, **fields):
    return Candidate(record=made(name, **fields), relevance=relevance)


def made(name, **fields):
    return new_record(name, key=f"orka_memory:{name}", **{"timestamp_ms": NOW, **fields})


def names(hits):
    return [hit.record.content for hit in hits]


def test_by_meaning_alone():
    hits = rank(MemoryQuery(text="q", least_similarity=0.5), [meant("a", 0.9), meant("b", 0.4)], (), NOW)
    assert names(hits) == ["a"]
    assert (hits[0].score, hits[0].similarity, hits[0].text_score) == (0.9, 0.9, None)


def test_by_words_alone_the_best_has_1():
    hits = rank(MemoryQuery(text="q", mode="text"), (), [said("a", 2.0), said("b", 4.0)], NOW)
    assert [(hit.record.content, hit.text_score) for hit in hits] == [("b", 1.0), ("a", 0.5)]


def test_a_hybrid_score_is_the_weighted_sum():
    query = MemoryQuery(text="q", mode="hybrid", vector_weight=0.6, text_weight=0.4)
    hits = rank(query, [meant("a", 0.5), meant("b", 0.9)], [said("a", 3.0), said("c", 1.5)], NOW)
    assert [(hit.record.content, round(hit.score, 6)) for hit in hits] == [("a", 0.7), ("b", 0.54), ("c", 0.2)]


def test_the_words_save_what_is_not_like_the_query():
    query = MemoryQuery(text="q", mode="hybrid", least_similarity=0.8)
    hits = rank(query, [meant("a", 0.5), meant("b", 0.6)], [said("a", 3.0)], NOW)
    assert names(hits) == ["a"]


def test_reciprocal_rank_fusion():
    query = MemoryQuery(text="q", mode="hybrid", fusion="rrf", vector_weight=1, text_weight=1)
    hits = rank(query, [meant("a", 0.9), meant("b", 0.8)], [said("b", 2.0), said("c", 1.0)], NOW)
    assert names(hits) == ["b", "a", "c"]
    assert hits[0].score == pytest.approx(1 / 62 + 1 / 61)


def test_the_newer_one_moves_up():
    query = MemoryQuery(text="q", temporal_weight=0.5, temporal_decay_hours=10)
    old, new = meant("old", 0.8, timestamp_ms=NOW - 100 * HOUR), meant("new", 0.7)
    hits = rank(query, [old, new], (), NOW)
    assert [(hit.record.content, round(hit.score, 4)) for hit in hits] == [("new", 1.05), ("old", 0.84)]


def test_what_shares_words_with_the_context_moves_up():
    query = MemoryQuery(text="q", context=("we talked about red apples",), context_weight=0.4)
    hits = rank(query, [meant("green pears", 0.8), meant("red apples", 0.6)], (), NOW)
    assert names(hits) == ["red apples", "green pears"]


def test_pages():
    candidates = [meant(f"m{i}", 1 - i / 100) for i in range(10)]
    assert names(rank(MemoryQuery(text="q", limit=3, offset=4), candidates, (), NOW)) == ["m4", "m5", "m6"]


def test_equal_scores_give_the_newer_first():
    hits = rank(MemoryQuery(text="q"), [meant("a", 0.5, timestamp_ms=1), meant("b", 0.5, timestamp_ms=2)], (), NOW)
    assert names(hits) == ["b", "a"]
