"""Log events: structlog in front of the standard `logging`, under the logger `orka`.

The library only emits: an app that configures `logging` gets Orka's events where it wants them, with the facts in
`record.orka`. Doors (`orka`, the API) call `configure`. Events are dotted names in the past tense.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal, TextIO, cast

import structlog

LOGGER: Final = "orka"
Format = Literal["console", "json"]
_EventDict = MutableMapping[str, Any]

_root = logging.getLogger(LOGGER)


class _Handler(logging.StreamHandler[TextIO]):
    """The one handler that `configure` owns and replaces."""


def get_logger(name: str = LOGGER) -> structlog.stdlib.BoundLogger:
    """A logger that takes an event and keyword facts. `name` is `orka` or below it."""
    return cast(
        "structlog.stdlib.BoundLogger",
        structlog.wrap_logger(
            logging.getLogger(name),
            wrapper_class=structlog.stdlib.BoundLogger,
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.PositionalArgumentsFormatter(),
                structlog.processors.StackInfoRenderer(),
                _to_record,
            ],
            cache_logger_on_first_use=True,
        ),
    )


def configure(level: str = "warning", format: Format = "console", stream: TextIO | None = None) -> None:
    """Writes Orka's events to `stream` (standard error): lines for people, or one JSON object a line. Repeatable."""
    target = sys.stderr if stream is None else stream
    handler = _Handler(target)
    handler.setFormatter(_JsonFormatter() if format == "json" else _ConsoleFormatter(colors=target.isatty()))
    for old in [h for h in _root.handlers if isinstance(h, _Handler)]:
        _root.removeHandler(old)
    _root.addHandler(handler)
    _root.setLevel(level.upper())
    _root.propagate = False


def _to_record(logger: object, method: str, event: _EventDict) -> tuple[tuple[str], dict[str, Any]]:
    """What the standard logger is called with: a readable message, and the facts as `record.orka`."""
    name = str(event.pop("event", ""))
    exc_info = event.pop("exc_info", None)
    facts = dict(event)
    text = " ".join([name, *(f"{key}={value!r}" for key, value in facts.items())])
    return (text,), {"extra": {"orka": {"event": name, **facts}}, "exc_info": exc_info}


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    own = cast("dict[str, Any] | None", record.__dict__.get("orka"))
    return dict(own) if own is not None else {"event": record.getMessage()}


class _JsonFormatter(logging.Formatter):
    _render = structlog.processors.JSONRenderer(default=str)
    _stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)

    def format(self, record: logging.LogRecord) -> str:
        facts = _facts(record)
        event: _EventDict = {"event": facts.pop("event"), "level": record.levelname.lower(), "logger": record.name}
        event.update(facts)
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return str(self._render(None, "", self._stamp(None, "", event)))


class _ConsoleFormatter(logging.Formatter):
    def __init__(self, *, colors: bool) -> None:
        super().__init__()
        self._render = structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0)
        self._stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)

    def format(self, record: logging.LogRecord) -> str:
        event: _EventDict = {**_facts(record), "level": record.levelname.lower()}
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return str(self._render(None, "", self._stamp(None, "", event)))
