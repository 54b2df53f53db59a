"""`Replay`: what a journal answers when the interpreter runs over it again. Pure, built from decoded entries.

What is believed: successes and skips; failures that the sequence went on after (`consumed`), and failures below a parent
whose own commit took them in (a join, a map, a scored round, a failover). A visit whose own failure ended the run is
tried again, and with it every failure below it; its finished successes are reused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from orka.errors import JournalMismatch
from orka.journal.entries import (
    NO_VALUE,
    WORKER_DIED,
    BranchFinished,
    NodeFinished,
    NodeRetrying,
    NodeStarted,
    Opened,
    RoundScored,
    Row,
    RunEnded,
    RunResumed,
    RunStarted,
    Value,
)
from orka.journal.paths import frame_of, frames, parents
from orka.results import Failure, Usage
from orka.types import Path, Status


@dataclass(slots=True)
class Visit:
    """Everything the journal says about one path."""

    finished: NodeFinished | None = None
    opened: Opened | None = None
    scored: RoundScored | None = None
    past: Value | None = None
    """Of a loop: the rounds of earlier runs that it has read. None: it has read none."""
    at_ms: int = 0
    """The visit's time; 0 when it has not begun."""
    attempts: int = 0
    """Attempts that failed and were followed, or were to be followed, by another one."""
    node: str = ""
    """Digest of the node, as far as entries name it."""
    fatal: bool = False
    """Its failure ended the run, in the generation in which it was last executed."""
    asked: bool = False


