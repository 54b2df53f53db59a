"""`Watcher`: what `on_event` is told of a run that this process executes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from orka.clock import now_ms
from orka.journal.entries import Kind
from orka.journal.events import RunEvent, Token
from orka.journal.tokens import RunTokens
from orka.redis.scripts import Entry

OnEvent: TypeAlias = Callable[[RunEvent], None]
"""Called with every event of a run once it is stored, and with tokens, if the run has any, as they leave."""


class Watcher:
    """Puts entries and tokens into one order. `tokens` is set once the run has some."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._last = "0"
        self.tokens: RunTokens | None = None

    def on_entry(self, entry_id: str, entry: Entry) -> None:
        if self.tokens is not None and entry.kind in (Kind.NODE_FINISHED, Kind.NODE_RETRYING):
            self.tokens.show(entry.path)
        self._last = entry_id
        self._on_event(RunEvent.of(entry_id, entry.kind, entry.path, entry.data))

    def on_token(self, path: str, token: Token) -> None:
        self._on_event(RunEvent.of_token(self._last, path, token, now_ms()))
