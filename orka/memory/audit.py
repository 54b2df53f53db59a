"""`Audit`: what the runtime tells of runs, on its way to the bounded stream of events (`orka.memory.events`).

Nothing follows from it: no run waits here, and what Redis does not take in time is dropped, the oldest first, and counted.
The journal knows every run; this is for whoever looks on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import anyio
import anyio.to_thread
from redis.exceptions import ResponseError

from orka.clock import now_ms
from orka.errors import StoreError
from orka.journal.statistics import EventStatistics
from orka.logs import get_logger
from orka.memory.events import add_event
from orka.memory.excerpt import excerpt
from orka.redis.faults import passes, reply_text
from orka.redis.keys import memory_events_key
from orka.redis.lua import Command
from orka.redis.pipeline import Pipe, is_moving
from orka.secrets import redact
from orka.types import Json

_MOST_WAITING: Final = 4096
"""Events."""
_MOST_SENT: Final = 256
"""Events in one round trip."""
_TAKEN: Final = 2_000
"""Characters of each value to show that wait: more than are shown, so that a secret on the edge is seen whole."""
_SHOWN: Final = 500
"""Characters that are shown of each."""
_GAP: Final = 0.02
"""Seconds between two batches, in which others gather: many runs a second share few round trips."""
_PATIENCE: Final = 5.0
"""Seconds that one round trip may take."""
_PAUSE_FIRST, _PAUSE_MOST = 0.02, 1.0
"""Seconds between attempts while Redis cannot be reached."""
_FAREWELL: Final = 1.0
"""Seconds that the rest has at the end."""
_FULL, _REFUSED, _LEFT = "the buffer is full", "Redis refuses them", "Redis did not take them before the end"

_log = get_logger()


class Happening(NamedTuple):
    """One event to come."""

    agent_id: str
    event_type: str
    payload: dict[str, Json]
    """Small, and ours."""
    shown: dict[str, Json]
    """More of it, from elsewhere: of any size, and it may hold secrets."""
    facts: Mapping[str, Json]
    """Run, path, step and the like: fields of their own."""
    at_ms: int


class Audit:
    """Of the services of one process, and used in their event loop only. `run` is its background task."""

    def __init__(self, pipe: Pipe, level: str) -> None:
        """`level`: `off`, `runs` or `agents`, for those who tell."""
        self._pipe = pipe
        self.level = level
        self._waiting: deque[Happening] = deque()
        self._sending: list[tuple[int, Command]] = []
        """(when it happened, command), oldest first."""
        self._wanted, self._closing, self._ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._scope = anyio.CancelScope(shield=True)
        self._told: set[str] = set()
        self._accepted = self._written = self._retried = self._lost = 0

    def add(self, happening: Happening) -> None:
        """Takes an event; of what it shows the beginnings, without secrets."""
        self._accepted += 1
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting.popleft()
            self._lose(1, _FULL)
        shown = {name: excerpt(value, _TAKEN) for name, value in happening.shown.items()}
        self._waiting.append(happening._replace(shown=shown))
        self._wanted.set()

    async def aclose(self) -> None:
        """Ends `run`, after a moment in which what there is may be sent."""
        self._closing.set()
        self._wanted.set()
        with anyio.move_on_after(_FAREWELL):
            await self._ended.wait()
        self._scope.cancel()
        self._waiting.clear()
        self._lose(self._under_way, _LEFT)

    async def run(self) -> None:
        """Sends until `aclose`. Cancelling does not reach it: runs that are cancelled tell so."""
        pause = _PAUSE_FIRST
        with self._scope:
            while self._waiting or self._sending or not self._closing.is_set():
                if not self._waiting and not self._sending:
                    self._wanted.clear()
                    await self._wanted.wait()
                    continue
                try:
                    await self._send()
                    pause = _PAUSE_FIRST
                    if len(self._waiting) < _MOST_SENT:
                        await self._rest(_GAP)
                except (StoreError, TimeoutError) as exc:
                    self._retried += 1
                    _log.info("audit.unreachable", error=str(exc) or "no answer")
                    await (anyio.sleep(_PAUSE_FIRST) if self._closing.is_set() else self._rest(pause))
                    pause = min(_PAUSE_MOST, pause * 2)
                # Bulkhead: whatever is wrong with a batch must not end the services.
                except Exception as exc:
                    self._sending = []
                    self._lose(self._under_way, "they cannot be sent", f"{type(exc).__name__}: {exc}")
            self._ended.set()

    async def _rest(self, seconds: float) -> None:
        """Or until the end is near."""
        with anyio.move_on_after(seconds):
            await self._closing.wait()

    async def _send(self) -> None:
        """One batch: the one that could not be sent, else the oldest that wait. `StoreError` and `TimeoutError` when some of
        it has to be sent again."""
        if not self._sending:
            batch = [self._waiting.popleft() for _ in range(min(_MOST_SENT, len(self._waiting)))]
            self._sending = await anyio.to_thread.run_sync(_commands, batch)
            self._lose(self._under_way - len(self._sending), "they cannot be encoded")
        key = memory_events_key()
        with anyio.fail_after(_PATIENCE):
            replies = await self._pipe.roundtrip([(key, command) for _, command in self._sending])
        self._settle(replies)

    def _settle(self, replies: Sequence[Any]) -> None:
        again: list[tuple[int, Command]] = []
        written, refused, passing = 0, None, None
        for one, reply in zip(self._sending, replies, strict=True):
            if not isinstance(reply, ResponseError):
                written += 1
            elif is_moving(reply) or passes(reply):
                again.append(one)
                passing = reply
            else:
                refused = reply
        self._written += written
        lost = len(self._sending) - written - len(again)
        self._sending = again
        if refused is not None:
            self._lose(lost, _REFUSED, reply_text(refused))
        elif written:
            self._told.clear()
        if passing is not None:
            raise StoreError(f"Redis takes no events for now: {reply_text(passing)}") from passing

    def _lose(self, count: int, why: str, error: str | None = None) -> None:
        """Says so once, until events are written again."""
        self._lost += count
        if count and why not in self._told:
            self._told.add(why)
            advice = f"let this user write {memory_events_key()!r}, or set ORKA_AUDIT=off" if why == _REFUSED else None
            facts = {"error": error, "advice": advice}
            _log.warning("audit.lost", why=why, **{name: fact for name, fact in facts.items() if fact is not None})

    @property
    def _under_way(self) -> int:
        """Events that have left the buffer, and are neither written nor lost."""
        return self._accepted - self._written - self._lost - len(self._waiting)

    def statistics(self) -> EventStatistics:
        since = self._sending[0][0] if self._sending else self._waiting[0].at_ms if self._waiting else None
        return EventStatistics(
            accepted=self._accepted,
            written=self._written,
            retried=self._retried,
            lost=self._lost,
            waiting=self._accepted - self._written - self._lost,
            oldest_ms=0 if since is None else max(0, now_ms() - since),
            round_trips=self._pipe.round_trips,
        )


def _commands(batch: Sequence[Happening]) -> list[tuple[int, Command]]:
    """What sends them, for a thread: looking for secrets takes its time."""
    made: list[tuple[int, Command]] = []
    for one in batch:
        try:
            payload = one.payload | {name: excerpt(redact(value), _SHOWN) for name, value in one.shown.items()}
            command = add_event(memory_events_key(), one.agent_id, one.event_type, payload, one.facts, at_ms=one.at_ms)
        # Bulkhead: an event that cannot be told must not end the sending of others.
        except Exception:
            continue
        made.append((one.at_ms, command))
    return made
