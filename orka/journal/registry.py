"""The registry of runs and their journals, reading: who is there, and what is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import anyio

from orka.errors import RunNotFound, StoreError
from orka.journal.entries import Row, Value, decode_body, decode_json
from orka.journal.holder import describe, is_dead
from orka.redis.faults import reply_text
from orka.redis.keys import RunKeys, ended_runs_key, graph_key, open_runs_key, run_keys, tag_of
from orka.redis.pipeline import ConnectionLost, Pipe, is_moving
from orka.redis.scripts import Command
from orka.types import Digest, Json, Path, RunId, RunStatus

_PAGE = 500
"""Entries, or run ids, read in one round trip."""
MOST_FOUND = 20
"""Runs that `Registry.find` gives."""
_RECONNECT = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0)
"""Seconds before each further attempt when the connection is lost; everything sent that way is harmless when repeated."""
_FIELDS = (
    *("status", "graph", "digest", "input", "created_ms", "ended_ms"),
    *("lease_until", "holder", "generation", "deadline_ms", "version"),
    *("distributed", "queue", "tokens"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """One line of the registry."""

    run_id: RunId
    status: RunStatus
    graph: str
    """The graph's id."""
    digest: Digest
    input: str
    """The first 200 characters of the input."""
    created_ms: int
    ended_ms: int | None
    holder: str
    """The process that executes it, or did last (for people)."""
    lease_left_ms: int
    """How long the holder's lease still lasts; 0 when nobody holds it."""
    entries: int
    generation: int
    """1, and one more for every resume."""
    deadline_ms: int | None
    version: str
    """Of the Orka that created it."""
    distributed: bool = False
    """Its branches go to the shared queues."""
    queue: str = ""
    """That it was submitted to; empty: it was not."""
    watched: bool = False
    """Its agents emit tokens, also after it is resumed."""
    on_queue: bool = False
    """A task on a shared queue has a worker execute it, or go on with it."""

    @property
    def waiting(self) -> bool:
        """Nobody executes it, and a worker will: it is queued, or its worker is gone."""
        return self.on_queue and self.lease_left_ms == 0

    @property
    def stale(self) -> bool:
        """Under way, nobody executes it, and nobody will unless it is resumed."""
        return self.status is RunStatus.RUNNING and self.lease_left_ms == 0 and not self.on_queue


