"""`BasicStore`: memories on a plain Redis, without a search module. Searches are done in this process, over a `Mirror`.

Hashes, vectors included, are those of the other backend, so that memories stay when the backend changes.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
from redis.exceptions import ResponseError

from orka.errors import OrkaError, QueryRefused, StoreError
from orka.memory.changes import announce
from orka.memory.following import Follower, FollowerStatistics, OnProgress
from orka.memory.hashes import Hashes, raise_if_transient
from orka.memory.layout import Layout, LayoutInUse, ask_layouts
from orka.memory.query import Candidate, Look
from orka.memory.record import MemoryRecord, decode_record
from orka.memory.searching import TOGETHER, Searches
from orka.redis.client import NodeRouter, RedisHandle
from orka.redis.keys import memory_layout_key
from orka.redis.pipeline import Keyed, Pipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ATTEMPTS: Final = 3
"""At a write that finds the layout changed."""


@contextlib.asynccontextmanager
async def open_basic(
    redis: RedisHandle,
    router: NodeRouter,
    layout: Layout,
    *,
    on_progress: OnProgress | None = None,
) -> AsyncGenerator[BasicStore]:
    """The store, until the block is left. Nothing is read before the first search; then all memories are, once, and
    `on_progress` is called each second. Each later search asks what has changed since, which costs it a round trip and lets
    it find what any process has stored before."""
    store = BasicStore(router, layout, cluster=redis.facts.cluster, on_progress=on_progress)
    try:
        yield store
    finally:
        await store.aclose()


class BasicStore:
    """A `MemoryStore`. `open_basic` makes and closes it. What it keeps in memory: see `Mirror`, and twice that while all
    is read again."""

    def __init__(
        self,
        router: NodeRouter,
        layout: Layout,
        *,
        cluster: bool = False,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._layouts = LayoutInUse(layout)
        self._cluster = cluster
        # Hits are read, changes followed and memories written without waiting for each other's round trips.
        self._writing, self._reading, self._following = (Pipe(router) for _ in range(3))
        self._hashes = Hashes(self._writing, router)
        self._follower = Follower(router, self._layouts, self._following, on_progress)
        self._searches = Searches(self._follower, Hashes(self._reading, router))

    @property
    def name(self) -> str:
        return "redis"

    @property
    def together(self) -> int:
        return TOGETHER

    def statistics(self) -> FollowerStatistics:
        return self._follower.statistics()

    async def aclose(self) -> None:
        """Searches that wait raise `StoreError`."""
        with anyio.CancelScope(shield=True):
            self._searches.close()
            self._follower.close()
            for pipe in (self._writing, self._reading, self._following):
                await pipe.aclose()

    async def write(
        self, records: Sequence[MemoryRecord], vectors: NDArray[np.float32] | None, /
    ) -> Sequence[OrkaError | None]:
        """See `MemoryStore`: a search that begins after this finds what was stored. `IndexMismatch` as from the other
        backend."""
        if not records:
            return []
        for _ in range(_ATTEMPTS):
            packed_for = self._layouts.seen
            found, written = await self._write(records, self._layouts.rows(len(records), vectors))
            # Read behind the write, as by the other backend: what was written for the layout of before is written again.
            if not await self._heed(written) and self._layouts.seen == packed_for:
                break
        else:
            raise StoreError("the layout of the memories changes with every write: are they indexed again and again?")
        if refused := [record.key for record, error in zip(records, found, strict=True) if error is not None]:
            # What mirrors have of them by now is not what the server has.
            await self._send(announce(refused))
        return found

    async def _write(
        self, records: Sequence[MemoryRecord], rows: dict[str, list[bytes]]
    ) -> tuple[Sequence[OrkaError | None], Any]:
        """What became of each, and what is written down of the layout."""
        answers: list[Any] = []
        told = announce([record.key for record in records])
        # On a cluster other nodes may be slower than the one that has the stream, and who is told too early reads what was
        # there before.
        also = [ask_layouts()] if self._cluster else [ask_layouts(), *told]
        found = await self._hashes.write(records, rows, also=also, answers=answers)
        if self._cluster:
            await self._send(told)
        return found, answers[0]

    async def _heed(self, written: Any) -> bool:
        if isinstance(written, ResponseError):
            raise StoreError(f"Redis refuses to tell the layout of the memories: {written}")
        if cast("Sequence[bytes | None]", written)[0] is None:  # the database was emptied
            key = memory_layout_key()
            current = self._layouts.current.encode()
            _, written = await self._send([(key, ("HSETNX", key, "current", current)), ask_layouts()])
        return self._layouts.heed(cast("Sequence[bytes | None]", written))

    async def delete(self, keys: Sequence[str], /) -> int:
        """See `MemoryStore`."""
        keys = list(dict.fromkeys(keys))
        if not keys:
            return 0
        removed = await self._hashes.delete(keys)
        # A full server takes no entry and can be made room on all the same: who finds a memory gone drops it.
        await self._writing.roundtrip(announce(keys))
        return removed

    async def search(self, looks: Sequence[Look], /) -> Sequence[Sequence[Candidate]]:
        """See `MemoryStore`. `QueryRefused` for a vector of another size than the memories have."""
        if not looks:
            return []
        layout = self._layouts.current
        for look in looks:
            if look.vector is not None and look.vector.shape != (layout.dimension,):
                raise QueryRefused(
                    f"the vector looked for has the shape {look.vector.shape}, and those of memories have "
                    f"({layout.dimension},): make it with the model {layout.embedder!r}"
                )
        await self._follower.catch_up()
        return await self._searches.ask(looks)

    async def scan(self) -> AsyncIterator[Sequence[MemoryRecord]]:
        """See `MemoryStore`."""
        async with contextlib.aclosing(self._hashes.scan()) as pages:
            async for rows in pages:
                records = (decode_record(key, fields) for key, fields in rows)
                yield [record for record in records if record is not None]

    async def _send(self, commands: Sequence[Keyed]) -> list[Any]:
        replies = await self._writing.roundtrip(commands)
        raise_if_transient(replies)
        return replies
