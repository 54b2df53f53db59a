"""`MemoryReader`: many tasks' searches in few round trips. What a query becomes is decided by pure functions beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from orka.clock import now_ms
from orka.embedding.base import Embedder
from orka.errors import QueryRefused
from orka.memory.batcher import Batcher
from orka.memory.query import Candidate, Look, MemoryQuery
from orka.memory.ranking import rank, reranks
from orka.memory.record import MemoryHit
from orka.memory.store import MemoryStore
from orka.memory.text import query_words
from orka.memory.vectors import unit_vector

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_HITS = 10_000
"""`offset` and `limit` together."""
_AT_ONCE = 4
"""Round trips under way: some that the server works on, and some whose replies are read."""
_QUERIES = 4
"""Queries in one round trip. The replies of many wait for a full socket (ten hits are 7 KB, and a server writes 64 KB at a
time), and the server with them: measured, 16 queries under way are 1.4 times as fast as 64."""
_TEXTS = 64
"""Texts of queries embedded at once: few enough for the first to be searched for while the others are embedded."""
_EMBEDDINGS = 2
"""Calls of the embedder under way."""
_WIDER, _LEAST_WIDE = 3, 30
"""Candidates for each hit wanted where they are ranked once more, and at least."""


class ReaderStatistics(NamedTuple):
    """Counters since the reader was made, and what is under way."""

    searches: int
    round_trips: int
    waiting: int


class _Answer(NamedTuple):
    """Of the one or two looks of a query."""

    by_meaning: Sequence[Candidate]
    by_words: Sequence[Candidate]


class MemoryReader:
    """Safe to use from any number of tasks of one event loop."""

    def __init__(self, store: MemoryStore, embedder: Embedder) -> None:
        self._store = store
        self._embedder = embedder
        self._looks = Batcher[tuple[Look, ...], tuple[Sequence[Candidate], ...]](
            self._look, most=_QUERIES, at_once=_AT_ONCE
        )
        self._texts = Batcher[str, "NDArray[np.float32]"](self._embed, most=_TEXTS, at_once=_EMBEDDINGS)
        self._searches = 0

    def statistics(self) -> ReaderStatistics:
        looks = self._looks.statistics()
        return ReaderStatistics(searches=self._searches, round_trips=looks.calls, waiting=looks.waiting)

    async def search(self, query: MemoryQuery) -> list[MemoryHit]:
        """The hits, best first. A text that can be compared with nothing gives the newest, as no text does.
        `QueryRefused`, `EmbeddingError`, `StoreError`."""
        _check(query)
        self._searches += 1
        at_ms = now_ms()
        words = query_words(query.text)
        by_words_alone = query.mode == "text" and bool(words)
        vector = None if by_words_alone else await self._vector_of(query)
        if vector is None and not words:
            return await self._newest(query, at_ms)
        both = query.mode == "hybrid" or vector is None
        found = await self._answer(query, at_ms, vector, words if both else ())
        hits = rank(query, found.by_meaning, found.by_words, at_ms)
        if hits or both or not words or not query.fallback_to_text or _any_like(query, found.by_meaning):
            return hits
        found = await self._answer(query, at_ms, None, words)
        return rank(query, (), found.by_words, at_ms)

    async def _answer(
        self, query: MemoryQuery, at_ms: int, vector: NDArray[np.float32] | None, words: tuple[str, ...]
    ) -> _Answer:
        wanted = query.offset + query.limit
        count = max(_LEAST_WIDE, wanted * _WIDER) if reranks(query) else wanted
        looks: list[Look] = []
        if vector is not None:
            looks.append(
                Look(count=count, filters=query.filters, at_ms=at_ms, vector=vector, ef_runtime=query.ef_runtime)
            )
        if words:
            looks.append(Look(count=count, filters=query.filters, at_ms=at_ms, words=words))
        found = await self._looks.submit(tuple(looks))
        return _Answer(found[0] if vector is not None else (), found[-1] if words else ())

    async def _newest(self, query: MemoryQuery, at_ms: int) -> list[MemoryHit]:
        look = Look(count=query.limit, offset=query.offset, filters=query.filters, at_ms=at_ms)
        [found] = await self._looks.submit((look,))
        return [MemoryHit(record=candidate.record, score=0.0) for candidate in found]

    async def _vector_of(self, query: MemoryQuery) -> NDArray[np.float32] | None:
        """Length 1; None when there is nothing to compare."""
        if query.vector is not None:
            return unit_vector(query.vector, self._embedder.dimension)
        if not query.text:
            return None
        vector = await self._texts.submit(query.text)
        return vector if vector.any() else None

    async def _embed(self, texts: list[str]) -> Sequence[NDArray[np.float32]]:
        return list(await self._embedder.embed(texts))

    async def _look(self, queries: list[tuple[Look, ...]]) -> list[tuple[Sequence[Candidate], ...]]:
        """The looks of many queries in one round trip."""
        found = iter(await self._store.search([look for looks in queries for look in looks]))
        return [tuple(next(found) for _ in looks) for looks in queries]


def _any_like(query: MemoryQuery, candidates: Sequence[Candidate]) -> bool:
    """Something is there, though perhaps not on this page."""
    least = query.least_similarity
    return any(least is None or (candidate.similarity or 0.0) >= least for candidate in candidates)


def _check(query: MemoryQuery) -> None:
    if query.limit < 1 or query.offset < 0 or query.offset + query.limit > MOST_HITS:
        raise QueryRefused(
            f"limit={query.limit}, offset={query.offset}: a search gives 1 to {MOST_HITS:,} memories, pages included"
        )
    if query.least_similarity is not None and not -1 <= query.least_similarity <= 1:
        raise QueryRefused(f"a least similarity of {query.least_similarity:g}: a cosine is from -1 to 1")
