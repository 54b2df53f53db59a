"""`RedisVerbs`: the plain commands of Redis that OrKa 0.9's logger had, as coroutines, on keys of the caller's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

from redis.asyncio import RedisCluster
from redis.exceptions import RedisError

from orka.memory.opening import Openings
from orka.redis.faults import translate

Word = str | bytes | int | float


class RedisVerbs:
    """Values come back as text. `StoreError` when Redis cannot be reached or refuses. Keys of Orka's are its own: see
    docs/architecture.md."""

    def __init__(self, openings: Openings) -> None:
        self._openings = openings

    async def get(self, key: str) -> str | None:
        return _text(await self._send("GET", key))

    async def set(self, key: str, value: Word) -> bool:
        return bool(await self._send("SET", key, value))

    async def delete(self, *keys: str) -> int:
        """Gives how many were there. Memories are deleted with `delete_memory`."""
        return sum([await self._send("DEL", key) for key in keys])

    async def hset(self, name: str, key: str, value: Word) -> int:
        """1 for a new field, 0 for one that was there."""
        return int(await self._send("HSET", name, key, value))

    async def hget(self, name: str, key: str) -> str | None:
        return _text(await self._send("HGET", name, key))

    async def hkeys(self, name: str) -> list[str]:
        return _texts(await self._send("HKEYS", name))

    async def hdel(self, name: str, *keys: str) -> int:
        return int(await self._send("HDEL", name, *keys)) if keys else 0

    async def sadd(self, name: str, *values: Word) -> int:
        return int(await self._send("SADD", name, *values)) if values else 0

    async def srem(self, name: str, *values: Word) -> int:
        return int(await self._send("SREM", name, *values)) if values else 0

    async def smembers(self, name: str) -> list[str]:
        """In no order."""
        return _texts(await self._send("SMEMBERS", name))

    async def scan(self, cursor: int = 0, match: str = "*", count: int = 100) -> tuple[int, list[str]]:
        """(where to go on, 0 at the end; some keys). On a cluster all keys at once."""
        client = (await self._openings.current()).redis.client
        try:
            if isinstance(client, RedisCluster):
                keys = [key async for key in client.scan_iter(match, count)]  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]
                return 0, _texts(cast("list[bytes]", keys))
            found = cast("tuple[int, list[bytes]]", await client.scan(cursor, match, count))  # pyright: ignore[reportUnknownMemberType]
        except (RedisError, OSError) as exc:
            raise translate(exc) from exc
        return found[0], _texts(found[1])

    async def _send(self, *words: Word) -> Any:
        client = (await self._openings.current()).redis.client
        # redis-py leaves the types of its options open
        execute = cast("Callable[..., Awaitable[Any]]", client.execute_command)  # pyright: ignore[reportUnknownMemberType]
        try:
            return await execute(*words)
        except (RedisError, OSError) as exc:
            raise translate(exc) from exc


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _texts(values: Iterable[bytes]) -> list[str]:
    return [value.decode("utf-8", "replace") for value in values]
