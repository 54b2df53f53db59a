"""The last lines that a process wrote to its standard error: kept for messages, and off the terminal."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, TextIO

import anyio

_KEPT: Final = 4_096
"""Bytes."""
_CHUNK: Final = 65_536


class Tail:
    """Of one process."""

    def __init__(self) -> None:
        self._kept = b""

    @property
    def text(self) -> str:
        """The last lines, as one: ` | ` stands between them."""
        lines = self._kept.decode("utf-8", "replace").strip().splitlines()
        return " | ".join(line.strip() for line in lines[-5:] if line.strip())

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[TextIO]:
        """A file for the process to write to, read until the block ends."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        with os.fdopen(write, "w") as given:
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._read, read)
                    yield given
                    tasks.cancel_scope.cancel()
            finally:
                self._take(read)
                os.close(read)

    async def _read(self, file: int) -> None:
        while True:
            await anyio.wait_readable(file)
            if not self._take(file):
                return

    def _take(self, file: int) -> bool:
        """Whether there may be more. Never waits."""
        try:
            found = os.read(file, _CHUNK)
        except BlockingIOError:
            return True
        self._kept = (self._kept + found)[-_KEPT:]
        return bool(found)
