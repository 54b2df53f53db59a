"""Reads everything that tells why a run does not move: its hash, the records of its branches, streams, journal,
roster, limits.

Reads only. What follows from the facts is in `orka.dispatch.findings`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from orka.clock import now_ms
from orka.dispatch.dead import DeadLetters, queue_of
from orka.dispatch.findings import BranchInfo, BranchState, Diagnosis, agents_under_way
from orka.dispatch.limits import Limit
from orka.dispatch.roster import Roster
from orka.dispatch.usage import read_usage
from orka.journal.registry import Registry, RunInfo
from orka.redis.keys import GROUP, RunKeys, parked_key
from orka.redis.lua import Command
from orka.types import Path

MOST_BRANCHES = 1_000
"""Branches that are looked at one by one: those of a large map differ little."""


class _Record(NamedTuple):
    """As `orka.redis.lua.RECORDS` lays it out."""

    state: str
    claim: str
    seq: str
    deaths: str
    deaths_alone: str
    task_id: str
    stream: str
    first: str
    last: str
    why: str


class _Parked(msgspec.Struct):
    """A member of the set of parked tasks."""

    run: str
    path: str


async def read_diagnosis(registry: Registry, info: RunInfo, limits: Iterable[Limit]) -> Diagnosis:
    """`limits`: those that the run may have to wait for."""
    run_id = info.run_id
    keys = registry.keys(run_id)
    raw, cancel, time = await registry.ask(
        [
            (keys.branches, ("HGETALL", keys.branches)),
            (keys.run, ("HGET", keys.run, "cancel")),
            (keys.run, ("TIME",)),
        ]
    )
    now = int(time[0]) * 1000 + int(time[1]) // 1000
    records = {raw[i].decode(): _Record(*raw[i + 1].decode().split("|", 9)) for i in range(0, len(raw), 2)}
    chosen = dict(sorted(records.items())[:MOST_BRANCHES])
    return Diagnosis(
        info=info,
        now_ms=now,
        cancel_ms=int(cancel) if cancel else None,
        branches=await _branches(registry, keys, chosen, now),
        agents=agents_under_way(await registry.history(run_id)),
        letters=tuple(await DeadLetters(registry).list(run_id)),
        workers=tuple(await Roster(registry).workers()),
        local_ms=now_ms(),
        limits=tuple(await read_usage(registry, limits)),
    )


async def _branches(
    registry: Registry, keys: RunKeys, records: Mapping[str, _Record], now: int
) -> tuple[BranchInfo, ...]:
    commands: list[tuple[str, Command]] = []
    for record in records.values():
        stream, task = record.stream, record.task_id or "0-1"  # a parked one has no id: nothing is found
        commands += [
            (stream, ("XPENDING", stream, GROUP, task, task, 1)),
            (stream, ("XRANGE", stream, task, task)),
        ]
    replies = await registry.ask(commands, tolerant=True) if commands else []  # no group where nobody ever served
    due = await _due(registry, keys) if any(not record.task_id for record in records.values()) else {}
    return tuple(
        _branch(Path(path), record, replies[2 * index] or [], bool(replies[2 * index + 1]), due.get(path, now))
        for index, (path, record) in enumerate(records.items())
    )


async def _due(registry: Registry, keys: RunKeys) -> dict[str, int]:
    """When each parked task of the run is offered again."""
    key = parked_key(keys.tag)
    reply = await registry.one(key, ("ZRANGE", key, 0, 9_999, "WITHSCORES"))
    pairs = reply if reply and isinstance(reply[0], list | tuple) else zip(reply[::2], reply[1::2], strict=True)
    parked = ((msgspec.json.decode(member, type=_Parked), int(float(score))) for member, score in pairs)
    return {task.path: score for task, score in parked if task.run == keys.run}


def _branch(path: Path, record: _Record, pending: list[Any], in_stream: bool, due_ms: int) -> BranchInfo:
    queue, level = queue_of(record.stream)
    worker, idle, deliveries = "", 0, 0
    if record.state == "done":
        state, since = BranchState.DONE, _time_of(record.last)
    elif not record.task_id:
        state, since = BranchState.PARKED, due_ms
    elif pending:
        state, since = BranchState.RUNNING, _time_of(record.first or record.task_id)
        worker, idle, deliveries = pending[0][1].decode(), pending[0][2], pending[0][3]
    elif in_stream:
        state, since = BranchState.QUEUED, _time_of(record.task_id)
    else:
        state, since = BranchState.LOST, _time_of(record.task_id)
    return BranchInfo(
        path=path,
        state=state,
        queue=queue,
        level=level,
        worker=worker,
        since_ms=since,
        idle_ms=idle,
        deliveries=deliveries,
        deaths=int(record.deaths or 0),
        why=record.why,
    )


def _time_of(entry_id: str) -> int:
    return int(entry_id.split("-")[0]) if entry_id else 0
