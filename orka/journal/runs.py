"""The registry of runs: create one, take one over, list them, read their entries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import anyio

from orka.clock import now_ms
from orka.errors import OrkaError, RunAlive, RunNotFound, StoreError
from orka.ids import new_nonce
from orka.journal.entries import Body, Kind, RunEnded, decode_body, make_entry
from orka.journal.holder import current_holder, describe, is_dead
from orka.journal.log import FAREWELL, Creation, Ending, Listener, Reopening, RunLog
from orka.journal.writer import Journal
from orka.redis.keys import RunKeys, ended_runs_key, graph_key, open_runs_key, run_keys, tag_of
from orka.redis.pipeline import ConnectionLost, Pipe
from orka.redis.scripts import Command, Entry, release, take
from orka.types import Digest, Json, Path, RunId, RunStatus

_PAGE = 500
"""Entries, or run ids, read in one round trip."""
_RECONNECT = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0)
"""Seconds before each further attempt when the connection is lost; everything sent that way is harmless when repeated."""
_FIELDS = (
    *("status", "graph", "digest", "input", "created_ms", "ended_ms"),
    *("lease_until", "holder", "seq", "generation", "deadline_ms", "version"),
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

    @property
    def stale(self) -> bool:
        """Under way, and nobody executes it."""
        return self.status is RunStatus.RUNNING and self.lease_left_ms == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A run whose lease this process now holds, not yet reopened."""

    log: RunLog
    info: RunInfo


