"""Notes of what happens in this process and is not journaled, for whoever watches a run here: a pure agent leaves no
entry when it begins, and may still take a while. Nothing follows from a note."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

from orka.types import Path

OnBegin: TypeAlias = Callable[[Path, int], None]
"""Called with the path of a visit to a pure agent and the time (milliseconds since the epoch) when its call begins."""

_on_begin: ContextVar[OnBegin | None] = ContextVar("orka_on_begin", default=None)


@contextmanager
def watch_beginnings(on_begin: OnBegin) -> Generator[None]:
    """Runs that begin in this task, or in tasks that it starts, give notes. Others pay one comparison for each step."""
    token = _on_begin.set(on_begin)
    try:
        yield
    finally:
        _on_begin.reset(token)


def watcher() -> OnBegin | None:
    """Of the current task."""
    return _on_begin.get()
