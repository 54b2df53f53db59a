"""The live tree of a run on a terminal, drawn on standard error, and its plain form where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias, TypeVar

import anyio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from orka.cli.output import safe_line, warn
from orka.cli.tree import Row, RunTree, State
from orka.clock import now_ms
from orka.engine.notes import watch_beginnings
from orka.graph.graph import Graph
from orka.journal.entries import Kind
from orka.journal.paths import readable
from orka.types import Json, Path, Status

_REFRESH = 0.1
"""Seconds between two drawings."""
_MARKS: dict[State, tuple[str, str, str]] = {
    "waiting": ("·", ".", "dim"),
    "running": ("●", "*", "bold cyan"),
    "retrying": ("↻", "~", "yellow"),
    "success": ("✓", "+", "green"),
    "error": ("✗", "x", "bold red"),
    "skipped": ("–", "-", "dim"),
    "cancelled": ("⊘", "/", "dim"),
}
"""Mark, mark where the terminal knows no Unicode, style."""

T = TypeVar("T")


class Event(Protocol):
    """The part of a run's event that is shown."""

    @property
    def kind(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def data(self) -> Mapping[str, Json]: ...


Show: TypeAlias = Callable[[Event], None]


async def draw_while(work: Callable[[Show], Awaitable[T]], graph: Graph | None) -> T:
    """Awaits `work`, which shows events at any rate, and draws the tree meanwhile; the last drawing stays."""
    console = Console(stderr=True, highlight=False)
    tree = RunTree(graph)
    with Live(console=console, auto_refresh=False, redirect_stdout=True) as live:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_redraw, live, tree)
                try:
                    with watch_beginnings(tree.begin):
                        return await work(lambda event: tree.apply(event.kind, event.path, event.at_ms, event.data))
                finally:
                    group.cancel_scope.cancel()
        except BaseExceptionGroup as errors:  # the drawing task raises nothing of its own
            raise errors.exceptions[0] from None
        finally:
            live.update(draw(tree, console, now_ms()), refresh=True)
    raise AssertionError("a task group lets no error disappear")


async def _redraw(live: Live, tree: RunTree) -> None:
    while True:
        tree.show_begun(now_ms())
        live.update(draw(tree, live.console, now_ms()), refresh=True)
        await anyio.sleep(_REFRESH)


def draw(tree: RunTree, console: Console, at_ms: int) -> Text:
    """As many rows as the terminal has, each cut to its width."""
    text = Text(no_wrap=True, overflow="ellipsis")
    for index, row in enumerate(tree.rows(max(3, console.height - 2), at_ms)):
        _append(text, row, console, first=index == 0)
    return text


def _append(text: Text, row: Row, console: Console, *, first: bool) -> None:
    mark, plain, style = _MARKS[row.state]
    text.append(("" if first else "\n") + "  " * row.depth)
    text.append(mark if (console.encoding or "").lower().startswith("utf") else plain, style=style)
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
        warn(safe_line(f"{readable(event.path)} {event.data.get('status', Status.SUCCESS)}{reason}", 400))
    elif event.kind not in (Kind.NODE_STARTED, Kind.NODE_TOKEN):
        warn(safe_line(f"{readable(event.path) or 'run'} {event.kind}", 400))


def on_terminal() -> bool:
    """A person watches: both streams are a terminal that can be drawn on."""
    return sys.stdout.isatty() and sys.stderr.isatty() and not Console(stderr=True).is_dumb_terminal
