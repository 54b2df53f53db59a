"""Rebuilding the index under another layout while the old one serves, and embedding what has no vector of ours.

What happens, in this order: the next layout is written down (from then on writers keep both vectors), every memory gets
its vector, the server builds the next index, alias and layout change places, and the old vectors go. Stopped at
any point it goes on where it was: a memory that has its vector is not embedded again. Where searches are done by processes
there is no index: they are told what has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec
from redis.exceptions import ResponseError

from orka.embedding.base import Embedder, embed_each
from orka.errors import StoreError
from orka.logs import get_logger
from orka.memory.changes import announce, beginning
from orka.memory.hashes import RECORD_FIELDS, Hashes, Row, raise_if_transient
from orka.memory.index import Indexes, Place
from orka.memory.index_lock import IndexLock
from orka.memory.layout import Layout, ask_layouts, decode_layout
from orka.memory.record import decode_record, encode_fields
from orka.redis.client import NodeRouter, RedisHandle
from orka.redis.keys import memory_layout_key
from orka.redis.lua import Argument, Command, Script
from orka.redis.pipeline import Keyed, Pipe

Stage: TypeAlias = Literal["embedding", "indexing", "removing"]
OnStage: TypeAlias = Callable[[Stage, int, int], None]
"""Called with how many memories are done, and of how many."""

BATCH: Final = 128
"""Memories embedded and stored together. Each is indexed again by the indexes that are there, about 0.2 ms, and the
server answers nobody else in between."""
PATIENCE: Final = 5.0
_log = get_logger()
_FORMER: Final = "content_vector"
"""Of OrKa 0.9: of another model, or of none."""

# KEYS: a memory.  ARGV: SHA-1 of the content that was embedded, then fields and values.
_KEEP: Final = Script.of("""
local content = redis.call('HGET', KEYS[1], 'content')
if not content or redis.sha1hex(content) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 1
""")
# KEYS: the layouts.  ARGV: the one that is to serve.
_SWAP: Final = Script.of("""
redis.call('HSET', KEYS[1], 'current', ARGV[1])
return redis.call('HDEL', KEYS[1], 'next')
""")


class Reindexed(msgspec.Struct, frozen=True, kw_only=True):
    """What a rebuild did."""

    layout: Layout
    """The one that serves now."""
    memories: int
    embedded: int
    """That had no vector of this layout."""
    converted: int
    """Of OrKa 0.9, whose hashes have our fields now."""
    refused: int
    """Whose texts the model refuses, one by one: they are found by words and age only."""


async def reindex(
    redis: RedisHandle,
    router: NodeRouter,
    wanted: Layout,
    embedder: Embedder,
    *,
    indexed: bool = True,
    on_stage: OnStage | None = None,
) -> Reindexed:
    """Makes `wanted` (its version does not matter) the layout that serves. When it does already, what has no vector yet
    (memories of OrKa 0.9, and those written under another model) is embedded. `indexed`: for the backend `redisstack`;
    without it no index is made.

    Raises `BackendMissing` for an index where there is no search module, `StoreError` when another rebuild is under way or the
    connection is lost: to be called again then. Cancelled, it leaves everything as it serves.
    """
    if indexed:
        redis.facts.require_search(redis.target.label)
    pipe, locking = Pipe(router), Pipe(router)
    indexes = Indexes(pipe, router, redis.target.label) if redis.facts.search and not redis.facts.database else None
    try:
        async with IndexLock(locking, patience=PATIENCE).held():
            return await _Rebuild(pipe, router, embedder, indexes, on_stage, indexed=indexed).run(wanted)
    finally:
        await pipe.aclose()
        await locking.aclose()


class _Rebuild:
    def __init__(
        self,
        pipe: Pipe,
        router: NodeRouter,
        embedder: Embedder,
        indexes: Indexes | None,
        on_stage: OnStage | None,
        *,
        indexed: bool,
    ) -> None:
        """`indexes`: None where there can be none."""
        self._pipe = pipe
        self._hashes = Hashes(pipe, router)
        self._indexes = indexes
        self._indexed = indexed
        self._embedder = embedder
        self._tell: OnStage = on_stage or _silently
        self._memories = self._embedded = self._converted = self._refused = 0

    async def run(self, wanted: Layout) -> Reindexed:
        current, target = await self._target(wanted)
        self._memories = await self._count()
        await self._embed(target)
        places: list[Place] = []
        if self._indexed and self._indexes is not None:
            places = await self._indexes.places(target)
            await self._indexes.create(places, target)
            await self._indexes.wait(places, lambda done, total: self._tell("indexing", done, total))
        if current.version != target.version:
            await self._embed(target, late=True)  # by a writer that had not heard of the next layout
            await self._command(("EVAL", _SWAP.text, "1", memory_layout_key(), target.encode()))
        if places and self._indexes is not None:
            await self._indexes.point(places, target)
        if current.version != target.version:
            if not self._indexed:
                await self._send([beginning()])  # wakes those who follow: they read all vectors again
            await self._embed(target, late=True)  # by one that heard of it only then
            await self._drop(current)
        await self._remove(target)
        return Reindexed(
            layout=target,
            memories=self._memories,
            embedded=self._embedded,
            converted=self._converted,
            refused=self._refused,
        )

    async def _drop(self, layout: Layout) -> None:
        if self._indexes is not None:
            await self._indexes.drop(await self._indexes.places(layout))

    async def _target(self, wanted: Layout) -> tuple[Layout, Layout]:
        """The layout that serves, and the one that is to: written down as `next` where it is another."""
        key = memory_layout_key()
        [raw] = await self._send([ask_layouts()])
        current, following = (decode_layout(one) for one in cast("Sequence[bytes | None]", raw))
        if current is None:
            current = msgspec.structs.replace(wanted, version=1)
            await self._command(("HSET", key, "current", current.encode()))
        target = msgspec.structs.replace(wanted, version=current.version)
        if _same(target, current):
            if target != current:  # how widely searches look is settled at once
                await self._command(("HSET", key, "current", target.encode()))
            if following is not None:
                await self._abandon(following)
            return target, target
        target = msgspec.structs.replace(wanted, version=current.version + 1)
        if following is not None and not _same(following, target):
            await self._abandon(following)
        await self._command(("HSET", key, "next", target.encode()))
        return current, target

    async def _abandon(self, layout: Layout) -> None:
        """A rebuild that was begun and is not wanted any more: its vectors must not be taken for those of another."""
        await self._command(("HDEL", memory_layout_key(), "next"))
        await self._drop(layout)
        async for keys in self._having((layout.field,)):
            await self._send([(key, ("HDEL", key, layout.field)) for key in keys])

    async def _count(self) -> int:
        found = 0
        async with aclosing(self._hashes.scan(("content",))) as batches:
            async for rows in batches:
                found += sum(1 for _, fields in rows if fields)
        return found

    async def _embed(self, target: Layout, *, late: bool = False) -> None:
        """Vectors for the memories that have none of `target`."""
        seen = 0
        async with aclosing(self._hashes.scan((*RECORD_FIELDS, target.field))) as batches:
            async for rows in batches:
                missing = [row for row in rows if row[1].get(b"content") is not None and _unfinished(row, target)]
                for start in range(0, len(missing), BATCH):
                    refused = await self._embed_batch(missing[start : start + BATCH], target)
                    if not late:
                        self._refused += refused
                        self._tell("embedding", min(self._memories, seen + start + BATCH), self._memories)
                seen += len(rows)
                if not late:
                    self._tell("embedding", min(self._memories, seen), self._memories)

    async def _embed_batch(self, rows: Sequence[Row], target: Layout) -> int:
        """Gives how many the model refuses."""
        texts = [fields[b"content"].decode("utf-8", "replace") for _, fields in rows]
        vectors, refused = await embed_each(self._embedder, texts)
        for place, error in refused.items():
            _log.warning("memory.not_embedded", key=rows[place][0], reason=str(error))
        packed = target.pack(vectors)
        commands: list[Keyed] = []
        former = 0
        for (key, fields), vector in zip(rows, packed, strict=True):
            pairs: list[Argument] = [target.field, vector] if vector else []
            if b"namespace" not in fields and (record := decode_record(key, fields)) is not None:
                pairs += encode_fields(record)
                former += 1
            if pairs:
                digest = hashlib.sha1(fields[b"content"], usedforsecurity=False).hexdigest()
                commands.append((key, ("EVAL", _KEEP.text, "1", key, digest, *pairs)))
        await self._send(commands)
        if not self._indexed:
            await self._send(announce([key for key, _ in commands]))
        self._embedded += sum(1 for vector in packed if vector)
        self._converted += former
        return len(refused)

    async def _remove(self, target: Layout) -> None:
        """The vectors of earlier versions, and those of OrKa 0.9."""
        fields = (*(f"v{version}" for version in range(1, target.version)), _FORMER)
        done = 0
        async for keys in self._having(fields):
            await self._send([(key, ("HDEL", key, *fields)) for key in keys])
            done += len(keys)
            self._tell("removing", min(self._memories, done), self._memories)

    async def _having(self, fields: Sequence[str]) -> AsyncIterator[list[str]]:
        """Keys of the memories that have one of some fields, in batches."""
        async with aclosing(self._hashes.scan(fields)) as batches:
            async for rows in batches:
                keys = [key for key, found in rows if found]
                for start in range(0, len(keys), BATCH):
                    yield keys[start : start + BATCH]

    async def _command(self, command: Command) -> Any:
        [reply] = await self._send([(memory_layout_key(), command)])
        return reply

    async def _send(self, commands: Sequence[Keyed]) -> list[Any]:
        replies = await self._pipe.roundtrip(commands) if commands else []
        raise_if_transient(replies)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise StoreError(f"Redis refuses the rebuild of the index of memories: {reply}") from reply
        return replies


def _silently(stage: Stage, done: int, total: int, /) -> None:
    pass


def _same(one: Layout, other: Layout) -> bool:
    return msgspec.structs.replace(one, version=other.version, ef_runtime=other.ef_runtime) == other


def _unfinished(row: Row, target: Layout) -> bool:
    """Has no vector, one of another size (with which the search module leaves the whole hash out), or is as OrKa 0.9 left it."""
    fields = row[1]
    return len(fields.get(target.field.encode(), b"")) != target.row_bytes or b"namespace" not in fields
