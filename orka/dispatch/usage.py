"""Who has, and who waits for, the places and turns of limits: read for people. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orka.dispatch.limits import Limit
from orka.journal.registry import Registry
from orka.redis.keys import limit_keys
from orka.redis.lua import Command
from orka.types import Path, RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One call of an agent, or one task of a queue."""

    process: str
    run: RunId
    path: Path
    """Of the visit or the task; empty: the whole run."""
    ms: int
    """A holder: how long its lease lasts; a waiter: how long it has waited; a turn: how long until it comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One limit at one moment."""

    limit: Limit
    holders: tuple[Ticket, ...]
    waiting: tuple[Ticket, ...]
    """In the order in which they get a place."""
    turns: tuple[Ticket, ...]
    """Those whose turn is still to come, the next one first; with places, too, they are among the holders as well."""

    def of_run(self, run: RunId) -> tuple[Ticket, ...]:
        """Those of one run that cannot go on yet."""
        return tuple(ticket for ticket in (*self.waiting, *self.turns) if ticket.run == run)


async def read_usage(registry: Registry, limits: Iterable[Limit], *, most: int = 1000) -> list[Usage]:
    """One round trip for all limits; `most` tickets of each kind. `orka.engine.limiting.all_limits` knows those of a graph."""
    limits = list(limits)
    commands: list[tuple[str, Command]] = []
    for limit in limits:
        held, queue, asked, turns, _, _ = limit_keys(limit.name, len(registry.tags))
        for key in (held, queue, turns):
            commands.append((key, ("ZRANGE", key, 0, most - 1, "WITHSCORES")))
        commands += [(asked, ("HGETALL", asked)), (held, ("TIME",))]
    replies = await registry.ask(commands) if commands else []
    found: list[Usage] = []
    for index, limit in enumerate(limits):
        held, queue, turns, asked, time = replies[5 * index : 5 * index + 5]
        now = int(time[0]) * 1_000_000 + int(time[1])
        since = {asked[i]: int(asked[i + 1].rpartition(b"|")[2]) for i in range(0, len(asked), 2)}
        found.append(
            Usage(
                limit=limit,
                holders=tuple(_ticket(raw, at - now) for raw, at in _scored(held) if at > now),
                waiting=tuple(_ticket(raw, now - since.get(raw, now)) for raw, _ in _scored(queue)),
                turns=tuple(_ticket(raw, at - now) for raw, at in _scored(turns) if at > now),
            )
        )
    return found


def _scored(reply: list[bytes]) -> list[tuple[bytes, int]]:
    return [(reply[i], int(float(reply[i + 1]))) for i in range(0, len(reply), 2)]


def _ticket(raw: bytes, micros: int) -> Ticket:
    process, _, run, path = raw.decode().split("/", 3)
    return Ticket(process=process, run=RunId(run), path=Path(path), ms=max(0, micros) // 1000)
