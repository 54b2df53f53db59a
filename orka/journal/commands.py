"""The commands of a `RunLog`: what its state amounts to on the wire. Nothing is decided here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orka.journal.holder import current_holder
from orka.journal.terms import Claim, Creation, Ending, Handover, Reopening
from orka.redis.lease_scripts import renew, reopen
from orka.redis.lua import Command
from orka.redis.return_scripts import close_again, restore_branch, revive_claim
from orka.redis.scripts import append, create, finish
from orka.redis.task_scripts import commit, renew_claim

if TYPE_CHECKING:
    from orka.journal.log import RunLog


OPENING, REQUEST = -1, -2
"""What a command is, where it is not a number of entries."""


def commands_of(log: RunLog, lease_ms: int, retention_ms: int, most: int) -> list[tuple[Command, int | None]]:
    """What to send for `log` now, at most `most` entries: (command, number of its entries, `OPENING`, `REQUEST`, or None for
    a renewal)."""
    found: list[tuple[Command, int | None]] = []
    opening = log.opening_command(lease_ms, retention_ms)
    if opening is not None:
        log.renewing = False
        found.append((opening, OPENING))
        if log.claim is not None:  # what follows depends on the answer
            return found
    found += [(command, REQUEST if count is None else count) for command, count in log.commands(lease_ms, most)]
    if log.renewing and not (log.claim and log.ending):  # a branch that is over needs no sign of life
        log.renewing = False
        found.append((renewal(log, lease_ms), None))
    return found


def write_entries(log: RunLog, skip: int, count: int, lease_ms: int) -> Command:
    """`count` pending entries, `skip` before them."""
    entries = [log.pending[skip + i] for i in range(count)]
    first = log.stored + skip + 1
    ending = log.ending if skip + count == len(log.pending) else None
    if log.claim is not None:
        return commit(
            log.keys,
            claim=log.claim.token,
            path=log.claim.path,
            first=first,
            entries=entries,
            done=isinstance(ending, Handover),
            parent=log.claim.parent,
            run_id=log.run_id,
            reply=ending.reply if isinstance(ending, Handover) else b"",
        )
    if isinstance(ending, Ending):
        return finish(
            log.keys,
            log.digest,
            lease=log.lease,
            lease_ms=lease_ms,
            first=first,
            entries=entries,
            run_id=log.run_id,
            status=ending.status,
            retention_ms=ending.retention_ms,
        )
    return append(log.keys, lease=log.lease, lease_ms=lease_ms, first=first, entries=entries)


def renewal(log: RunLog, lease_ms: int) -> Command:
    """A sign of life."""
    if log.claim is not None:
        return renew_claim(log.keys, claim=log.claim.token, path=log.claim.path)
    holder = current_holder()
    return renew(log.keys, lease=log.lease, lease_ms=lease_ms, process=log.process, holder=holder)


def open_run(log: RunLog, opening: Creation | Reopening, lease_ms: int, retention_ms: int) -> Command:
    """Makes the run, or has it go on after a take-over."""
    match opening:
        case Creation():
            return create(
                log.keys,
                log.digest,
                lease=log.lease,
                lease_ms=lease_ms,
                run_id=log.run_id,
                graph=b"" if log.graph_known else opening.graph,
                retention_ms=retention_ms,
                deadline_ms=opening.deadline_ms,
                entry=opening.entry,
                fields=opening.fields,
            )
        case Reopening():
            return reopen(
                log.keys,
                log.digest,
                lease=log.lease,
                lease_ms=lease_ms,
                seq=opening.seq,
                data=opening.data,
                run_id=log.run_id,
                graph=opening.graph,
                before=opening.before,
                retention_ms=retention_ms,
                holder=opening.holder,
                process=opening.process,
                deadline_ms=opening.deadline_ms,
            )


def return_claim(log: RunLog, claim: Claim) -> Command:
    """Finds out what a server that came back has of a branch; what it lost of one that is over is put back at once."""
    if log.cut_off:
        return close_again(log.keys, claim=claim.token, path=claim.path)
    ids = ["" if entry_id is None else entry_id.decode() for _, _, _, entry_id in log.retained]
    first = log.retained[0][0] if log.retained else log.stored + 1
    if not log.over:
        return revive_claim(
            log.keys,
            claim.stream,
            claim=claim.token,
            path=claim.path,
            run_id=log.run_id,
            task=claim.task,
            first=first,
            ids=ids,
        )
    return restore_branch(
        log.keys,
        claim.stream,
        claim=claim.token,
        path=claim.path,
        run_id=log.run_id,
        task=claim.task,
        parent=claim.parent,
        fresh=log.fresh,
        first=first,
        entries=[(entry_id, row[2]) for entry_id, row in zip(ids, log.retained, strict=True)],
    )
