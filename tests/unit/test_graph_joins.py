"""Joins that a run would skip, and keys that mean nothing to a fork, are reported by the checker."""

import pytest

from orka.services import check_file

FORK = "{id: f, type: fork, targets: [[b], [c]]}"
JOIN = "{id: j, type: join, group: f}"
AGAIN = "{id: k, type: join, group: f}"
OTHERS = ("{id: b, type: echo}", "{id: c, type: echo}")


def report(listed: str, *entries: str) -> list[str]:
    """Places are those of a file whose entries stand on lines 3 and following."""
    text = f"orchestrator: {{agents: {listed}}}\nagents:\n" + "".join(f"  - {entry}\n" for entry in (*entries, *OTHERS))
    return [fault.render().splitlines()[0] for fault in check_file(text, "f.yml").faults]


ELSEWHERE = (
    "f.yml:3:10: warning: join 'j' waits for fork 'f', but runs in {}, which does not open it: it will be skipped "
)
HINT = "(list it where 'f' is listed)"


@pytest.mark.parametrize(
    ("listed", "entries", "where"),
    [
        ("[f, g]", ("{id: g, type: fork, targets: [[a, j]]}", "{id: a, type: echo}"), "branch 1 of fork 'g'"),
        ("[f, m]", ("{id: m, type: map, items: [1], agents: [j]}",), "the items of map 'm'"),
        ("[f, o]", ("{id: o, type: failover, children: [j]}",), "a child of failover 'o'"),
        (
            "[f, l]",
            ("{id: l, type: loop, internal_workflow: {orchestrator: {agents: [j]}}}",),
            "the rounds of loop 'l'",
        ),
        ("[g, j]", ("{id: g, type: fork, targets: [[f]]}",), "the file's own list"),
        (
            "[f, g]",
            ("{id: g, type: fork, targets: [[r]]}", "{id: r, type: router, decision_key: input, routing_map: {x: j}}"),
            "branch 1 of fork 'g'",
        ),
    ],
)
def test_a_join_that_runs_where_its_fork_is_not_opened_is_reported(
    listed: str, entries: tuple[str, ...], where: str
) -> None:
    assert report(listed, JOIN, FORK, *entries) == [ELSEWHERE.format(where) + HINT]


@pytest.mark.parametrize(("listed", "name"), [("[f, j, k]", "k"), ("[f, j, f, j, k]", "k"), ("[f, k, j, j]", "j")])
def test_one_join_more_than_its_fork_is_opened_is_reported(listed: str, name: str) -> None:
    assert [fault.split(" ", 1)[1] for fault in report(listed, FORK, JOIN, AGAIN)] == [
        f"warning: join {name!r} waits for fork 'f', which is joined before and not opened again: it will be skipped"
    ]


@pytest.mark.parametrize(
    ("listed", "entries"),
    [
        ("[f, j]", ()),
        ("[f, j, f, j]", ()),
        ("[g]", ("{id: g, type: fork, targets: [[f, j]]}",)),
        ("[l]", ("{id: l, type: loop, internal_workflow: {orchestrator: {agents: [f, j]}}}",)),
        ("[f, r]", ("{id: r, type: router, decision_key: input, routing_map: {x: j, y: b}}",)),
        ("[f, r, j]", ("{id: r, type: router, decision_key: input, routing_map: {x: [j, f], y: b}}",)),
        ("[a, j]", ("{id: a, type: echo, value: {next: f}}",)),
    ],
)
def test_no_alarm_where_the_fork_may_be_open(listed: str, entries: tuple[str, ...]) -> None:
    assert report(listed, FORK, JOIN, *entries) == []


def test_on_error_of_a_fork_has_no_effect() -> None:
    assert report("[f, j]", FORK.replace("targets", "on_error: stop, targets"), JOIN) == [
        "f.yml:3:35: warning: 'on_error' has no effect on fork 'f' "
        "(a fork itself never fails; it belongs on the agents of its branches or on the join)"
    ]
