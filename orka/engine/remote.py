"""Branches on other processes: which leave, what they take along, and how their answer becomes a settled branch.

An answer is the branch's journal entries. The branch is interpreted once more over them, with nothing left to execute, so
that its context here is the same as if it had run here.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
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
    decode_reply,
    encode_item,
    encode_seen,
    encode_task,
)
from orka.engine.away import SHARED
from orka.engine.branches import OpenFork, RunFrame, Settled, branch_frame, run_branch
from orka.engine.context import RecallEnded, Run
from orka.engine.needs import needs_of, opens_branches
from orka.errors import JournalMismatch, RunError, StepsExceeded, sole_error
from orka.graph.nodes import AgentNode, ForkNode, MapNode
from orka.journal.entries import BranchFinished, Row, decode_body
from orka.journal.paths import member
from orka.journal.replay import Replay, build_replay
from orka.redis.keys import INNER
from orka.types import NodeId, Path, RunId

WINDOW: Final = 1000
"""Branches of one fork on their way at once, when the file does not say less."""
_MOST_INCOMPLETE: Final = 5
"""Times that a branch is sent again because the server has lost entries below it."""


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


async def run_elsewhere(run_frame: RunFrame, fork: OpenFork, queues: Mapping[int, str], limit: int | None) -> None:
    """Sends branches, `limit` on their way at once, and settles them as their answers come. Cancelling closes those that
    are under way."""
    run = fork.frame.run
    away = run.away
    assert away is not None
    seen = encode_seen(_seen_by(fork))
    inline = len(seen) <= INLINE
    name = f"{fork.path}@{blake2b(seen, digest_size=8).hexdigest()}"  # a later generation may see other things
    window = min(limit or WINDOW, WINDOW)
    waiting = deque(queues)
    incomplete: Counter[int] = Counter()
    level = min(away.level + 1, INNER)
    run.log.written = None  # others write what is below: the answer is read in the journal
    async with away.sender.open(run.log, fork=name, level=level, seen=b"" if inline else seen) as sending:
        while True:
            # Half a window at a time: a message for each branch alone would cost more than the branch.
            if waiting and len(sending) <= window - max(1, window // 2):
                batches: dict[str, list[Parcel]] = {}
                room = window - len(sending)
                while waiting and room:
                    index = waiting.popleft()
                    if await _known(run_frame, fork, index):
                        continue
                    room -= 1
                    task = _task_of(fork, index, name, seen if inline else None, level, queues[index])
                    batches.setdefault(queues[index], []).append(_pack(run, task))
                for queue, tasks in batches.items():
                    sending.send(queue, tasks, again=run.replay is not None)
                continue
            if not len(sending) and not sending.ready():
                return
            answer = await sending.next()
            index = int(answer.path.rpartition(".")[2])
            settled = await _recall(run_frame, fork, index, await _entries_of(run, answer))
            if settled is not None:
                fork.settle(index, settled)
                continue
            incomplete[index] += 1
            if incomplete[index] > _MOST_INCOMPLETE:
                raise _incomplete(run, answer.path)
            task = _task_of(fork, index, name, seen if inline else None, level, queues[index])
            again = Parcel(task.path, encode_task(task), answer.first, answer.last)
            sending.send(queues[index], [again], again=True)


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


async def _known(run_frame: RunFrame, fork: OpenFork, index: int) -> bool:
    """The journal has the whole branch, from before this process took the run over: it is settled from there."""
    replay = fork.frame.run.replay
    path = member(fork.path, index)
    if replay is None or (finished := replay.branches.get(path)) is None:
        return False
    if finished.error is not None or replay.tried_again(path):
        return False
    fork.settle(index, await run_branch(run_frame, fork, index, branch_frame(fork, index, fork.base)))
    return True


def _seen_by(fork: OpenFork) -> Seen:
    frame, context = fork.frame, fork.frame.context
    loop = context.loop
    stored, _ = frame.run.codec.store(frame.run.input)
    return Seen(
        input=stored,
        outputs=dict(fork.base),
        variables=dict(context.variables),
        loop=None
        if loop is None
        else LoopSeen(number=loop.number, threshold=loop.threshold, past=loop.past, metadata=dict(loop.metadata)),
        before=fork.before,
        inner=context.inner,
        group=fork.path,
        consumes=frame.consumes,
    )


def _task_of(fork: OpenFork, index: int, scope: str, seen: bytes | None, level: int, queue: str) -> BranchTask:
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
        seen=NOTHING if seen is None else msgspec.Raw(seen),
        item=item,
        name=name,
        index=index,
        steps=run.steps,
        deadline_ms=away.deadline_ms,
        needs=needs_of(fork.frame.body, sequence),
        retried=run.replay.tried_again(path) if run.replay is not None else (),
    )


async def _entries_of(run: Run, answer: Answer) -> list[Row]:
    if answer.entries:
        return [
            Row(kind, Path(path), decode_body(kind, bytes(data), run_id=run.run_id, path=path))
            for kind, path, data in decode_reply(answer.entries)
        ]
    return await run.registry.branch_history(RunId(run.run_id), answer.path, answer.first, answer.last)


async def _recall(run_frame: RunFrame, fork: OpenFork, index: int, entries: Iterable[Row]) -> Settled | None:
    """The branch that these entries are the whole of. None when they are not, although it came to its end: the server was
    killed and has lost what a branch of its own had handed over."""
    run = fork.frame.run
    path = member(fork.path, index)
    replay = build_replay(run.run_id, entries, whole=True)
    finished = replay.branches.get(path)
    if finished is None:
        return None
    _raise_if_fatal(run, path, finished)
    settled, whole = await recall_frame(run_frame, fork, index, replay)
    if not whole and finished.error is None:
        return None
    if settled.error is None:
        settled.error = finished.error
    run.steps += finished.steps
    return settled


async def recall_frame(run_frame: RunFrame, fork: OpenFork, index: int, replay: Replay) -> tuple[Settled, bool]:
    """A branch interpreted over its entries; where they end, it ends. Also whether they reach to its end."""
    run = dataclasses.replace(fork.frame.run, replay=replay, recalling=True, away=None, steps=0, tasks=None)
    frame = branch_frame(fork, index, fork.base, run)
    settled = Settled(context=frame.context)
    try:
        if opens_branches(frame.body, fork.branches[index]):
            async with anyio.create_task_group() as run.tasks:
                settled = await run_branch(run_frame, fork, index, frame)
        else:
            settled = await run_branch(run_frame, fork, index, frame)
    except RecallEnded:
        return settled, False
    except BaseExceptionGroup as group:
        error = sole_error(group)
        if not isinstance(error, RecallEnded):
            raise error from group
        return settled, False
    return settled, True


def _incomplete(run: Run, path: Path) -> JournalMismatch:
    message = f"run {run.run_id}: the journal does not tell the whole of branch {path!r}, however often it is executed"
    return JournalMismatch(message, run_id=run.run_id, path=path)


def _raise_if_fatal(run: Run, path: Path, finished: BranchFinished) -> None:
    """What went wrong in the branch is the whole run's failure."""
    if finished.fatal and finished.error is not None:
        kind = StepsExceeded if finished.error.kind == StepsExceeded.__name__ else RunError
        raise kind(finished.error.message, run_id=run.run_id, path=path)
