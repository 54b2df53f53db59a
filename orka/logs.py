"""Log events: dotted names in the past tense with keyword facts, sent to the standard logger `orka`.

The library only emits. An app that configures `logging` gets the events where it wants them, the facts in
`record.orka`; doors (`orka`, the API) call `configure`, and structlog renders. It is imported with the first event
that is written: it takes longer to load than a short command does to run.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Generator, Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, Final, Literal, TextIO, cast

from orka.secrets import redact_fact, redact_text

LOGGER: Final = "orka"
Format = Literal["console", "json"]

_context: ContextVar[Mapping[str, object]] = ContextVar("orka_log_context")


class Logger:
    """Emits events. `bind` gives one with facts of its own; a disabled level costs one comparison."""

    __slots__ = ("_facts", "_logger")

    def __init__(self, logger: logging.Logger, facts: Mapping[str, object]) -> None:
        self._logger = logger
        self._facts = facts

    def bind(self, **facts: object) -> Logger:
        return Logger(self._logger, {**self._facts, **facts})

    def debug(self, event: str, /, **facts: object) -> None:
        self._emit(logging.DEBUG, event, facts)

    def info(self, event: str, /, **facts: object) -> None:
        self._emit(logging.INFO, event, facts)

    def warning(self, event: str, /, **facts: object) -> None:
        self._emit(logging.WARNING, event, facts)

    def error(self, event: str, /, *, exc_info: BaseException | None = None, **facts: object) -> None:
        """`exc_info` is the error whose traceback belongs to the event."""
        self._emit(logging.ERROR, event, facts, exc_info)

    def _emit(self, level: int, event: str, facts: Mapping[str, object], exc: BaseException | None = None) -> None:
        if not self._logger.isEnabledFor(level):
            return
        merged = {
            name: redact_fact(name, value) for name, value in {**_context.get({}), **self._facts, **facts}.items()
        }
        text = " ".join([event, *(f"{name}={value!r}" for name, value in merged.items())])
        self._logger.log(level, "%s", text, exc_info=exc, extra={"orka": {**merged, "event": event}}, stacklevel=3)


def get_logger(name: str = LOGGER) -> Logger:
    """A logger named `orka` or below it (`orka.engine`)."""
    return Logger(logging.getLogger(name), {})


@contextlib.contextmanager
def log_context(**facts: object) -> Generator[None]:
    """Facts (ids) that every event of this task and of the tasks started in the block carries."""
    token = _context.set({**_context.get({}), **facts})
    try:
        yield
    finally:
        _context.reset(token)


def configure(level: str = "warning", format: Format = "console", stream: TextIO | None = None) -> None:
    """Writes Orka's events to `stream` (standard error): lines for people, or one JSON object a line. Repeatable."""
    target = sys.stderr if stream is None else stream
    handler = _Handler(target)
    handler.setFormatter(_Formatter(format, colors=target.isatty()))
    root = logging.getLogger(LOGGER)
    for old in [found for found in root.handlers if isinstance(found, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    root.propagate = False


class _Handler(logging.StreamHandler[TextIO]):
    """The one handler that `configure` owns and replaces."""


class _Formatter(logging.Formatter):
    def __init__(self, format: Format, *, colors: bool) -> None:
        super().__init__()
        self._format_name = format
        self._colors = colors

    def format(self, record: logging.LogRecord) -> str:
        import structlog

        own = cast("dict[str, Any] | None", record.__dict__.get("orka"))
        facts = {"event": record.getMessage()} if own is None else dict(own)
        event: MutableMapping[str, Any] = {"event": facts.pop("event"), "level": record.levelname.lower(), **facts}
        if record.exc_info:
            event["exception"] = redact_text(self.formatException(record.exc_info))
        if self._format_name == "json":
            stamped = structlog.processors.TimeStamper(fmt="iso", utc=True)(None, "", event)
            return str(structlog.processors.JSONRenderer(default=str)(None, "", stamped))
        stamped = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)(None, "", event)
        # Quoted strings: control characters of run data are shown, not obeyed by a terminal.
        render = structlog.dev.ConsoleRenderer(colors=self._colors, pad_event_to=0, repr_native_str=True)
        return str(render(None, "", stamped))
