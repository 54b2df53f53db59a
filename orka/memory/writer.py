"""`MemoryWriter`: takes memories into a bounded buffer and stores them in batches, embedded off the loop.

A batch goes as soon as the one before has left, so that a quiet writer stores at once and a busy one fills its batches.
While the server works on one batch the next is embedded and packed.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import anyio
import anyio.abc

from orka.clock import monotonic
from orka.embedding.base import Embedder
from orka.errors import EmbeddingError, OrkaError, StoreError, WriteLost
from orka.logs import get_logger
from orka.memory.record import MemoryRecord
from orka.memory.store import MemoryStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Until: TypeAlias = Literal["accepted", "stored"]
"""When a write returns: in the buffer of this process, or stored and searchable."""

BATCH = 500
"""Memories embedded and stored at once."""
CAPACITY = 5_000
"""Memories in the buffer; a full one slows whoever writes."""
_BATCH_BYTES = 8 * 1024 * 1024
"""Of content in one batch, about."""
_MOST_BYTES = 64 * 1024 * 1024
"""Of content in the buffer, about."""
_AT_ONCE = 2
"""Batches on their way: one that the server works on, and one that is ready behind it."""
RETRY_FIRST, RETRY_MOST = 0.05, 2.0
"""Seconds between attempts."""

_log = get_logger()


class WriterStatistics(NamedTuple):
    """Counters since the writer was opened, and what waits now."""

    accepted: int
    stored: int
    refused: int
    """Records with a value that cannot be stored."""
    retried: int
    """Batches that were sent again."""
    lost: int
    waiting: int
    batches: int
    oldest_ms: int


class Pending(NamedTuple):
    """A memory to be stored."""

    record: MemoryRecord
    vector: NDArray[np.float32] | None
    """Shape (dimension,), length 1; None: it is made from the content."""


class _Entry:
    """One accepted memory."""

    __slots__ = ("at", "future", "number", "record", "vector")

    def __init__(self, number: int, record: MemoryRecord, vector: NDArray[np.float32] | None, at: float) -> None:
        self.number = number
        self.record = record
        self.vector = vector
        """Shape (dimension,), length 1; None: it is made from the content."""
        self.at = at
        self.future: asyncio.Future[None] | None = None
        """There while somebody waits for it alone."""


class MemoryWriter:
    """Owned by one process; `run` is its background task. Safe to use from several tasks of one event loop."""

    def __init__(
        self,
        store: MemoryStore,
        embedder: Embedder,
        *,
        patience: float,
        batch: int = BATCH,
        capacity: int = CAPACITY,
    ) -> None:
        """`patience`: seconds after which a batch that cannot be stored is given up."""
        self._store = store
        self._embedder = embedder
        self._patience = patience
        self._batch = batch
        self._capacity = capacity
        self._queue: deque[_Entry] = deque()
        self._size = 0
        self._under_way: dict[int, _Entry] = {}
        """Taken from the queue and not done, by number, in order."""
        self._pending_keys: Counter[str] = Counter()
        """How many of each key are not done."""
        self._overtaken: dict[str, int] = {}
        """Of keys that several are under way of: the number of the last one stored."""
        self._accepted = self._stored = self._refused = self._retried = self._lost = self._batches = 0
        self._wanted = asyncio.Event()
        self._room = asyncio.Event()
        self._barriers: deque[tuple[int, asyncio.Future[None]]] = deque()
        """(last number accepted, whoever waits until nothing up to that is left)."""
        self._slots = anyio.Semaphore(_AT_ONCE)
        self._unreported: deque[tuple[str, str]] = deque(maxlen=CAPACITY)
        """(key, why) of what was not stored although nobody waits for it alone: the next `flush` tells."""
        self._closed = False

    def statistics(self) -> WriterStatistics:
        oldest = next(iter(self._under_way.values()), None) or (self._queue[0] if self._queue else None)
        return WriterStatistics(
            accepted=self._accepted,
            stored=self._stored,
            refused=self._refused,
            retried=self._retried,
            lost=self._lost,
            waiting=len(self._queue) + len(self._under_way),
            batches=self._batches,
            oldest_ms=0 if oldest is None else int((monotonic() - oldest.at) * 1000),
        )

    async def write(
        self, record: MemoryRecord, *, until: Until = "accepted", vector: NDArray[np.float32] | None = None
    ) -> None:
        """Takes one memory. `accepted` waits for room only; `stored` until it can be found, and raises what became of it
        (`RecordRefused`, `WriteLost`). Cancelling a wait leaves an accepted memory to be stored."""
        entry = await self._accept(record, vector)
        if until == "stored":
            entry.future = asyncio.get_running_loop().create_future()
            await entry.future

    async def write_many(
        self,
        records: Sequence[MemoryRecord],
        *,
        until: Until = "stored",
        vectors: NDArray[np.float32] | None = None,
    ) -> list[OrkaError | None]:
        """Takes many, however many there are, without ever holding more than the buffer does. With `stored` it gives for each
        None or why it was not stored; with `accepted`, Nones. `vectors`: shape (len(records), dimension), rows of length 1."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[None]] = []
        for i, record in enumerate(records):
            entry = await self._accept(record, None if vectors is None else vectors[i])
            if until == "stored":
                entry.future = loop.create_future()
                futures.append(entry.future)
        if until == "accepted":
            return [None] * len(records)
        found = await asyncio.gather(*futures, return_exceptions=True)
        return [result if isinstance(result, OrkaError) else None for result in found]

    async def flush(self) -> None:
        """Returns when everything accepted so far is stored. `WriteLost` names what was not, once."""
        await self.settled()
        self._raise_lost()

    async def settled(self) -> None:
        """Returns when nothing accepted so far is under way any more."""
        if not self._queue and not self._under_way:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._barriers.append((self._accepted, future))
        await future

    async def aclose(self) -> None:
        """Takes nothing more and stores what is there. `WriteLost` as from `flush`."""
        self._closed = True
        await self.flush()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Stores for ever. When cancelled, whoever waits is told that what is left was not stored."""
        entered = asyncio.Event()
        entered.set()
        try:
            async with anyio.create_task_group() as group:
                task_status.started()
                while True:
                    await self._slots.acquire()
                    while not self._queue:
                        self._wanted.clear()
                        await self._wanted.wait()
                    before, entered = entered, asyncio.Event()
                    group.start_soon(self._carry, self._next_batch(), before, entered)
        finally:
            left = [*self._under_way.values(), *self._queue]
            self._queue.clear()
            self._give_up(left, "the memory was closed before they were stored")

    async def _accept(self, record: MemoryRecord, vector: NDArray[np.float32] | None) -> _Entry:
        while (len(self._queue) >= self._capacity or self._size >= _MOST_BYTES) and not self._closed:
            self._room.clear()
            await self._room.wait()
        if self._closed:
            raise StoreError("the memory is closed: nothing more can be written to it")
        self._accepted += 1
        entry = _Entry(self._accepted, record, vector, monotonic())
        self._pending_keys[record.key] += 1
        if self._pending_keys[record.key] > 1:
            self._overtaken.setdefault(record.key, 0)
        self._queue.append(entry)
        self._size += len(record.content)
        self._wanted.set()
        return entry

    def _next_batch(self) -> list[_Entry]:
        batch: list[_Entry] = []
        size = 0
        while self._queue and len(batch) < self._batch and size < _BATCH_BYTES:
            entry = self._queue.popleft()
            size += len(entry.record.content)
            self._size -= len(entry.record.content)
            self._under_way[entry.number] = entry
            batch.append(entry)
        self._room.set()
        return batch

    async def _carry(self, batch: list[_Entry], before: asyncio.Event, entered: asyncio.Event) -> None:
        """One batch to the store. Batches enter it in order: `before` is set when the one before has, `entered` by this."""
        self._batches += 1
        try:
            try:
                vectors = await vectors_of(self._embedder, batch)
            except EmbeddingError as exc:
                self._give_up(batch, str(exc))
                return
            await before.wait()
            await self._store_batch(batch, vectors, entered)
        finally:
            entered.set()
            self._slots.release()

    async def _store_batch(self, batch: list[_Entry], vectors: NDArray[np.float32], entered: asyncio.Event) -> None:
        until, pause = monotonic() + self._patience, RETRY_FIRST
        while True:
            entered.set()
            try:
                refusals = await self._store.write([entry.record for entry in batch], vectors)
            except StoreError as exc:
                if monotonic() >= until:
                    self._give_up(batch, str(exc))
                    return
                self._retried += 1
                _log.warning("memory.unreachable", memories=len(batch), error=str(exc), retry_in=pause)
                await anyio.sleep(pause)
                pause = min(RETRY_MOST, pause * 2)
                batch, vectors = self._without_overtaken(batch, vectors)
            else:
                for entry, refusal in zip(batch, refusals, strict=True):
                    self._finish(entry, refusal)
                self._release()
                return

    def _without_overtaken(
        self, batch: list[_Entry], vectors: NDArray[np.float32]
    ) -> tuple[list[_Entry], NDArray[np.float32]]:
        """What is still to be stored: a batch behind this one may have stored the same key since."""
        kept = [i for i, entry in enumerate(batch) if self._overtaken.get(entry.record.key, 0) < entry.number]
        if len(kept) == len(batch):
            return batch, vectors
        for entry in batch:
            if self._overtaken.get(entry.record.key, 0) > entry.number:
                self._finish(entry, None)
        return [batch[i] for i in kept], vectors[kept]

    def _finish(self, entry: _Entry, error: OrkaError | None) -> None:
        """It is stored, or will never be."""
        if self._under_way.pop(entry.number, None) is None:
            return
        key = entry.record.key
        if error is None:
            self._stored += 1
            if key in self._overtaken:
                self._overtaken[key] = max(self._overtaken[key], entry.number)
        elif isinstance(error, WriteLost):
            self._lost += 1
        else:
            self._refused += 1
        self._pending_keys[key] -= 1
        if not self._pending_keys[key]:
            del self._pending_keys[key]
            self._overtaken.pop(key, None)
        if entry.future is not None:
            if not entry.future.done():
                entry.future.set_result(None) if error is None else entry.future.set_exception(error)
        elif error is not None:
            self._unreported.append((key, str(error)))

    def _give_up(self, entries: Sequence[_Entry], why: str) -> None:
        if not entries:
            return
        keys = [entry.record.key for entry in entries]
        shown = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
        _log.error("memory.lost", memories=len(keys), keys=keys[:20], why=why)
        for entry in entries:
            self._under_way.setdefault(entry.number, entry)
            self._finish(entry, WriteLost(f"{len(keys)} memories were not stored ({shown}): {why}", keys=keys))
        self._release()

    def _release(self) -> None:
        """Wakes the barriers behind which nothing is left."""
        oldest = next(iter(self._under_way), self._queue[0].number if self._queue else self._accepted + 1)
        while self._barriers and self._barriers[0][0] < oldest:
            _, future = self._barriers.popleft()
            if not future.done():
                future.set_result(None)

    def _raise_lost(self) -> None:
        unreported, self._unreported = list(self._unreported), deque(maxlen=CAPACITY)
        if unreported:
            keys = [key for key, _ in unreported]
            raise WriteLost(f"{len(keys)} memories were not stored: {unreported[0][1]}", keys=keys)


async def vectors_of(embedder: Embedder, batch: Sequence[Pending | _Entry]) -> NDArray[np.float32]:
    """Shape (len(batch), dimension), rows of length 1, zeros for an empty content. Those that are given, the others in one
    call of the embedder."""
    import numpy as np

    places = [i for i, pending in enumerate(batch) if pending.vector is None]
    if len(places) == len(batch):
        return await embedder.embed([pending.record.content for pending in batch])
    vectors = np.zeros((len(batch), embedder.dimension), dtype=np.float32)
    if places:
        vectors[places] = await embedder.embed([batch[i].record.content for i in places])
    for i, pending in enumerate(batch):
        if pending.vector is not None:
            vectors[i] = pending.vector
    return vectors
