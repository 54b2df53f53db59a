"""Asking again while a server restarts: for what may be asked twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio
from redis.exceptions import NoPermissionError

from orka.clock import monotonic
from orka.errors import BackendMissing, IndexMismatch, QueryRefused, RecordRefused, StoreError
from orka.logs import get_logger

SECONDS: Final = 10.0
"""For which a question waits for a server that is away."""
_FIRST, _MOST = 0.02, 1.0
"""Seconds between attempts."""
_FINAL = (BackendMissing, IndexMismatch, QueryRefused, RecordRefused)

T = TypeVar("T")
_log = get_logger()


async def patiently(ask: Callable[[], Awaitable[T]], event: str, seconds: float = SECONDS) -> T:
    """What `ask` gives, asked again after a `StoreError` that may pass. Raises the last one after so many seconds. `event`:
    what the log calls a failed attempt."""
    until, pause = monotonic() + seconds, _FIRST
    while True:
        try:
            return await ask()
        except _FINAL:
            raise
        except StoreError as exc:
            if monotonic() >= until or isinstance(exc.__cause__, NoPermissionError):
                raise
            _log.warning(event, error=str(exc), retry_in=pause)
        await anyio.sleep(pause)
        pause = min(_MOST, pause * 2)
