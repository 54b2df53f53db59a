"""How the progress of a run is shown on standard error: a live tree, a line per event, the words of agents, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from orka.cli.live import Event, Show, draw_while, on_terminal, print_event
from orka.cli.output import safe_line, safe_text
from orka.errors import ConfigError
from orka.graph.graph import Graph
from orka.journal.entries import Kind
from orka.journal.paths import readable
from orka.results import RunResult

Work: TypeAlias = Callable[[Show], Awaitable[RunResult]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What somebody sees of a run."""

    show: Callable[[Work, Graph | None], Awaitable[RunResult]]
    """Awaits the run and shows its events."""
    tokens: bool
    """Pieces of answers are wanted."""


def choose_progress(*, watch: bool, quiet: bool, stream: bool = False, lines: bool = False) -> Progress:
    """`lines`: others print lines, which would tear a tree. `ConfigError` for what excludes each other."""
    if quiet and (watch or stream):
        raise ConfigError(f"--{'watch' if watch else 'stream'} and --quiet exclude each other")
    if stream:
        return Progress(show=_aloud(Words(watch)), tokens=True)
    if not quiet and not lines and on_terminal():
        return Progress(show=draw_while, tokens=True)
    return Progress(show=_with_lines if watch else _silently, tokens=watch)


def _aloud(words: Words) -> Callable[[Work, Graph | None], Awaitable[RunResult]]:
    async def show(work: Work, _graph: Graph | None) -> RunResult:
        try:
            return await work(words.show)
        finally:
            words.end_line()

    return show


async def _with_lines(work: Work, _graph: Graph | None) -> RunResult:
    return await work(print_event)


async def _silently(work: Work, _graph: Graph | None) -> RunResult:
    return await work(lambda _event: None)


class Words:
    """Prints what agents say as it comes. Whoever speaks is named when that changes."""

    def __init__(self, watch: bool) -> None:
        """`watch`: a line for every other event, too."""
        self._watch = watch
        self._speaker: tuple[str, object] | None = None
        """Path and attempt, while their line is not over."""

    def show(self, event: Event) -> None:
        if event.kind == Kind.NODE_TOKEN:
            self._say(event)
            return
        if self._speaker is not None and event.path == self._speaker[0]:
            self.end_line()
        if self._watch:
            self.end_line()
            print_event(event)

    def _say(self, event: Event) -> None:
        attempt = event.data.get("attempt")
        if self._speaker != (event.path, attempt):
            self.end_line()
            self._speaker = (event.path, attempt)
            again = f", attempt {attempt}" if attempt != 1 else ""
            sys.stderr.write(f"[{safe_line(readable(event.path))}{again}] ")
        sys.stderr.write(safe_text(str(event.data.get("text", ""))))
        sys.stderr.flush()

    def end_line(self) -> None:
        if self._speaker is not None:
            self._speaker = None
            sys.stderr.write("\n")
            sys.stderr.flush()
