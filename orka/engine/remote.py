"""Branches on other processes: which leave, what they take along, and how their answer becomes a settled branch.

An answer is the branch's journal entries. The branch is interpreted once more over them, with nothing left to execute, so
that its context here is the same as if it had run here.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Final

import anyio
import msgspec

from orka.dispatch.sender import Answer, Parcel
from orka.dispatch.task import (
    INLINE,
    NOTHING,
    BranchTask,
    LoopSeen,
    Seen,
    encode_item,
    encode_seen,
    encode_task,
)
from orka.engine.away import SHARED
from orka.engine.branches import OpenFork, RunFrame, branch_frame, run_branch
from orka.engine.context import Frame, Run
from orka.engine.limiting import most_under_way
from orka.engine.needs import facts_of
from orka.engine.program import Step
from orka.engine.recalling import entries_of, incomplete, raise_if_fatal, recall, recall_given_up
from orka.graph.nodes import AgentNode, ForkNode, MapNode
from orka.journal.entries import WORKER_DIED
from orka.journal.paths import member
from orka.journal.replay import Visit, build_replay
from orka.logs import get_logger
from orka.redis.keys import INNER
from orka.redis.mark import HELD_BACK
from orka.results import Failure
from orka.types import Json, NodeId, Path, RunId

_log = get_logger()
WINDOW: Final = 1000
"""Branches of one fork on their way at once, when the file does not say less."""


def queues_of(fork: OpenFork) -> dict[int, str]:
    """The branches that leave this process, and the queue of each."""
    away = fork.frame.run.away
    node = fork.step.node
    if away is None or not isinstance(node, ForkNode | MapNode):
        return {}
    usual = (away.queue or SHARED) if away.everything else None
    if isinstance(node, MapNode):  # one sequence for all items
        queue = node.runs_on or _named_by(fork, node.sequence) or usual
        return {} if queue is None else dict.fromkeys(range(len(fork.branches)), queue)
    named = [node.runs_on or _named_by(fork, branch) or usual for branch in fork.branches]
    return {index: queue for index, queue in enumerate(named) if queue is not None}


def _named_by(fork: OpenFork, branch: Sequence[NodeId]) -> str | None:
    """The queue that an agent of the branch names: the whole branch goes there."""
    for node_id in branch:
        step = fork.frame.body.steps.get(node_id)
        if step is not None and isinstance(step.node, AgentNode) and step.node.runs_on is not None:
            return step.node.runs_on
    return None


_MOST_INCOMPLETE: Final = 5
"""Times that a branch is sent again because the server has lost entries below it."""


class Departure:
    """The branches of one fork that leave this process: sent a window at a time, settled as their answers come."""

    def __init__(self, fork: OpenFork, queues: Mapping[int, str], limit: int | None) -> None:
        """Nothing is sent yet."""
        run, away = fork.frame.run, fork.frame.run.away
        assert away is not None
        self._fork = fork
        self._queues = queues
        self._waiting = deque(queues)
        self._incomplete: Counter[int] = Counter()
        self._window = min(limit or WINDOW, WINDOW)
        self._level = min(away.level + 1, INNER)
        seen = encode_seen(_seen_by(fork, queues))
        # A later generation may see other things under the same path.
        self._name = f"{fork.path}@{blake2b(seen, digest_size=8).hexdigest()}"
        self._seen = msgspec.Raw(seen) if len(seen) <= INLINE else NOTHING
        stored = b"" if self._seen != NOTHING else seen
        self._sending = away.sender.open(run.log, fork=self._name, level=self._level, seen=stored)
        self._recalling = replace(run, recalling=True, away=None)
        run.log.written = None  # others write what is below: the answer is read in the journal

    def send_some(self) -> None:
        """Fills the window. Half a one at a time: a message for each branch alone would cost more than the branch."""
        run, queues, room = self._fork.frame.run, self._queues, self._window - len(self._sending)
        if room < max(1, self._window // 2):
            return
        batches: dict[str, list[Parcel]] = {}
        while self._waiting and room:
            index = self._waiting.popleft()
            room -= 1
            task = _task_of(self._fork, index, self._name, self._seen, self._level, queues[index])
            batches.setdefault(queues[index], []).append(_pack(run, task))
        for queue, tasks in batches.items():
            self._sending.send(queue, tasks, again=run.replay is not None)

    async def run(self, run_frame: RunFrame) -> None:
        """Until every branch is settled. Cancelling closes those that are under way."""
        fork, sending = self._fork, self._sending
        try:
            await self._settle_known(run_frame)
            while True:
                self.send_some()
                if not len(sending) and not sending.ready():
                    return
                answer = await sending.next()
                index = int(answer.path.rpartition(".")[2])
                entries = await entries_of(fork.frame.run, answer)
                settled = await recall(run_frame, fork, index, entries, self._recalling)
                if settled is None:  # other workers may be about to put back what is missing
                    await anyio.sleep(HELD_BACK)
                    entries = await entries_of(fork.frame.run, replace(answer, entries=b"", last="+"))
                    settled = await recall(run_frame, fork, index, entries, self._recalling)
                if settled is not None:
                    fork.settle(index, settled)
                else:
                    self._send_again(index, answer)
        finally:
            self.close()

    def _send_again(self, index: int, answer: Answer) -> None:
        """The server has lost entries below a branch: what is missing is executed again."""
        self._incomplete[index] += 1
        _log.warning("branch.incomplete", run_id=self._fork.frame.run.run_id, path=answer.path)
        if self._incomplete[index] > _MOST_INCOMPLETE:
            raise incomplete(self._fork.frame.run, answer.path)
        task = _task_of(self._fork, index, self._name, self._seen, self._level, self._queues[index])
        again = Parcel(task.path, encode_task(task), answer.first, "+")
        self._sending.send(self._queues[index], [again], again=True)

    async def _settle_known(self, run_frame: RunFrame) -> None:
        """The journal has these as a whole, from before this process took the run over."""
        fork = self._fork
        replay = fork.frame.run.replay
        if replay is None or not replay.branches:
            return
        left: deque[int] = deque()
        for index in self._waiting:
            path = member(fork.path, index)
            finished = replay.branches.get(path)
            if finished is None or replay.tried_again(path):
                left.append(index)
            elif finished.error is None:
                fork.settle(index, await run_branch(run_frame, fork, index, branch_frame(fork, index, fork.base)))
            elif (settled := await recall_given_up(run_frame, fork, index)) is not None:
                fork.settle(index, settled)  # only somebody who asks for it tries that again
            else:
                left.append(index)
        self._waiting = left

    def close(self) -> None:
        self._sending.close()


def close_rest(fork: OpenFork) -> None:
    """The join has decided. Branches that the journal does not have to their end are cut off wherever they run: losers whose
    join died before it told them, and those that the server has lost entries of, which are made up for here."""
    run = fork.frame.run
    if run.away is None or run.replay is None or run.log.failure is not None:
        return
    paths = [member(fork.path, index) for index in queues_of(fork)]
    left = [path for path in paths if path not in run.replay.branches]
    if left:
        run.away.sender.close(run.log, fork.path, left)


def _pack(run: Run, task: BranchTask) -> Parcel:
    if run.replay is None:
        return Parcel(task.path, encode_task(task))
    run.replay.elsewhere.add(task.path)
    return Parcel(task.path, encode_task(task), *run.replay.spans.get(task.path, ("", "")))


def _seen_by(fork: OpenFork, leaving: Iterable[int]) -> Seen:
    return _seen_in(fork.frame, _outputs_for(fork, leaving), fork.before, fork.path)


def _seen_in(frame: Frame, outputs: dict[str, Json], before: int, group: Path) -> Seen:
    context, loop = frame.context, frame.context.loop
    stored, _ = frame.run.codec.store(frame.input)
    return Seen(
        input=stored,
        outputs=outputs,
        variables=dict(context.variables),
        loop=None
        if loop is None
        else LoopSeen(
            number=loop.number,
            threshold=loop.threshold,
            past=loop.past,
            metadata=dict(loop.metadata),
            scoring=loop.scoring,
        ),
        before=before,
        inner=context.inner,
        group=group,
        consumes=frame.consumes,
        session=frame.run.session,
    )


async def visit_elsewhere(frame: Frame, step: Step, path: Path, seen: Visit | None, queue: str) -> Visit | Failure:
    """One visit on a worker of `queue`: what the journal then has of it, or why there is nothing."""
    run, context = frame.run, frame.context
    away, loop = run.away, context.loop
    assert away is not None
    reads = None if loop is not None else facts_of(frame.body, (step.node.id,)).reads
    visible = context.snapshot()
    outputs = visible if reads is None else {name: visible[name] for name in reads if name in visible}
    shown = encode_seen(_seen_in(frame, outputs, context.before + len(context.results), context.group or Path("")))
    task = BranchTask(
        run=RunId(run.run_id),
        path=path,
        digest=run.program.graph.digest,
        sequence=(step.node.id,),
        visit=frame.counts.get(step.node.id, 1),
        fork=f"{path}@{blake2b(shown, digest_size=8).hexdigest()}",
        parent=away.task,
        level=min(away.level + 1, INNER),
        everything=away.everything,
        queue=queue,
        seen=msgspec.Raw(shown) if len(shown) <= INLINE else NOTHING,
        steps=run.steps,
        deadline_ms=away.deadline_ms,
        needs=facts_of(frame.body, (step.node.id,)).needs,
        retried=(path,) if seen is not None and run.replay is not None and path in run.replay.retried else (),
        tokens=run.tokens is not None,
        began_ms=run.spending.began_ms,
        spent=run.spending.known_outside(path),
    )
    stored = b"" if task.seen != NOTHING else shown
    run.log.written = None
    sending = away.sender.open(run.log, fork=task.fork, level=task.level, seen=stored)
    parcel, again = _pack(run, task), run.replay is not None
    try:
        for _ in range(_MOST_INCOMPLETE):
            sending.send(queue, [parcel], again=again)
            async with away.parked():
                answer = await sending.next()
            replay = build_replay(run.run_id, await entries_of(run, answer), whole=True)
            if (finished := replay.branches.get(path)) is not None:
                break
            parcel, again = Parcel(path, parcel.task, answer.first, answer.last), True  # the server has lost its end
        else:
            raise incomplete(run, path)
    finally:
        sending.close()
    raise_if_fatal(run, path, finished)
    visit = replay.visits.get(path)
    if visit is not None and visit.finished is not None:
        return visit
    return finished.error or Failure(kind=WORKER_DIED, message="its worker gave no result")


def _outputs_for(fork: OpenFork, leaving: Iterable[int]) -> dict[str, Json]:
    """The earlier outputs that the branches may look at; what lies in a loop sees all of them in its input, too."""
    base = fork.base
    if fork.frame.context.loop is not None:
        return dict(base)
    wanted: set[str] = set()
    for sequence in {tuple(fork.branches[index]) for index in leaving}:
        reads = facts_of(fork.frame.body, sequence).reads
        if reads is None:
            return dict(base)
        wanted |= reads
    return {name: output for name, output in base.items() if name in wanted}


def _task_of(fork: OpenFork, index: int, scope: str, seen: msgspec.Raw, level: int, queue: str) -> BranchTask:
    run, node = fork.frame.run, fork.step.node
    away = run.away
    assert away is not None
    path = member(fork.path, index)
    sequence = tuple(fork.branches[index])
    item, name = NOTHING, ""
    if isinstance(node, MapNode) and fork.items is not None:
        item, name = encode_item(fork.items[index]), node.name
    return BranchTask(
        run=RunId(run.run_id),
        path=path,
        digest=run.program.graph.digest,
        sequence=sequence,
        fork=scope,
        parent=away.task,
        level=level,
        everything=away.everything,
        queue=queue,
        seen=seen,
        item=item,
        name=name,
        index=index,
        steps=fork.frame.counter.steps if fork.items is None else 0,
        deadline_ms=away.deadline_ms,
        most=most_under_way(run.program.graph, queue),
        needs=facts_of(fork.frame.body, sequence).needs,
        retried=run.replay.tried_again(path) if run.replay is not None else (),
        tokens=run.tokens is not None,
        began_ms=run.spending.began_ms,
        spent=run.spending.known_outside(path),
    )
