"""`EventLog`: what happened in workflows, in a bounded stream. Never in the index of memories."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import anyio
import msgspec
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError

from orka.clock import iso, now_ms
from orka.errors import ConfigError, RecordRefused
from orka.memory.record import plain_scalar
from orka.redis.faults import translate
from orka.redis.lua import Command
from orka.types import Json

MOST_EVENTS: Final = 10_000
"""Kept, about: the oldest go first."""

_json = msgspec.json.Encoder(enc_hook=plain_scalar)


class EventLog:
    """On a client of the caller's."""

    def __init__(self, client: Redis | RedisCluster, stream: str) -> None:
        # redis-py leaves the types of its options open
        self._execute = cast("Callable[..., Awaitable[Any]]", client.execute_command)  # pyright: ignore[reportUnknownMemberType]
        self._stream = stream

    async def append(self, agent_id: str, event_type: str, payload: Json, facts: Mapping[str, Json]) -> str:
        """One event; gives its id. `facts`: run, step and the like, those that are not None. `RecordRefused` for
        what is no JSON."""
        command = add_event(self._stream, agent_id, event_type, payload, facts, at_ms=now_ms())
        try:
            reply = await self._execute(*command)
        except (RedisError, OSError) as exc:
            raise translate(exc) from exc
        return cast("bytes", reply).decode()

    async def tail(self, count: int) -> list[dict[str, Json]]:
        """The last `count`, oldest first, each with its `id`."""
        if count < 1:
            return []
        try:
            reply = await self._execute("XREVRANGE", self._stream, "+", "-", "COUNT", str(count))
        except (RedisError, OSError) as exc:
            raise translate(exc) from exc
        rows = cast("list[tuple[bytes, list[bytes] | dict[bytes, bytes]]]", reply)
        return [_event(entry_id, fields) for entry_id, fields in reversed(rows)]

    async def length(self) -> int:
        try:
            return await self._execute("XLEN", self._stream)
        except (RedisError, OSError) as exc:
            raise translate(exc) from exc


def add_event(
    stream: str, agent_id: str, event_type: str, payload: Json, facts: Mapping[str, Json], *, at_ms: int
) -> Command:
    """The command that appends one event and lets the oldest go. Of `facts` those that are not None. `RecordRefused` for what
    is no JSON."""
    fields: dict[str, str | bytes] = {"agent_id": agent_id, "event_type": event_type, "timestamp": iso(at_ms)}
    for name, value in {"payload": payload, **facts}.items():
        if name == "payload" or value is not None:
            plain = isinstance(value, str) and name != "payload"
            fields[name] = str(value) if plain else _encoded(event_type, name, value)
    words = [word for pair in fields.items() for word in pair]
    return ("XADD", stream, "MAXLEN", "~", MOST_EVENTS, "*", *words)


def _encoded(event_type: str, name: str, value: Json) -> bytes:
    try:
        return _json.encode(value)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as exc:
        raise RecordRefused(f"{name} of the event {event_type!r} must be JSON: {exc}") from exc


async def save_json(path: Path, value: object) -> None:
    """Indented, over what is there. `ConfigError` where nothing can be written or the value is no JSON."""
    try:
        data = msgspec.json.format(_json.encode(value), indent=2)
        await anyio.Path(path).write_bytes(data + b"\n")
    except (OSError, TypeError, ValueError, msgspec.MsgspecError) as exc:
        raise ConfigError(f"{path} cannot be written: {exc}", path=str(path)) from exc


def _event(entry_id: bytes, raw: list[bytes] | dict[bytes, bytes]) -> dict[str, Json]:
    fields = raw if isinstance(raw, dict) else {raw[i]: raw[i + 1] for i in range(0, len(raw), 2)}
    event: dict[str, Json] = {"id": entry_id.decode()}
    for name, value in fields.items():
        text = value.decode("utf-8", "replace")
        key = name.decode("utf-8", "replace")
        event[key] = text
        if key in {"payload", "previous_outputs", "step"}:
            try:
                event[key] = cast("Json", msgspec.json.decode(value))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                pass  # somebody else's event: as it is
    return event
