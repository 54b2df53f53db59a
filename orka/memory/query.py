"""`MemoryQuery`: what is looked for, and `Look`: one retrieval that a backend does. Data and pure functions.

A query becomes one or two looks (by meaning, by words); a backend gives candidates for each; `orka.memory.ranking` makes hits of
them. So both backends rank alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from orka.memory.record import OPTIONAL, TAGS, MemoryRecord, encode_facet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Scalar: TypeAlias = str | int | float | bool | None
Wanted: TypeAlias = str | tuple[str, ...] | None
"""One value, one of several, or any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """All of them must hold. An empty session, node or trace, or one among several, is no filter."""

    namespace: Wanted = None
    memory_type: Wanted = None
    category: Wanted = None
    session: Wanted = None
    node_id: Wanted = None
    trace_id: Wanted = None
    least_importance: float | None = None
    most_importance: float | None = None
    since_ms: int | None = None
    """Written then or later."""
    until_ms: int | None = None
    """Written before."""
    expires_before_ms: int | None = None
    """With an end, and that before then."""
    metadata: Mapping[str, Scalar | tuple[Scalar, ...]] = field(default_factory=dict[str, Scalar | tuple[Scalar, ...]])
    """Scalars that the metadata must have, by name."""

    def tags(self) -> list[tuple[str, tuple[str, ...]]]:
        """(name, values one of which it must be)."""
        wanted: list[tuple[str, tuple[str, ...]]] = []
        for name in TAGS:
            value: Wanted = getattr(self, name)
            if value is None or (name in OPTIONAL and "" in (value, *value)):
                continue
            wanted.append((name, (value,) if isinstance(value, str) else tuple(value)))
        return wanted

    def facets(self) -> list[tuple[str, ...]]:
        """For each name, the facets one of which it must have."""
        rows: list[tuple[str, ...]] = []
        for name, value in self.metadata.items():
            values = value if isinstance(value, tuple) else (value,)
            each = (encode_facet(name, written) for one in values for written in _written(one))
            rows.append(tuple(facet for facet in each if facet is not None))
        return rows

    def _in_range(self, record: MemoryRecord) -> bool:
        """Whether its numbers are."""
        if self.least_importance is not None and record.importance < self.least_importance:
            return False
        if self.most_importance is not None and record.importance > self.most_importance:
            return False
        if self.since_ms is not None and record.timestamp_ms < self.since_ms:
            return False
        if self.until_ms is not None and record.timestamp_ms >= self.until_ms:
            return False
        return self.expires_before_ms is None or 0 < record.expire_ms < self.expires_before_ms

    def match(self, record: MemoryRecord, at_ms: int) -> bool:
        """Whether a record that has not expired by `at_ms` is meant."""
        if record.expired(at_ms):
            return False
        if self == _ANY:
            return True
        if any(record.tag(name) not in values for name, values in self.tags()):
            return False
        if not self._in_range(record):
            return False
        for name, facets in zip(self.metadata, self.facets(), strict=True):
            if name not in record.metadata or encode_facet(name, record.metadata[name]) not in facets:
                return False
        return True


def _written(value: Scalar) -> tuple[Scalar, ...]:
    """The forms in which a number may stand in the metadata: 1 and 1.0 are the same."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1 and abs(value) < 2**53:
        return int(value), float(value)
    return (value,)


_ANY = Filters()


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryQuery:
    """A search. Without text and vector it gives the newest."""

    text: str = ""
    vector: tuple[float, ...] | None = None
    """In place of the text's own, `dimension` numbers."""
    limit: int = 10
    offset: int = 0
    """Hits to pass over. With the same `limit` pages are parts of one list."""
    filters: Filters = Filters()
    mode: Literal["vector", "text", "hybrid"] = "vector"
    fusion: Literal["weighted", "rrf"] = "weighted"
    """How hybrid scores are made: weighted sum, or reciprocal rank fusion (Cormack et al. 2009, k = 60)."""
    vector_weight: float = 0.7
    text_weight: float = 0.3
    least_similarity: float | None = None
    """Cosine below which a memory found by meaning is none."""
    fallback_to_text: bool = True
    """When nothing is found by meaning, look for the words."""
    temporal_weight: float = 0.0
    """Scores are multiplied by 1 + weight * max(0.1, 1 - age / decay)."""
    temporal_decay_hours: float = 24.0
    context: tuple[str, ...] = ()
    """Recent texts: memories that share words with them move up."""
    context_weight: float = 0.0
    ef_runtime: int | None = None
    """Width of the search in the graph of vectors; None: the index's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One retrieval: the best `count` by meaning (`vector`), by words, or the newest (neither)."""

    count: int
    filters: Filters
    at_ms: int
    """What has expired by then is not given."""
    vector: NDArray[np.float32] | None = None
    """Shape (dimension,), length 1."""
    words: tuple[str, ...] = ()
    """Any of them; case folded, as `text.query_words` gives them."""
    beside: NDArray[np.float32] | None = None
    """Of a look by words: what it finds is compared with this vector, too."""
    ef_runtime: int | None = None
    offset: int = 0
    """Of the newest: how many to pass over."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """What a look gives, best first."""

    record: MemoryRecord
    similarity: float | None = None
    """Cosine (1 - distance), for a look by meaning, or by words beside a vector."""
    relevance: float | None = None
    """BM25 score as the backend computes it, for a look by words."""
