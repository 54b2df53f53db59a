"""What holds a run up at one limit, in words: how much is taken and by whom, what comes next, what to do. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from orka.dispatch.limits import Limit
from orka.dispatch.usage import Ticket, Usage
from orka.journal.paths import readable
from orka.types import RunId

_MOST_NAMED = 3
"""Runs, and paths of each, that are named."""


def reasons_of(usage: Usage, run: RunId, *, silent: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """What holds `run` up, and what to do; nothing when it waits for nothing here. `silent`: workers that give no sign of
    life."""
    if mine := [ticket for ticket in usage.waiting if ticket.run == run]:
        yield _of_places(usage, run, mine, silent)
    if mine := [ticket for ticket in usage.turns if ticket.run == run]:
        yield _of_turns(usage.limit, mine)


def _of_places(usage: Usage, run: RunId, mine: Sequence[Ticket], silent: Collection[str]) -> tuple[str, str]:
    limit = usage.limit
    before = usage.waiting.index(mine[0])
    wait = f"{_waiting(limit, len(mine))} for a place, the first one for {span(mine[0].ms)}"
    wait += f" with {before} of other runs in front of it" if before else ""
    taken = f"{len(usage.holders)} of {limit.most} places of limit {limit.name} are held"
    if not usage.holders:
        return (
            f"{taken}: {wait}",
            "whoever is first in line gets its place at its next sign of life, within a third of a lease",
        )
    gone = [ticket for ticket in usage.holders if ticket.process in silent]
    if gone:
        first = min(gone, key=lambda ticket: ticket.ms)
        due = f"the place of worker {first.process}, which gives no sign of life, comes free in {span(first.ms)}"
    elif len(usage.holders) < limit.most:
        due = "the free places go to the first in line within a third of a lease"
    else:
        due = "the next place comes when one of these ends"
    others = [holder for holder in _runs(usage.holders) if holder != run]
    more = f"; what holds them up: `orka doctor {others[0]}`" if others and not gone else ""
    return (
        f"{taken}, by {_holders(usage.holders, run)}: {wait}",
        f"{due}{more}; more at once for later runs: {_key(limit)}",
    )


def _of_turns(limit: Limit, mine: Sequence[Ticket]) -> tuple[str, str]:
    what = (
        f"limit {limit.name} lets one call begin every {limit.interval / 1_000_000:g} s: {_waiting(limit, len(mine))} for"
        f" {'its turn' if len(mine) == 1 else 'their turns'}, which {'is' if len(mine) == 1 else 'begin'} in {span(mine[0].ms)}"
    )
    if len(mine) > 1:
        what += f" and end in {span(mine[-1].ms)}"
    return (
        what,
        f"nothing: each goes on when its turn is there; more of them for later runs: {_key(limit, 'rate_limit')}",
    )


def _waiting(limit: Limit, count: int) -> str:
    noun = "task" if limit.name.startswith("queue:") else "call"
    return f"1 {noun} of this run waits" if count == 1 else f"{count} {noun}s of this run wait"


def _runs(holders: Sequence[Ticket]) -> dict[RunId, list[Ticket]]:
    found: dict[RunId, list[Ticket]] = {}
    for ticket in holders:
        found.setdefault(ticket.run, []).append(ticket)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _holders(holders: Sequence[Ticket], run: RunId) -> str:
    """`this run (spread.0/draw on box-1) and run 0198 (...)`, those with the most places first."""
    named: list[str] = []
    runs = _runs(holders)
    for holder, tickets in list(runs.items())[:_MOST_NAMED]:
        places = [f"{readable(ticket.path) or 'the run'} on {ticket.process}" for ticket in tickets[:_MOST_NAMED]]
        if len(tickets) > _MOST_NAMED:
            places.append(f"{len(tickets) - _MOST_NAMED} more")
        named.append(f"{'this run' if holder == run else f'run {holder}'} ({', '.join(places)})")
    if len(runs) > _MOST_NAMED:
        named.append(f"{len(runs) - _MOST_NAMED} more run(s)")
    return " and ".join(named)


def _key(limit: Limit, of_agent: str = "max_concurrency") -> str:
    """Where the file says how much there is."""
    kind, _, name = limit.name.partition(":")
    match kind:
        case "queue":
            return f"`queues: {{{name}: {{max_concurrency: ...}}}}` of the orchestrator"
        case "resource":
            return f"`limits: {{{name}: {{{of_agent}: ...}}}}` of the orchestrator"
        case _:
            return f"`{of_agent}` of the agent"


def span(ms: int) -> str:
    """A duration for people."""
    return f"{max(0, ms) / 1000:.1f} s" if ms < 120_000 else f"{ms // 60_000} min"
