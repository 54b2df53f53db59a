"""The feed of a run: its entries as events, from any id on, and live ones as they come."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Protocol, cast

import anyio
import msgspec
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from orka.clock import monotonic
from orka.errors import StoreError
from orka.journal.entries import ENDED
from orka.journal.registry import Registry, decode_entry
from orka.redis.pipeline import Router, is_moving
from orka.types import Json, Path, RunId

_RECONNECT = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before each attempt to reach Redis again; after the last one the feed fails."""
_MOVING = 3
"""Attempts that are counted while the slot moves to another node of a cluster: that ends, and is no failure."""
_SOUND = 1.0
"""Seconds after which a connection that had nothing to tell counts as one that worked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """One entry of a run's journal."""

    id: str
    """Position in the feed: give it as `after` to go on behind this event."""
    kind: str
    """`run.started`, `node.finished`, ...: see `orka.journal.entries.Kind`."""
    path: Path
    """Of the visit; empty for the run itself."""
    at_ms: int
    """When Redis stored it."""
    data: dict[str, Json]

    @classmethod
    def of(cls, entry_id: str, kind: str, path: str, data: bytes) -> RunEvent:
        fields = cast("dict[str, Json]", msgspec.json.decode(data))
        for name in ("output", "input", "items"):
            value = fields.get(name)
            if isinstance(value, dict):  # values are wrapped, so that large ones can be elsewhere
                fields[name] = value.get("json")
                if "ref" in value:
                    fields[f"{name}_ref"] = value["ref"]
        return cls(id=entry_id, kind=kind, path=Path(path), at_ms=int(entry_id.split("-")[0]), data=fields)


class Reader(Protocol):
    """The part of a connection that a blocking read uses."""

    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = False) -> None: ...
    async def send_command(self, *args: Any) -> None: ...
    async def read_response(self, *, timeout: float | None = None) -> Any: ...


async def read_feed(
    registry: Registry, router: Router, run_id: RunId, *, after: str = "0", follow: bool = False
) -> AsyncGenerator[RunEvent]:
    """Events strictly after an id. With `follow` it waits for more until the run has ended, and survives a lost
    connection. `RunNotFound` when there is no such run; `StoreError` when Redis stays away."""
    await registry.info(run_id)
    kind = ""
    async for entry in registry.entries(run_id, after):
        after, kind = entry[0], entry[1]
        yield RunEvent.of(*entry)
    if not follow:
        return
    key = registry.keys(run_id).journal
    failures = 0
    while not await _is_over(registry, run_id, kind):
        reader = cast("Reader", router.connection(router.node_of(key_slot(key.encode()))))
        connected = monotonic()
        try:
            await reader.connect()
            while True:
                await reader.send_command("XREAD", "COUNT", 500, "BLOCK", 0, "STREAMS", key, after)
                reply = await reader.read_response(timeout=math.inf)
                failures = 0
                for entry_id, fields in reply[0][1]:
                    entry = decode_entry(entry_id, fields)
                    after, kind = entry[0], entry[1]
                    yield RunEvent.of(*entry)
                if kind in ENDED:
                    break
        except (RedisConnectionError, RedisTimeoutError, ResponseError, OSError) as exc:
            if monotonic() - connected > _SOUND:
                failures = 0  # it has worked for a while, with nothing to tell
            if is_moving(exc):
                failures = min(failures, _MOVING)
            if failures >= len(_RECONNECT):
                raise StoreError(f"lost the feed of run {run_id} after {after}: {exc}") from exc
            await anyio.sleep(_RECONNECT[failures])
            failures += 1
            with contextlib.suppress(StoreError):
                # It finds the node that holds the slot now; a server without its last second may not have the run any more.
                await registry.info(run_id)
        finally:
            with anyio.CancelScope(shield=True):
                await reader.disconnect(nowait=True)


async def _is_over(registry: Registry, run_id: RunId, kind: str) -> bool:
    """The last entry read (none: the reader began behind all of them) is the end of a run that was not resumed since."""
    return (not kind or kind in ENDED) and (await registry.info(run_id)).status.ended
