"""A progress bar on standard error for whatever lasts over a second, where a person looks at it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from orka.clock import monotonic

_AFTER = 1.0
"""Seconds after which it is shown."""


@contextmanager
def progress(what: str) -> Generator[Callable[[int, int], None]]:
    """Gives what is to be called with (done, of how many; 0 where that is not known)."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(what, total=None)
    began, shown = monotonic(), False

    def on_progress(done: int, total: int) -> None:
        nonlocal shown
        if not shown and monotonic() - began >= _AFTER:
            shown = True
            bar.start()
        if shown:
            bar.update(task, completed=done, total=total or None)

    try:
        yield on_progress
    finally:
        if shown:
            bar.stop()
