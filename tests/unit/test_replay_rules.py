"""What a journal answers, entry by entry: no interpreter, no server."""

from __future__ import annotations

import pytest

from orka.errors import JournalMismatch
from orka.journal.entries import (
    Body,
    Kind,
    NodeFinished,
    NodeRetrying,
    NodeStarted,
    Opened,
    RoundScored,
    Row,
    RunEnded,
    RunResumed,
    RunStarted,
    Value,
)
from orka.journal.replay import Replay, build_replay
from orka.results import Failure
from orka.types import Path, Status

ERROR = Failure(kind="AgentError", message="no")
BEGIN = (Kind.RUN_STARTED, Path(""), RunStarted(graph="g", digest="d", input=Value(), at_ms=1, version="0"))
AGAIN = (Kind.RUN_RESUMED, Path(""), RunResumed(digest="d", at_ms=9, version="0", holder="h"))

Entry = tuple[str, Path, Body]


def done(path: str, *, failed: bool = False, consumed: bool = False, fork: str = "") -> Entry:
    status, error = (Status.ERROR, ERROR) if failed else (Status.SUCCESS, None)
    body = NodeFinished(id=path, node="n", at_ms=5, ms=1, status=status, error=error, consumed=consumed, fork=fork)
    return Kind.NODE_FINISHED, Path(path), body


def started(path: str, attempt: int = 1, at_ms: int = 5) -> Entry:
    return Kind.NODE_STARTED, Path(path), NodeStarted(id=path, node="n", at_ms=at_ms, attempt=attempt)


def retrying(path: str, attempt: int, at_ms: int = 5) -> Entry:
    body = NodeRetrying(id=path, node="n", at_ms=at_ms, attempt=attempt, error=ERROR, delay_ms=1)
    return Kind.NODE_RETRYING, Path(path), body


def opened(path: str, kind: str = Kind.FORK_OPENED) -> Entry:
    return kind, Path(path), Opened(id=path, node="n", at_ms=5, branches=2)


def scored(path: str, *, timed_out: bool = False) -> Entry:
    body = RoundScored(id=path, node="n", at_ms=5, round=1, score=0.1, met=False, timed_out=timed_out)
    return Kind.ROUND_SCORED, Path(path), body


def ended(path: str = "") -> Entry:
    return Kind.RUN_FAILED, Path(""), RunEnded(error=ERROR, path=path)


def replay(*entries: Entry) -> Replay:
    return build_replay("r", [Row(*entry) for entry in (BEGIN, *entries)])


def believed(made: Replay, path: str) -> bool:
    visit = made.answer(Path(path), "n")
    return visit is not None and visit.finished is not None


def test_successes_and_failures_that_were_taken_in_are_believed() -> None:
    made = replay(done("a"), done("b", failed=True, consumed=True), done("c", failed=True))
    assert [believed(made, path) for path in "abc"] == [True, True, False]


def test_a_failure_below_a_committed_join_is_believed_even_where_the_map_around_it_is_tried_again() -> None:
    made = replay(
        opened("m", Kind.MAP_OPENED),
        done("m.0/a", failed=True, consumed=True),
        opened("m.0/f"),
        done("m.0/f.0/x", failed=True),
        done("m.0/j", fork="m.0/f"),
        done("m", failed=True, fork="m"),
    )
    assert [believed(made, path) for path in ("m.0/a", "m.0/f.0/x", "m.0/j", "m")] == [False, True, True, False]


def test_a_join_that_failed_for_good_opens_its_branches_again() -> None:
    entries = opened("f"), done("f.0/a", failed=True, consumed=True), done("f.1/b")
    stays = replay(*entries, done("j", failed=True, consumed=True, fork="f"))
    assert [believed(stays, path) for path in ("f.0/a", "j")] == [True, True]
    assert set(stays.joins) == {"f"}
    again = replay(*entries, done("j", failed=True, fork="f"))
    assert [believed(again, path) for path in ("f.0/a", "f.1/b", "j")] == [False, True, False]
    assert not again.joins


@pytest.mark.parametrize("below", [scored("l[1]"), done("l")])
def test_a_failure_inside_a_decided_round_or_loop_is_believed(below: Entry) -> None:
    assert believed(replay(done("l[1]/a", failed=True), below), "l[1]/a")


def test_the_failure_that_ended_the_run_is_tried_again_until_it_has_been() -> None:
    failure = done("a", failed=True, consumed=True)
    assert not believed(replay(failure, ended("a")), "a")
    assert not believed(replay(failure, ended("a"), AGAIN), "a")
    assert believed(replay(failure, ended("a"), AGAIN, failure), "a")


def test_attempts_go_on_where_the_crash_was_and_begin_anew_after_a_failed_run() -> None:
    made = replay(retrying("a", 2, at_ms=7), started("b", 3, at_ms=8), started("c"), done("c", failed=True), ended("c"))
    visits = [made.answer(Path(path), "n") for path in "abc"]
    assert [(visit.attempts, visit.at_ms) for visit in visits if visit] == [(2, 7), (2, 8), (0, 0)]


def test_what_nobody_asks_for_is_a_mismatch() -> None:
    made = replay(done("a"), done("b"), done("c"))
    made.answer(Path("a"), "n")
    with pytest.raises(JournalMismatch, match="'b'") as caught:
        made.at_frontier(Path(""))
    assert caught.value.path == "b"


def test_behind_a_visit_that_is_tried_again_successes_wait_to_be_asked_for() -> None:
    made = replay(done("a"), done("b", failed=True), done("c"))
    made.answer(Path("a"), "n")
    assert made.at_frontier(Path("")) is True
    made.answer(Path("b"), "n")
    assert believed(made, "c")
    assert made.at_frontier(Path("")) is False


def test_branches_that_were_cut_off_need_not_be_asked_for() -> None:
    made = replay(
        opened("f"), done("f.0/a"), opened("g"), done("g.0/b"), scored("l[1]", timed_out=True), done("l[1]/c")
    )
    for path in ("f", "g", "l[1]"):
        made.answer(Path(path), "n")
    with pytest.raises(JournalMismatch, match=r"f\.0/a"):
        made.at_end()
    made.closed |= {Path("f"), Path("g")}
    made.at_end()


def test_a_node_that_changed_may_be_visited_only_if_nothing_came_of_it() -> None:
    made = replay(done("a"), opened("f"), started("b", 2), done("c", failed=True))
    for path in ("a", "f"):
        with pytest.raises(JournalMismatch, match="defined differently"):
            made.answer(Path(path), "other")
    for path in ("b", "c"):
        visit = made.answer(Path(path), "other")
        assert visit is not None
        assert (visit.finished, visit.attempts, visit.at_ms) == (None, 0, 0)
