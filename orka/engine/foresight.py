"""Whether a changed graph leads to what a journal holds, told before anything is executed or written. No I/O.

A walk over the frames like the interpreter's, by the journaled decisions alone. Where those leave open how far a frame
came it goes on rather than stop: it may overlook a difference, which the run then finds itself, but invents none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import cast

from orka.engine.program import Body, Program, Step
from orka.engine.routing import take_out
from orka.graph.nodes import AgentNode, FailoverNode, ForkNode, JoinNode, LoopNode, MapNode, PathNode, RouterNode
from orka.journal.entries import decode_json
from orka.journal.paths import ROOT, member, round_of, visit
from orka.journal.replay import Replay, Visit
from orka.types import NodeId, Path, Status


def check_paths(program: Program, replay: Replay) -> None:
    """`JournalMismatch` naming a journaled visit that the graph does not lead to, or leads to for another node. Marks
    what it finds as asked for: `replay` is used up."""
    _follow(replay, ROOT, program.body, program.body.sequence)
    replay.at_end()


def _follow(replay: Replay, frame: Path, body: Body, ids: Sequence[NodeId], first: Step | None = None) -> None:
    counts = Counter[NodeId]()
    waiting, step = [iter(ids)], first
    while waiting:
        if step is None:
            node_id = next(waiting[-1], None)
            if node_id is None:
                waiting.pop()
                continue
            if (step := body.steps.get(node_id)) is None:
                continue
        counts[step.node.id] += 1
        path = visit(frame, step.escaped, counts[step.node.id])
        seen = replay.answer(path, step.digest)
        _descend(replay, path, body, step, seen)
        if not replay.passed(path):
            return
        finished = seen.finished if seen is not None else None
        if finished is not None:
            if finished.status is Status.ERROR and step.node.policy.on_error == "stop":
                return
            if finished.next:
                if finished.once:
                    waiting = take_out(waiting, finished.next)
                waiting.append(iter([NodeId(node_id) for node_id in finished.next]))
        step = None


def _proposed(seen: Visit | None) -> list[NodeId] | None:
    """The list of a path executor; None when it is stored beside its entry, where it cannot be read without I/O."""
    opened = seen.opened if seen is not None else None
    if opened is None:
        return []
    if opened.items.ref:
        return None
    return [NodeId(str(name)) for name in cast("list[object]", decode_json(opened.items.json))]


def _descend(replay: Replay, path: Path, body: Body, step: Step, seen: Visit | None) -> None:
    """The frames below a visit. Loops and failovers that are under way have no entry of their own."""
    node = step.node
    match node:
        case ForkNode():
            for index, branch in enumerate(node.branches):
                _follow(replay, member(path, index), body, branch)
        case MapNode():
            for index in range(seen.opened.branches if seen is not None and seen.opened is not None else 0):
                _follow(replay, member(path, index), body, node.sequence)
        case PathNode():
            if (ids := _proposed(seen)) is None:
                replay.closed.add(path)  # the run itself finds what does not fit
            else:
                _follow(replay, member(path, 0), body, ids)
        case FailoverNode():
            for index, child in enumerate(step.children):
                _follow(replay, member(path, index), body, (), child)
        case LoopNode():
            assert step.body is not None
            for number in count(1):
                at = round_of(path, number)
                scored = replay.answer(at, step.digest)
                _follow(replay, at, step.body, step.body.sequence)
                if scored is None:
                    return
        case AgentNode() | RouterNode() | JoinNode():
            pass
