"""`RunLog`: the writing end of one run's journal, as its owner sees it. No I/O here; `orka.journal.writer` sends.

Entries get their sequence number when they are appended. They leave in order, and stay in `retained` until they are
surely on disk: a server that comes back without its last second asks for them again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from orka.clock import monotonic, now_ms
from orka.errors import OrkaError
from orka.journal.commands import open_run, return_claim, write_entries
from orka.journal.terms import Claim, Creation, Ending, Handover, Reopening
from orka.redis.keys import RunKeys
from orka.redis.lua import Command
from orka.redis.scripts import Entry
from orka.types import Digest, RunId

SETTLED_AFTER = 3.0
"""Seconds after which an entry seen on the server has been fsynced under `everysec` (which may lag two seconds)."""


FAREWELL = 3.0
"""Seconds that a cancelled run has to write that it was cancelled."""
_MOST_ANSWERED = 100
"""Entries of a branch that are kept for its answer."""
_RECREATABLE_MS = 60_000
"""A run that is gone this long after its creation was not lost in a crash of Redis: its retention ended, or it was deleted."""


Listener = Callable[[str, Entry], None]
"""Called with (entry id, entry) once the entry is stored."""


class RunLog:
    """One owned run, or one claimed branch of a run. Made by `Leases`; used by the run's own tasks only."""

    def __init__(
        self,
        *,
        run_id: RunId,
        keys: RunKeys,
        digest: Digest,
        lease: str,
        seq: int,
        wake: Callable[[RunLog], None],
        creation: Creation | None = None,
        claim: Claim | None = None,
        listener: Listener | None = None,
        process: str = "",
    ) -> None:
        self.run_id = run_id
        self.keys = keys
        self.digest = digest
        self.lease = lease
        self.process = process
        """That writes, by its name in consumer groups."""
        self.claim = claim
        """Given for a branch: it writes under this, and `lease` is not used."""
        self.opening: Creation | Reopening | None = creation
        """How the run came into these hands; present while that may have to be sent (again)."""
        self.created = creation is None
        """The opening is on the server."""
        self.graph_known = False
        """The graph need not be sent along with the creation."""
        self.listener = listener
        self.ending: Ending | Handover | None = None
        self.written: list[Entry] | None = [] if claim is not None else None
        """Of a branch: every entry appended, for its answer; None once the answer would not be complete."""
        self.requests: deque[tuple[int, Command]] = deque()
        """Commands that follow an entry: (its sequence number, command), in order, until their reply is there."""
        self.failure: OrkaError | None = None
        self.on_failure: Callable[[], None] | None = None
        """Called once when the log can write no more: cancels the run's scope."""
        self.on_cancel: Callable[[], None] | None = None
        """Called when somebody else wants the run cancelled."""
        self.renewing = False
        self.pending: deque[Entry] = deque()
        self.retained: deque[tuple[int, float, Entry, bytes | None]] = deque()
        """(sequence number, when it was stored, entry, its id if that is known), oldest first."""
        self.stored = seq
        """Last sequence number known to be on the server; pending entries follow it."""
        self.waiting_since: float | None = None
        self.cut_off = False
        """Of a branch: its fork was closed without it."""
        self.doubted = False
        """The server has come back at some time."""
        self.fresh = False
        """The server has come back a moment ago."""
        self.tries = 0
        """Times that it did not know the run of this branch, which its owner makes again."""
        self._shown = 0
        """Highest sequence number that the listener was told of: what is stored again is not told again."""
        self._wake = wake
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def awaited(self) -> bool:
        """Somebody waits at a barrier."""
        return bool(self._waiters)

    @property
    def seq(self) -> int:
        """Sequence number of the last entry appended."""
        return self.stored + len(self.pending)

    @property
    def over(self) -> bool:
        """Its last entry is stored, or nobody wants more of it."""
        return self.cut_off or (self.ending is not None and not self.pending and self.failure is None)

    def reopen(self, how: Reopening) -> None:
        """What is sent next makes the run, taken over before, go on."""
        self.opening, self.created, self.stored = how, False, how.seq

    def append(self, entry: Entry) -> None:
        """Queues an entry. Raises what stopped the log (`LeaseLost`, `JournalUnavailable`) once something did."""
        if self.failure is not None:
            raise self.failure
        self.pending.append(entry)
        if self.written is not None:
            self.written.append(entry)
            if len(self.written) > _MOST_ANSWERED:
                self.written = None
        if self.waiting_since is None:
            self.waiting_since = monotonic()
        self._wake(self)

    def request(self, command: Command, *, urgent: bool = True) -> None:
        """Sends a command after the entries appended so far, under the same conditions: it is repeated after a lost
        connection, so that doing it twice must be harmless. Not `urgent`: with whatever is sent next, a sign of life at
        the latest. Raises like `append`."""
        if self.failure is not None:
            raise self.failure
        self.requests.append((self.seq, command))
        if urgent:
            self._wake(self)

    async def barrier(self) -> None:
        """Returns when every entry appended so far is stored."""
        if self.failure is not None:
            raise self.failure
        if self.created and not self.pending:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((self.seq, future))
        self._wake(self)
        await future

    async def end(self, entry: Entry, ending: Ending | Handover) -> None:
        """Appends the last entry, ends the run in the registry (or hands the branch over) and waits until that is
        stored."""
        self.ending = ending
        if isinstance(ending, Ending):
            self.requests.clear()  # the end of the run takes whatever tasks there are with it
        self.append(entry)
        await self.barrier()

    def opening_command(self, lease_ms: int, retention_ms: int) -> Command | None:
        """What has to be sent before anything else."""
        if self.created:
            return None
        if self.claim is not None:
            return return_claim(self, self.claim)
        return None if self.opening is None else open_run(self, self.opening, lease_ms, retention_ms)

    def commands(self, lease_ms: int, most: int) -> list[tuple[Command, int | None]]:
        """What to send next, in order: (command, number of its entries; None for a request). At most `most` pending
        entries, each request behind those that it follows, the ending with the last entry."""
        found: list[tuple[Command, int | None]] = []
        skip = 0
        limit = min(most, len(self.pending))
        for after, command in self.requests:
            count = after - self.stored - skip
            if skip + count > limit:
                break
            if count > 0:
                found.append((write_entries(self, skip, count, lease_ms), count))
                skip += count
            found.append((command, None))
        if limit > skip:
            found.append((write_entries(self, skip, limit - skip, lease_ms), limit - skip))
        return found

    def acknowledge(self, count: int, ids: list[bytes | None]) -> None:
        """`count` pending entries are stored under `ids` (None: they were there already)."""
        now = monotonic()
        for index in range(count):
            entry = self.pending.popleft()
            entry_id = ids[index] if index < len(ids) else None
            self.stored += 1
            self.retained.append((self.stored, now, entry, entry_id))
            self._show(self.stored, entry_id, entry)
        if not self.pending:
            self.waiting_since = None
        self.release()

    def acknowledge_opening(self, ids: list[bytes | None]) -> None:
        """The run is created or reopened."""
        self.created = True
        match self.opening:
            case Creation(entry=entry):
                self._show(1, ids[0], entry)
            case Reopening(seq=seq, data=data):
                self._show(seq, ids[0], Entry("run.resumed", "", data))
            case None:
                pass
        self.release()

    def _show(self, seq: int, entry_id: bytes | None, entry: Entry) -> None:
        if self.listener is not None and entry_id is not None and seq > self._shown:
            self._shown = seq
            self.listener(entry_id.decode(), entry)

    def release(self) -> None:
        """Wakes the barriers whose entries are stored."""
        if not self._waiters or not self.created:
            return
        stored = self.stored
        left: list[tuple[int, asyncio.Future[None]]] = []
        for waiter in self._waiters:
            if waiter[0] > stored:
                left.append(waiter)
            elif not waiter[1].done():
                waiter[1].set_result(None)
        self._waiters = left

    def settle(self, seen: int) -> None:
        """The server showed sequence number `seen`: what is old enough is on disk and need not be kept."""
        before = monotonic() - SETTLED_AFTER
        while self.retained and self.retained[0][0] <= seen and self.retained[0][1] < before:
            self.retained.popleft()
            self.opening = None

    def rewind(self, last: int) -> bool:
        """The server's journal ends at `last`, before what it acknowledged. Queues the lost tail again, and what opened
        the run, if it lost that too.

        False when the tail is not kept any more.
        """
        if isinstance(self.opening, Reopening) and last == self.opening.seq - 1:
            last = self.opening.seq
            self.created = False
        if last < self.stored and (not self.retained or self.retained[0][0] > last + 1):
            return False
        while self.retained and self.stored > last:
            seq, _, entry, _ = self.retained.pop()
            self.pending.appendleft(entry)
            self.stored = seq - 1
        return self.stored == last

    def doubt(self, *, fresh: bool) -> None:
        """The server may have gone back in time: what is sent next finds out. `fresh`: it did so a moment ago."""
        self.doubted, self.fresh, self.tries = True, fresh, 0
        if self.cut_off:  # only now: until then a reply may have been on its way
            self.failure = None
            self.pending.clear()
            self.retained.clear()
        if self.claim is None:
            self.renewing = True
        else:
            self.created = False

    def revive(self, last: int) -> bool:
        """The server has this branch up to `last`, which may be less than it acknowledged, or more: a reply was lost.
        False as with `rewind`."""
        self.created = True
        if last > self.stored:
            self.acknowledge(min(last - self.stored, len(self.pending)), [])
        if not self.rewind(last):
            return False
        self.release()
        return True

    def rename(self, ids: list[bytes | None]) -> None:
        """Entries that are retained were stored again, under new `ids` (None: they were there still)."""
        for index, (row, entry_id) in enumerate(zip(list(self.retained), ids, strict=True)):
            if entry_id is not None:
                self.retained[index] = (*row[:3], entry_id)

    def retire(self) -> int:
        """Over, and let go of by its run: what may have to be written again is kept, and nothing else. Gives its bytes."""
        self.listener = self.on_failure = self.on_cancel = self.written = None
        self.requests.clear()
        size = sum(len(entry.data) + sum(len(value) for _, value in entry.values) for _, _, entry, _ in self.retained)
        return size + (len(self.claim.task) if self.claim is not None else 0)

    def recreate(self) -> bool:
        """The run itself is gone: right after its creation a crash of Redis can do that, and it is queued again.

        False when that cannot be the reason.
        """
        made = self.opening
        if not isinstance(made, Creation) or now_ms() - made.at_ms > _RECREATABLE_MS or not self.rewind(1):
            return False
        self.created = self.graph_known = False
        return True

    def cancel(self) -> None:
        """Somebody else wants the run cancelled."""
        if self.on_cancel is not None:
            self.on_cancel()

    def fail(self, error: OrkaError) -> None:
        """Nothing more is written: barriers raise, the run is told."""
        if self.failure is not None:
            return
        self.failure = error
        self.pending.clear()
        self.requests.clear()
        waiters, self._waiters = self._waiters, []
        for _, future in waiters:
            if not future.done():
                future.set_exception(error)
        if self.on_failure is not None:
            self.on_failure()
