"""`Hashes`: the hashes of memories, written, read, deleted and walked through. Both backends keep them in the same form."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias, cast

import anyio
import anyio.to_thread
from redis.exceptions import RedisError, ResponseError

from orka.errors import OrkaError, RecordRefused, WriteLost
from orka.memory.record import FACETS, PREFIX, TAGS, MemoryRecord, decode_record, encode_fields, is_first_write
from orka.redis.client import NodeRouter
from orka.redis.faults import denied, passes, reply_text, translate
from orka.redis.lua import Argument, Command
from orka.redis.memory_scripts import replace_hash
from orka.redis.pipeline import Keyed, Pipe, is_moving
from orka.redis.wire import Connection, exchange

RECORD_FIELDS: Final = (*("content", *TAGS, "timestamp", "importance_score", "orka_expire_time", "metadata", "labels"),)
"""What `decode_record` reads."""
_LEAVING: Final = ("orka_expire_time", "metadata", FACETS, "labels", "words", *TAGS, "content_vector")
"""Fields that an earlier record of the same key may have and the new one may not."""
_INLINE: Final = 128 * 1024
"""Characters of a batch above which its words are looked through beside the event loop."""
_SCANNED: Final = 1000
"""Keys that one SCAN looks at."""

Row: TypeAlias = tuple[str, dict[bytes, bytes]]
"""A memory's key and some fields of its hash."""


class Hashes:
    """On a pipe of the caller's. Safe to use from several tasks."""

    def __init__(self, pipe: Pipe, router: NodeRouter) -> None:
        self._pipe = pipe
        self._router = router

    async def write(
        self,
        records: Sequence[MemoryRecord],
        vectors: Mapping[str, Sequence[bytes]],
        *,
        also: Sequence[Keyed] = (),
        answers: list[Any] | None = None,
    ) -> list[OrkaError | None]:
        """Replaces whole hashes in one round trip, `also` behind them (`answers` gets the replies to it). `vectors`: for
        each vector field a packed row per record, empty for none. See `MemoryStore.write`."""
        if sum(len(record.content) for record in records) <= _INLINE:
            commands, ends = _commands_of(records, vectors)
        else:
            commands, ends = await anyio.to_thread.run_sync(_commands_of, records, vectors)
        replies = await self._pipe.roundtrip([*commands, *also])
        raise_if_transient(replies)
        found: list[OrkaError | None] = []
        start = 0
        for record, end in zip(records, ends, strict=True):
            refusal = next((reply for reply in replies[start:end] if isinstance(reply, ResponseError)), None)
            start = end
            found.append(None if refusal is None else _refused(record.key, refusal))
        if answers is not None:
            answers += replies[len(commands) :]
        return found

    async def read(self, keys: Sequence[str]) -> list[MemoryRecord | None]:
        """None for what is not there."""
        rows = await self.fetch(keys, RECORD_FIELDS)
        return [decode_record(key, fields) for key, fields in rows]

    async def fetch(self, keys: Sequence[str], fields: Sequence[str]) -> list[Row]:
        """Some fields of some hashes, those that they have."""
        replies = await self._pipe.roundtrip([(key, ("HMGET", key, *fields)) for key in keys])
        raise_if_transient(replies)
        return [
            (key, {} if isinstance(reply, ResponseError) else _named(fields, reply))  # an error: it is no hash
            for key, reply in zip(keys, replies, strict=True)
        ]

    async def delete(self, keys: Sequence[str], *, also: Sequence[Keyed] = ()) -> int:
        """Gives how many were there. UNLINK frees them off the server's main thread."""
        replies = await self._pipe.roundtrip([*((key, ("UNLINK", key)) for key in keys), *also])
        removed = 0
        for reply in replies[: len(keys)]:
            if isinstance(reply, ResponseError):
                raise translate(reply) from reply
            removed += reply
        raise_if_transient(replies)
        return removed

    async def scan(self, fields: Sequence[str] = RECORD_FIELDS) -> AsyncGenerator[list[Row]]:
        """All memories, in batches, from every primary in turn; one may come twice (SCAN's guarantees)."""
        await self._router.refresh()
        for node in self._router.nodes:
            connection = self._router.connection(node)
            try:
                await connection.connect()
                async for rows in _scan_node(connection, fields):
                    yield rows
            except (RedisError, OSError) as exc:
                raise translate(exc, node) from exc
            finally:
                await connection.disconnect()


async def _scan_node(connection: Connection, fields: Sequence[str]) -> AsyncGenerator[list[Row]]:
    cursor: Argument = b"0"
    while True:
        scan: Command = ("SCAN", cursor, "MATCH", f"{PREFIX}*", "COUNT", _SCANNED, "TYPE", "hash")
        [reply] = await exchange(connection, [scan])
        if isinstance(reply, ResponseError):
            raise reply
        cursor, raw = cast("tuple[bytes, list[bytes]]", reply)
        keys = [key.decode("utf-8", "replace") for key in raw]
        if keys:
            commands: list[Command] = [("HMGET", key, *fields) for key in keys]
            replies = await exchange(connection, commands)
            yield [
                (key, _named(fields, values))
                for key, values in zip(keys, replies, strict=True)
                if not isinstance(values, ResponseError)
            ]
        if cursor == b"0":
            return


def _commands_of(
    records: Sequence[MemoryRecord], vectors: Mapping[str, Sequence[bytes]]
) -> tuple[list[Keyed], list[int]]:
    """The commands, and behind which of them each record ends."""
    commands: list[Keyed] = []
    ends: list[int] = []
    for i, record in enumerate(records):
        packed = {field: rows[i] for field, rows in vectors.items()}
        commands.extend((record.key, command) for command in replace_commands(record, packed))
        ends.append(len(commands))
    return commands, ends


def replace_commands(record: MemoryRecord, packed: Mapping[str, bytes]) -> list[Command]:
    """The hash as it is to be, whatever was there before. A new key has nothing to take off."""
    fields = encode_fields(record)
    if is_first_write(record):
        for field, row in packed.items():
            if row:
                fields += (field, row)
        commands: list[Command] = [("HSET", record.key, *fields)]
        return [*commands, ("PEXPIREAT", record.key, record.expire_ms)] if record.expire_ms else commands
    leaving = _absent(tuple(cast("list[str]", fields[::2])))
    for field, row in packed.items():
        if row:
            fields += (field, row)
        else:
            leaving = (*leaving, field)
    return [replace_hash(record.key, fields, leaving=leaving, expire_ms=record.expire_ms)]


@lru_cache(maxsize=256)
def _absent(present: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in _LEAVING if name not in present)


def _named(fields: Sequence[str], values: Sequence[bytes | None]) -> dict[bytes, bytes]:
    return {name.encode(): value for name, value in zip(fields, values, strict=True) if value is not None}


def _refused(key: str, reply: ResponseError) -> OrkaError:
    if denied(reply):  # no fault of the memory's
        return WriteLost(f"memory {key} was not stored: {translate(reply)}", keys=[key])
    return RecordRefused(f"Redis refuses memory {key}: {reply_text(reply)}")


def raise_if_transient(replies: Sequence[Any]) -> None:
    """`StoreError` when the server has refused something for now: all of it may be asked for again."""
    for reply in replies:
        if isinstance(reply, ResponseError) and (passes(reply) or is_moving(reply)):
            raise translate(reply) from reply
