"""`Follower`: keeps a `Mirror` like the memories on the server. The only one that changes it.

It reads all memories once and then, by one blocking reader, what has changed since it began to. Where the stream of changes was
cut past the place where it is, or the server has lost its end, it reads all of them again while the old mirror serves.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import anyio
import anyio.to_thread
from redis.crc import key_slot
from redis.exceptions import RedisError, ResponseError

from orka.clock import monotonic, now_ms
from orka.errors import IndexMismatch, StoreError
from orka.logs import get_logger
from orka.memory.changes import Change, beginning, look_up, newest, parse_change, read_after
from orka.memory.hashes import RECORD_FIELDS, Hashes, Row
from orka.memory.layout import LayoutInUse, ask_layouts
from orka.memory.own import OwnWrites, State
from orka.memory.record import MemoryRecord, decode_record, fields_of
from orka.memory.store import OnProgress
from orka.redis.client import NodeRouter
from orka.redis.faults import passes, translate
from orka.redis.keys import memory_changes_key
from orka.redis.lua import Command
from orka.redis.patience import patiently
from orka.redis.pipeline import Pipe
from orka.redis.wire import exchange

if TYPE_CHECKING:
    from orka.memory.mirror import Mirror

RECONNECT: Final = (0.02, 0.1, 0.3, 1.0, 2.0)
"""Seconds before each further attempt to reach Redis; the last one again and again."""
_PATIENCE: Final = 10.0
"""Seconds that a search waits while the server is out of reach, or for what this process has written."""
_AT_ONCE: Final = 500
"""Memories read in one round trip."""
_AWHILE: Final = 1.0
"""Seconds of loading between two signs of progress."""
_FEW: Final = 20
"""Memories that are taken in without another thread: it takes under a millisecond."""

Exchange = Callable[[Sequence[Command]], Awaitable[list[Any]]]
"""Commands to where the stream is, and their replies."""
T = TypeVar("T")

_log = get_logger()


class FollowerStatistics(NamedTuple):
    """Of the mirror, and counters since it was opened."""

    memories: int
    loads: int
    changes: int
    """Entries of the stream of changes."""
    reconnects: int
    own: int
    """Batches of this process that have not come back."""


class _Missed(Exception):
    """All memories are to be read: the stream of changes no longer has our place, or they have other vectors now."""


class Follower:
    """Owned by a `BasicStore`, which lets it `run`, or has it `catch_up` before each search. `writing` is the pipe that writes:
    so it is known which batches are behind a place in the stream."""

    def __init__(
        self,
        router: NodeRouter,
        layouts: LayoutInUse,
        *,
        writing: Pipe,
        reading: Pipe,
        own: OwnWrites,
        on_progress: OnProgress | None,
    ) -> None:
        self._router = router
        self._layouts = layouts
        self._layout = layouts.current
        """Whose vectors the mirror has."""
        self._writing = writing
        self._reading = reading
        self._hashes = Hashes(reading, router)
        self._own = own
        self._on_progress = on_progress
        self._mirror: Mirror | None = None
        self._turn = anyio.Lock()
        self._guard = threading.Lock()
        self._asking = anyio.Lock()
        self._begun = self._ended = 0
        """Rounds of `catch_up`."""
        self._loaded = self._closed = False
        self._place = b""
        """The last entry that was applied; empty when all is to be read, the first time or again."""
        self._moved = anyio.Event()
        self._trouble: StoreError | None = None
        self._loads = self._changes = self._reconnects = 0

    def statistics(self) -> FollowerStatistics:
        return FollowerStatistics(
            memories=0 if self._mirror is None else len(self._mirror),
            loads=self._loads,
            changes=self._changes,
            reconnects=self._reconnects,
            own=len(self._own),
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

    async def caught_up(self) -> None:
        """Waits until the memories are loaded and all that this process had stored is among them. `StoreError` when the
        server is out of reach for too long."""
        if isinstance(self._trouble, IndexMismatch):
            raise self._trouble
        names = self._own.stored()
        deadline = anyio.current_time() + _PATIENCE
        while not self._loaded or self._own.waits(names):
            if not self._loaded and self._trouble is None:  # loading takes the time it takes
                deadline = anyio.current_time() + _PATIENCE
            moved = self._moved
            with anyio.move_on_at(deadline):
                await moved.wait()
                continue
            raise self._trouble or StoreError(
                f"what was written does not come back in {memory_changes_key()!r} within {_PATIENCE:g} s: is it a "
                "stream that this user may read and write, is the server overloaded?"
            )

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
        async def ask(commands: Sequence[Command]) -> list[Any]:
            return await self._reading.roundtrip([(memory_changes_key(), command) for command in commands])

        while True:
            try:
                if not self._place:
                    await self._load()
                while await self._advance(ask, wait=False):
                    pass
                return
            except _Missed:
                self._missed()

    def _missed(self) -> None:
        _log.info("memory.changes.missed", place=self._place.decode())
        self._place = b""

    async def run(self) -> None:
        """Follows for ever."""
        failures = 0
        while True:
            try:
                async with self._router.dedicated(memory_changes_key()) as connection:
                    ask = partial(exchange, connection)
                    if not self._place:
                        await self._load()
                    await self._advance(ask, wait=False)
                    failures = 0
                    while True:
                        await self._advance(ask, wait=True)
            except _Missed:
                self._missed()
            except (RedisError, OSError, StoreError) as exc:
                await self._pause(exc, failures)
                failures += 1
            except Exception as exc:  # bulkhead: searches say what is wrong with the memories; the process goes on
                await self._pause(exc, len(RECONNECT))

    async def _pause(self, exc: Exception, failures: int) -> None:
        pause = RECONNECT[min(failures, len(RECONNECT) - 1)]
        self._reconnects += 1
        _log.warning("memory.changes.disconnected", error=str(exc), retry_in=pause)
        self._tell(self._named(exc))
        await anyio.sleep(pause)

    def _named(self, exc: Exception) -> StoreError:
        if isinstance(exc, RedisError | OSError | StoreError):
            return translate(exc, self._router.node_of(key_slot(memory_changes_key().encode())))
        return StoreError(f"the memories cannot be read: {exc!r}")

    def _tell(self, trouble: StoreError | None) -> None:
        """Wakes those who wait."""
        self._trouble = trouble
        self._moved.set()
        self._moved = anyio.Event()

    async def _load(self) -> None:
        # By the pipe that writes: batches confirmed by now are before this entry, all others behind it.
        added, last, written = await self._writing.roundtrip([beginning(), newest(), ask_layouts()])
        place: Any = added
        if isinstance(added, ResponseError) and not isinstance(last, ResponseError) and last:
            place = last[0][0]  # a server that is full, or may only be read, has one all the same
        for one in (place, written):
            if isinstance(one, ResponseError):
                raise one
        self._layouts.heed(written)
        covered = self._own.stored()
        self._layout = self._layouts.current
        mirror = await anyio.to_thread.run_sync(_empty, self._layout.dimension)
        started = told = monotonic()
        async with contextlib.aclosing(self._hashes.scan((*RECORD_FIELDS, self._layout.field))) as pages:
            async for rows in pages:
                await anyio.to_thread.run_sync(self._take_in, mirror, rows)
                self._tell(None)
                if monotonic() - told > _AWHILE:
                    told = monotonic()
                    _log.info("memory.loading", memories=len(mirror))
                    if self._on_progress is not None:
                        self._on_progress(len(mirror), 0)
        self._mirror = mirror  # whoever uses the old one ends with it
        self._loaded = True
        for name in covered:
            self._own.end(name)
        self._place = place
        self._loads += 1
        _log.info("memory.loaded", memories=len(mirror), seconds=round(monotonic() - started, 3))

    async def _advance(self, ask: Exchange, *, wait: bool) -> bool:
        """Applies what follows our place; False if nothing did."""
        _, ask_them = ask_layouts()
        reply, there, written = await ask([read_after(self._place, wait=wait), look_up(self._place), ask_them])
        for one in (reply, there, written):
            if isinstance(one, ResponseError):
                raise one
        self._layouts.heed(written)
        if not there or not self._layouts.current.packs_like(self._layout):
            raise _Missed
        if reply:
            [(_, entries)] = reply
            ended = await self._apply([parse_change(fields_of(fields)) for _, fields in entries])
            self._place = entries[-1][0]
            self._changes += len(entries)
            for name in ended:
                self._own.end(name)
        self._tell(None)
        return bool(reply)

    async def _apply(self, changes: Sequence[Change]) -> list[str]:
        """Gives the batches of this process that have come back in full."""
        known: dict[str, State | None] = {}
        unread: dict[str, None] = {}
        ended: list[str] = []
        for change in changes:
            states: dict[str, State] = {}
            if self._own.owns(change.batch):
                states, last = self._own.returned(change.batch, change.keys)
                ended += [change.batch] if last else []
            else:
                self._own.disturb(change.keys)
            for key in change.keys:
                if key in states:
                    known[key] = states[key]
                    unread.pop(key, None)
                else:
                    unread[key] = None
        keys = list(unread)
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            rows = await self._hashes.fetch(part, (*RECORD_FIELDS, self._layout.field))
            known |= {key: self._state(key, fields) for key, fields in rows}
        if known:
            little = len(known) <= _FEW and self._mirror is not None and self._mirror.takes_easily(len(known), now_ms())
            await self.use(lambda mirror: self._change(mirror, known), little=little)
        return ended

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
