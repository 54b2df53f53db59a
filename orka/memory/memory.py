"""`Memory`: an open store with its writer and its reader. `open_memory` makes it; agents, apps and commands use this."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, get_args

import anyio

from orka.embedding.base import Embedder
from orka.errors import ConfigError, OrkaError, WriteLost, sole_error
from orka.logs import get_logger
from orka.memory.batcher import Batcher
from orka.memory.hashes import Hashes
from orka.memory.layout import Layout, agree_on, layout_for
from orka.memory.query import MemoryQuery
from orka.memory.reader import MemoryReader, ReaderStatistics
from orka.memory.record import PREFIX, MemoryHit, MemoryRecord, decode_record
from orka.memory.store import MemoryStore, OnProgress
from orka.memory.storing import Pending, embed_batch, write_each
from orka.memory.writer import BATCH, MemoryWriter, Until, WriterStatistics
from orka.redis.client import NodeRouter, RedisHandle
from orka.redis.patience import patiently
from orka.redis.pipeline import Pipe
from orka.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_log = get_logger()

_AWAY = "memory.unreachable"
"""What the log calls an attempt that found no server."""


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
        self._direct = Batcher[Pending, OrkaError | None](self._store_now, most=BATCH)

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
        _check_until(until)
        if self.writer is not None:
            await self.writer.write(record, until=until, vector=vector)
            return
        if (error := await self._direct.submit(Pending(record, vector))) is not None:
            raise error

    async def write_many(
        self,
        records: Sequence[MemoryRecord],
        *,
        until: Until = "stored",
        vectors: NDArray[np.float32] | Sequence[NDArray[np.float32] | None] | None = None,
    ) -> list[OrkaError | None]:
        """Stores many; gives for each None or why it was not stored. See `MemoryWriter.write_many`."""
        _check_until(until)
        if self.writer is not None:
            return await self.writer.write_many(records, until=until, vectors=vectors)
        found: list[OrkaError | None] = []
        for start in range(0, len(records), BATCH):
            part = [
                Pending(record, None if vectors is None else vectors[start + i])
                for i, record in enumerate(records[start : start + BATCH])
            ]
            found += await self._store_now(part)
        return found

    async def flush(self) -> None:
        """Returns when everything accepted so far is stored. `WriteLost`."""
        if self.writer is not None:
            await self.writer.flush()

    async def settled(self) -> None:
        """Returns when nothing accepted so far is under way any more; `flush` tells of what was lost."""
        if self.writer is not None:
            await self.writer.settled()

    async def search(self, query: MemoryQuery) -> list[MemoryHit]:
        """See `MemoryReader.search`. What this process has written before is found."""
        await self.settled()
        return await self.reader.search(query)

    async def read(self, keys: Sequence[str]) -> list[MemoryRecord | None]:
        """By key; None for what is not there."""
        await self.settled()
        return await patiently(partial(self.hashes.read, keys), _AWAY)

    async def delete(self, keys: Sequence[str]) -> int:
        """Gives how many were there; fewer, when a connection was lost on the way. Keys of other things are left alone."""
        keys = [key for key in keys if key.startswith(PREFIX)]
        await self.settled()
        parts = [keys[at : at + BATCH] for at in range(0, len(keys), BATCH)]
        return sum([await patiently(partial(self.store.delete, part), _AWAY) for part in parts])

    async def scan(self) -> AsyncGenerator[list[MemoryRecord]]:
        """All memories, in batches, in no order; one may come twice."""
        await self.settled()
        async with aclosing(self.hashes.scan()) as pages:
            async for rows in pages:
                yield [record for key, fields in rows if (record := decode_record(key, fields)) is not None]

    async def _store_now(self, batch: list[Pending]) -> list[OrkaError | None]:
        """For each None or why it was not stored."""
        try:
            vectors, refused = await embed_batch(self.embedder, batch)
            kept = [i for i in range(len(batch)) if i not in refused]
            records = [batch[i].record for i in kept]
            found = iter(
                await patiently(partial(write_each, self.store, records, vectors[kept]), _AWAY, self._patience)
            )
        except Exception as exc:  # bulkhead: each of those who wait is told
            why = str(exc) if isinstance(exc, OrkaError) else repr(exc)
            keys = [pending.record.key for pending in batch]
            _log.error("memory.lost", memories=len(keys), keys=keys[:20], why=why)
            return [WriteLost(f"memory {key} was not stored: {why}", keys=[key]) for key in keys]
        return [refused[i] if i in refused else next(found) for i in range(len(batch))]


def _check_until(until: str) -> None:
    if until not in get_args(Until):
        raise ConfigError(f"write={until!r} must be one of {', '.join(get_args(Until))}")


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
        async with _in_background(writer):
            yield Memory(store, hashes, embedder, layout, writer, patience=patience)


@asynccontextmanager
async def _in_background(writer: MemoryWriter) -> AsyncGenerator[None]:
    """Runs it, and stores at the end what was accepted. Errors of the block are raised as they are, not in a group."""
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(writer.run)
            try:
                yield
            finally:
                with anyio.CancelScope(shield=True):
                    try:
                        await writer.aclose()
                    finally:
                        tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error = sole_error(group)
        raise error from error.__cause__ or error.__context__


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
    layout = await agree_on(redis.client, await layout_for(redis.client, embedder.name, embedder.dimension))
    async with opening(redis, router, layout, on_progress=on_progress) as store:
        yield store, layout
