"""Who owns a run: creating one, taking one over, letting it go on, giving it back. Each is one script."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import anyio

from orka.clock import now_ms
from orka.errors import OrkaError, RunAlive, StoreError
from orka.ids import new_nonce
from orka.journal.entries import Kind, RunEnded, make_entry
from orka.journal.holder import current_holder, describe, is_dead
from orka.journal.log import FAREWELL, Listener, RunLog
from orka.journal.registry import Registry, RunInfo, not_found
from orka.journal.terms import Claim, Creation, Ending, Reopening
from orka.journal.writer import Journal, run_exists
from orka.redis.keys import RunKeys
from orka.redis.lease_scripts import release, take
from orka.redis.scripts import Entry, create
from orka.results import Failure
from orka.types import Digest, RunId, RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A run whose lease this process now holds, not yet reopened."""

    log: RunLog
    info: RunInfo
    fresh: bool
    """It was submitted, and nobody has executed it before."""


class Leases:
    """Makes this process the owner of runs, and of branches of runs. `journal` writes for those that it owns; `process`
    names its inbox."""

    def __init__(self, registry: Registry, journal: Journal, process: str) -> None:
        self._registry = registry
        self._journal = journal
        self.process = process

    async def create(
        self,
        run_id: RunId,
        digest: Digest,
        *,
        graph: bytes,
        entry: Entry,
        fields: Mapping[str, str],
        deadline: float | None,
        listener: Listener | None = None,
    ) -> RunLog:
        """Run, lease and `run.started` as one script; returns when they are stored. `deadline` in seconds from now.

        Cancelling ends the run as cancelled: the server may have it already.
        """
        log = RunLog(
            run_id=run_id,
            keys=self._registry.keys(run_id),
            digest=digest,
            lease=f"1-{new_nonce()}",
            seq=1,
            wake=self._journal.wake,
            listener=listener,
            creation=Creation(
                at_ms=now_ms(),
                graph=graph,
                deadline_ms=0 if deadline is None else max(1, int(deadline * 1000)),
                entry=entry,
                fields=(
                    *("digest", digest, "holder", current_holder(), "process", self.process),
                    *(part for pair in fields.items() for part in pair),
                ),
            ),
        )
        self._journal.add(log)
        try:
            await log.barrier()
        except BaseException:
            if log.failure is None:
                with anyio.move_on_after(FAREWELL, shield=True), suppress(OrkaError):
                    ending = Ending(status="cancelled", retention_ms=self._journal.retention_ms)
                    await log.end(make_entry(Kind.RUN_CANCELLED, "", RunEnded()), ending)
            self._journal.remove(log)
            raise
        return log

    async def take(self, run_id: RunId, *, force: bool = False, listener: Listener | None = None) -> Taken | None:
        """Becomes the run's owner in the next epoch; None when the run is completed and needs none.

        `RunAlive` when somebody executes it (unless `force`, or that process is known to be dead); `RunNotFound`.
        """
        keys = self._registry.keys(run_id)
        [raw] = await self._registry.hash(keys.run, "holder")
        dead = raw.decode() if raw and is_dead(raw.decode()) else ""
        nonce = new_nonce()
        try:
            reply = await self._registry.one(
                keys.run,
                take(
                    keys,
                    nonce=nonce,
                    holder=current_holder(),
                    lease_ms=self._journal.lease_ms,
                    dead=dead,
                    force=force,
                    process=self.process,
                ),
            )
            # Only now: until the lease is here the run may go on elsewhere, under another graph.
            info = await self._registry.info(run_id)
        except BaseException:  # it may be ours all the same
            with anyio.move_on_after(FAREWELL, shield=True), suppress(StoreError):
                await self._give_back(keys, nonce)
            raise
        match reply[0]:
            case b"ok":
                log = RunLog(
                    run_id=run_id,
                    keys=keys,
                    digest=info.digest,
                    lease=reply[1].decode(),
                    seq=reply[2],
                    wake=self._journal.wake,
                    listener=listener,
                    process=self.process,
                )
                return Taken(log=log, info=info, fresh=reply[4] == b"queued")
            case b"completed":
                return None
            case b"alive":
                holder = describe(reply[1].decode())
                raise RunAlive(
                    f"run {run_id} is being executed by {holder} (its lease lasts {reply[2] / 1000:.1f} s more);"
                    " wait for it, or use --take-over if you know that process to be lost",
                    run_id=run_id,
                    holder=holder,
                    left_ms=reply[2],
                )
            case _:
                raise not_found(run_id)

    def reopen(
        self, taken: Taken, digest: Digest, graph: bytes, data: bytes, *, deadline_ms: int | None = None
    ) -> None:
        """The taken run goes on, in its next generation, under `graph`; `data` is its `run.resumed` entry. That is sent
        with the first entry that follows, so that a graph which turns out not to fit leaves nothing behind.
        `deadline_ms`: counted from then, in place of the run's own (0: none)."""
        log = taken.log
        log.digest = digest
        log.reopen(
            Reopening(
                seq=log.stored + 1,
                graph=graph,
                before=taken.info.digest,
                data=data,
                holder=current_holder(),
                process=self.process,
                deadline_ms=deadline_ms,
            )
        )
        self._journal.add(log)

    def begin(self, taken: Taken) -> None:
        """The taken run, which nobody has executed before, is executed here: its `run.started` stands already."""
        self._journal.add(taken.log)

    async def end_idle(self, run_id: RunId, status: RunStatus, error: Failure) -> RunInfo | None:
        """Ends a run that nobody executes, as failed or cancelled, and gives what it was; one that has ended already stays
        as it is (None), unless it waits on a queue to be resumed. `RunAlive` when somebody executes it; `RunNotFound`."""
        taken = await self.take(run_id)
        if taken is None:
            return None
        if taken.info.status.ended and not taken.info.on_queue:
            with anyio.move_on_after(FAREWELL, shield=True):  # whoever resumes it would have to wait for the lease
                await self.release(taken.log)
            return None
        self.begin(taken)
        try:
            kind = Kind.RUN_FAILED if status is RunStatus.FAILED else Kind.RUN_CANCELLED
            ending = Ending(status=str(status), retention_ms=self._journal.retention_ms)
            await taken.log.end(make_entry(kind, "", RunEnded(error=error)), ending)
            return taken.info
        finally:
            self._journal.remove(taken.log)

    async def submit(
        self,
        run_id: RunId,
        digest: Digest,
        *,
        graph: bytes,
        entry: Entry,
        fields: Mapping[str, str],
        deadline: float | None,
        stream: str,
        task: bytes,
        order: Digest,
    ) -> None:
        """Run, `run.started` and the task that has a worker execute it, as one script. Sent again after a lost
        connection: of the same id, graph and input there is one run. `RunExists` when the id is another run's."""
        keys = self._registry.keys(run_id)
        pairs = (*("digest", digest, "holder", ""), *(part for pair in fields.items() for part in pair))
        reply = await self._registry.one(
            keys.run,
            create(
                keys,
                digest,
                lease=f"0-{order}",
                lease_ms=0,
                run_id=run_id,
                graph=graph,
                retention_ms=self._journal.retention_ms,
                deadline_ms=0 if deadline is None else max(1, int(deadline * 1000)),
                entry=entry,
                fields=pairs,
                stream=stream,
                task=task,
            ),
        )
        if reply[0] != b"ok":
            raise run_exists(run_id)

    def claim(self, run_id: RunId, digest: Digest, claim: Claim) -> RunLog:
        """The writing end of a branch whose task this process was given. Its first entry makes the claim."""
        log = RunLog(
            run_id=run_id,
            keys=self._registry.keys(run_id),
            digest=digest,
            lease="",
            seq=0,
            wake=self._journal.wake,
            claim=claim,
        )
        self._journal.add(log)
        return log

    async def release(self, log: RunLog) -> None:
        """Gives back the lease of a run that is not executed any further, and has not been ended."""
        await self._give_back(log.keys, log.lease.partition("-")[2])

    async def _give_back(self, keys: RunKeys, nonce: str) -> None:
        await self._registry.one(keys.run, release(keys, nonce=nonce, retention_ms=self._journal.retention_ms))
