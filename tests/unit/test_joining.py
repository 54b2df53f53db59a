"""When a join has seen enough, and what it and a map make of their branches."""

from typing import Any

import pytest

from orka.engine.joining import Branch, Verdict, decide, failed_output, merge
from orka.results import Failure

BOOM = Failure(kind="AgentError", message="boom")


def verdict(satisfied: bool, settled: tuple[int, ...], winners: tuple[int, ...]) -> Verdict:
    return Verdict(satisfied=satisfied, settled=settled, winners=winners)


@pytest.mark.parametrize(
    ("mode", "wanted", "on_failure", "settled", "expected"),
    [
        ("all", None, "continue", [], None),
        ("all", None, "continue", [(2, True), (0, True)], None),
        ("all", None, "continue", [(2, True), (0, False), (1, True)], verdict(True, (2, 0, 1), (0, 1, 2))),
        ("all", None, "fail", [(2, True), (0, False), (1, True)], verdict(False, (2, 0, 1), (0, 1, 2))),
        ("all", None, "fail", [(0, False)], None),
        ("any", None, "continue", [(1, False)], None),
        ("any", None, "continue", [(1, False), (2, True)], verdict(True, (1, 2), (2,))),
        ("any", None, "continue", [(2, True), (0, True), (1, True)], verdict(True, (2,), (2,))),
        ("any", None, "continue", [(1, False), (2, False), (0, False)], verdict(False, (1, 2, 0), ())),
        ("quorum", 2, "continue", [(2, True)], None),
        ("quorum", 2, "continue", [(2, True), (1, False), (0, True)], verdict(True, (2, 1, 0), (0, 2))),
        ("quorum", 2, "continue", [(2, True), (0, True), (1, True)], verdict(True, (2, 0), (0, 2))),
        ("quorum", 2, "continue", [(2, False), (1, True)], None),
        ("quorum", 2, "continue", [(2, False), (1, False)], verdict(False, (2, 1), ())),
        ("quorum", 3, "continue", [(0, False)], verdict(False, (0,), ())),
        ("quorum", None, "continue", [(0, True)], verdict(True, (0,), (0,))),
    ],
)
def test_a_join_of_three_branches_decides(
    mode: Any, wanted: int | None, on_failure: Any, settled: list[tuple[int, bool]], expected: Verdict | None
) -> None:
    assert decide(mode, wanted, on_failure, 3, settled) == expected


def test_nothing_to_join_is_decided_at_once() -> None:
    assert decide("all", None, "fail", 0, []) == verdict(True, (), ())


def branch(*members: str, failed: tuple[str, ...] = (), error: Failure | None = None, **outputs: Any) -> Branch:
    return Branch(members=members, outputs=outputs, failed=failed, error=error)  # type: ignore[arg-type]


def test_a_join_spreads_what_it_merges_and_names_who_failed() -> None:
    wrong = failed_output(BOOM)
    output = merge([branch("a", "b", a={"response": 1}, b=wrong, failed=("b",)), branch("c", c=[1])], (0, 1))
    assert output == {
        "a": {"response": 1},
        "b": {"error": "boom", "error_type": "AgentError", "status": "error"},
        "c": [1],
        "status": "done",
        "merged": {"a": {"response": 1}, "b": wrong, "c": [1]},
        "failed": ["b"],
    }


def test_members_behind_the_one_that_stopped_their_branch_failed_with_it() -> None:
    output = merge([branch("a", "b", a=failed_output(BOOM), failed=("a",), error=BOOM)], (0,))
    assert output["failed"] == ["a", "b"]
    assert output["merged"] == {"a": failed_output(BOOM), "b": failed_output(BOOM)}


def test_losers_are_not_merged_and_those_under_way_are_named_as_cancelled() -> None:
    under_way = Branch(members=("c", "d"), outputs={}, failed=(), ended=False)  # type: ignore[arg-type]
    output = merge([branch("a", a=failed_output(BOOM), failed=("a",)), branch("b", b="won"), under_way], (1,))
    assert output == {"b": "won", "status": "done", "merged": {"b": "won"}, "failed": ["a"], "cancelled": ["c", "d"]}


def test_members_called_like_the_joins_own_keys_stay_reachable_under_merged() -> None:
    output = merge([branch("status", "failed", status="s", failed=("failed",))], (0,))
    assert output["status"] == "done"
    assert output["merged"] == {"status": "s"}
