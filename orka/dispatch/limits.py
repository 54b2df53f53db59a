"""`Limits`: waits for places and turns that many processes share, and gives them back.

All requests of a process leave through one task, many in one round trip and in the order in which they were made, so that a
place is never given back before it was asked for. It starts with the first request: who has no limits pays nothing. While
Redis cannot be reached everybody waits; a run gives up when its journal does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import anyio
import anyio.abc

from orka.clock import monotonic
from orka.dispatch.inbox import RECONNECT, Inbox, Message
from orka.errors import StoreError
from orka.logs import get_logger
from orka.redis.keys import limit_keys
from orka.redis.limit_scripts import ask, give_back, renew_places
from orka.redis.lua import Command
from orka.redis.pipeline import Pipe

_MOST_AT_ONCE = 500
"""Requests of one round trip."""
_FAREWELL = 1.0
"""Seconds to give everything back at the end; after that it lapses by itself."""

_log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Places or turns or both, under a name that all processes know."""

    name: str
    most: int = 0
    """Places; 0: no limit of them."""
    interval: int = 0
    """Microseconds from turn to turn; 0: no turns."""
    burst: int = 1
    """Turns at once after a pause."""


class LimitStatistics(NamedTuple):
    """Counters since the services were opened, and what is under way."""

    asked: int
    waited: int
    """Those of them that did not get it at once."""
    waiting: int
    held: int
    """Places."""
    lost: int
    """Places that were given to others, because this process gave no sign of life for a lease."""
    reconnects: int


class Place:
    """One ticket: asked for, then waited for, then used. Given back once; more often is harmless."""

    def __init__(self, limits: Limits, limit: Limit, ticket: str) -> None:
        self.limit = limit
        self.ticket = ticket
        self.answered = anyio.Event()
        """The server has said whether it is there already."""
        self.granted = anyio.Event()
        self.turn = 0.0
        """When it may be used, by the monotonic clock."""
        self.tat = ""
        self.over = self.unused = False
        self._limits = limits

    async def wait(self) -> None:
        """Returns when it may be used. Whoever is cancelled here has to give it back."""
        await self.granted.wait()
        await anyio.sleep(max(0.0, self.turn - monotonic()))

    def give_back(self, *, unused: bool = False) -> None:
        """`unused`: the turn is another's then."""
        if not self.over:
            self.over, self.unused = True, unused
            self._limits.let_go(self)


class _Request(NamedTuple):
    key: str
    command: Command
    then: Callable[[Any], None]


