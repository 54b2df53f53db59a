"""The live tree of a run on a terminal, drawn on standard error, and its plain form where there is no terminal."""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol

import anyio
import anyio.abc
from rich.console import Console
from rich.live import Live
from rich.text import Text

from orka.cli.output import safe_line, warn
from orka.cli.tree import Row, RunTree
from orka.clock import now_ms
from orka.graph.graph import Graph
from orka.journal.entries import ENDED, Kind
from orka.types import Json, Path

_REFRESH = 0.1
"""Seconds between two drawings."""
_MARKS = {"running": "●", "retrying": "↻", "success": "✓", "error": "✗", "skipped": "–", "cancelled": "⊘"}
_PLAIN_MARKS = {"running": "*", "retrying": "~", "success": "+", "error": "x", "skipped": "-", "cancelled": "/"}
_STYLES = {
    "running": "bold cyan",
    "retrying": "yellow",
    "success": "green",
    "error": "bold red",
    "skipped": "dim",
    "cancelled": "dim",
}


class Event(Protocol):
    """The part of a run's event that is shown."""

    @property
    def kind(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def data(self) -> dict[str, Json]: ...


class LiveTree(AbstractAsyncContextManager["LiveTree"]):
    """Draws while it is open; the last drawing stays. `show` may be called at any rate."""

    def __init__(self, graph: Graph | None, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._tree = RunTree(graph)
        self._ended = ""
        self._changed = True
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False)
        self._tasks: anyio.abc.TaskGroup = anyio.create_task_group()

    async def __aenter__(self) -> LiveTree:
        self._live.start()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._redraw)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._tasks.cancel_scope.cancel()
        try:
            return await self._tasks.__aexit__(kind, error, trace)
        finally:
            self._live.update(self.draw(), refresh=True)
            self._live.stop()

    def show(self, event: Event) -> None:
        self._tree.apply(event.kind, event.path, event.at_ms, event.data)
        if event.kind in ENDED:
            self._ended = event.kind

    async def _redraw(self) -> None:
        while True:
            self._live.update(self.draw(), refresh=True)
            await anyio.sleep(_REFRESH)

    def draw(self) -> Text:
        """As many rows as the terminal has, each cut to its width."""
        height = max(3, self._console.height - 2)
        rows = self._tree.rows(height, now_ms())
        text = Text(no_wrap=True, overflow="ellipsis")
        for index, row in enumerate(rows):
            _append(text, row, self._console, first=index == 0)
        return text


def _append(text: Text, row: Row, console: Console, *, first: bool) -> None:
    marks = _MARKS if (console.encoding or "").lower().startswith("utf") else _PLAIN_MARKS
    text.append(("" if first else "\n") + "  " * row.depth)
    text.append(marks[row.state], style=_STYLES[row.state])
    text.append(f" {safe_line(row.label, 60)}")
    if row.seconds is not None:
        text.append(f"  {row.seconds:.1f} s", style="dim")
    if row.note:
        text.append(f"  {safe_line(row.note, 200)}", style="red" if row.state == "error" else "dim")


def print_event(event: Event) -> None:
    """`--watch` without a terminal: one line on standard error for what ended or went wrong."""
    if event.kind == Kind.NODE_FINISHED:
        error = event.data.get("error")
        reason = f": {error.get('message')}" if isinstance(error, dict) else ""
        warn(safe_line(f"{event.path} {event.data.get('status')}{reason}", 400))
    elif event.kind != Kind.NODE_STARTED:
        warn(safe_line(f"{event.path or 'run'} {event.kind}", 400))


def on_terminal() -> bool:
    """A person watches: both streams are a terminal that can be drawn on."""
    return sys.stdout.isatty() and sys.stderr.isatty() and not Console(stderr=True).is_dumb_terminal
