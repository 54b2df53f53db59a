"""The roster of workers: who is there, what each serves, and when it made progress last. Entries expire by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orka.journal.holder import is_dead
from orka.journal.registry import Registry
from orka.redis.keys import queues_key, worker_key, workers_key
from orka.redis.lua import Command

_KEPT = 100
"""Leases that a worker which vanished stays on the roster, so that its end is seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """One worker as it described itself last."""

    worker: str
    host: str
    pid: int
    queues: tuple[str, ...]
    concurrency: int
    running: int
    """Tasks that hold a slot."""
    parked: int
    """Tasks that wait for their branches."""
    done: int
    started_ms: int
    seen_ms: int
    """When it wrote this."""
    progress_ms: int
    """When it began or ended a task last: a worker that lives and does nothing shows here."""
    lease_ms: int
    holder: str
    version: str
    state: str
    """`running`, or `stopping` after SIGTERM."""
    abandoned: int
    """Agents that ignored their cancellation and still run."""

    def late_ms(self, now: int) -> int:
        """How long its next sign of life is overdue; 0 while it is not."""
        return max(0, now - self.seen_ms - self.lease_ms)

    @property
    def dead(self) -> bool:
        """Its process is known to be gone."""
        return is_dead(self.holder)

    def alive(self, now: int, *, stopping: bool = False) -> bool:
        """It takes tasks; with `stopping` also when it only finishes those that it has."""
        return not self.dead and not self.late_ms(now) and (stopping or self.state == "running")

    def condition(self, now: int) -> str:
        """For people: `dead`, `late`, or what it says itself."""
        return "dead" if self.dead else "late" if self.late_ms(now) else self.state


def serving(workers: Iterable[WorkerInfo], now: int) -> frozenset[str]:
    """Queues that some worker takes tasks from. `now` by the clock of this machine, which has to agree with theirs to
    within a lease."""
    return frozenset(queue for worker in workers if worker.alive(now) for queue in worker.queues)


def remedy_for(queue: str) -> str:
    """The command that serves a queue."""
    return "`orka worker`" if queue == "default" else f"`orka worker --queue {queue}`"


class Roster:
    """Reads and writes the roster. Cheap."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def sign(
        self, worker: str, facts: Mapping[str, str | int], *, queues: tuple[str, ...], lease_ms: int
    ) -> None:
        """Writes what a worker says of itself."""
        key = worker_key(worker)
        pairs = [part for pair in facts.items() for part in pair]
        kept = lease_ms * _KEPT
        now = int(facts["seen_ms"])
        commands: list[Command] = [
            ("HSET", key, *pairs, "queues", ",".join(queues), "lease_ms", lease_ms),
            ("PEXPIRE", key, kept),
            ("ZADD", workers_key(), now, worker),
            ("ZREMRANGEBYSCORE", workers_key(), "-inf", now - kept),
            ("PEXPIRE", workers_key(), kept),
            ("SADD", queues_key(), *queues),
        ]
        await self._registry.ask([(key, command) for command in commands])

    async def strike(self, worker: str) -> None:
        """A worker that leaves takes itself off."""
        key = worker_key(worker)
        await self._registry.ask([(key, ("DEL", key)), (key, ("ZREM", workers_key(), worker))])

    async def workers(self) -> list[WorkerInfo]:
        """Everybody on the roster, the latest sign of life first."""
        ids = await self._registry.one(workers_key(), ("ZREVRANGE", workers_key(), 0, -1))
        keys = [worker_key(raw.decode()) for raw in ids]
        replies = await self._registry.ask([(key, ("HGETALL", key)) for key in keys]) if keys else []
        found: list[WorkerInfo] = []
        for raw, reply in zip(ids, replies, strict=True):
            fields = {reply[i].decode(): reply[i + 1].decode() for i in range(0, len(reply), 2)}
            if fields:
                found.append(_info(raw.decode(), fields))
        return found

    async def without(self, workers: Sequence[str]) -> list[str]:
        """Those that are not on the roster. A worker is on it before it asks for its first task, and until it has
        left, or was silent for a hundred leases."""
        keys = [worker_key(worker) for worker in workers]
        found = await self._registry.ask([(key, ("EXISTS", key)) for key in keys]) if keys else []
        return [worker for worker, there in zip(workers, found, strict=True) if not there]

    async def queues(self) -> tuple[str, ...]:
        """Every queue that a worker has served."""
        return tuple(sorted(raw.decode() for raw in await self._registry.one(queues_key(), ("SMEMBERS", queues_key()))))


def _info(worker: str, fields: Mapping[str, str]) -> WorkerInfo:
    def number(name: str) -> int:
        return int(fields.get(name) or 0)

    return WorkerInfo(
        worker=worker,
        host=fields.get("host", ""),
        pid=number("pid"),
        queues=tuple(fields.get("queues", "").split(",")),
        concurrency=number("concurrency"),
        running=number("running"),
        parked=number("parked"),
        done=number("done"),
        started_ms=number("started_ms"),
        seen_ms=number("seen_ms"),
        progress_ms=number("progress_ms"),
        lease_ms=number("lease_ms"),
        holder=fields.get("holder", ""),
        version=fields.get("version", ""),
        state=fields.get("state", ""),
        abandoned=number("abandoned"),
    )
