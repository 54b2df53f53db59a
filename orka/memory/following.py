"""`Follower`: keeps a `Mirror` like the memories on the server. The only one that changes it.

It reads all memories once and then, before a search, what has changed since. Where the stream of changes was cut past the
place where it is, or the server has lost its end, it reads all of them again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar

import anyio
import anyio.to_thread
from redis.crc import key_slot
from redis.exceptions import RedisError, ResponseError

from orka.clock import monotonic, now_ms
from orka.errors import StoreError
from orka.logs import get_logger
from orka.memory.changes import beginning, look_up, newest, parse_change, read_after
from orka.memory.hashes import RECORD_FIELDS, Hashes, Row
from orka.memory.layout import LayoutInUse, ask_layouts
from orka.memory.record import MemoryRecord, decode_record, fields_of
from orka.memory.store import OnProgress
from orka.redis.client import NodeRouter
from orka.redis.faults import passes, translate
from orka.redis.keys import memory_changes_key
from orka.redis.patience import patiently
from orka.redis.pipeline import Pipe

if TYPE_CHECKING:
    from orka.memory.mirror import Mirror

_PATIENCE: Final = 10.0
"""Seconds that a search waits while the server is out of reach."""
_AT_ONCE: Final = 500
"""Memories read in one round trip."""
_AWHILE: Final = 1.0
"""Seconds of loading between two signs of progress."""
_FEW: Final = 20
"""Memories that are taken in without another thread: it takes under a millisecond."""

State: TypeAlias = tuple[MemoryRecord, bytes] | None
"""A memory and its packed vector, or that it is gone."""
T = TypeVar("T")

_log = get_logger()


class FollowerStatistics(NamedTuple):
    """Of the mirror, and counters since it was opened."""

    memories: int
    loads: int
    changes: int
    """Entries of the stream of changes."""
    reconnects: int


class _Missed(Exception):
    """All memories are to be read: the stream of changes no longer has our place, or they have other vectors now."""


class Follower:
    """Owned by a `BasicStore`, which has it `catch_up` before each search."""

    def __init__(self, router: NodeRouter, layouts: LayoutInUse, reading: Pipe, on_progress: OnProgress | None) -> None:
        self._router = router
        self._layouts = layouts
        self._layout = layouts.current
        """Whose vectors the mirror has."""
        self._reading = reading
        self._hashes = Hashes(reading, router)
        self._on_progress = on_progress
        self._mirror: Mirror | None = None
        self._turn = anyio.Lock()
        self._guard = threading.Lock()
        self._asking = anyio.Lock()
        self._begun = self._ended = 0
        """Rounds of `catch_up`."""
        self._closed = False
        self._place = b""
        """The last entry that was applied; empty when all is to be read, the first time or again."""
        self._loads = self._changes = self._reconnects = 0

    def statistics(self) -> FollowerStatistics:
        return FollowerStatistics(
            memories=0 if self._mirror is None else len(self._mirror),
            loads=self._loads,
            changes=self._changes,
            reconnects=self._reconnects,
        )

    async def use(self, function: Callable[[Mirror], T], *, little: bool = False) -> T:
        """Calls `function` while nobody else uses the mirror, in a thread unless it has `little` to do."""
        async with self._turn:
            if (mirror := self._mirror) is None:
                raise StoreError("the memories are searched before they were loaded: catch up first")
            if little and self._guard.acquire(blocking=False):
                try:
                    return function(mirror)
                finally:
                    self._guard.release()
            return await anyio.to_thread.run_sync(self._guarded, function, mirror)

    def _guarded(self, function: Callable[[Mirror], T], mirror: Mirror) -> T:
        # A task that asyncio cancels leaves its thread behind, which may still be at work: only threads wait for it.
        with self._guard:
            return function(mirror)

    def close(self) -> None:
        """Those who wait for a server that is away wait no longer."""
        self._closed = True

    async def again(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` gives, asked again while the server is away."""
        return await patiently(ask, "memory.unreachable", _PATIENCE)

    async def catch_up(self) -> None:
        """Reads what has changed until now. Callers share what began after they came."""
        before = self._begun
        async with self._asking:
            if self._ended > before:
                return
            self._begun += 1
            number = self._begun
            try:
                await self.again(self._catch_up)
            except RedisError as exc:
                raise self._named(exc) from exc
            self._ended = number

    async def _catch_up(self) -> None:
        """`StoreError` for what may pass, a `ResponseError` for what will not."""
        try:
            await self._read_changes()
        except StoreError:
            if self._closed:
                return
            self._reconnects += 1
            raise
        except ResponseError as exc:
            if not passes(exc):
                raise
            self._reconnects += 1
            raise self._named(exc) from exc

    async def _read_changes(self) -> None:
        while True:
            try:
                if not self._place:
                    await self._load()
                while await self._advance():
                    pass
                return
            except _Missed:
                _log.info("memory.changes.missed", place=self._place.decode())
                self._place = b""

    def _named(self, exc: Exception) -> StoreError:
        if isinstance(exc, RedisError | OSError | StoreError):
            return translate(exc, self._router.node_of(key_slot(memory_changes_key().encode())))
        return StoreError(f"the memories cannot be read: {exc!r}")

    async def _load(self) -> None:
        added, last, written = await self._reading.roundtrip([beginning(), newest(), ask_layouts()])
        place: Any = added
        if isinstance(added, ResponseError) and not isinstance(last, ResponseError) and last:
            place = last[0][0]  # a server that is full, or may only be read, has one all the same
        for one in (place, written):
            if isinstance(one, ResponseError):
                raise one
        self._layouts.heed(written)
        self._layout = self._layouts.current
        mirror = await anyio.to_thread.run_sync(_empty, self._layout.dimension)
        started = told = monotonic()
        async with contextlib.aclosing(self._hashes.scan((*RECORD_FIELDS, self._layout.field))) as pages:
            async for rows in pages:
                await anyio.to_thread.run_sync(self._take_in, mirror, rows)
                if monotonic() - told > _AWHILE:
                    told = monotonic()
                    _log.info("memory.loading", memories=len(mirror))
                    if self._on_progress is not None:
                        self._on_progress(len(mirror), 0)
        self._mirror = mirror  # whoever uses the old one ends with it
        self._place = place
        self._loads += 1
        _log.info("memory.loaded", memories=len(mirror), seconds=round(monotonic() - started, 3))

    async def _advance(self) -> bool:
        """Applies what follows our place; False if nothing did."""
        key = memory_changes_key()
        asked = [(key, read_after(self._place)), (key, look_up(self._place)), ask_layouts()]
        reply, there, written = await self._reading.roundtrip(asked)
        for one in (reply, there, written):
            if isinstance(one, ResponseError):
                raise one
        self._layouts.heed(written)
        if not there or not self._layouts.current.packs_like(self._layout):
            raise _Missed
        if reply:
            [(_, entries)] = reply
            await self._apply(dict.fromkeys(key for _, fields in entries for key in parse_change(fields_of(fields))))
            self._place = entries[-1][0]
            self._changes += len(entries)
        return bool(reply)

    async def _apply(self, changed: Iterable[str]) -> None:
        keys = list(changed)
        states: dict[str, State] = {}
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            rows = await self._hashes.fetch(part, (*RECORD_FIELDS, self._layout.field))
            states |= {key: self._state(key, fields) for key, fields in rows}
        if states:
            little = (
                len(states) <= _FEW and self._mirror is not None and self._mirror.takes_easily(len(states), now_ms())
            )
            await self.use(lambda mirror: self._change(mirror, states), little=little)

    def _state(self, key: str, fields: dict[bytes, bytes]) -> State:
        record = decode_record(key, fields)
        return None if record is None else (record, fields.get(self._layout.field.encode(), b""))

    def _change(self, mirror: Mirror, states: dict[str, State]) -> None:
        mirror.remove([key for key, state in states.items() if state is None])
        self._put(mirror, [state for state in states.values() if state is not None])
        mirror.drop_expired(now_ms())

    def _take_in(self, mirror: Mirror, rows: Sequence[Row]) -> None:
        states = (self._state(key, fields) for key, fields in rows)
        self._put(mirror, [state for state in states if state is not None])

    def _put(self, mirror: Mirror, states: Sequence[tuple[MemoryRecord, bytes]]) -> None:
        if states:
            mirror.put([record for record, _ in states], self._layout.unpack([packed for _, packed in states]))


def _empty(dimension: int) -> Mirror:
    from orka.memory.mirror import Mirror  # numpy's import is long: a process that only writes does without it

    return Mirror(dimension)
