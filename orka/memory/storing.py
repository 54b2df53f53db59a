"""One batch of memories on its way to a store: embedded in one call, and whatever cannot be stored is refused alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec

from orka.embedding.base import Embedder, embed_each
from orka.errors import OrkaError, RecordRefused
from orka.memory.record import MemoryRecord
from orka.memory.store import MemoryStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RETRY_FIRST, RETRY_MOST = 0.05, 2.0
"""Seconds between attempts."""

_json: Final = msgspec.json.Encoder(enc_hook=repr)


class Storable(Protocol):
    """What a batch consists of."""

    @property
    def record(self) -> MemoryRecord: ...
    @property
    def vector(self) -> NDArray[np.float32] | None:
        """Shape (dimension,), length 1; None: it is made from the content."""
        ...


class Pending(NamedTuple):
    """A memory to be stored."""

    record: MemoryRecord
    vector: NDArray[np.float32] | None


def size_of(record: MemoryRecord, vector: NDArray[np.float32] | None) -> int:
    """Bytes that it takes while it waits, about."""
    size = len(record.content)
    if record.metadata:
        size += len(_json.encode(record.metadata))
    return size if vector is None else size + vector.nbytes


class Entry:
    """A memory that a writer has accepted."""

    __slots__ = ("at", "future", "number", "record", "size", "vector")

    def __init__(self, number: int, record: MemoryRecord, vector: NDArray[np.float32] | None, at: float) -> None:
        self.number = number
        self.record = record
        self.vector = vector
        """Shape (dimension,), length 1; None: it is made from the content."""
        self.size = size_of(record, vector)
        self.at = at
        self.future: asyncio.Future[None] | None = None
        """There while somebody waits for it alone."""


async def embed_batch(
    embedder: Embedder, batch: Sequence[Storable]
) -> tuple[NDArray[np.float32], dict[int, RecordRefused]]:
    """Vectors of shape (len(batch), dimension), rows of length 1, zeros for an empty content: those that are given, the
    others as `embed_each` makes them. With them, by place in the batch, what is refused. `EmbeddingError` when no single
    text is to blame."""
    import numpy as np

    places = [i for i, one in enumerate(batch) if one.vector is None]
    rows, errors = await embed_each(embedder, [batch[i].record.content for i in places])
    refused = {
        places[i]: RecordRefused(f"memory {batch[places[i]].record.key} has no vector: {error}")
        for i, error in errors.items()
    }
    if len(places) == len(batch):
        return rows, refused
    vectors = np.zeros((len(batch), embedder.dimension), dtype=np.float32)
    vectors[places] = rows
    for i, one in enumerate(batch):
        if one.vector is None:
            continue
        if one.vector.shape == (embedder.dimension,):
            vectors[i] = one.vector
        else:
            refused[i] = RecordRefused(
                f"the vector of memory {one.record.key} has the shape {one.vector.shape}, and those of the model "
                f"{embedder.name!r} have ({embedder.dimension},)"
            )
    return vectors, refused


async def write_each(
    store: MemoryStore, records: Sequence[MemoryRecord], vectors: NDArray[np.float32]
) -> list[OrkaError | None]:
    """As `MemoryStore.write`, for a batch that no store takes as a whole: halves of it, and halves of those, until what
    cannot even be sent (a content that is no text) stands alone and is refused."""
    try:
        return list(await store.write(records, vectors))
    except OrkaError:
        raise
    except Exception as exc:  # bulkhead: whoever waits for the record is told
        if len(records) == 1:
            return [RecordRefused(f"memory {records[0].key!r} cannot be stored: {type(exc).__name__}: {exc}")]
    half = len(records) // 2
    first = await write_each(store, records[:half], vectors[:half])
    return first + await write_each(store, records[half:], vectors[half:])
