"""Hits from candidates: what both backends do alike once they have looked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from orka.memory.query import Candidate, MemoryQuery
from orka.memory.record import MemoryHit, MemoryRecord
from orka.memory.text import READ, STOP_WORDS, words_of

_RRF = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke, Buettcher 2009)."""
_HOUR_MS = 3_600_000
_LEAST_FRESHNESS = 0.1
_WIDER, _LEAST_WIDE = 3, 30
"""Candidates for each hit wanted where they are ranked once more, and at least."""
_ITSELF = 0.9998
"""Cosine from which on a text may be the same: vectors of half precision are no nearer to themselves (measured: 0.9999)."""


@dataclass(slots=True)
class _Found:
    record: MemoryRecord
    similarity: float | None = None
    text_score: float | None = None
    fused: float = 0.0
    """By its places in both lists."""
    score: float = 0.0


def rank(
    query: MemoryQuery, by_meaning: Sequence[Candidate], by_words: Sequence[Candidate], at_ms: int
) -> list[MemoryHit]:
    """The hits of one query, best first, `offset` and `limit` applied. A memory that was found by meaning alone must be
    at least `least_similarity` like the query; one that has the words is found whatever it is like.

    Each `window` of the candidates is ranked by itself and by what is known up to its end, whatever was asked beyond: so the
    pages of a search are parts of one list, and have each memory once."""
    best = max((candidate.relevance or 0.0 for candidate in by_words), default=0.0)
    context = _context_of(query)
    size, wanted = window(query), query.offset + query.limit
    found: dict[str, _Found] = {}
    ranked: list[_Found] = []
    for start in range(0, max(len(by_meaning), len(by_words)), size):
        if len(ranked) >= wanted:
            break
        before = len(found)
        for place, candidate in enumerate(by_meaning[start : start + size], start + 1):
            entry = found.setdefault(candidate.record.key, _Found(candidate.record))
            entry.similarity = candidate.similarity
            entry.fused += query.vector_weight / (_RRF + place)
        for place, candidate in enumerate(by_words[start : start + size], start + 1):
            entry = found.setdefault(candidate.record.key, _Found(candidate.record, similarity=candidate.similarity))
            entry.text_score = (candidate.relevance or 0.0) / best if best > 0 else 0.0
            entry.fused += query.text_weight / (_RRF + place)
        fresh = list(islice(found.values(), before, None))
        for entry in fresh:
            if entry.text_score is None and not is_like(query, entry.similarity):
                del found[entry.record.key]  # its words may come later
            else:
                entry.score = _score(query, entry, context, at_ms)
        kept = [entry for entry in fresh if entry.record.key in found]
        ranked += sorted(kept, key=lambda entry: (-entry.score, -entry.record.timestamp_ms, entry.record.key))
    return [
        MemoryHit(record=entry.record, score=entry.score, similarity=entry.similarity, text_score=entry.text_score)
        for entry in ranked[query.offset : wanted]
    ]


def window(query: MemoryQuery) -> int:
    """How many candidates of each look are ranked together."""
    if query.mode == "hybrid" or query.temporal_weight or has_context(query):
        return max(_LEAST_WIDE, query.limit * _WIDER)
    return query.limit


def is_like(query: MemoryQuery, similarity: float | None) -> bool:
    """Whether a memory of this similarity is one that was meant."""
    return query.least_similarity is None or (similarity or 0.0) >= min(query.least_similarity, _ITSELF)


def has_context(query: MemoryQuery) -> bool:
    """Whether the words of all candidates are read."""
    return bool(query.context_weight and query.context)


def _context_of(query: MemoryQuery) -> frozenset[str]:
    if not has_context(query):
        return frozenset[str]()
    each = READ // len(query.context)
    return _telling(word for text in query.context for word in words_of(text[:each]))


def _score(query: MemoryQuery, entry: _Found, context: frozenset[str], at_ms: int) -> float:
    similarity, text_score = max(0.0, entry.similarity or 0.0), entry.text_score or 0.0
    if query.mode == "hybrid":
        weighted = query.vector_weight * similarity + query.text_weight * text_score
        score = entry.fused if query.fusion == "rrf" else weighted
    else:
        score = similarity if entry.similarity is not None else text_score
    if query.temporal_weight:
        score *= _freshness(query, entry.record, at_ms)
    if context:
        score += query.context_weight * _overlap(_telling(words_of(entry.record.content[:READ])), context)
    return score


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