@dataclass(slots=True)
class Replay:
    """Ask with `answer`; `None` means that the visit has to be executed."""

    run_id: str
    visits: dict[Path, Visit] = field(default_factory=dict[Path, Visit])
    joins: dict[Path, NodeFinished] = field(default_factory=dict[Path, NodeFinished])
    """Committed joins by the path of their fork."""
    closed: set[Path] = field(default_factory=set[Path])
    """Forks of which this execution has cut branches off: it need not ask for everything below them."""
    spans: dict[Path, tuple[str, str]] = field(default_factory=dict[Path, tuple[str, str]])
    """First and last entry of every branch and visit."""
    elsewhere: set[Path] = field(default_factory=set[Path])
    """Branches that this execution has sent to other processes: they ask for what is below."""
    branches: dict[Path, BranchFinished] = field(default_factory=dict[Path, BranchFinished])
    """Branches that other processes have executed to their end."""
    complete: bool = False
    """The run has completed and is only read again: a visit that the journal does not know is a `JournalMismatch`."""
    started: RunStarted | None = None
    ended: RunEnded | None = None
    entries: int = 0
    usages: dict[Path, Usage] = field(default_factory=dict[Path, Usage])
    """What each visit has used up, believed or not."""
    began_ms: int = 0
    """When the run began, or was resumed under another graph."""
    digest: str = ""
    _frames: dict[Path, list[Path]] = field(default_factory=dict[Path, list[Path]])
    """Visits of each frame in the order in which they began."""
    _reopened: frozenset[Path] = frozenset()
    """Visits that are tried again, and the forks whose join is."""
    _retried: frozenset[Path] = frozenset()
    """These without the forks."""

    def answer(self, path: Path, node: str) -> Visit | None:
        """What is known of `path`. `JournalMismatch` if it was written for another node."""
        visit = self.visits.get(path)
        if self.complete and (visit is None or not (visit.finished or visit.opened or visit.scored)):
            if any(self.given_up(frame) for frame in frames(path)):
                return None  # there its branch ends
            raise self.incomplete(path)
        if visit is None:
            return None
        if visit.node and visit.node != node:
            if visit.finished is not None or visit.opened is not None or visit.scored is not None:
                raise JournalMismatch(
                    f"run {self.run_id}: the journal has {path!r} for a node that is defined differently in this graph",
                    run_id=self.run_id,
                    path=path,
                )
            visit.node, visit.at_ms, visit.attempts, visit.past = (
                node,
                0,
                0,
                None,
            )  # nothing that came of it is believed
        visit.asked = True
        return visit

    def incomplete(self, path: Path) -> JournalMismatch:
        """Of a completed run: something that its journal should have is not there."""
        return JournalMismatch(
            f"run {self.run_id} is completed, but its journal does not tell what became of {path!r}",
            run_id=self.run_id,
            path=path,
        )

    def given_up(self, branch: Path) -> Failure | None:
        """Why: its task took its workers down too often. Its entries just end, and nobody has asked to try it again."""
        finished = self.branches.get(branch)
        error = None if finished is None else finished.error
        return error if error is not None and error.kind == WORKER_DIED else None

    def passed(self, path: Path) -> bool:
        """A frame that has visited `path` may have gone on behind it."""
        visit = self.visits.get(path)
        return path in self._retried or (visit is not None and (visit.finished or visit.opened) is not None)

    def at_frontier(self, frame: Path) -> bool:
        """The frame goes on where the journal ends: `JournalMismatch` if something in it is left over. True when there
        still are visits that it may ask for, behind one that is tried again."""
        left = behind = False
        for path in self._frames.get(frame, ()):
            visit = self.visits[path]
            behind = behind or path in self._retried
            if not visit.asked:
                if not behind and not self._optional(path):
                    raise JournalMismatch(
                        f"run {self.run_id}: the journal has {path!r}, which this graph does not lead to",
                        run_id=self.run_id,
                        path=path,
                    )
                left = True
        return left

    def cover(self, path: Path, entry_id: str) -> None:
        """Every branch that an entry lies in reaches at least to it."""
        if not entry_id:
            return
        for frame in (*frames(path), path):
            first, _ = self.spans.get(frame, (entry_id, ""))
            self.spans[frame] = (first, entry_id)

    @property
    def retried(self) -> frozenset[Path]:
        """Visits whose failure is not believed."""
        return self._retried

    def tried_again(self, frame: Path) -> tuple[Path, ...]:
        """Visits in and below a frame whose failure is not believed."""
        return tuple(path for path in self._retried if path.startswith(f"{frame}/"))

    def at_end(self) -> None:
        """The run is complete: every visit must have been asked for. Raises `JournalMismatch`."""
        for frame in self._frames:
            self.at_frontier(frame)

    def _optional(self, path: Path) -> bool:
        """Below a visit that is tried again or whose failure stands, or where a join or a round did not wait for it."""
        return self._is_elsewhere(path) or any(
            p in self._reopened or p in self.joins or p in self.closed or self._has_failed(p) for p in parents(path)
        )

    def _is_elsewhere(self, path: Path) -> bool:
        return bool(self.elsewhere) and any(frame in self.elsewhere for frame in frames(path))

    def _has_failed(self, path: Path) -> bool:
        visit = self.visits.get(path)
        if visit is None:
            return False
        if visit.scored is not None and visit.scored.timed_out:
            return True
        return visit.finished is not None and visit.finished.status is Status.ERROR


_DONE = (Status.SUCCESS, Status.SKIPPED)


