"""The file in which a worker shows its progress, for whoever supervises its process."""

from __future__ import annotations

from pathlib import Path

import anyio

from orka.errors import ConfigError
from orka.logs import get_logger

_log = get_logger()


class HealthFile:
    """Owned by the worker, which rewrites it with every sign of life."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = False

    async def write(self, facts: bytes) -> None:
        """`ConfigError` when it cannot be written the first time. Later that ends nobody's tasks: its age shows it."""
        try:
            await self._replace(facts)
        except (OSError, ValueError) as exc:  # of a path that is no file's name
            why = getattr(exc, "strerror", None) or str(exc)
            if not self._written:
                message = (
                    f"the health file {str(self._path)!r} cannot be written ({why}): name one in a folder that can"
                )
                raise ConfigError(message, path=str(self._path)) from exc
            _log.warning("health.unwritten", file=str(self._path), error=why)
        self._written = True

    async def _replace(self, facts: bytes) -> None:
        """Whole or not at all: readers never see half a file."""
        part = anyio.Path(self._path.with_name(f"{self._path.name}.part"))
        await part.write_bytes(facts)
        await part.replace(self._path)
