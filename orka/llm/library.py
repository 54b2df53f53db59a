"""`Opened`: a provider's library and its client, loaded by the first question."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

import anyio
import anyio.to_thread


class Closable(Protocol):
    def close(self) -> Awaitable[None]: ...


T = TypeVar("T", bound=Closable)


class Opened(Generic[T]):
    """`open` is called once, in a worker thread: the libraries take half a second to import, and a context for TLS some
    more. Errors as `open`; a failed opening is tried again."""

    def __init__(self, open: Callable[[], T]) -> None:
        self._open = open
        self._client: T | None = None
        self._opening = anyio.Lock()

    async def client(self) -> T:
        if self._client is not None:
            return self._client
        async with self._opening:
            if self._client is None:
                self._client = await anyio.to_thread.run_sync(self._open)
            return self._client

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.close()
