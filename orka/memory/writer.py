"""`MemoryWriter`: takes memories into a bounded buffer and stores them in batches, embedded off the loop.

A batch goes as soon as the one before has left, so that a quiet writer stores at once and a busy one fills its batches.
While the server works on one batch the next is embedded and packed.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import anyio
import anyio.abc

from orka.clock import monotonic
from orka.embedding.base import Embedder
from orka.errors import OrkaError, StoreError, WriteLost
from orka.logs import get_logger
from orka.memory.record import MemoryRecord
from orka.memory.store import MemoryStore
from orka.memory.storing import RETRY_FIRST, RETRY_MOST, Entry, embed_batch, write_each
from orka.memory.turns import Turns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Until: TypeAlias = Literal["accepted", "stored"]
"""When a write returns: in the buffer of this process, or stored and searchable."""

BATCH = 500
"""Memories embedded and stored at once."""
CAPACITY = 5_000
"""Memories in the buffer; a full one slows whoever writes."""
BATCH_BYTES = 8 * 1024 * 1024
"""In one batch, about."""
MOST_BYTES = 64 * 1024 * 1024
"""In the buffer, about."""
_AT_ONCE = 3
"""Batches on their way: one that the server works on, one that waits there behind it, and one that is made ready."""

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
        self._queue: deque[Entry] = deque()
        self._size = 0
        self._under_way: dict[int, Entry] = {}
        """Taken from the queue and not done, by number, in order."""
        self._pending_keys: Counter[str] = Counter()
        """How many of each key are not done."""
        self._overtaken: dict[str, int] = {}
        """Of keys that several are under way of: the number of the last one stored."""
        self._accepted = self._stored = self._refused = self._retried = self._lost = self._batches = 0
        self._wanted = asyncio.Event()
        self._room = asyncio.Event()
        self._line = anyio.Lock()
        """Of those who wait for room: who writes much does not keep out who writes little."""
        self._barriers: deque[tuple[int, asyncio.Future[None]]] = deque()
        """(last number accepted, whoever waits until nothing up to that is left)."""
        self._slots = anyio.Semaphore(_AT_ONCE)
        self._turns = Turns()
        self._unreported: deque[tuple[str, str]] = deque(maxlen=CAPACITY)
        """(key, why) of what was not stored although nobody waits for it alone: the next `flush` tells."""
        self._closed = False
        self._latest = math.inf
        """When whatever cannot be stored is given up, once nothing more is taken."""

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
        vectors: NDArray[np.float32] | Sequence[NDArray[np.float32] | None] | None = None,
    ) -> list[OrkaError | None]:
        """Takes many, however many there are, without ever holding more than the buffer does. Gives for each None
        or why it was not stored; with `accepted`, not taken. `vectors`: one of length 1 for each, or None."""
        loop = asyncio.get_running_loop()
        entries: list[Entry] = []
        futures: list[asyncio.Future[None]] = []
        closed: list[OrkaError] = []
        try:
            for i, record in enumerate(records):
                try:
                    entry = await self._accept(record, None if vectors is None else vectors[i])
                except StoreError as exc:
                    closed = [exc] * (len(records) - i)
                    break
                if until == "stored":
                    entry.future = loop.create_future()
                    entries.append(entry)
                    futures.append(entry.future)
                if (i + 1) % self._batch == 0:  # the first ones leave while the others are still taken
                    await asyncio.sleep(0)
            found = await asyncio.gather(*futures, return_exceptions=True)
        except BaseException:
            self._abandon(entries)
            raise
        results = [result if isinstance(result, OrkaError) else None for result in found]
        return [*(results or [None] * (len(records) - len(closed))), *closed]

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
        """Takes nothing more and stores what is there; what cannot be stored is given up after `patience` in all.
        `WriteLost` as from `flush`."""
        self._closed = True
        self._latest = min(self._latest, monotonic() + self._patience)
        await self.flush()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Stores for ever. When cancelled, whoever waits is told that what is left was not stored."""
        try:
            async with anyio.create_task_group() as group:
                task_status.started()
                while True:
                    await self._slots.acquire()
                    while not self._queue:
                        self._wanted.clear()
                        await self._wanted.wait()
                    group.start_soon(self._carry, self._batches, self._next_batch())
                    self._batches += 1
        finally:
            self._closed = True
            self._under_way |= {entry.number: entry for entry in self._queue}
            self._queue.clear()
            self._give_up(list(self._under_way.values()), "the memory was closed before that")
            self._room.set()

    async def _accept(self, record: MemoryRecord, vector: NDArray[np.float32] | None) -> Entry:
        if self._full() or self._line.locked():
            async with self._line:
                while self._full() and not self._closed:
                    self._room.clear()
                    await self._room.wait()
                return self._take(record, vector)
        return self._take(record, vector)

    def _full(self) -> bool:
        return len(self._queue) >= self._capacity or self._size >= MOST_BYTES

    def _take(self, record: MemoryRecord, vector: NDArray[np.float32] | None) -> Entry:
        if self._closed:
            raise StoreError("the memory is closed: nothing more can be written to it")
        self._accepted += 1
        entry = Entry(self._accepted, record, vector, monotonic())
        self._pending_keys[record.key] += 1
        if self._pending_keys[record.key] > 1:
            self._overtaken.setdefault(record.key, 0)
        self._queue.append(entry)
        self._size += entry.size
        self._wanted.set()
        return entry

    def _next_batch(self) -> list[Entry]:
        batch: list[Entry] = []
        size = 0
        while self._queue and len(batch) < self._batch and size < BATCH_BYTES:
            entry = self._queue.popleft()
            size += entry.size
            self._size -= entry.size
            self._under_way[entry.number] = entry
            batch.append(entry)
        self._room.set()
        return batch

    async def _carry(self, number: int, batch: list[Entry]) -> None:
        """One batch, from its texts to the store."""
        try:
            vectors, refused = await embed_batch(self._embedder, batch)
            for place, why in refused.items():
                self._finish(batch[place], why)
            kept = [i for i in range(len(batch)) if i not in refused]
            await self._store_batch(number, [batch[i] for i in kept], vectors[kept] if refused else vectors)
        except Exception as exc:  # bulkhead: one batch fails, whoever waits for it is told, and the writer goes on
            self._give_up(batch, str(exc) if isinstance(exc, OrkaError) else repr(exc))
        finally:
            self._turns.end(number)
            self._slots.release()
        self._release()

    async def _store_batch(self, number: int, batch: list[Entry], vectors: NDArray[np.float32]) -> None:
        until, pause = monotonic() + self._patience, RETRY_FIRST
        whole = True
        # Of two round trips under way the first may have to be made again (its slot has moved): not with one key in both.
        await self._turns.first(number, alone=any(entry.record.key in self._overtaken for entry in batch))
        while batch:
            records = [entry.record for entry in batch]
            try:
                refusals = await (
                    self._store.write(records, vectors) if whole else write_each(self._store, records, vectors)
                )
            except StoreError as exc:
                if monotonic() >= min(until, self._latest):
                    raise
                self._turns.fail(number)
                self._retried += 1
                _log.warning("memory.unreachable", memories=len(batch), error=str(exc), retry_in=pause)
                await anyio.sleep(pause)
                pause = min(RETRY_MOST, pause * 2)
            except Exception as exc:  # bulkhead: what cannot be sent is found, and its neighbours are stored
                if not whole:
                    raise
                self._turns.fail(number)
                _log.warning("memory.unsendable", memories=len(batch), error=repr(exc))
                whole = False
            else:
                for entry, refusal in zip(batch, refusals, strict=True):
                    self._finish(entry, refusal)
                return
            await self._turns.again(number)
            batch, vectors = self._without_overtaken(batch, vectors)

    def _without_overtaken(
        self, batch: list[Entry], vectors: NDArray[np.float32]
    ) -> tuple[list[Entry], NDArray[np.float32]]:
        """What is still to be stored: a batch behind this one may have stored the same key since."""
        kept = [i for i, entry in enumerate(batch) if self._overtaken.get(entry.record.key, 0) < entry.number]
        if len(kept) == len(batch):
            return batch, vectors
        for entry in batch:
            if self._overtaken.get(entry.record.key, 0) > entry.number:
                self._finish(entry, None)
        return [batch[i] for i in kept], vectors[kept]

    def _finish(self, entry: Entry, error: OrkaError | None) -> None:
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
        if entry.future is not None and not entry.future.done():
            entry.future.set_result(None) if error is None else entry.future.set_exception(error)
        elif error is not None:  # nobody waits for it, or not any more
            self._unreported.append((key, str(error)))

    def _abandon(self, entries: Sequence[Entry]) -> None:
        """Nobody waits for them any more: the next `flush` tells of what was not stored."""
        for entry in entries:
            future, entry.future = entry.future, None
            if future is not None and not future.cancel() and not future.cancelled() and future.exception() is not None:
                self._unreported.append((entry.record.key, str(future.exception())))

    def _give_up(self, entries: Sequence[Entry], why: str) -> None:
        left = [entry for entry in entries if entry.number in self._under_way]
        keys = [entry.record.key for entry in left]
        if keys:
            _log.error("memory.lost", memories=len(keys), keys=keys[:20], why=why)
        for entry, key in zip(left, keys, strict=True):
            self._finish(entry, WriteLost(f"memory {key} was not stored: {why}", keys=[key]))
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
