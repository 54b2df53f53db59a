"""Rounds of a loop that outlive its run (`persist_across_runs`): read when its visit begins, kept when it ends.

What was read is journaled before the first round, so that a resumed run sees the same; a visit adds its rounds once,
however often it says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from orka.engine.context import Frame, RecallEnded
from orka.engine.looping import PAST_KEPT
from orka.engine.program import Step
from orka.errors import StoreError
from orka.graph.nodes import LoopNode
from orka.journal.entries import Kind, NodeStarted, encode_json
from orka.journal.replay import Visit
from orka.redis.keys import past_loops_key, past_loops_written_key
from orka.redis.loop_scripts import keep_rounds
from orka.results import Failure
from orka.types import Json, Path


async def earlier_rounds(
    frame: Frame, step: Step, node: LoopNode, path: Path, seen: Visit | None, at_ms: int
) -> list[Json] | Failure:
    """The rounds of earlier runs, oldest first, at most `PAST_KEPT`: as this visit has read them before, else as they are
    now, which is journaled."""
    if not node.persist:
        return []
    if seen is not None and seen.past is not None:
        found = await frame.run.load(seen.past)
        return found if isinstance(found, list) else []
    if seen is not None and seen.finished is not None and seen.finished.error is not None:
        return seen.finished.error  # they could not be read
    if frame.run.recalling:
        raise RecallEnded(path)
    rounds = await _read(frame, node)
    if isinstance(rounds, list):
        stored, values = frame.run.codec.store(rounds)
        started = NodeStarted(id=node.id, node=step.digest, at_ms=at_ms, past=stored)
        await frame.commit(Kind.NODE_STARTED, path, started, values)
    return rounds


async def keep_own_rounds(
    frame: Frame, node: LoopNode, path: Path, seen: Visit | None, rounds: Sequence[Json]
) -> Failure | None:
    """Adds the rounds of this visit to those that later runs see, once. They are journaled by then."""
    if not node.persist:
        return None
    if seen is not None and seen.finished is not None:
        return seen.finished.error
    if frame.run.recalling:
        raise RecallEnded(path)
    await frame.run.log.barrier()
    visit = f"{frame.run.run_id}:{path}"
    command = keep_rounds(node.id, visit=visit, rounds=[encode_json(past) for past in rounds], most=PAST_KEPT)
    reply = await frame.run.registry.one(past_loops_written_key(node.id), command)
    return _unreadable(node) if bytes(reply[0]) == b"bad" else None


async def _read(frame: Frame, node: LoopNode) -> list[Json] | Failure:
    key = past_loops_key(node.id)
    # The type first: the reply to GET is an error where the key is no string, and then counts as none.
    kind, raw = await frame.run.registry.ask([(key, ("TYPE", key)), (key, ("GET", key))], tolerant=True)
    if raw is None:
        return [] if kind in (b"none", "none") else _unreadable(node)
    try:
        found: Json = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        found = None
    return found[-PAST_KEPT:] if isinstance(found, list) else _unreadable(node)


def _unreadable(node: LoopNode) -> Failure:
    key = past_loops_key(node.id)
    message = (
        f"the Redis key {key!r}, where loop {node.id!r} keeps its rounds across runs, holds no JSON list:"
        " rename the loop, or look at the key and delete it"
    )
    return Failure(kind=StoreError.__name__, message=message)
