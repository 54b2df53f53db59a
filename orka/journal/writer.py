"""`Journal`: group commit. All runs of a process share one pipeline; entries leave as soon as the previous round trip
is back, in order per run. The same round trips renew the leases.

A command whose reply was lost is sent again: sequence numbers and lease nonces make that harmless. While Redis cannot
be reached the writer goes on trying; a run whose oldest entry waits longer than `patience` is stopped.
This file uses asyncio's futures and events directly: anyio's cost several microseconds for each step here.
"""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
from redis.exceptions import ResponseError

from orka.clock import monotonic
from orka.errors import JournalUnavailable, LeaseLost, OrkaError, RunExists, StoreError
from orka.journal.commands import OPENING, REQUEST, commands_of
from orka.journal.log import RunLog
from orka.journal.returns import Returns
from orka.journal.statistics import JournalStatistics
from orka.journal.terms import Creation
from orka.logs import get_logger
from orka.redis.faults import passes, reply_text
from orka.redis.pipeline import Keyed, Pipe, ServerChanged, is_moving
from orka.types import Digest, RunId

_MOST_ENTRIES = 256
"""Entries of one run in one command: keeps a script call well under a millisecond."""
_RETRY_FIRST, _RETRY_MOST, _RETRY_MOVING = 0.02, 1.0, 0.1
"""Seconds between attempts while Redis cannot be reached; the last: while a slot of a cluster moves, for the others do not."""
_REPEATED = 10.0
"""Seconds between two log events about the same trouble."""
_TURNS = 2
"""Turns of the loop that a batch for which nobody waits is left to grow."""

_log = get_logger()


