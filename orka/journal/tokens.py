"""`Tokens`: pieces of answers on their way from agents under way to whoever watches.

They go to a stream beside the run's journal, over a connection of their own. Nothing follows from them: no agent and no
run waits here, and what Redis does not take in time is dropped, the oldest first, and counted.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import anyio
import msgspec
from redis.exceptions import ResponseError

from orka.clock import monotonic
from orka.errors import StoreError
from orka.journal.events import Token
from orka.journal.statistics import EventStatistics
from orka.logs import get_logger
from orka.redis.faults import passes, reply_text
from orka.redis.keys import RunKeys
from orka.redis.pipeline import Keyed, Pipe, is_moving

LIFETIME_MS = 600_000
"""That the tokens of a run outlive the last of them."""
_KEPT = 4096
"""Events of one run that Redis keeps, about."""
_MOST_TEXT = 2_000
"""Characters of one event."""
_MOST_OF_RUN, _MOST_IN_ALL = 256_000, 4_000_000
"""Characters that wait, of one run and of all."""
_MOST_SENT = 256
"""Events in one round trip."""
_PATIENCE = 5.0
"""Seconds that one round trip may take."""
_PAUSE_FIRST, _PAUSE_MOST = 0.02, 1.0
"""Seconds between attempts while Redis cannot be reached."""
_FAREWELL = 0.5
"""Seconds that the rest has at the end."""

OnToken: TypeAlias = Callable[[str, Token], None]
"""Called with (path of the visit, token) when it leaves, in order."""

_log = get_logger()


class _Waiting:
    """An event to come. It grows until it leaves."""

    __slots__ = ("chars", "left", "parts", "pieces", "seq", "since", "source")

    def __init__(self, source: Emitter, seq: int) -> None:
        self.source = source
        self.seq = seq
        self.parts: list[str] = []
        self.pieces = 0
        self.chars = 0
        self.left = False
        """It has been sent, or shown to the watcher in this process."""
        self.since = monotonic()

    def token(self) -> Token:
        text = "".join(self.parts)
        if not text.isascii():
            text = text.encode(errors="replace").decode()  # half of a surrogate pair is no JSON
        self.parts = [text]
        return Token(id=self.source.node_id, attempt=self.source.attempt, text=text, seq=self.seq)


class Emitter:
    """What one attempt of an agent is given as `emit`. May be called from any thread: plain functions run in others."""

    __slots__ = ("_run", "attempt", "chars", "closed", "last", "node_id", "path")

    def __init__(self, run: RunTokens, path: str, node_id: str, attempt: int) -> None:
        self._run = run
        self.path = path
        self.node_id = node_id
        self.attempt = attempt
        self.chars = 0
        """Emitted so far."""
        self.closed = False
        """The attempt is over: what an agent that was abandoned still says is not taken."""
        self.last: _Waiting | None = None
        """The event that the next piece joins, if it has not left by then."""

    def __call__(self, text: str) -> None:
        if threading.get_ident() == self._run.tokens.thread:
            self._add(text)
        else:
            self._run.tokens.loop.call_soon_threadsafe(self._add, text)

    def _add(self, text: str) -> None:
        if text and not self.closed:
            self._run.add(self, text)


class RunTokens:
    """Of one watched run, as far as this process executes it. `on_token` is told of what leaves."""

    def __init__(self, tokens: Tokens, key: str, on_token: OnToken | None) -> None:
        self.key = key
        self.waiting: deque[_Waiting] = deque()
        self.chars = 0
        self.tokens = tokens
        self._on_token = on_token

    def emitter(self, path: str, node_id: str, attempt: int) -> Emitter:
        return Emitter(self, path, node_id, attempt)

    def add(self, source: Emitter, text: str) -> None:
        for start in range(0, len(text), _MOST_TEXT):
            part = text if len(text) <= _MOST_TEXT else text[start : start + _MOST_TEXT]
            event = source.last
            if event is None or event.left or event.chars + len(part) > _MOST_TEXT:
                event = source.last = _Waiting(source, source.chars)
                self.waiting.append(event)
            event.parts.append(part)
            event.pieces += 1
            event.chars += len(part)
            source.chars += len(part)
            self.chars += len(part)
            self.tokens.grow(self, len(part))

    def show(self, path: str) -> None:
        """Tells `on_token` now of what waits of one visit: that it has ended is shown next."""
        for event in self.waiting:
            if event.source.path == path:
                self._show(event)

    def take(self, most: int) -> list[_Waiting]:
        """The oldest that wait, which leave now."""
        taken: list[_Waiting] = []
        while self.waiting and len(taken) < most:
            event = self.waiting.popleft()
            self.chars -= event.chars
            self._show(event)
            taken.append(event)
        return taken

    def _show(self, event: _Waiting) -> None:
        if not event.left:
            event.left = True
            if self._on_token is not None:
                self._on_token(event.source.path, event.token())


class Tokens:
    """Of the services of one process, made in their event loop. `run` is its background task."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self._runs: dict[RunTokens, None] = {}
        """With something that waits."""
        self._sending: list[tuple[RunTokens, _Waiting]] = []
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._chars = 0
        self._told = False
        self.accepted = self._written = self._retried = self._lost = 0

    def of(self, keys: RunKeys, on_token: OnToken | None = None) -> RunTokens:
        """For a run that somebody watches. Costs nothing until an agent emits."""
        return RunTokens(self, keys.tokens, on_token)

    def grow(self, run: RunTokens, chars: int) -> None:
        """A piece has come."""
        self.accepted += 1
        self._runs[run] = None
        self._chars += chars
        self._trim(run)
        self._idle.clear()
        self._wanted.set()

    def _trim(self, run: RunTokens) -> None:
        while run.chars > _MOST_OF_RUN:
            self._drop(run)
        while self._chars > _MOST_IN_ALL:
            self._drop(max(self._runs, key=lambda each: each.chars))

    def _drop(self, run: RunTokens) -> None:
        event = run.waiting.popleft()
        event.left = True
        run.chars -= event.chars
        self._chars -= event.chars
        self._lost += event.pieces

    async def run(self) -> None:
        """Sends until it is cancelled. A batch leaves as soon as the one before is stored."""
        pause = _PAUSE_FIRST
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._take():
                try:
                    with anyio.fail_after(_PATIENCE):
                        replies = await self._pipe.roundtrip(self._commands())
                    self._settle(replies)
                    pause, self._told = _PAUSE_FIRST, False
                except (StoreError, TimeoutError) as exc:
                    self._put_back()
                    if not self._told:
                        self._told = True
                        _log.warning("tokens.unreachable", error=str(exc) or "no answer")
                    await anyio.sleep(pause)
                    pause = min(_PAUSE_MOST, pause * 2)
            self._idle.set()

    async def aclose(self) -> None:
        """Waits a moment until what there is has been sent."""
        with anyio.move_on_after(_FAREWELL):
            await self._idle.wait()

    def _take(self) -> bool:
        for run in list(self._runs):
            room = _MOST_SENT - len(self._sending)
            if room <= 0:
                break
            del self._runs[run]
            for event in run.take(room):
                self._chars -= event.chars
                self._sending.append((run, event))
            if run.waiting:
                self._runs[run] = None
        return bool(self._sending)

    def _commands(self) -> list[Keyed]:
        commands: list[Keyed] = []
        for run, event in self._sending:
            data = msgspec.json.encode(event.token())
            trim = ("MAXLEN", "~", _KEPT)
            commands.append((run.key, ("XADD", run.key, *trim, "*", "path", event.source.path, "data", data)))
        for key in {run.key for run, _ in self._sending}:
            commands.append((key, ("PEXPIRE", key, LIFETIME_MS)))
        return commands

    def _settle(self, replies: list[Any]) -> None:
        """`StoreError` when the server takes nothing for now."""
        refused = next((reply for reply in replies if isinstance(reply, ResponseError)), None)
        if refused is not None and (is_moving(refused) or passes(refused)):
            raise StoreError(f"Redis refuses tokens for now: {reply_text(refused)}") from refused
        for (_, event), reply in zip(self._sending, replies, strict=False):
            if isinstance(reply, ResponseError):
                self._lost += event.pieces
            else:
                self._written += event.pieces
        self._sending = []

    def _put_back(self) -> None:
        """A batch that may not have been stored is sent again: a reader knows by `seq` what it has."""
        self._retried += 1
        for run, event in reversed(self._sending):
            run.waiting.appendleft(event)
            run.chars += event.chars
            self._chars += event.chars
            self._runs[run] = None
        runs, self._sending = {run for run, _ in self._sending}, []
        for run in runs:
            self._trim(run)

    def statistics(self) -> EventStatistics:
        waiting = [event for run in self._runs for event in run.waiting] + [event for _, event in self._sending]
        since = min((event.since for event in waiting), default=None)
        return EventStatistics(
            accepted=self.accepted,
            written=self._written,
            retried=self._retried,
            lost=self._lost,
            waiting=self.accepted - self._written - self._lost,
            oldest_ms=0 if since is None else int((monotonic() - since) * 1000),
            round_trips=self._pipe.round_trips,
        )
