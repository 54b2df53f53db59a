"""How near texts are in meaning to a question: from stored vectors, and computed anew where another model made those."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import anyio.to_thread

from orka.brain.ranking import semantic_scores
from orka.brain.store import BrainStore, Row, pack, unpack
from orka.embedding.base import Embedder


class _Opened(Protocol):
    @property
    def store(self) -> BrainStore: ...
    @property
    def embedder(self) -> Embedder: ...


async def semantic(
    opened: _Opened, question: str, prefix: str, ids: Sequence[str], text: Callable[[int], str], rows: Sequence[Row]
) -> list[float]:
    """(cosine + 1) / 2 for each of `rows`. Vectors of another model are made anew, of `text` (given the place in `rows`), and
    stored under `prefix` and the id."""
    import numpy as np

    model, dimension = opened.embedder.name, opened.embedder.dimension

    def stacked() -> list[np.ndarray[tuple[int], np.dtype[np.float32]] | None]:
        return [unpack(row, model, dimension) for row in rows]

    vectors = await anyio.to_thread.run_sync(stacked)
    missing = [place for place, vector in enumerate(vectors) if vector is None]
    made = await opened.embedder.embed([question, *(text(place) for place in missing)])
    for place, vector in zip(missing, made[1:], strict=True):
        vectors[place] = vector
    if missing:
        pairs = [(ids[place], pack(vector)) for place, vector in zip(missing, made[1:], strict=True)]
        await opened.store.set_vectors(prefix, pairs, model)

    def scored() -> list[float]:
        return semantic_scores(np.stack([one for one in vectors if one is not None]), made[0]).tolist()

    return await anyio.to_thread.run_sync(scored)
