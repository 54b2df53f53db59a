"""How logs look and where they go. Doors call `open_logs` once; nothing else configures logging."""

from __future__ import annotations

import sys
from typing import TextIO, cast

import structlog

from orka.settings import Settings

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
"""The numbers of the standard library's `logging`."""


class _StandardError:
    """`sys.stderr` as it is at the moment of writing: a live display replaces it while it draws."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def open_logs(settings: Settings, *, level: str | None = None) -> None:
    """Events on standard error in the settings' format, from `level` (or the settings' own) upwards.

    Strings are quoted, so that control characters in run data are shown and not obeyed by a terminal.
    """
    if settings.log_format == "json":
        renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), repr_native_str=True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level or settings.log_level]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _StandardError())),
        cache_logger_on_first_use=True,
    )
