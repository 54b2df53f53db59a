"""`BasicStore`: memories on a plain Redis, without a search module. Searches are done in this process, over a `Mirror`.

Hashes, vectors included, are those of the other backend, so that memories stay when the backend changes.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import anyio.abc
from redis.exceptions import ResponseError

from orka.errors import OrkaError, QueryRefused, StoreError
from orka.memory.changes import announce
from orka.memory.following import Follower, FollowerStatistics, OnProgress
from orka.memory.hashes import Hashes, raise_if_transient
from orka.memory.layout import Layout, LayoutInUse, ask_layouts
from orka.memory.own import OwnWrites, State
from orka.memory.query import Candidate, Look
from orka.memory.record import MemoryRecord, decode_record
from orka.memory.searching import Searches
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
    tasks: anyio.abc.TaskGroup | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> AsyncGenerator[BasicStore]:
    """The store, until the block is left. Nothing is read before the first search; then all memories are, once, and
    `on_progress` is called each second. What follows the changes runs in `tasks`; without them each search asks what has
    changed, which costs it a round trip."""
    store = BasicStore(router, layout, tasks, cluster=redis.facts.cluster, on_progress=on_progress)
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
        tasks: anyio.abc.TaskGroup | None,
        *,
        cluster: bool = False,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._layouts = LayoutInUse(layout)
        self._tasks = tasks
        self._cluster = cluster
        # Hits are read, changes followed and memories written without waiting for each other's round trips.
        self._writing, self._reading, self._following = (Pipe(router) for _ in range(3))
        self._hashes = Hashes(self._writing, router)
        self._own = OwnWrites()
        self._follower = Follower(
            router,
            self._layouts,
            writing=self._writing,
            reading=self._following,
            own=self._own,
            on_progress=on_progress,
        )
        self._searches = Searches(self._follower, Hashes(self._reading, router))
        self._scope: anyio.CancelScope | None = None
        self._ended = anyio.Event()

    @property
    def name(self) -> str:
        return "redis"

    def statistics(self) -> FollowerStatistics:
        return self._follower.statistics()

    async def aclose(self) -> None:
        """Ends what runs; searches that wait raise `StoreError`."""
        with anyio.CancelScope(shield=True):
            self._searches.close()
            self._follower.close()
            if self._scope is not None:
                self._scope.cancel()
                await self._ended.wait()
            for pipe in (self._writing, self._reading, self._following):
                await pipe.aclose()

    async def write(
        self, records: Sequence[MemoryRecord], vectors: NDArray[np.float32] | None, /
    ) -> Sequence[OrkaError | None]:
        """See `MemoryStore`: a search that begins after this waits until the mirror has what was stored. `IndexMismatch` as
        from the other backend."""
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
            async with self._announced(refused, {}) as also:
                await self._send(also)
        return found

    async def _write(
        self, records: Sequence[MemoryRecord], rows: dict[str, list[bytes]]
    ) -> tuple[Sequence[OrkaError | None], Any]:
        """What became of each, and what is written down of the layout."""
        states: dict[str, State] = {}
        if self._scope is not None:
            packed = rows[self._layouts.current.field]
            states = {record.key: (record, row) for record, row in zip(records, packed, strict=True)}
        answers: list[Any] = []
        async with self._announced([record.key for record in records], states) as also:
            found = await self._hashes.write(records, rows, also=[ask_layouts(), *also], answers=answers)
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
        name = self._own.begin(keys, dict.fromkeys(keys))
        try:
            removed = await self._hashes.delete(keys)
            replies = await self._writing.roundtrip(announce(name, keys))
        except BaseException:
            self._own.end(name)
            raise
        # A full server takes no entry and can be made room on all the same: who finds a memory gone drops it.
        self._settle(name, told=not any(isinstance(reply, ResponseError) for reply in replies))
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
        if self._tasks is None:
            await self._follower.catch_up()
        else:
            if self._scope is None:
                self._scope = anyio.CancelScope()
                self._tasks.start_soon(self._run, self._scope, name="memory mirror")
            await self._follower.caught_up()
        return await self._searches.ask(looks)

    async def scan(self) -> AsyncIterator[Sequence[MemoryRecord]]:
        """See `MemoryStore`."""
        async with contextlib.aclosing(self._hashes.scan()) as pages:
            async for rows in pages:
                records = (decode_record(key, fields) for key, fields in rows)
                yield [record for record in records if record is not None]

    @contextlib.asynccontextmanager
    async def _announced(self, keys: Sequence[str], states: dict[str, State]) -> AsyncGenerator[list[Keyed]]:
        """Commands to send behind those that change `keys`. On a cluster they go at the end of the block: other nodes may
        be slower than the one that has the stream, and who is told too early reads what was there before."""
        name = self._own.begin(keys, states)
        commands = announce(name, keys)
        try:
            yield [] if self._cluster else commands
            if self._cluster:
                await self._send(commands)
        except BaseException:
            self._own.end(name)  # if it did happen, the memories are read when the stream says so
            raise
        self._settle(name, told=True)

    def _settle(self, name: str, *, told: bool) -> None:
        """Right after the round trip, without awaiting anything in between: `Follower` counts on that."""
        if told and self._scope is not None:
            self._own.confirm(name)
        else:
            self._own.end(name)

    async def _send(self, commands: Sequence[Keyed]) -> list[Any]:
        replies = await self._writing.roundtrip(commands)
        raise_if_transient(replies)
        return replies

    async def _run(self, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                await self._follower.run()
        finally:
            self._ended.set()