class Journal:
    """The writing end for every run of this process. `run` is its background task. `pipe` is watchful."""

    def __init__(self, pipe: Pipe, *, lease: float, retention: float, patience: float) -> None:
        self._pipe = pipe
        self.lease_ms = int(lease * 1000)
        self.retention_ms = int(retention * 1000)
        self._patience = patience
        self._logs: set[RunLog] = set()
        self._dirty: dict[RunLog, None] = {}
        self.running = asyncio.Event()
        """Set once `run` has begun."""
        self._wanted = asyncio.Event()
        self._graphs: set[tuple[str, Digest]] = set()
        self.returns = Returns()
        self._looking = False
        self._written = self._retried = self._lost = 0
        self._failing_since: float | None = None
        self._told_at: float | None = None
        """When the log was last told of the trouble under way."""
        self._sent_at: float | None = None
        """When the round trip under way began."""
        self._asked_at = 0.0
        """When the last one began."""
        self._stopped = False
        self._scope = anyio.CancelScope(shield=True)

    async def run(self) -> None:
        """Sends until `stop`. Cancelling does not reach it: a run that is cancelled still has to write so. (Which is why it
        is not begun with `TaskGroup.start`: cancelled, that waits for the task to end.)"""
        with self._scope:
            async with anyio.create_task_group() as group:
                group.start_soon(self._beat)
                self.running.set()
                await self._send()

    def stop(self) -> None:
        """Ends `run`; what was not written by then is not, and whoever waits for it is told."""
        self._stopped = True
        self._scope.cancel()
        for log in list(self._logs):
            self._refuse(log)

    def _refuse(self, log: RunLog) -> None:
        if log.failure is None:
            why = f"the Orchestrator was closed while run {log.run_id} was under way"
            self._fail(log, JournalUnavailable(f"{why}; resume it with `orka resume {log.run_id}`"))

    async def _send(self) -> None:
        pause = _RETRY_FIRST
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if not any(log.awaited for log in self._dirty):
                await give_way(_TURNS)
            try:
                await self._flush()
                pause = _RETRY_FIRST
                if self._told_at is not None and self._failing_since is not None:
                    _log.warning("journal.reached", after=round(monotonic() - self._failing_since, 1))
                self._failing_since = self._told_at = None
            except ServerChanged as exc:
                self.returns.begin(exc, self._logs)
                self._dirty = dict.fromkeys(self._logs)
                self._wanted.set()
            except StoreError as exc:
                self._give_up(exc)
                self._retried += 1
                if self._told_at is None or monotonic() - self._told_at >= _REPEATED:
                    self._told_at = monotonic()
                    _log.warning("journal.unreachable", error=str(exc))
                await anyio.sleep(pause)
                pause = min(_RETRY_MOVING if is_moving(exc.__cause__) else _RETRY_MOST, pause * 2)
                self._wanted.set()

    def add(self, log: RunLog) -> None:
        """From now on `log` is sent and its lease renewed, until `remove`."""
        log.graph_known = (log.keys.tag, log.digest) in self._graphs
        self._logs.add(log)
        if self._stopped:
            self._refuse(log)

    def remove(self, log: RunLog) -> None:
        """Nothing more will be appended. What it stored last is kept until Redis surely has it on disk."""
        self._logs.discard(log)
        self._dirty.pop(log, None)
        if log.over and (log.retained or log.cut_off):
            self.returns.keep(log)

    def look(self) -> None:
        """A connection was lost and is there again: finds out whether the server is still what it was."""
        if self._logs or len(self.returns):
            self._looking = True
            self._wanted.set()

    def wake(self, log: RunLog) -> None:
        """Something of `log` is to be sent."""
        self._dirty[log] = None
        self._wanted.set()

    def statistics(self) -> JournalStatistics:
        waiting = sum(len(log.pending) for log in self._logs)
        since = [log.waiting_since for log in self._logs if log.waiting_since is not None]
        return JournalStatistics(
            accepted=self._written + waiting,
            written=self._written,
            retried=self._retried,
            lost=self._lost,
            waiting=waiting,
            oldest_ms=int((monotonic() - min(since)) * 1000) if since else 0,
            round_trips=self._pipe.round_trips,
            kept=len(self.returns),
            restored=self.returns.restored,
            overtaken=self.returns.overtaken,
        )

    async def _flush(self) -> None:
        if self._looking:
            places = {log.keys.tag: log.keys.run for log in (*self._logs, *self.returns.kept)}
            await self._pipe.roundtrip([(key, ("PING",)) for key in places.values()])
            self._looking = False
        while self._dirty:
            logs = self._next_batch()
            sent: list[tuple[RunLog, int | None]] = []
            commands: list[Keyed] = []
            for log in logs:
                for command, count in commands_of(log, self.lease_ms, self.retention_ms, _MOST_ENTRIES):
                    commands.append((log.keys.run, command))
                    sent.append((log, count))
            if not commands:
                return
            self._sent_at = self._asked_at = monotonic()
            try:
                replies = await self._pipe.roundtrip(commands)
            except StoreError:
                self._dirty = dict.fromkeys(logs) | self._dirty
                for log, count in sent:
                    log.renewing = log.renewing or count is None
                raise
            finally:
                self._sent_at = None
            trouble: ResponseError | None = None
            unopened: set[RunLog] = set()
            for (log, count), reply in zip(sent, replies, strict=True):
                if count == OPENING and (isinstance(reply, ResponseError) or reply[0] != b"ok"):
                    unopened.add(log)
                elif log in unopened:  # it is sent again behind the next opening, if there is one
                    continue
                if isinstance(reply, ResponseError) and (is_moving(reply) or passes(reply)):
                    trouble = reply
                    self._dirty[log] = None
                elif log.failure is None:
                    self._settle(log, count, reply)
            self.returns.settle(self._asked_at)
            if trouble is not None:
                raise StoreError(f"Redis refuses writes for now: {reply_text(trouble)}") from trouble

    def _next_batch(self) -> list[RunLog]:
        """The logs to send now, the longest waiting first: enough for one round trip to be worth while, and not all of
        many, so that the runs that it lets go on compute while the server is busy with the next."""
        logs: list[RunLog] = []
        entries = 0
        for log in list(self._dirty):
            del self._dirty[log]
            if log.failure is None:
                logs.append(log)
                entries += len(log.pending)
                if entries >= _MOST_ENTRIES:
                    break
        return logs

    def _settle(self, log: RunLog, count: int | None, reply: Any) -> None:
        if isinstance(reply, ResponseError):
            self._fail(log, StoreError(f"Redis refused the journal of run {log.run_id}: {reply_text(reply)}"))
        elif count == OPENING and log.claim is not None:
            if (error := self.returns.settle_branch(log, log.claim, reply)) is not None:
                self._fail(log, error)
            elif log.created and (log.pending or log.requests):
                self._dirty[log] = None
        else:
            self._settle_run(log, count, reply)
        if self.returns.has_settled(log):
            self._logs.discard(log)

    def _settle_run(self, log: RunLog, count: int | None, reply: Any) -> None:
        match reply[0]:
            case b"ok" if count is None:
                log.settle(reply[1])
                if reply[1] < log.stored:
                    self._recover(log, reply[1])
                if reply[2]:
                    log.cancel()
            case b"ok" if count == REQUEST:
                if log.requests:  # else the run has ended meanwhile
                    log.requests.popleft()
            case b"ok" if count == OPENING:
                self._graphs.add((log.keys.tag, log.digest))
                self._written += 1
                log.acknowledge_opening(reply[2])
                if log.pending or log.requests:
                    self._dirty[log] = None
            case b"ok":
                assert count is not None
                self._written += count
                log.acknowledge(count, reply[2])
                if log.pending or log.requests:
                    self._dirty[log] = None
            case b"gap":
                self._recover(log, reply[1])
            case b"graph":
                self._graphs.discard((log.keys.tag, log.digest))
                log.graph_known = False
                self._dirty[log] = None
            case b"missing":
                self._recreate(log)
            case b"closed":
                log.cut_off = log.claim is not None
                why = f"run {log.run_id} needs this branch no more; nothing more is written"
                self._fail(log, LeaseLost(why, run_id=log.run_id))
            case b"stale" if count == OPENING and isinstance(log.opening, Creation):
                log.fail(run_exists(log.run_id))
            case b"stale":
                self._fail(
                    log,
                    LeaseLost(
                        f"run {log.run_id} was taken over by another process; nothing more is written here",
                        run_id=log.run_id,
                    ),
                )
            case other:
                self._fail(log, StoreError(f"unexpected answer of the journal script: {other!r}"))

    def _recover(self, log: RunLog, last: int) -> None:
        """The server lost its tail: what is kept is sent again under its old sequence numbers."""
        known = log.stored
        if log.rewind(last):
            if last < known:
                self.returns.rewound(log)
            _log.warning("journal.rewound", run_id=log.run_id, known=known, found=last)
            self._dirty[log] = None
        else:
            self._fail(
                log,
                StoreError(
                    f"Redis lost entries {last + 1} to {known} of run {log.run_id}, more than this process keeps;"
                    f" resume it with `orka resume {log.run_id}`"
                ),
            )

    def _recreate(self, log: RunLog) -> None:
        if log.recreate():
            self.returns.rewound(log)
            _log.warning("journal.recreated", run_id=log.run_id)
            self._dirty[log] = None
        else:
            self._fail(log, StoreError(f"run {log.run_id} is gone from Redis (expired, flushed, or lost in a crash)"))

    def _give_up(self, error: StoreError) -> None:
        now = monotonic()
        if self._failing_since is None:
            self._failing_since = self._asked_at
        for log in list(self._logs):
            since = log.waiting_since if log.created else self._failing_since
            if since is not None and now - max(since, self._failing_since) >= self._patience:
                self._fail(
                    log,
                    JournalUnavailable(
                        f"the journal of run {log.run_id} could not be written for {self._patience:g} s"
                        f" (ORKA_JOURNAL_PATIENCE): {error}. Resume it with `orka resume {log.run_id}`"
                    ),
                )

    def _fail(self, log: RunLog, error: OrkaError) -> None:
        self._dirty.pop(log, None)
        if self.returns.has_failed(log, error):
            self._logs.discard(log)
            log.fail(error)
            return
        self._lost += 1
        if log.claim is None:
            _log.error("journal.stopped", run_id=log.run_id, error=str(error))
        else:  # somebody else decides what becomes of the run
            _log.info("branch.stopped", run_id=log.run_id, path=log.claim.path, error=str(error))
        log.fail(error)

    async def _beat(self) -> None:
        """Renews every lease three times per lease (a run that is still replayed is reopened for it), and breaks a round
        trip that takes a third of all patience: it may be the connection alone that is dead."""
        while True:
            await anyio.sleep(self.lease_ms / 3000)
            if self._sent_at is not None and monotonic() - self._sent_at > max(1.0, self._patience / 3):
                self._pipe.abort()
            for log in self._logs:
                if log.failure is None:
                    log.renewing = True
                    self.wake(log)


async def give_way(turns: int) -> None:
    """So many turns of the loop for others: what follows from what has just come is then ready to be sent as well."""
    for _ in range(turns):
        await asyncio.sleep(0)


def run_exists(run_id: RunId) -> RunExists:
    return RunExists(
        f"a run {run_id!r} exists already: give another id, or finish that one with `orka resume {run_id}`",
        run_id=run_id,
    )
