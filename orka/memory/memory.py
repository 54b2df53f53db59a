"""`Memory`: an open store with its writer and its reader. `open_memory` makes it; agents, apps and commands use this."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import anyio

from orka.clock import monotonic
from orka.embedding.base import Embedder
from orka.errors import OrkaError, StoreError, WriteLost
from orka.memory.batcher import Batcher
from orka.memory.hashes import Hashes
from orka.memory.layout import Layout, agree_on
from orka.memory.query import MemoryQuery
from orka.memory.reader import MemoryReader, ReaderStatistics
from orka.memory.record import MemoryHit, MemoryRecord, decode_record
from orka.memory.store import MemoryStore
from orka.memory.writer import (
    BATCH,
    RETRY_FIRST,
    RETRY_MOST,
    MemoryWriter,
    Pending,
    Until,
    WriterStatistics,
    vectors_of,
)
from orka.redis.client import NodeRouter, RedisHandle
from orka.redis.pipeline import Pipe
from orka.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OnProgress = Callable[[int, int], None]
"""Called with (done, of how many; 0 where that is not known) while something lasts."""


class MemoryStatistics(NamedTuple):
    """Of everything that buffers."""

    writer: WriterStatistics | None
    """None when there is no buffer: every write is stored before it returns."""
    reader: ReaderStatistics


class Memory:
    """Used by the tasks of one event loop. `open_memory` makes and closes it."""

    def __init__(
        self,
        store: MemoryStore,
        hashes: Hashes,
        embedder: Embedder,
        layout: Layout,
        writer: MemoryWriter | None,
        *,
        patience: float,
    ) -> None:
        """`patience`: seconds after which a write that cannot be stored is given up."""
        self.store = store
        self.hashes = hashes
        self.embedder = embedder
        self.layout = layout
        self.writer = writer
        self.backend = store.name
        self.reader = MemoryReader(store, embedder)
        self._patience = patience
        self._direct = Batcher[Pending, OrkaError | bool](self._store_now, most=BATCH)

    def no_vector(self) -> NDArray[np.float32]:
        """For a memory that is to be found by its words only."""
        import numpy as np

        return np.zeros(self.embedder.dimension, dtype=np.float32)

    def statistics(self) -> MemoryStatistics:
        writer = None if self.writer is None else self.writer.statistics()
        return MemoryStatistics(writer=writer, reader=self.reader.statistics())

    async def write(
        self, record: MemoryRecord, *, until: Until = "stored", vector: NDArray[np.float32] | None = None
    ) -> None:
        """Stores one memory; `vector` (shape (dimension,), length 1) in place of the one of its content. With `accepted` it
        returns as soon as the buffer has it. `RecordRefused`, `WriteLost`."""
        if self.writer is not None:
            await self.writer.write(record, until=until, vector=vector)
            return
        result = await self._direct.submit(Pending(record, vector))
        if isinstance(result, OrkaError):
            raise result

    async def write_many(
        self,
        records: Sequence[MemoryRecord],
        *,
        until: Until = "stored",
        vectors: NDArray[np.float32] | None = None,
    ) -> list[OrkaError | None]:
        """Stores many; gives for each None or why it was not stored. See `MemoryWriter.write_many`."""
        if self.writer is not None:
            return await self.writer.write_many(records, until=until, vectors=vectors)
        found: list[OrkaError | None] = []
        for start in range(0, len(records), BATCH):
            part = [
                Pending(record, None if vectors is None else vectors[start + i])
                for i, record in enumerate(records[start : start + BATCH])
            ]
            found += [result if isinstance(result, OrkaError) else None for result in await self._store_now(part)]
        return found

    async def flush(self) -> None:
        """Returns when everything accepted so far is stored. `WriteLost`."""
        if self.writer is not None:
            await self.writer.flush()

    async def search(self, query: MemoryQuery) -> list[MemoryHit]:
        """See `MemoryReader.search`. What this process has written before is found."""
        if self.writer is not None:
            await self.writer.settled()
        return await self.reader.search(query)

    async def read(self, keys: Sequence[str]) -> list[MemoryRecord | None]:
        """By key; None for what is not there."""
        if self.writer is not None:
            await self.writer.settled()
        return await self.hashes.read(keys)

    async def delete(self, keys: Sequence[str]) -> int:
        """Gives how many were there."""
        if self.writer is not None:
            await self.writer.settled()
        return sum([await self.store.delete(keys[at : at + BATCH]) for at in range(0, len(keys), BATCH)])

    async def scan(self) -> AsyncIterator[list[MemoryRecord]]:
        """All memories, in batches, in no order; one may come twice."""
        if self.writer is not None:
            await self.writer.settled()
        async for rows in self.hashes.scan():
            yield [record for key, fields in rows if (record := decode_record(key, fields)) is not None]

    async def _store_now(self, batch: list[Pending]) -> list[OrkaError | bool]:
        vectors = await vectors_of(self.embedder, batch)
        until, pause = monotonic() + self._patience, RETRY_FIRST
        while True:
            try:
                refusals = await self.store.write([pending.record for pending in batch], vectors)
                return [True if refusal is None else refusal for refusal in refusals]
            except StoreError as exc:
                if monotonic() >= until:
                    keys = [pending.record.key for pending in batch]
                    raise WriteLost(f"{len(keys)} memories were not stored: {exc}", keys=keys) from exc
            await anyio.sleep(pause)
            pause = min(RETRY_MOST, pause * 2)


@asynccontextmanager
async def open_memory(
    redis: RedisHandle,
    router: NodeRouter,
    settings: Settings,
    embedder: Embedder,
    *,
    buffered: bool = True,
    on_progress: OnProgress | None = None,
) -> AsyncGenerator[Memory]:
    """The memories of a Redis, by the backend that the settings name. `buffered`: with a writer in the background, for which
    the block must be left by the task that entered it. At the end everything accepted is stored, or `WriteLost` raised.

    `BackendMissing` when the server lacks the search module, `IndexMismatch` when its memories are indexed in another way.
    """
    patience = settings.journal_patience
    async with AsyncExitStack() as stack:
        store, layout = await stack.enter_async_context(_open_store(redis, router, settings, embedder, on_progress))
        pipe = Pipe(router)
        stack.push_async_callback(pipe.aclose)
        hashes = Hashes(pipe, router)
        if not buffered:
            yield Memory(store, hashes, embedder, layout, None, patience=patience)
            return
        writer = MemoryWriter(store, embedder, patience=patience)
        async with anyio.create_task_group() as tasks:
            await tasks.start(writer.run)
            try:
                yield Memory(store, hashes, embedder, layout, writer, patience=patience)
            finally:
                with anyio.CancelScope(shield=True):
                    try:
                        await writer.aclose()
                    finally:
                        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _open_store(
    redis: RedisHandle, router: NodeRouter, settings: Settings, embedder: Embedder, on_progress: OnProgress | None
) -> AsyncGenerator[tuple[MemoryStore, Layout]]:
    # Each backend is imported when it is used: one brings numpy along, and most processes need one of them at most.
    if settings.memory_backend == "redisstack":
        from orka.memory.redisstack import open_redisstack as opening

        redis.facts.require_search(redis.target.label)
    else:
        from orka.memory.basic import open_basic as opening
    layout = await agree_on(redis.client, Layout(embedder=embedder.name, dimension=embedder.dimension))
    async with opening(redis, router, layout, on_progress=on_progress) as store:
        yield store, layout