class Registry:
    """Reads one Redis through a pipe of its own. Cheap; several may share a pipe."""

    def __init__(self, pipe: Pipe, *, partitions: int) -> None:
        self._pipe = pipe
        self._partitions = partitions

    def keys(self, run_id: RunId) -> RunKeys:
        return run_keys(run_id, self._partitions)

    async def info(self, run_id: RunId) -> RunInfo:
        """`RunNotFound` when there is no such run."""
        found = await self.infos([run_id])
        if not found:
            raise not_found(run_id)
        return found[0]

    async def infos(self, run_ids: Sequence[RunId]) -> list[RunInfo]:
        """One round trip; runs that do not exist are left out."""
        keyed: list[tuple[str, Command]] = []
        for run_id in run_ids:
            keys = self.keys(run_id)
            key = keys.run
            keyed += [(key, ("HMGET", key, *_FIELDS)), (key, ("HEXISTS", keys.branches, ""))]
            keyed += [(key, ("XLEN", keys.journal)), (key, ("TIME",))]
        replies = await self.ask(keyed) if keyed else []
        found: list[RunInfo] = []
        for index, run_id in enumerate(run_ids):
            fields, on_queue, entries, time = replies[4 * index : 4 * index + 4]
            if fields[0] is not None:
                now = int(time[0]) * 1000 + int(time[1]) // 1000
                found.append(_info(run_id, fields, entries, now, on_queue=bool(on_queue)))
        return found

    async def list(self, *, status: RunStatus | None = None, limit: int = 50, stale: bool = False) -> list[RunInfo]:
        """Newest first. `stale`: only runs under way that nobody executes."""
        under_way = status is not None and not status.ended
        kinds = [open_runs_key] if stale or under_way else [open_runs_key, ended_runs_key]
        found: list[RunInfo] = []
        for kind in kinds:
            offset = 0
            kept: list[RunInfo] = []
            while len(kept) < limit:
                page = await self._newest(kind, offset, _PAGE)
                infos = await self.infos(page)
                kept += [i for i in infos if (status is None or i.status is status) and (not stale or i.stale)]
                offset += _PAGE
                if len(page) < _PAGE:
                    break
            found += kept
        found.sort(key=lambda info: (info.created_ms, info.run_id), reverse=True)
        return found[:limit]

    async def find(self, prefix: str) -> list[RunId]:
        """Ids that begin with `prefix`, newest first, at most `MOST_FOUND`: for people who type the first few characters."""
        found: list[RunId] = []
        for kind in (open_runs_key, ended_runs_key):
            for run_id in await self._newest(kind, 0, 10_000):
                if run_id.startswith(prefix):
                    found.append(run_id)
        return found[:MOST_FOUND]

    @property
    def tags(self) -> tuple[str, ...]:
        """The hash tag of every partition."""
        return tuple(tag_of(partition) for partition in range(self._partitions))

    async def graph(self, run_id: RunId, digest: Digest) -> bytes:
        """The JSON of the graph a run was started with."""
        key = graph_key(self.keys(run_id).tag, digest)
        raw = await self.hash(key, "json")
        if raw[0] is None:
            raise RunNotFound(f"the graph of run {run_id} is not stored any more", run_id=run_id)
        return raw[0]

    async def entries(
        self, run_id: RunId, after: str = "0", until: str = "+", since: str = ""
    ) -> AsyncIterator[tuple[str, str, str, bytes]]:
        """(entry id, kind, path, data) of the run's stream, strictly after an id (or from `since` on), in pages."""
        key = self.keys(run_id).journal
        start = since or ("-" if after == "0" else f"({after}")
        while True:
            page = await self.one(key, ("XRANGE", key, start, until, "COUNT", _PAGE))
            for entry_id, fields in page:
                yield decode_entry(entry_id, fields)
            if len(page) < _PAGE:
                return
            start = f"({page[-1][0].decode()}"

    async def history(self, run_id: RunId) -> list[Row]:
        """Every entry, decoded. `JournalMismatch` for entries that this version does not know."""
        return [
            Row(kind, Path(path), decode_body(kind, data, run_id=run_id, path=path), entry_id)
            async for entry_id, kind, path, data in self.entries(run_id)
        ]

    async def branch_history(self, run_id: RunId, branch: Path, first: str, last: str) -> list[Row]:
        """Entries of one branch, decoded; all of them lie between two ids, among others."""
        inside = f"{branch}/"
        return [
            Row(kind, Path(path), decode_body(kind, data, run_id=run_id, path=path), entry_id)
            async for entry_id, kind, path, data in self.entries(run_id, until=last, since=first)
            if path == branch or path.startswith(inside)
        ]

    async def values(self, run_id: RunId, refs: Sequence[str]) -> dict[str, bytes]:
        """Large values by digest."""
        if not refs:
            return {}
        key = self.keys(run_id).values
        raw = await self.hash(key, *refs)
        missing = [ref for ref, value in zip(refs, raw, strict=True) if value is None]
        if missing:
            raise StoreError(f"run {run_id}: {len(missing)} large value(s) are missing from {key}")
        return {ref: value for ref, value in zip(refs, raw, strict=True) if value is not None}

    async def load(self, run_id: RunId, value: Value) -> Json:
        """A journaled value, fetched when it is stored beside its entry."""
        if not value.ref:
            return decode_json(value.json)
        return decode_json((await self.values(run_id, [value.ref]))[value.ref])

    async def hash(self, key: str, *fields: str) -> list[bytes | None]:
        """Fields of a hash, None where absent."""
        return await self.one(key, ("HMGET", key, *fields))

    async def one(self, key: str, command: Command) -> Any:
        """The reply to one command of which `key` is a key. An error reply raises `StoreError`."""
        return (await self.ask([(key, command)]))[0]

    async def ask(self, commands: Sequence[tuple[str, Command]], *, tolerant: bool = False) -> list[Any]:
        """One round trip, again when the connection is lost (it may have been cut while nobody used it) and while a slot
        of a cluster moves. An error reply raises `StoreError`, or is None when `tolerant`."""
        for pause in _RECONNECT:
            with suppress(ConnectionLost):
                replies = await self._pipe.roundtrip(commands)
                if not any(is_moving(reply) for reply in replies):
                    return _checked(replies, tolerant)
            await anyio.sleep(pause)
        return _checked(await self._pipe.roundtrip(commands), tolerant)

    async def _newest(self, kind: Any, offset: int, count: int) -> list[RunId]:
        """Ids of one kind from every partition, newest first, `offset` and `count` taken per partition."""
        replies = await self.ask(
            [(kind(tag), ("ZREVRANGE", kind(tag), offset, offset + count - 1, "WITHSCORES")) for tag in self.tags]
        )
        scored: list[tuple[float, str]] = []
        for reply in replies:
            scored += [(float(score), member.decode()) for member, score in _pairs(reply)]
        scored.sort(reverse=True)
        return [RunId(member) for _, member in scored]


def decode_entry(entry_id: bytes, fields: Sequence[bytes]) -> tuple[str, str, str, bytes]:
    """One stream entry as (id, kind, path, data)."""
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    return entry_id.decode(), named[b"kind"].decode(), named[b"path"].decode(), named[b"data"]


def _info(run_id: RunId, fields: Sequence[bytes | None], entries: int, now: int, *, on_queue: bool) -> RunInfo:
    text = {name: (value or b"").decode() for name, value in zip(_FIELDS, fields, strict=True)}
    status = RunStatus(text["status"])
    left = max(0, int(text["lease_until"] or 0) - now)
    return RunInfo(
        run_id=run_id,
        status=status,
        graph=text["graph"],
        digest=Digest(text["digest"]),
        input=text["input"],
        created_ms=int(text["created_ms"] or 0),
        ended_ms=int(text["ended_ms"]) if text["ended_ms"] else None,
        holder=describe(text["holder"]),
        lease_left_ms=0 if is_dead(text["holder"]) else left,
        entries=entries,
        generation=int(text["generation"] or 1),
        deadline_ms=int(text["deadline_ms"]) if text["deadline_ms"] not in {"", "0"} else None,
        version=text["version"],
        distributed=text["distributed"] == "1",
        queue=text["queue"],
        watched=text["tokens"] == "1",
        on_queue=on_queue,
    )


def not_found(run_id: RunId) -> RunNotFound:
    return RunNotFound(
        f"there is no run {run_id!r}; `orka runs list` shows those that are kept (REDIS_URL and ORKA_HOME say where)",
        run_id=run_id,
    )


def _pairs(reply: Sequence[Any]) -> list[tuple[bytes, Any]]:
    """RESP2 gives a flat list, RESP3 a list of pairs."""
    if reply and isinstance(reply[0], list | tuple):
        return [(pair[0], pair[1]) for pair in reply]
    return list(zip(reply[::2], reply[1::2], strict=True))


def _checked(replies: list[Any], tolerant: bool) -> list[Any]:
    if tolerant:
        return [None if isinstance(reply, Exception) else reply for reply in replies]
    for reply in replies:
        if isinstance(reply, Exception):
            raise StoreError(f"Redis refused a command: {reply_text(reply)}") from reply
    return replies