class Runs:
    """Reads and writes the registry of one Redis. Cheap; several may share a pipe."""

    def __init__(self, pipe: Pipe, *, partitions: int, lease: float, retention: float) -> None:
        self._pipe = pipe
        self._partitions = partitions
        self._lease_ms = int(lease * 1000)
        self._retention_ms = int(retention * 1000)

    def keys(self, run_id: RunId) -> RunKeys:
        return run_keys(run_id, self._partitions)

    async def create(
        self,
        journal: Journal,
        run_id: RunId,
        digest: Digest,
        *,
        graph: bytes,
        entry: Entry,
        fields: Mapping[str, str],
        deadline: float | None,
        listener: Listener | None = None,
    ) -> RunLog:
        """Run, lease and `run.started` as one script; returns when they are stored. `deadline` in seconds from now.

        Cancelling ends the run as cancelled: the server may have it already.
        """
        log = RunLog(
            run_id=run_id,
            keys=self.keys(run_id),
            digest=digest,
            lease=f"1-{new_nonce()}",
            seq=1,
            wake=journal.wake,
            listener=listener,
            creation=Creation(
                at_ms=now_ms(),
                graph=graph,
                deadline_ms=0 if deadline is None else max(1, int(deadline * 1000)),
                entry=entry,
                fields=(
                    *("digest", digest, "holder", current_holder()),
                    *(part for pair in fields.items() for part in pair),
                ),
            ),
        )
        journal.add(log)
        try:
            await log.barrier()
        except BaseException:
            if log.failure is None:
                with anyio.move_on_after(FAREWELL, shield=True), suppress(OrkaError):
                    ending = Ending(status="cancelled", retention_ms=self._retention_ms)
                    await log.end(make_entry(Kind.RUN_CANCELLED, "", RunEnded()), ending)
            journal.remove(log)
            raise
        return log

    async def take(
        self, journal: Journal, run_id: RunId, *, force: bool = False, listener: Listener | None = None
    ) -> Taken | None:
        """Becomes the run's owner in the next epoch; None when the run is completed and needs none.

        `RunAlive` when somebody executes it (unless `force`, or that process is known to be dead); `RunNotFound`.
        """
        info = await self.info(run_id)
        keys = self.keys(run_id)
        raw = await self._hash(keys.run, "holder")
        dead = raw[0].decode() if raw[0] and is_dead(raw[0].decode()) else ""
        nonce = new_nonce()
        try:
            reply = await self._one(
                keys.run,
                take(keys, nonce=nonce, holder=current_holder(), lease_ms=self._lease_ms, dead=dead, force=force),
            )
        except BaseException:  # it may be ours all the same
            with anyio.move_on_after(FAREWELL, shield=True), suppress(StoreError):
                await self._give_back(keys, nonce)
            raise
        match reply[0]:
            case b"ok":
                log = RunLog(
                    run_id=run_id,
                    keys=keys,
                    digest=info.digest,
                    lease=reply[1].decode(),
                    seq=reply[2],
                    wake=journal.wake,
                    listener=listener,
                )
                return Taken(log=log, info=info)
            case b"completed":
                return None
            case b"alive":
                holder = describe(reply[1].decode())
                raise RunAlive(
                    f"run {run_id} is being executed by {holder} (its lease lasts {reply[2] / 1000:.1f} s more);"
                    " wait for it, or use --take-over if you know that process to be lost",
                    run_id=run_id,
                    holder=holder,
                    left_ms=reply[2],
                )
            case _:
                raise _not_found(run_id)

    async def reopen(self, journal: Journal, taken: Taken, digest: Digest, graph: bytes, data: bytes) -> None:
        """The taken run goes on, in its next generation, under `graph`; `data` is its `run.resumed` entry."""
        log = taken.log
        log.digest = digest
        log.reopen(
            Reopening(seq=log.stored + 1, graph=graph, before=taken.info.digest, data=data, holder=current_holder())
        )
        reply = await self._one(log.keys.run, log.commands(self._lease_ms, self._retention_ms, 0))
        if reply[0] != b"ok":
            raise RunAlive(
                f"run {log.run_id} was taken by another process meanwhile",
                run_id=log.run_id,
                holder="another process",
                left_ms=0,
            )
        log.acknowledge_opening(reply[2])
        journal.add(log)

    async def release(self, log: RunLog) -> None:
        """Gives back the lease of a run that is not executed any further, and has not been ended."""
        await self._give_back(log.keys, log.lease.partition("-")[2])

    async def info(self, run_id: RunId) -> RunInfo:
        """`RunNotFound` when there is no such run."""
        found = await self.infos([run_id])
        if not found:
            raise _not_found(run_id)
        return found[0]

    async def infos(self, run_ids: Sequence[RunId]) -> list[RunInfo]:
        """One round trip; runs that do not exist are left out."""
        keyed: list[tuple[str, Command]] = []
        for run_id in run_ids:
            key = self.keys(run_id).run
            keyed += [(key, ("HMGET", key, *_FIELDS)), (key, ("TIME",))]
        replies = await self._ask(keyed) if keyed else []
        found: list[RunInfo] = []
        for index, run_id in enumerate(run_ids):
            fields, time = replies[2 * index], replies[2 * index + 1]
            if fields[0] is not None:
                found.append(_info(run_id, fields, int(time[0]) * 1000 + int(time[1]) // 1000))
        return found

    async def list(self, *, status: RunStatus | None = None, limit: int = 50, stale: bool = False) -> list[RunInfo]:
        """Newest first. `stale`: only runs under way that nobody executes."""
        kinds = [open_runs_key] if stale or status is RunStatus.RUNNING else [open_runs_key, ended_runs_key]
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
        """Ids that begin with `prefix`, newest first, at most 20: for people who type the first few characters."""
        found: list[RunId] = []
        for kind in (open_runs_key, ended_runs_key):
            for run_id in await self._newest(kind, 0, 10_000):
                if run_id.startswith(prefix):
                    found.append(run_id)
        return found[:20]

    async def graph(self, run_id: RunId, digest: Digest) -> bytes:
        """The JSON of the graph a run was started with."""
        key = graph_key(self.keys(run_id).tag, digest)
        raw = await self._hash(key, "json")
        if raw[0] is None:
            raise RunNotFound(f"the graph of run {run_id} is not stored any more", run_id=run_id)
        return raw[0]

    async def entries(
        self, run_id: RunId, after: str = "0", until: str = "+"
    ) -> AsyncIterator[tuple[str, str, str, bytes]]:
        """(entry id, kind, path, data) of the run's stream, strictly after an id, in pages."""
        key = self.keys(run_id).journal
        start = "-" if after == "0" else f"({after}"
        while True:
            page = await self._one(key, ("XRANGE", key, start, until, "COUNT", _PAGE))
            for entry_id, fields in page:
                yield decode_entry(entry_id, fields)
            if len(page) < _PAGE:
                return
            start = f"({page[-1][0].decode()}"

    async def history(self, run_id: RunId) -> list[tuple[str, Path, Body]]:
        """Every entry, decoded. `JournalMismatch` for entries that this version does not know."""
        return [
            (kind, Path(path), decode_body(kind, data, run_id=run_id, path=path))
            async for _, kind, path, data in self.entries(run_id)
        ]

    async def values(self, run_id: RunId, refs: Sequence[str]) -> dict[str, bytes]:
        """Large values by digest."""
        if not refs:
            return {}
        key = self.keys(run_id).values
        raw = await self._hash(key, *refs)
        missing = [ref for ref, value in zip(refs, raw, strict=True) if value is None]
        if missing:
            raise StoreError(f"run {run_id}: {len(missing)} large value(s) are missing from {key}")
        return {ref: value for ref, value in zip(refs, raw, strict=True) if value is not None}

    async def delete(self, run_id: RunId) -> None:
        """Removes an ended run at once. Runs under way are refused with `RunAlive`."""
        info = await self.info(run_id)
        if info.status is RunStatus.RUNNING and not info.stale:
            raise RunAlive(
                f"run {run_id} is being executed by {info.holder}; cancel it first",
                run_id=run_id,
                holder=info.holder,
                left_ms=info.lease_left_ms,
            )
        keys = self.keys(run_id)
        commands: list[tuple[str, Command]] = [
            (keys.run, ("UNLINK", keys.run, keys.journal, keys.values)),
            (keys.run, ("ZREM", open_runs_key(keys.tag), run_id)),
            (keys.run, ("ZREM", ended_runs_key(keys.tag), run_id)),
        ]
        if info.status is RunStatus.RUNNING:
            commands.append((keys.run, ("HINCRBY", graph_key(keys.tag, info.digest), "runs", -1)))
        _checked(await self._pipe.roundtrip(commands))

    async def _newest(self, kind: Any, offset: int, count: int) -> list[RunId]:
        """Ids of one kind from every partition, newest first, `offset` and `count` taken per partition."""
        tags = [tag_of(partition) for partition in range(self._partitions)]
        replies = await self._ask(
            [(kind(tag), ("ZREVRANGE", kind(tag), offset, offset + count - 1, "WITHSCORES")) for tag in tags]
        )
        scored: list[tuple[float, str]] = []
        for reply in replies:
            scored += [(float(score), member.decode()) for member, score in _pairs(reply)]
        scored.sort(reverse=True)
        return [RunId(member) for _, member in scored]

    async def _give_back(self, keys: RunKeys, nonce: str) -> None:
        await self._one(keys.run, release(keys, nonce=nonce, retention_ms=self._retention_ms))

    async def _hash(self, key: str, *fields: str) -> list[bytes | None]:
        return await self._one(key, ("HMGET", key, *fields))

    async def _one(self, key: str, command: Command) -> Any:
        return (await self._ask([(key, command)]))[0]

    async def _ask(self, commands: Sequence[tuple[str, Command]]) -> list[Any]:
        """One round trip, again when the connection is lost: it may have been cut while nobody used it."""
        for pause in _RECONNECT:
            try:
                return _checked(await self._pipe.roundtrip(commands))
            except ConnectionLost:
                await anyio.sleep(pause)
        return _checked(await self._pipe.roundtrip(commands))


def decode_entry(entry_id: bytes, fields: Sequence[bytes]) -> tuple[str, str, str, bytes]:
    """One stream entry as (id, kind, path, data)."""
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    return entry_id.decode(), named[b"kind"].decode(), named[b"path"].decode(), named[b"data"]


def preview_of(value: Json, *, encoded: bytes) -> str:
    """The first 200 characters of an input, for the registry."""
    text = value if isinstance(value, str) else encoded.decode()
    return text if len(text) <= 200 else f"{text[:199]}…"


def _info(run_id: RunId, fields: Sequence[bytes | None], now: int) -> RunInfo:
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
        entries=int(text["seq"] or 0),
        generation=int(text["generation"] or 1),
        deadline_ms=int(text["deadline_ms"]) if text["deadline_ms"] not in {"", "0"} else None,
        version=text["version"],
    )


def _not_found(run_id: RunId) -> RunNotFound:
    return RunNotFound(
        f"there is no run {run_id!r}; `orka runs list` shows those that are kept (REDIS_URL and ORKA_HOME say where)",
        run_id=run_id,
    )


def _pairs(reply: Sequence[Any]) -> list[tuple[bytes, Any]]:
    """RESP2 gives a flat list, RESP3 a list of pairs."""
    if reply and isinstance(reply[0], list | tuple):
        return [(pair[0], pair[1]) for pair in reply]
    return list(zip(reply[::2], reply[1::2], strict=True))


def _checked(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise StoreError(f"Redis refused a command: {reply}") from reply
    return replies
