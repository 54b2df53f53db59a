"""`Sender`: sends the branches of forks to the shared queues and gives their answers.

Branches leave through the journal's pipe, behind the entries that they follow from. What gets no answer for a lease is sent
again: a task that is there is left alone, one that is done is answered again, one that the server lost comes back.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import anyio

from orka.clock import monotonic, now_ms
from orka.dispatch.inbox import Inbox, Message
from orka.dispatch.roster import Roster, remedy_for, serving
from orka.errors import StoreError
from orka.journal.log import RunLog
from orka.logs import get_logger
from orka.redis.keys import task_stream
from orka.redis.task_scripts import close_tasks, send_tasks
from orka.types import Path

_REMINDED = 30.0
"""Seconds after which it is said again that nobody serves a queue."""

_log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A branch has ended."""

    path: Path
    entries: bytes
    """As `task.decode_reply` reads them; empty: they are in the journal, from `first` to `last`."""
    first: str
    last: str


class SenderStatistics(NamedTuple):
    """Counters since the sender was made, and what is under way."""

    sent: int
    answered: int
    resent: int
    under_way: int


class Parcel(NamedTuple):
    """A task to send."""

    path: Path
    task: bytes
    first: str = ""
    last: str = ""
    """First and last entry that the branch has in the journal already."""


class _Sent(NamedTuple):
    """A branch under way."""

    queue: str
    task: Parcel
    at: float
    """When it was sent last."""


class Sender:
    """Owned by the services of one process."""

    def __init__(self, inbox: Inbox, roster: Roster, *, lease: float) -> None:
        self.inbox = inbox
        self.lease = lease
        self._roster = roster
        self._looked = -math.inf
        self._reminded: dict[str, float] = {}
        """When it was last said of a queue that nobody serves it."""
        self.sent = self.answered = self.resent = self.under_way = 0

    def statistics(self) -> SenderStatistics:
        return SenderStatistics(sent=self.sent, answered=self.answered, resent=self.resent, under_way=self.under_way)

    async def remind(self, run_id: str, waiting: Mapping[str, int]) -> None:
        """Says which of the queues, on which so many branches wait, nobody serves."""
        now = monotonic()
        due = [queue for queue in waiting if now - self._reminded.get(queue, -math.inf) >= _REMINDED]
        if not due or now - self._looked < self.lease / 2:  # however many forks wait here
            return
        self._looked = now
        try:
            served = serving(await self._roster.workers(), now_ms())
        except StoreError:  # others say that Redis is away
            return
        for queue in due:
            if queue not in served:
                self._reminded[queue] = now
                _log.warning(
                    "branch.waiting",
                    run_id=run_id,
                    queue=queue,
                    branches=waiting[queue],
                    why="no worker serves this queue",
                    remedy=f"start {remedy_for(queue)}",
                )

    def close(self, log: RunLog, fork: str, paths: Sequence[str], *, urgent: bool = True) -> None:
        """A fork takes nothing more: tasks of these branches that are under way are told so. Not `urgent`: none is."""
        scope, credential = _credential(log)
        log.request(
            close_tasks(log.keys, scope=scope, credential=credential, run_id=log.run_id, fork=fork, paths=paths),
            urgent=urgent,
        )

    def open(self, log: RunLog, *, fork: str, level: int, seen: bytes) -> Sending:
        """For the branches of one fork, which all see `seen` (empty: it is in the tasks). The caller closes it."""
        return Sending(self, log, fork=fork, level=level, seen=seen)


class Sending:
    """The branches of one fork on their way. Used by one task."""

    def __init__(self, sender: Sender, log: RunLog, *, fork: str, level: int, seen: bytes) -> None:
        self._sender = sender
        self._log = log
        self._fork = fork
        self._level = level
        self._seen = seen
        self._under_way: dict[str, _Sent] = {}
        self._answers: deque[Answer] = deque()
        self._arrived = anyio.Event()
        self._closed = False
        self._settled: list[str] = []
        """Answered, and still on record at the server."""

    def __len__(self) -> int:
        """Branches under way."""
        return len(self._under_way)

    def send(self, queue: str, tasks: Sequence[Parcel], *, again: bool = False) -> None:
        """Queues tasks, in one round trip with the entries before them. `again`: they may have run before."""
        now = monotonic()
        for parcel in tasks:
            self._sender.inbox.expect("done", self._log.run_id, parcel.path, self._take)
            self._under_way[parcel.path] = _Sent(queue, parcel, now)
        self._sender.sent += len(tasks)
        self._sender.under_way += len(tasks)
        self._request(queue, tasks, again=again)

    def _request(self, queue: str, tasks: Sequence[Parcel], *, again: bool) -> None:
        scope, credential = _credential(self._log)
        self._log.request(
            send_tasks(
                self._log.keys,
                task_stream(self._log.keys.tag, queue, self._level),
                scope=scope,
                credential=credential,
                run_id=self._log.run_id,
                fork=self._fork,
                seen=self._seen,
                tasks=tasks,
                again=again or self._log.doubted,
                settled=self._settled,
            )
        )
        self._settled = []

    async def next(self) -> Answer:
        """The next answer, in the order in which they come. Raises what stopped the log."""
        while not self._answers:
            if self._log.failure is not None:
                raise self._log.failure
            self._arrived = anyio.Event()
            with anyio.move_on_after(self._sender.lease):
                await self._arrived.wait()
            if self._log.failure is None and (waiting := self._send_again()):
                await self._sender.remind(self._log.run_id, waiting)
        return self._answers.popleft()

    def ready(self) -> bool:
        """`next` returns at once."""
        return bool(self._answers)

    def _send_again(self) -> dict[str, int]:
        """What got no answer for a lease: it, or its answer, may have been lost with the server's last second. Gives
        their number by queue."""
        now = monotonic()
        old: dict[str, list[Parcel]] = {}
        for queue, parcel, sent in self._under_way.values():
            if now - sent >= self._sender.lease:
                old.setdefault(queue, []).append(parcel)
        for queue, parcels in old.items():
            self._sender.resent += len(parcels)
            self._under_way.update({parcel.path: _Sent(queue, parcel, now) for parcel in parcels})
            self._request(queue, parcels, again=True)
        return {queue: len(parcels) for queue, parcels in old.items()}

    def _take(self, message: Message) -> None:
        path = message["path"].decode()
        if self._under_way.pop(path, None) is None:
            return
        self._sender.inbox.forget("done", self._log.run_id, path, self._take)
        self._settled.append(path)
        self._sender.answered += 1
        self._sender.under_way -= 1
        self._answers.append(
            Answer(
                path=Path(path),
                entries=message["entries"],
                first=message["first"].decode(),
                last=message["last"].decode(),
            )
        )
        self._arrived.set()

    def close(self) -> None:
        """Takes nothing more: what is under way is told so. May be called again."""
        if self._closed:
            return
        self._closed = True
        for path in self._under_way:
            self._sender.inbox.forget("done", self._log.run_id, path, self._take)
        paths = [*self._under_way, *self._settled]
        urgent = bool(self._under_way)
        self._sender.under_way -= len(self._under_way)
        self._under_way.clear()
        if self._log.failure is None and self._log.ending is None and (paths or self._seen):
            self._sender.close(self._log, self._fork, paths, urgent=urgent)


def _credential(log: RunLog) -> tuple[str, str]:
    """Who sends: the run's owner, or the branch that the log is of."""
    return ("", log.lease) if log.claim is None else (log.claim.path, log.claim.token)
