"""What `orka doctor` says of a run that waits at a limit."""

from orka.dispatch.limit_reasons import reasons_of
from orka.dispatch.limits import Limit
from orka.dispatch.usage import Ticket, Usage
from orka.types import Path, RunId

MINE, OTHER = RunId("mine"), RunId("other")


def ticket(path: str, ms: int, run: RunId = MINE, process: str = "box-1") -> Ticket:
    return Ticket(process=process, run=run, path=Path(path), ms=ms)


def usage(
    limit: Limit, holders: tuple[Ticket, ...] = (), waiting: tuple[Ticket, ...] = (), turns: tuple[Ticket, ...] = ()
) -> Usage:
    return Usage(limit=limit, holders=holders, waiting=waiting, turns=turns)


PLACES = Limit(name="agent:g/draw", most=2)


def test_a_run_that_waits_for_a_place_is_told_who_has_them_and_its_place_in_the_line() -> None:
    found = usage(
        PLACES,
        holders=(ticket("a.0/draw", 900, OTHER), ticket("s.0/draw", 800)),
        waiting=(ticket("a.1/draw", 5_000, OTHER), ticket("s.1/draw", 4_200), ticket("s.2/draw", 4_100)),
    )
    assert list(reasons_of(found, MINE)) == [
        (
            "2 of 2 places of limit agent:g/draw are held, by run other (a.0/draw on box-1) and this run (s.0/draw on box-1):"
            " 2 calls of this run wait for a place, the first one for 4.2 s with 1 of other runs in front of it",
            "the next place comes when one of these ends; what holds them up: `orka doctor other`;"
            " more at once for later runs: `max_concurrency` of the agent",
        )
    ]
    assert list(reasons_of(found, RunId("third"))) == []


def test_the_place_of_a_silent_worker_comes_free_with_its_lease() -> None:
    found = usage(
        Limit(name="resource:model", most=1), (ticket("", 3_100, OTHER, "box-9"),), (ticket("s.1/draw", 2_000),)
    )
    [(what, remedy)] = reasons_of(found, MINE, silent={"box-9"})
    assert what == (
        "1 of 1 places of limit resource:model are held, by run other (the run on box-9): 1 call of this run waits for a"
        " place, the first one for 2.0 s"
    )
    assert remedy == (
        "the place of worker box-9, which gives no sign of life, comes free in 3.1 s;"
        " more at once for later runs: `limits: {model: {max_concurrency: ...}}` of the orchestrator"
    )


def test_free_places_go_to_the_first_in_line() -> None:
    [(what, remedy)] = reasons_of(usage(Limit(name="queue:gpu", most=3), (), (ticket("s.1", 10),)), MINE)
    assert (
        what
        == "0 of 3 places of limit queue:gpu are held: 1 task of this run waits for a place, the first one for 0.0 s"
    )
    assert remedy.startswith("whoever is first in line gets its place")


def test_turns_say_when_they_come() -> None:
    rate = Limit(name="agent:g/draw", interval=200_000)
    one, two = ticket("s.0/draw", 150), ticket("s.3/draw", 2_050)
    [(what, remedy)] = reasons_of(usage(rate, turns=(one, ticket("a.1/draw", 350, OTHER), two)), MINE)
    assert what == (
        "limit agent:g/draw lets one call begin every 0.2 s: 2 calls of this run wait for their turns, which begin in 0.1 s"
        " and end in 2.0 s"
    )
    assert remedy.endswith("more of them for later runs: `rate_limit` of the agent")
    [(what, _)] = reasons_of(usage(rate, turns=(one,)), MINE)
    assert what.endswith("1 call of this run waits for its turn, which is in 0.1 s")


def test_many_holders_are_counted_and_not_named() -> None:
    holders = tuple(ticket(f"s.{n}/draw", 900) for n in range(5))
    holders += tuple(ticket(f"r{n}/draw", 900, RunId(f"r{n}")) for n in range(4))
    [(what, _)] = reasons_of(usage(Limit(name="agent:g/draw", most=9), holders, (ticket("s.9/draw", 1),)), MINE)
    assert "by this run (s.0/draw on box-1, s.1/draw on box-1, s.2/draw on box-1, 2 more) and run r0 (" in what
    assert " and 2 more run(s): 1 call" in what