class Limits:
    """Owned by the services of one process. Used in one event loop."""

    def __init__(self, pipe: Pipe, inbox: Inbox, *, partitions: int, lease: float, tasks: anyio.abc.TaskGroup) -> None:
        self._pipe = pipe
        self._inbox = inbox
        self._partitions = partitions
        self._lease = lease
        self._tasks = tasks
        self._numbers = count(1)
        self._requests: deque[_Request] = deque()
        self._wanted = anyio.Event()
        self._ended: anyio.Event | None = None
        """Of the task that talks to Redis, once there is one."""
        self._closing = False
        self._waiting: dict[str, Place] = {}
        """Asked for, by ticket."""
        self._held: dict[str, Place] = {}
        """Places alone: a turn needs no renewal."""
        self._asked = self._waited = self._lost = self._reconnects = 0

    def statistics(self) -> LimitStatistics:
        return LimitStatistics(
            asked=self._asked,
            waited=self._waited,
            waiting=len(self._waiting),
            held=len(self._held),
            lost=self._lost,
            reconnects=self._reconnects,
        )

    @asynccontextmanager
    async def holding(self, limits: Sequence[Limit], run: str, path: str) -> AsyncGenerator[None]:
        """Waits for every limit, one after the other in the order given, and gives all back at the end. Cancelling while
        waiting gives back what was there already, turns included. `run` and `path` tell others who waits."""
        places: list[Place] = []
        try:
            for limit in limits:
                places.append(self.ask(limit, run, path))
                await places[-1].wait()
        except BaseException:
            for place in reversed(places):
                place.give_back(unused=True)
            raise
        try:
            yield
        finally:
            for place in reversed(places):
                place.give_back()

    def ask(self, limit: Limit, run: str, path: str) -> Place:
        """A place to wait for. Whoever asks has to give it back."""
        place = Place(self, limit, f"{self._inbox.process}/{next(self._numbers)}/{run}/{path}")
        self._asked += 1
        self._waiting[place.ticket] = place
        self._request_place(place)
        if self._ended is None:
            self._ended = anyio.Event()
            self._inbox.expect("limit", "", "", self._told)
            self._tasks.start_soon(self._converse, self._ended)
        return place

    def let_go(self, place: Place) -> None:
        """What `Place.give_back` does."""
        self._held.pop(place.ticket, None)
        if not place.answered.is_set():
            return  # the answer gives it back
        if self._waiting.pop(place.ticket, None) is not None or place.limit.most or (place.unused and place.tat):
            self._return(place)

    async def aclose(self) -> None:
        """Sends what is still to be sent, for a second at most. Nothing may be asked for any more."""
        self._closing = True
        self._wanted.set()
        if self._ended is not None:
            with anyio.move_on_after(_FAREWELL, shield=True):
                await self._ended.wait()

    def _keys(self, limit: Limit) -> tuple[str, ...]:
        return limit_keys(limit.name, self._partitions)

    def _request(self, key: str, command: Command, then: Callable[[Any], None]) -> None:
        self._requests.append(_Request(key, command, then))
        self._wanted.set()

    def _request_place(self, place: Place) -> None:
        limit, keys = place.limit, self._keys(place.limit)
        command = ask(
            keys,
            ticket=place.ticket,
            lease_ms=int(self._lease * 1000),
            most=limit.most,
            interval=limit.interval,
            tolerance=(limit.burst - 1) * limit.interval,
        )

        def answer(reply: Any) -> None:
            first = not place.answered.is_set()
            if reply[0] == b"go":
                self._grant(place, reply[1], reply[2].decode())
            self._waited += first and (reply[0] != b"go" or reply[1] > 0)
            place.answered.set()
            if place.over and first:
                self._waiting.pop(place.ticket, None)
                self._return(place)

        self._request(keys[0], command, answer)

    def _grant(self, place: Place, wait: int, tat: str) -> None:
        """The place is there; said by an answer, a message, or a renewal that found it so."""
        if place.granted.is_set():
            return
        self._waiting.pop(place.ticket, None)
        place.turn, place.tat = monotonic() + wait / 1e6, tat
        place.granted.set()
        if place.limit.most and not place.over:
            self._held[place.ticket] = place

    def _return(self, place: Place) -> None:
        keys, unused = self._keys(place.limit), place.tat if place.unused else ""
        command = give_back(keys, ticket=place.ticket, interval=place.limit.interval, unused=unused)
        self._request(keys[0], command, lambda _: None)

    def _told(self, message: Message) -> None:
        place = self._waiting.get(message["ticket"].decode())
        if place is not None:  # else it was given back while the message was on its way
            self._grant(place, int(message["wait"]), message["tat"].decode())

    def _renew(self) -> None:
        """Signs of life, one request for each limit, however many tickets."""
        names: dict[Limit, tuple[list[str], list[Place]]] = {}
        for ticket, place in self._held.items():
            names.setdefault(place.limit, ([], []))[0].append(ticket)
        for place in self._waiting.values():
            if place.answered.is_set():
                names.setdefault(place.limit, ([], []))[1].append(place)
        for limit, (holders, waiters) in names.items():
            keys = self._keys(limit)
            tickets = [place.ticket for place in waiters]
            command = renew_places(keys, lease_ms=int(self._lease * 1000), holders=holders, waiters=tickets)
            self._request(keys[0], command, self._renewed(limit, waiters))

    def _renewed(self, limit: Limit, waiters: Sequence[Place]) -> Callable[[Any], None]:
        def take(reply: Any) -> None:
            if reply[0]:
                self._lost += reply[0]
                _log.warning("limit.lost", limit=limit.name, places=reply[0])
            for place, wait in zip(waiters, reply[1], strict=True):
                if place.over or wait == -1:
                    continue
                if wait == -2:  # the server has lost its last second, or more
                    self._request_place(place)
                else:  # the message that said so is lost
                    self._grant(place, wait, "")

        return take

    async def _converse(self, ended: anyio.Event) -> None:
        renewal = monotonic() + self._lease / 3
        while not self._closing or self._requests:
            if not self._requests:
                self._wanted = anyio.Event()
                busy = self._held or self._waiting
                with anyio.move_on_after(max(0.0, renewal - monotonic()) if busy else None):
                    await self._wanted.wait()
            if monotonic() >= renewal:
                renewal = monotonic() + self._lease / 3
                self._renew()
            await self._send([self._requests.popleft() for _ in range(min(len(self._requests), _MOST_AT_ONCE))])
        ended.set()

    async def _send(self, requests: Sequence[_Request]) -> None:
        """Until each has its answer: all are harmless when repeated."""
        failures = 0
        while requests:
            why: Exception | None = None
            replies: list[Any]
            try:
                replies = await self._pipe.roundtrip([(request.key, request.command) for request in requests])
            except StoreError as exc:
                replies, why = [exc] * len(requests), exc
            again: list[_Request] = []
            for request, reply in zip(requests, replies, strict=True):
                if isinstance(reply, Exception):
                    why = reply
                    again.append(request)
                else:
                    request.then(reply)
            requests = again
            if why is not None:
                pause = RECONNECT[min(failures, len(RECONNECT) - 1)]
                failures += 1
                self._reconnects += 1
                _log.warning("limits.disconnected", error=str(why), retry_in=pause)
                await anyio.sleep(pause)
