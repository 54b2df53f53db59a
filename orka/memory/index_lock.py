"""`IndexLock`: one process at a time makes or changes the index of memories."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import anyio
from redis.exceptions import ResponseError

from orka.errors import StoreError, sole_error
from orka.redis.keys import memory_lock_key
from orka.redis.lua import Argument, Script
from orka.redis.pipeline import Pipe

LEASE: Final = 10.0
"""Seconds after which the lock of a process that died is free."""
PATIENCE: Final = 30.0
_POLL: Final = 0.05

_RENEW: Final = Script.of(
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
)
_RELEASE: Final = Script.of(
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
)


class IndexLock:
    """On a pipe of the caller's."""

    def __init__(self, pipe: Pipe, *, patience: float = PATIENCE) -> None:
        self._pipe = pipe
        self._patience = patience

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[None]:
        """The lock for as long as the block lasts, renewed meanwhile. `StoreError` when another process keeps it for
        longer than the patience, or when it is lost: then the block is cancelled."""
        token = os.urandom(16).hex()
        await self._take(token)
        lost = False
        try:
            async with anyio.create_task_group() as tasks:

                async def renew() -> None:
                    nonlocal lost
                    while True:
                        await anyio.sleep(LEASE / 3)
                        if await self._ask(_RENEW, token, str(round(LEASE * 1000))) != 1:
                            lost = True
                            tasks.cancel_scope.cancel()

                tasks.start_soon(renew)
                yield
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise sole_error(group) from None
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(LEASE):
                await self._ask(_RELEASE, token)
        if lost:
            raise StoreError("the lock of the index of memories was lost to another process: try again")

    async def _take(self, token: str) -> None:
        # Asked for again and again: it is held for milliseconds, at the first start, or by a rebuild, for too long to wait.
        with anyio.move_on_after(self._patience):
            while True:
                [reply] = await self._pipe.roundtrip(
                    [(memory_lock_key(), ("SET", memory_lock_key(), token, "NX", "PX", str(round(LEASE * 1000))))]
                )
                if isinstance(reply, ResponseError):
                    raise StoreError(f"Redis refuses the lock of the index of memories: {reply}")
                if reply is not None:
                    return
                await anyio.sleep(_POLL)
        raise StoreError(
            f"another process has been changing the index of memories for {self._patience:.0f} s (a rebuild, perhaps): "
            "try again when it is done"
        )

    async def _ask(self, script: Script, *arguments: Argument) -> object:
        [reply] = await self._pipe.roundtrip(
            [(memory_lock_key(), ("EVAL", script.text, "1", memory_lock_key(), *arguments))]
        )
        return reply
