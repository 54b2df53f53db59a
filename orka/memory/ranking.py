"""Hits from candidates: what both backends do alike once they have looked. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from orka.memory.query import Candidate, MemoryQuery
from orka.memory.record import MemoryHit, MemoryRecord
from orka.memory.text import STOP_WORDS, words_of

_RRF = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke, Buettcher 2009)."""
_HOUR_MS = 3_600_000
_LEAST_FRESHNESS = 0.1


@dataclass(slots=True)
class _Found:
    record: MemoryRecord
    similarity: float | None = None
    text_score: float | None = None
    score: float = 0.0


def rank(
    query: MemoryQuery, by_meaning: Sequence[Candidate], by_words: Sequence[Candidate], at_ms: int
) -> list[MemoryHit]:
    """The hits of one query, best first, `offset` and `limit` applied. A memory that was found by meaning alone must be
    at least `least_similarity` like the query; one that has the words is found whatever it is like."""
    found: dict[str, _Found] = {}
    for candidate in by_meaning:
        found[candidate.record.key] = _Found(candidate.record, similarity=candidate.similarity)
    best = max((candidate.relevance or 0.0 for candidate in by_words), default=0.0)
    for candidate in by_words:
        entry = found.setdefault(candidate.record.key, _Found(candidate.record, similarity=candidate.similarity))
        entry.text_score = (candidate.relevance or 0.0) / best if best > 0 else 0.0
    least = query.least_similarity
    entries = [
        entry
        for entry in found.values()
        if least is None or entry.text_score is not None or (entry.similarity or 0.0) >= least
    ]
    _score(query, entries)
    if query.temporal_weight:
        for entry in entries:
            entry.score *= _freshness(query, entry.record, at_ms)
    if query.context_weight and query.context:
        context = _telling(word for text in query.context for word in words_of(text))
        for entry in entries:
            entry.score += query.context_weight * _overlap(_telling(words_of(entry.record.content)), context)
    entries.sort(key=lambda entry: (-entry.score, -entry.record.timestamp_ms, entry.record.key))
    return [
        MemoryHit(record=entry.record, score=entry.score, similarity=entry.similarity, text_score=entry.text_score)
        for entry in entries[query.offset : query.offset + query.limit]
    ]


def reranks(query: MemoryQuery) -> bool:
    """Whether the order of hits may be another than that of the candidates of one look."""
    return query.mode == "hybrid" or bool(query.temporal_weight or (query.context_weight and query.context))


def _score(query: MemoryQuery, entries: Sequence[_Found]) -> None:
    if query.mode == "hybrid" and query.fusion == "rrf":
        _fuse(entries, query.vector_weight, lambda entry: entry.similarity)
        _fuse(entries, query.text_weight, lambda entry: entry.text_score)
        return
    for entry in entries:
        similarity, text_score = max(0.0, entry.similarity or 0.0), entry.text_score or 0.0
        if query.mode == "hybrid":
            entry.score = query.vector_weight * similarity + query.text_weight * text_score
        else:
            entry.score = similarity if entry.similarity is not None else text_score


def _fuse(entries: Sequence[_Found], weight: float, value: Callable[[_Found], float | None]) -> None:
    ranked = sorted((entry for entry in entries if value(entry) is not None), key=lambda entry: -(value(entry) or 0.0))
    for place, entry in enumerate(ranked, 1):
        entry.score += weight / (_RRF + place)


def _freshness(query: MemoryQuery, record: MemoryRecord, at_ms: int) -> float:
    age_hours = max(0, at_ms - record.timestamp_ms) / _HOUR_MS
    left = 1 - age_hours / query.temporal_decay_hours if query.temporal_decay_hours > 0 else 0.0
    return 1 + query.temporal_weight * max(_LEAST_FRESHNESS, left)


def _telling(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word for word in words if word not in STOP_WORDS)


def _overlap(words: frozenset[str], context: frozenset[str]) -> float:
    """Words in common over the smaller number of different words, 0 to 1 (the overlap coefficient)."""
    least = min(len(words), len(context))
    return len(words & context) / least if least else 0.0
