"""The backend `redisstack`: memories in hashes that the search module indexes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from redis.exceptions import ResponseError

from orka.clock import now_ms
from orka.errors import OrkaError, QueryRefused, StoreError
from orka.memory.hashes import Hashes, raise_if_transient
from orka.memory.index import Indexes, OnProgress, Place, is_unknown
from orka.memory.index_lock import IndexLock
from orka.memory.layout import INDEX, Layout, LayoutInUse, ask_layouts
from orka.memory.plan import merge_candidates, plan_look, read_reply
from orka.memory.query import Candidate, Look
from orka.memory.record import MemoryRecord, decode_record
from orka.redis.client import NodeRouter, RedisHandle
from orka.redis.keys import memory_layout_key
from orka.redis.lua import Command
from orka.redis.patience import patiently
from orka.redis.pipeline import Keyed, Pipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WRITES, _SEARCHES = 2, 4
"""Round trips under way at once: the server goes on with one while the replies to another are read."""
_ATTEMPTS: Final = 3
"""At an operation that finds the layout changed: a rebuild may end while another begins."""

_TOPOLOGY: Final[Keyed] = (INDEX, ("CLUSTER", "INFO"))


@asynccontextmanager
async def open_redisstack(
    redis: RedisHandle, router: NodeRouter, layout: Layout, *, on_progress: OnProgress | None = None
) -> AsyncGenerator[RedisStackStore]:
    """Memories under the layout that all have agreed on (`layout.agree_on`). Makes the index where there is none, and waits
    until the server has indexed the hashes that it finds; `on_progress` is told how many of how many.

    Raises `BackendMissing` without a search module, `IndexMismatch` for an index that is otherwise than the layout says.
    """
    redis.facts.require_search(redis.target.label)
    writing, searching = Pipe(router, at_once=_WRITES), Pipe(router, at_once=_SEARCHES)
    try:
        store = RedisStackStore(writing, searching, router, layout, redis.target.label)
        await store.prepare(on_progress)
        yield store
    finally:
        await writing.aclose()
        await searching.aclose()


class RedisStackStore:
    """A `MemoryStore`. `open_redisstack` makes it. It follows a rebuild of the index by another process."""

    def __init__(self, writing: Pipe, searching: Pipe, router: NodeRouter, layout: Layout, where: str) -> None:
        self._layouts = LayoutInUse(layout)
        self._places: list[Place] = []
        self._documents = 0  # about: at the opening, and written since
        self._nodes: tuple[str, ...] = ()
        self._topology = b""
        """Of a cluster whose primaries have an index each: changes when another one joins."""
        self._writing = writing
        self._searching = searching
        self._router = router
        self._hashes = Hashes(writing, router)
        self._indexes = Indexes(searching, router, where)
        self._lock = IndexLock(searching)

    @property
    def name(self) -> str:
        return "redisstack"

    @property
    def together(self) -> int:
        # The replies of many wait for a full socket (ten hits are 7 KB, and a server writes 64 KB at a time), and the server
        # with them: measured, 4 times 4 under way are 1.4 times as fast as twice 32.
        return 4

    @property
    def layout(self) -> Layout:
        """The one that serves; the next version after a rebuild."""
        return self._layouts.current

    async def prepare(self, on_progress: OnProgress | None = None) -> None:
        """Sees to it that the index is there. Harmless to repeat."""
        if self._router.cluster:
            [reply] = await self._searching.roundtrip([_TOPOLOGY])
            self._topology = _topology_of(reply)
        self._places = await self._indexes.ensure(self.layout, self._lock, on_progress)
        self._nodes, self._documents = self._router.nodes, self._indexes.documents
        await self._follow(await self._written_down())

    async def write(
        self, records: Sequence[MemoryRecord], vectors: NDArray[np.float32] | None, /
    ) -> Sequence[OrkaError | None]:
        """See `MemoryStore.write`. `IndexMismatch` when the memories were indexed anew with another model meanwhile: those
        written are kept and found by words, and by meaning once they are embedded with that model."""
        if vectors is not None and vectors.shape != (len(records), self.layout.dimension):
            raise QueryRefused(
                f"vectors of shape {vectors.shape} for {len(records)} memories: "
                f"({len(records)}, {self.layout.dimension}) is wanted"
            )
        for _ in range(_ATTEMPTS):
            answers: list[Any] = []
            packed_for = self._layouts.seen
            rows = self._layouts.rows(len(records), vectors)
            found = await self._hashes.write(records, rows, also=[ask_layouts()], answers=answers)
            # The layout is read behind the write: whatever changed before it is seen (here, or by another write that was
            # under way), and what was written for the layout of before is written again.
            if not await self._follow(answers[0]) and self._layouts.seen == packed_for:
                self._documents += len(records)
                if len(self._places) > 1 and self._router.nodes != self._nodes:
                    await self.prepare()
                return found
        raise StoreError("the layout of the memories changes with every write: is the index rebuilt again and again?")

    async def search(self, looks: Sequence[Look], /) -> Sequence[Sequence[Candidate]]:
        """See `MemoryStore.search`. `QueryRefused` for a vector of another dimension."""
        for look in looks:
            if look.vector is not None and look.vector.shape != (self.layout.dimension,):
                raise QueryRefused(
                    f"a vector of shape {look.vector.shape} was looked for: {self.layout.dimension} numbers are wanted"
                )
        return await patiently(partial(self._search, looks), "memory.unreachable")

    async def _search(self, looks: Sequence[Look]) -> list[list[Candidate]]:
        for _ in range(_ATTEMPTS):
            commands, owners = self._planned(looks)
            also = [_TOPOLOGY] if commands and self._places[0].reach == "primary" else []
            replies = await self._searching.roundtrip([*commands, *also]) if commands else []
            changed = bool(also) and _topology_of(replies.pop()) != self._topology
            if changed:  # another primary may have some of the memories by now, and needs an index
                await self.prepare()
                continue
            if not any(is_unknown(reply) for reply in replies):
                return self._read(looks, owners, replies)
            # Rebuilt under another layout, or gone: the database was emptied, slots moved to a primary without an index.
            if not await self._follow(await self._written_down()):
                await self.prepare()
        raise StoreError("the index of the memories disappears again and again: does something else drop it?")

    def _planned(self, looks: Sequence[Look]) -> tuple[list[Keyed], list[int]]:
        """Commands for all places, and which look each belongs to."""
        commands: list[Keyed] = []
        owners: list[int] = []
        for number, look in enumerate(looks):
            if len(self._places) > 1 and look.offset:  # what one index passes over another may have
                look = replace(look, offset=0, count=look.offset + look.count)
            for place in self._places:
                command: Command | None = plan_look(
                    look, self.layout, place.index, place.reach, documents=self._documents
                )
                if command is not None:
                    commands.append((place.tag, command))
                    owners.append(number)
        return commands, owners

    def _read(self, looks: Sequence[Look], owners: Sequence[int], replies: Sequence[Any]) -> list[list[Candidate]]:
        raise_if_transient(replies)
        parts: list[list[list[Candidate]]] = [[] for _ in looks]
        for owner, reply in zip(owners, replies, strict=True):
            if isinstance(reply, ResponseError):
                text = str(reply)
                if "exceeds maximum" in text:
                    raise QueryRefused(f"the server's search gives no memories that far down: {text}")
                raise StoreError(f"the search module refuses a search: {text}")
            parts[owner].append(
                read_reply(cast("Sequence[Any]", reply), looks[owner], self.layout, self._places[0].reach)
            )
        return [merge_candidates(found, look) for found, look in zip(parts, looks, strict=True)]

    async def delete(self, keys: Sequence[str], /) -> int:
        """See `MemoryStore.delete`."""
        return await self._hashes.delete(keys)

    async def scan(self, /) -> AsyncGenerator[Sequence[MemoryRecord]]:
        """See `MemoryStore.scan`."""
        async for rows in self._hashes.scan():
            at_ms = now_ms()
            records = [decode_record(key, fields) for key, fields in rows]
            yield [record for record in records if record is not None and not record.expired(at_ms)]

    async def _written_down(self) -> Sequence[bytes | None]:
        [reply] = await self._searching.roundtrip([ask_layouts()])
        return cast("Sequence[bytes | None]", reply)

    async def _follow(self, written: Sequence[bytes | None] | ResponseError) -> bool:
        """Takes over what is written down of the layout; whether that is news for this process."""
        if isinstance(written, ResponseError):
            raise StoreError(f"Redis refuses to tell the layout of the memories: {written}")
        if written[0] is None:  # the database was emptied
            key = memory_layout_key()
            await self._searching.roundtrip([(key, ("HSETNX", key, "current", self.layout.encode()))])
            return await self._follow(await self._written_down()) or await self._again()
        before = self.layout
        if not self._layouts.heed(written):
            return False
        if self.layout != before:
            await self._again()
        return True

    async def _again(self) -> bool:
        self._places = await self._indexes.ensure(self.layout, self._lock)
        self._nodes, self._documents = self._router.nodes, self._indexes.documents
        return True


def _topology_of(reply: Any) -> bytes:
    """How many primaries hold slots, and the epoch, which grows with each slot that finds a new holder
    (https://valkey.io/commands/cluster-info/). Empty where a user may not ask."""
    lines = [] if isinstance(reply, ResponseError) else cast("bytes", reply).split(b"\r\n")
    return b" ".join(line for line in lines if line.startswith((b"cluster_size:", b"cluster_current_epoch:")))
