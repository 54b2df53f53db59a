"""What is known of a run that does not move, and what follows from it: findings, each with what to do. Pure.

`orka.dispatch.diagnosis` reads the facts; nothing here asks anybody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from orka.dispatch.dead import Letter
from orka.dispatch.limit_reasons import reasons_of, span
from orka.dispatch.roster import WorkerInfo, remedy_for, serving
from orka.dispatch.usage import Usage
from orka.journal.entries import BranchFinished, NodeFinished, NodeRetrying, NodeStarted, RoundScored, Row, RunResumed
from orka.journal.paths import readable
from orka.journal.registry import RunInfo
from orka.types import Path, RunStatus

_SILENT_MS = 10_000
"""Of a worker that is not on the roster: it may have just come, or just left."""


class BranchState(StrEnum):
    """Where the task of a branch is."""

    QUEUED = "queued"
    """In its stream, for the next worker that has a free slot."""
    RUNNING = "running"
    """Given to a worker."""
    PARKED = "parked"
    """Nobody could take it; it is offered again after a while."""
    DONE = "done"
    """Executed; whoever waits for it has not said that it has the result."""
    LOST = "lost"
    """On record, and in no stream: the server lost it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchInfo:
    """One branch task on record. Those whose result was taken in have no record any more."""

    path: Path
    """Empty: the submitted run itself."""
    state: BranchState
    queue: str
    level: int
    worker: str
    """That it was given to; empty while it is in nobody's hands."""
    since_ms: int
    """When it came into this state, as far as that is known: queued, first written, done; parked: when it is offered again."""
    idle_ms: int
    """Since the worker's last sign of life for this task."""
    deliveries: int
    deaths: int
    """Workers that died with it since it finished something."""
    why: str
    """Why it waits or was taken away from somebody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentInfo:
    """An agent that began and has not ended, as far as the journal knows."""

    path: Path
    node_id: str
    attempt: int
    since_ms: int
    error: str
    """Of the attempt before, when another one is to follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Everything that `orka doctor` looks at."""

    info: RunInfo
    now_ms: int
    """By the server's clock."""
    cancel_ms: int | None
    """When somebody wanted it cancelled."""
    branches: tuple[BranchInfo, ...]
    agents: tuple[AgentInfo, ...]
    letters: tuple[Letter, ...]
    workers: tuple[WorkerInfo, ...]
    local_ms: int
    """By this machine's clock, which the roster and the journal go by."""
    limits: tuple[Usage, ...] = ()
    """Every limit that it may have to wait for."""

    @property
    def served(self) -> frozenset[str]:
        """Queues that a living worker takes tasks from."""
        return serving(self.workers, self.local_ms)

    def abandoned(self, branch: BranchInfo) -> bool:
        """The worker that it was given to is gone, or silent for a lease."""
        if branch.state is not BranchState.RUNNING:
            return False
        for worker in self.workers:
            if worker.worker == branch.worker:
                return not worker.alive(self.local_ms, stopping=True)
        return branch.idle_ms > _SILENT_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One reason why a run does not move, or one thing to know about it."""

    what: str
    remedy: str
    """What to do; empty: nothing."""


def agents_under_way(entries: Iterable[Row]) -> tuple[AgentInfo, ...]:
    """Visits that have begun and not ended, longest first. What a join, a round or a failover has decided without is not
    under way, though it has no end of its own."""
    begun: dict[Path, AgentInfo] = {}
    for _, path, body, _ in entries:
        match body:
            case NodeStarted():
                begun[path] = AgentInfo(path=path, node_id=body.id, attempt=body.attempt, since_ms=body.at_ms, error="")
            case NodeRetrying():
                begun[path] = AgentInfo(
                    path=path, node_id=body.id, attempt=body.attempt + 1, since_ms=body.at_ms, error=body.error.message
                )
            case NodeFinished():
                begun.pop(path, None)
                _drop_below(begun, path)
                if body.fork:
                    _drop_below(begun, Path(body.fork))
            case RoundScored() | BranchFinished():
                _drop_below(begun, path)
            case RunResumed():  # whoever executed them before does not any more
                begun.clear()
            case _:
                pass
    return tuple(sorted(begun.values(), key=lambda agent: agent.since_ms))


def _drop_below(begun: dict[Path, AgentInfo], path: Path) -> None:
    inside = tuple(f"{path}{sign}" for sign in "/.[")
    for other in [other for other in begun if other.startswith(inside)]:
        del begun[other]


def find_reasons(facts: Diagnosis) -> tuple[Finding, ...]:
    """The most urgent first; never empty."""
    found = [*_of_the_end(facts), *_of_the_owner(facts), *_of_the_wishes(facts)]
    found += [*_of_queues(facts), *_of_branches(facts), *_of_limits(facts), *_of_agents(facts), *_of_letters(facts)]
    if not found:
        found.append(Finding(what="nothing hinders it: it waits for nothing that is known", remedy=""))
    return tuple(found)


def _of_the_end(facts: Diagnosis) -> Iterator[Finding]:
    info = facts.info
    if not info.status.ended:
        return
    if info.on_queue:
        yield Finding(what=f"it is {info.status}, and waits on a queue for a worker that resumes it", remedy="")
    elif info.status is RunStatus.COMPLETED:
        yield Finding(what="it is completed", remedy=f"its answer: `orka resume {info.run_id}`")
    else:
        yield Finding(
            what=f"it is {info.status}",
            remedy=f"why: `orka runs show {info.run_id}`; try again: `orka resume {info.run_id}`",
        )


def _of_the_owner(facts: Diagnosis) -> Iterator[Finding]:
    info = facts.info
    if info.stale:
        yield Finding(what=f"nobody executes it: {info.holder} is gone", remedy=f"`orka resume {info.run_id}`")
    elif info.status is RunStatus.RUNNING and info.waiting:
        yield Finding(
            what=f"nobody executes it: {info.holder} is gone, and a worker goes on with it",
            remedy=""
            if facts.served
            else "no worker lives that could: start `orka worker`, or `orka resume` it yourself",
        )


def _of_the_wishes(facts: Diagnosis) -> Iterator[Finding]:
    info = facts.info
    if info.status.ended:
        return
    if facts.cancel_ms is not None:
        yield Finding(
            what=f"somebody wanted it cancelled {span(facts.now_ms - facts.cancel_ms)} ago, and it has not ended yet",
            remedy=f"`orka cancel {info.run_id}` waits for that, and ends it when nobody executes it",
        )
    if info.deadline_ms is not None and info.deadline_ms < facts.now_ms:
        yield Finding(
            what=f"its deadline passed {span(facts.now_ms - info.deadline_ms)} ago; whoever executes it next ends it",
            remedy="",
        )


def _of_queues(facts: Diagnosis) -> Iterator[Finding]:
    waiting = Counter(branch.queue for branch in facts.branches if branch.state is BranchState.QUEUED)
    for queue, count in sorted(waiting.items()):
        tasks = _tasks(count)
        if queue not in facts.served:
            yield Finding(
                what=f"nobody serves queue {queue!r}: {tasks} for a worker", remedy=f"start {remedy_for(queue)}"
            )
            continue
        crew = [worker for worker in facts.workers if queue in worker.queues and worker.alive(facts.local_ms)]
        slots, taken = sum(worker.concurrency for worker in crew), sum(worker.running for worker in crew)
        if taken >= slots:
            yield Finding(
                what=f"every slot of the workers of queue {queue!r} is taken ({taken} of {slots}): {tasks}",
                remedy=f"start another {remedy_for(queue)}",
            )
        else:
            yield Finding(what=f"{tasks} on queue {queue!r}, whose workers have free slots", remedy="")


def _tasks(count: int) -> str:
    return "1 task waits" if count == 1 else f"{count} tasks wait"


def _of_branches(facts: Diagnosis) -> Iterator[Finding]:
    reasons = Counter((branch.queue, branch.why) for branch in facts.branches if branch.state is BranchState.PARKED)
    for (queue, why), count in sorted(reasons.items()):
        yield Finding(
            what=f"{_tasks(count)} because the last worker that was offered it could not take it: {why}",
            remedy=f"give a worker of queue {queue!r} what it lacks, or start another one that has it",
        )
    gone = Counter(branch.worker for branch in facts.branches if facts.abandoned(branch))
    for worker, count in sorted(gone.items()):
        yield Finding(
            what=f"worker {worker} has {count} task(s) of it and gives no sign of life",
            remedy="another worker is given them when its lease is over"
            if facts.served
            else "start `orka worker`: it is given them when that lease is over",
        )
    for branch in facts.branches:
        name = readable(branch.path) or "the run"
        if branch.state is BranchState.LOST:
            yield Finding(
                what=f"the task of {name} is in no stream any more: the server lost it",
                remedy="whoever sent it sends it again within a lease" if branch.path else "`orka resume` it",
            )
        elif branch.deaths:
            yield Finding(
                what=f"{name} has taken {branch.deaths} worker(s) down; after too many it is given up",
                remedy="look at the logs and the memory of its workers",
            )


def _of_limits(facts: Diagnosis) -> Iterator[Finding]:
    silent = frozenset(one.worker for one in facts.workers if not one.alive(facts.local_ms, stopping=True))
    for usage in facts.limits:
        for what, remedy in reasons_of(usage, facts.info.run_id, silent=silent):
            yield Finding(what=what, remedy=remedy)


def _of_agents(facts: Diagnosis) -> Iterator[Finding]:
    if facts.info.status.ended:
        return
    held_up = {ticket.path for usage in facts.limits for ticket in usage.of_run(facts.info.run_id)}
    for agent in [agent for agent in facts.agents if agent.path not in held_up][:5]:
        lasts = span(facts.local_ms - agent.since_ms)
        which = f"{readable(agent.path)} is under way for {lasts} (attempt {agent.attempt})"
        if agent.error:
            which += f"; the attempt before failed: {agent.error}"
        yield Finding(what=which, remedy="" if agent.error else "if that is too long: `timeout:` on its node")


def _of_letters(facts: Diagnosis) -> Iterator[Finding]:
    for letter in facts.letters[:5]:
        ended = facts.info.status in (RunStatus.FAILED, RunStatus.CANCELLED)
        yield Finding(
            what=f"{readable(letter.path) or 'the run'} was given up: {letter.reason}",
            remedy=f"`orka dead retry {letter.id}`" if ended else f"`orka dead show {letter.id}`",
        )
