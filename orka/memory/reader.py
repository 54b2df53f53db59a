"""`MemoryReader`: many tasks' searches in few round trips. What a query becomes is decided by pure functions beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import anyio.to_thread

from orka.clock import now_ms
from orka.embedding.base import Embedder, embed_each
from orka.errors import EmbeddingError
from orka.memory.asking import checked
from orka.memory.batcher import Batcher
from orka.memory.query import Candidate, Look, MemoryQuery
from orka.memory.ranking import has_context, is_like, rank, window
from orka.memory.record import MemoryHit
from orka.memory.store import MemoryStore
from orka.memory.text import query_words
from orka.memory.vectors import unit_vector

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_AT_ONCE = 4
"""Round trips under way: some that the server works on, and some whose replies are read."""
_TEXTS = 64
"""Texts of queries embedded at once: few enough for the first to be searched for while the others are embedded."""
_EMBEDDINGS = 2
"""Calls of the embedder under way."""
_INLINE = 50_000
"""Characters whose words are compared on the event loop: it takes some milliseconds."""


class ReaderStatistics(NamedTuple):
    """Counters since the reader was made, and what is under way."""

    searches: int
    round_trips: int
    waiting: int
    """Searches whose text is not being embedded yet, or that are not on their way to the server."""


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
            self._look, most=store.together, at_once=_AT_ONCE
        )
        self._texts = Batcher[str, "NDArray[np.float32] | EmbeddingError"](
            self._embed, most=_TEXTS, at_once=_EMBEDDINGS
        )
        self._searches = 0

    def statistics(self) -> ReaderStatistics:
        looks = self._looks.statistics()
        waiting = looks.waiting + self._texts.statistics().waiting
        return ReaderStatistics(searches=self._searches, round_trips=looks.calls, waiting=waiting)

    async def search(self, query: MemoryQuery) -> list[MemoryHit]:
        """The hits, best first. A text that can be compared with nothing gives the newest, as no text does.
        `QueryRefused`, `EmbeddingError`, `StoreError`."""
        query = checked(query)
        self._searches += 1
        at_ms = now_ms()
        words = query_words(query.text)
        by_words_alone = query.mode == "text" and bool(words)
        vector = None if by_words_alone else await self._vector_of(query)
        if vector is None and not words:
            return await self._newest(query, at_ms)
        both = query.mode == "hybrid" or vector is None
        found = await self._answer(query, at_ms, vector, words if both else ())
        hits = await self._ranked(query, found, at_ms)
        if hits or both or not words or not query.fallback_to_text or _any_like(query, found.by_meaning):
            return hits
        found = await self._answer(query, at_ms, None, words)
        return await self._ranked(query, found, at_ms)

    async def _ranked(self, query: MemoryQuery, found: _Answer, at_ms: int) -> list[MemoryHit]:
        if has_context(query):
            read = sum(len(one.record.content) for some in found for one in some)
            if read > _INLINE:
                return await anyio.to_thread.run_sync(rank, query, found.by_meaning, found.by_words, at_ms)
        return rank(query, found.by_meaning, found.by_words, at_ms)

    async def _answer(
        self, query: MemoryQuery, at_ms: int, vector: NDArray[np.float32] | None, words: tuple[str, ...]
    ) -> _Answer:
        size = window(query)
        count = -(-(query.offset + query.limit) // size) * size  # whole windows
        looks: list[Look] = []
        if vector is not None:
            looks.append(
                Look(count=count, filters=query.filters, at_ms=at_ms, vector=vector, ef_runtime=query.ef_runtime)
            )
        if words:
            looks.append(Look(count=count, filters=query.filters, at_ms=at_ms, words=words, beside=vector))
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
        if isinstance(vector, EmbeddingError):
            raise vector
        return vector if vector.any() else None

    async def _embed(self, texts: list[str]) -> Sequence[NDArray[np.float32] | EmbeddingError]:
        rows, refused = await embed_each(self._embedder, texts)
        found: list[NDArray[np.float32] | EmbeddingError] = list(rows)
        for i, error in refused.items():
            found[i] = error
        return found

    async def _look(self, queries: list[tuple[Look, ...]]) -> list[tuple[Sequence[Candidate], ...]]:
        """The looks of many queries in one round trip."""
        found = iter(await self._store.search([look for looks in queries for look in looks]))
        return [tuple(next(found) for _ in looks) for looks in queries]


def _any_like(query: MemoryQuery, candidates: Sequence[Candidate]) -> bool:
    """Something is there, though perhaps not on this page."""
    return any(is_like(query, candidate.similarity) for candidate in candidates)
