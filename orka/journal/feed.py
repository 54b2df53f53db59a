"""The feed of a run: its entries as events, from any position on, and live ones as they come, the tokens of agents under way
between them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple, Protocol, cast

import anyio
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from orka.clock import monotonic, now_ms
from orka.errors import StoreError
from orka.journal.entries import ENDED
from orka.journal.events import RunEvent, milliseconds, parse_position
from orka.journal.merging import Merge, StoredEntry, StoredToken
from orka.journal.registry import Registry, decode_entry
from orka.redis.pipeline import Router, is_moving
from orka.types import RunId

_RECONNECT = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before each attempt to reach Redis again; after the last one the feed fails."""
_MOVING = 3
"""Attempts that are counted while the slot moves to another node of a cluster: that ends, and is no failure."""
_SOUND = 1.0
"""Seconds after which a connection that had nothing to tell counts as one that worked."""
_PAGE = 500
"""Entries of each stream that are read at once."""


class Reader(Protocol):
    """The part of a connection that a blocking read uses."""

    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = False) -> None: ...
    async def send_command(self, *args: Any) -> None: ...
    async def read_response(self, *, timeout: float | None = None) -> Any: ...


async def read_feed(
    registry: Registry, router: Router, run_id: RunId, *, after: str = "0", follow: bool = False, tokens: bool = True
) -> AsyncGenerator[RunEvent]:
    """Events strictly after a position. With `follow` it waits for more until the run has ended, and survives a lost
    connection; only then there are `node.token` events, unless `tokens` is false. `RunNotFound` when there is no such
    run; `StoreError` when Redis stays away."""
    await registry.info(run_id)
    place = parse_position(after)
    if not follow:
        async for entry in registry.entries(run_id, place.journal):
            yield RunEvent.of(*entry)
        return
    keys = registry.keys(run_id)
    merge = Merge(place)
    streams = (keys.journal, keys.tokens) if tokens else (keys.journal,)
    failures = 0
    while True:
        reader = cast("Reader", router.connection(router.node_of(key_slot(keys.journal.encode()))))
        connected, live, more = monotonic(), False, False
        try:
            await reader.connect()
            while True:
                page = await _read(reader, streams, merge, wait=live and not more)
                failures, more = 0, page.limit_ms < math.inf
                merge.add(page.entries, page.tokens)
                for event in merge.take(monotonic(), now_ms(), live=live, limit_ms=page.limit_ms):
                    yield event
                if live:
                    live = merge.kind not in ENDED
                elif not page.entries and not page.tokens and merge.left(0) is None:
                    if await _is_over(registry, run_id, merge):
                        return
                    live = True
        except (RedisConnectionError, RedisTimeoutError, ResponseError, OSError) as exc:
            if monotonic() - connected > _SOUND:
                failures = 0  # it has worked for a while, with nothing to tell
            if is_moving(exc):
                failures = min(failures, _MOVING)
            if failures >= len(_RECONNECT):
                raise StoreError(f"lost the feed of run {run_id} after {merge.read.journal}: {exc}") from exc
            await anyio.sleep(_RECONNECT[failures])
            failures += 1
            with contextlib.suppress(StoreError):
                # It finds the node that holds the slot now; a server without its last second may not have the run any more.
                await registry.info(run_id)
        finally:
            with anyio.CancelScope(shield=True):
                await reader.disconnect(nowait=True)


class _Page(NamedTuple):
    entries: Sequence[StoredEntry]
    tokens: Sequence[StoredToken]
    limit_ms: float
    """What is later was not read of every stream."""


async def _read(reader: Reader, streams: Sequence[str], merge: Merge, *, wait: bool) -> _Page:
    """One atomic read of both streams, so that what is missing in one of them is not there yet. `wait`: for the first
    thing that comes; else only for tokens that the end of a visit waits for."""
    left = merge.left(monotonic())
    block: tuple[str | int, ...] = ("BLOCK", 0) if wait else ()
    if left is not None:
        block = ("BLOCK", max(1, math.ceil(left * 1000)))
    places = tuple(merge.read)[: len(streams)]
    await reader.send_command("XREAD", "COUNT", _PAGE, *block, "STREAMS", *streams, *places)
    reply = await reader.read_response(timeout=math.inf)
    found: dict[str, list[Any]] = {key.decode(): rows for key, rows in reply or ()}
    full = [milliseconds(rows[-1][0].decode()) for rows in found.values() if len(rows) >= _PAGE]
    return _Page(
        [decode_entry(entry_id, fields) for entry_id, fields in found.get(streams[0], ())],
        [_decode_token(entry_id, fields) for key in streams[1:] for entry_id, fields in found.get(key, ())],
        min(full, default=math.inf),
    )


def _decode_token(entry_id: bytes, fields: Sequence[bytes]) -> StoredToken:
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    return entry_id.decode(), named[b"path"].decode(), named[b"data"]


async def _is_over(registry: Registry, run_id: RunId, merge: Merge) -> bool:
    """The last entry about the run itself is the end of one that was not resumed since; or (none: the reader began behind
    it) the run has ended, and nothing is left to read."""
    if (merge.kind and merge.kind not in ENDED) or not (await registry.info(run_id)).status.ended:
        return False
    if merge.kind:
        return True
    key = registry.keys(run_id).journal
    newest = await registry.one(key, ("XREVRANGE", key, "+", "-", "COUNT", 1))
    return not newest or _order(newest[0][0].decode()) <= _order(merge.read.journal)


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)
