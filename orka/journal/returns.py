"""`Returns`: what a process does about a server that came back and may have lost its last second.

Runs and branches that ended a moment ago are kept, because a crash of Redis could take their end back. Nothing is dropped
because time passes: only once a round trip shows that the server is still the one it was, or the room is needed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from orka.clock import monotonic
from orka.errors import LeaseLost, OrkaError
from orka.journal.log import SETTLED_AFTER, RunLog
from orka.journal.terms import Claim
from orka.logs import get_logger
from orka.redis.mark import HELD_BACK
from orka.redis.pipeline import ServerChanged

MOST_LOGS = 10_000
MOST_BYTES = 16 * 1024 * 1024
"""Of what they would have to write again."""
_MOST_TRIES = 3
"""Beats that a branch waits for the owner of its run to make that again, when a crash of Redis took it."""

_log = get_logger()


class Returns:
    """Owned by a `Journal`."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, int, RunLog]] = deque()
        """(when it ended, bytes, log), oldest first."""
        self._bytes = 0
        self._asking: set[RunLog] = set()
        """Logs that have ended, and are written by the journal again until the server that came back surely has their end."""
        self.on_kept: Callable[[], None] | None = None
        """Called when an end is kept: somebody should notice if the server goes away."""
        self.restored = 0
        """Ends that were written again."""
        self.overtaken = 0
        """Ends that were not: somebody else had gone on by then, or more was lost than is kept."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def kept(self) -> list[RunLog]:
        return [log for _, _, log in self._kept]

    def keep(self, log: RunLog) -> None:
        """`log` is over. The oldest go when there are too many."""
        size = log.retire()
        self._kept.append((monotonic(), size, log))
        self._bytes += size
        while len(self._kept) > MOST_LOGS or self._bytes > MOST_BYTES:
            self._drop()
        if self.on_kept is not None:
            self.on_kept()

    def settle(self, now: float) -> None:
        """The server was what it had been at `now`: what ended long enough before is on disk."""
        while self._kept and self._kept[0][0] < now - SETTLED_AFTER:
            self._drop()

    def _drop(self) -> None:
        _, size, _ = self._kept.popleft()
        self._bytes -= size

    def begin(self, changed: ServerChanged, logs: set[RunLog]) -> None:
        """Another server process answers. What it has of each of `logs` is asked for before anything else is sent; those
        that had ended join them."""
        ended = self.kept
        self._kept.clear()
        self._bytes = 0
        self._asking.update(ended)
        logs.update(ended)
        _log.warning(
            "journal.server_changed", uptime=changed.uptime, under_way=len(logs) - len(ended), ended=len(ended)
        )
        for log in logs:
            log.doubt(fresh=changed.uptime <= HELD_BACK)

    def has_settled(self, log: RunLog) -> bool:
        """The server has the whole of `log` again, which had ended: it is kept as before, for the next crash."""
        if log not in self._asking or not log.over or not log.created or log.renewing:
            return False
        self._asking.discard(log)
        self.keep(log)
        return True

    def rewound(self, log: RunLog) -> None:
        """The end of `log` is sent again, if it had one."""
        self.restored += log in self._asking

    def has_failed(self, log: RunLog, error: OrkaError) -> bool:
        """`log` had ended, and what the server lost of it stays lost; nobody waits for it."""
        if log not in self._asking:
            return False
        self._asking.discard(log)
        self.overtaken += 1
        path = "" if log.claim is None else log.claim.path
        _log.warning("journal.overtaken", run_id=log.run_id, path=path, error=str(error))
        return True

    def settle_branch(self, log: RunLog, claim: Claim, reply: list[Any]) -> OrkaError | None:
        """What the server has of a branch is known. Gives why nothing more can be written of it."""
        known = log.stored
        match reply:
            case [b"ok", lost, ids] if log.over:
                log.created = True
                if lost:
                    log.rename(ids)
                    self.restored += 1
                    _log.warning("branch.restored", run_id=log.run_id, path=claim.path, entries=lost)
            case [b"ok", found] if log.revive(found):
                if found < known:
                    _log.warning("branch.rewound", run_id=log.run_id, path=claim.path, known=known, found=found)
            case [b"missing"] if log.tries < _MOST_TRIES:
                log.tries += 1  # at the next beat
            case _:
                return LeaseLost(
                    f"Redis came back, and {claim.path!r} of run {log.run_id} is not this process's any more ({reply!r});"
                    " whoever has it now goes on with it",
                    run_id=log.run_id,
                )
        return None
