"""How much of what has ended is kept for a server that may come back without it."""

import pytest
from support.journals import keys_of

from orka.journal import returns
from orka.journal.log import RunLog
from orka.journal.returns import Returns
from orka.journal.terms import Ending
from orka.redis.pipeline import ServerChanged
from orka.redis.scripts import Entry
from orka.types import Digest, RunId


def ended(number: int, size: int = 10) -> RunLog:
    log = RunLog(
        run_id=RunId(f"r{number}"),
        keys=keys_of(f"r{number}"),
        digest=Digest("d"),
        lease="1-a",
        seq=1,
        wake=lambda _: None,
    )
    log.ending = Ending(status="completed", retention_ms=1)
    log.append(Entry("run.completed", "", b"x" * size))
    log.acknowledge(1, [b"1-1"])
    return log


def names(kept: Returns) -> list[str]:
    return [log.run_id for log in kept.kept]


def test_the_oldest_ends_go_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returns, "MOST_LOGS", 3)
    kept = Returns()
    for number in range(5):
        kept.keep(ended(number))
    assert names(kept) == ["r2", "r3", "r4"]


def test_the_oldest_ends_go_when_they_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returns, "MOST_BYTES", 100)
    kept = Returns()
    for number, size in enumerate((40, 40, 40, 90)):
        kept.keep(ended(number, size))
    assert names(kept) == ["r3"]
    kept.keep(ended(9, 101))
    assert names(kept) == []


def test_an_end_is_dropped_once_the_server_was_there_long_enough_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(returns, "monotonic", lambda: now[0])
    kept = Returns()
    kept.keep(ended(1))
    now[0] = 102.0
    kept.keep(ended(2))
    kept.settle(103.0)
    assert names(kept) == ["r1", "r2"]
    kept.settle(103.1)
    assert names(kept) == ["r2"]


def test_ends_are_asked_for_when_another_server_answers_and_kept_again_after_that() -> None:
    kept = Returns()
    log = ended(1)
    kept.keep(log)
    logs: set[RunLog] = set()
    kept.begin(ServerChanged("back", uptime=0), logs)
    assert (logs, names(kept), log.renewing) == ({log}, [], True)
    assert not kept.has_settled(log)
    log.renewing = False
    assert kept.has_settled(log)
    assert (names(kept), kept.restored, kept.overtaken) == (["r1"], 0, 0)


def test_a_branch_that_is_cut_off_while_its_entries_are_on_their_way_takes_the_reply() -> None:
    log = ended(1)
    log.ending = None
    log.append(Entry("node.finished", "f.0/a", b"{}"))
    log.cut_off = True
    kept = Returns()
    kept.keep(log)
    log.acknowledge(1, [b"1-2"])
    logs: set[RunLog] = set()
    kept.begin(ServerChanged("back", uptime=0), logs)
    assert (log.over, log.failure, len(log.pending), len(log.retained)) == (True, None, 0, 0)