def build_replay(run_id: str, entries: Iterable[Row], *, retried: Iterable[Path] = (), whole: bool = False) -> Replay:
    """From the entries of a run, or of one branch, (kind, path, body) in stream order. A later entry of a path replaces
    an earlier one. `retried`: visits whose failure is not believed. `whole`: the branch is done, and everything is."""
    replay, doubted = Replay(run_id), set[Path]()
    for _, path, body, entry_id in entries:
        replay.entries += 1
        replay.cover(path, entry_id)
        match body:
            case RunStarted():
                replay.started = body
                replay.began_ms, replay.digest = body.at_ms, body.digest
            case RunEnded():
                replay.ended = body
                if (visit := replay.visits.get(Path(body.path))) is not None:
                    visit.fatal = True
            case RunResumed():
                if replay.ended is not None:  # whoever resumes a run that has ended wants its failures tried again
                    doubted |= {at for at, ended in replay.branches.items() if ended.error is not None}
                replay.ended = None
                if body.digest != replay.digest:
                    replay.began_ms, replay.digest = body.at_ms, body.digest
            case NodeStarted(node=node, at_ms=at_ms) | NodeRetrying(node=node, at_ms=at_ms):
                visit = replay.visits.setdefault(path, Visit())
                visit.node, visit.at_ms, visit.finished, visit.fatal = node, at_ms, None, False
                visit.attempts = body.attempt if isinstance(body, NodeRetrying) else body.attempt - 1
                if isinstance(body, NodeStarted) and body.past != NO_VALUE:
                    visit.past = body.past
            case Opened():
                visit = replay.visits.setdefault(path, Visit())
                visit.node, visit.at_ms, visit.opened, visit.finished = body.node, body.at_ms, body, None
            case RoundScored():
                visit = replay.visits.setdefault(path, Visit())
                visit.node, visit.at_ms, visit.scored = body.node, body.at_ms, body
            case BranchFinished():
                replay.branches[path] = body
                doubted.discard(path)
            case NodeFinished():
                visit = replay.visits.setdefault(path, Visit())
                visit.node, visit.at_ms, visit.finished, visit.fatal = body.node, body.at_ms, body, False
                if body.usage is not None:
                    replay.usages[path] = body.usage
    if replay.ended is not None and not whole:
        doubted |= {at for at, ended in replay.branches.items() if ended.error is not None}
    for path in retried:
        if path in replay.visits:
            replay.visits[path].fatal = True
    reopened = _believe(replay, whole)
    for path in doubted:
        if not _taken_in(replay, reopened, path):
            del replay.branches[path]
    for path in replay.visits:
        replay._frames.setdefault(frame_of(path), []).append(path)  # pyright: ignore[reportPrivateUsage]
    return replay


def _believe(replay: Replay, whole: bool) -> set[Path]:
    """Drops the failures that have to be tried again, and gives what is open again."""
    failed = {p: v.finished for p, v in replay.visits.items() if v.finished and v.finished.status not in _DONE}
    for visit in replay.visits.values():
        finished = visit.finished
        if finished is not None and finished.fork and (whole or finished.status in _DONE or finished.consumed):
            replay.joins[Path(finished.fork)] = finished
    reopened: set[Path] = set()
    if whole:
        return reopened
    found = True
    while found:  # a failure that is tried again takes with it what failed below
        found = False
        for path, finished in failed.items():
            if path not in reopened and not _stands(replay, reopened, path, finished):
                found = True
                reopened.add(path)
                if finished.fork:  # a join that failed: its branches are open again
                    reopened.add(Path(finished.fork))
                    replay.joins.pop(Path(finished.fork), None)
    for path in reopened & failed.keys():
        visit = replay.visits[path]
        visit.finished, visit.attempts = None, 0
        if visit.opened is None:
            visit.at_ms = 0
    for visit in replay.visits.values():  # a join that failed below something that took it in has decided, too
        if visit.finished is not None and visit.finished.fork:
            replay.joins[Path(visit.finished.fork)] = visit.finished
    replay._reopened = frozenset(reopened)  # pyright: ignore[reportPrivateUsage]
    replay._retried = frozenset(reopened & failed.keys())  # pyright: ignore[reportPrivateUsage]
    return reopened


def _stands(replay: Replay, reopened: set[Path], path: Path, finished: NodeFinished) -> bool:
    """A failure is believed. The innermost visit above it that has been decided says so, else its own entry."""
    taken = _taken_in(replay, reopened, path)
    return finished.consumed and not replay.visits[path].fatal if taken is None else taken


def _taken_in(replay: Replay, reopened: set[Path], path: Path) -> bool | None:
    """What the innermost visit above `path` that has been decided did with a failure there. None: there is none."""
    for parent in parents(path):
        if parent in reopened:
            return False
        if _takes_in(replay, parent):
            return True
    return None


def _takes_in(replay: Replay, parent: Path) -> bool:
    """The parent's own commit is believed and has taken in what failed below it."""
    if parent in replay.joins:
        return True
    visit = replay.visits.get(parent)
    if visit is None:
        return False
    if visit.scored is not None:
        return True
    return visit.opened is None and visit.finished is not None and visit.finished.status in _DONE
