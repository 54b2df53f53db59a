"""A run's events become a tree that stays small, however many branches the run has."""

import io

from rich.console import Console

from orka.cli.live import draw
from orka.cli.tree import KEPT, RunTree
from orka.graph.graph import Graph
from orka.graph.nodes import ForkNode, Limits, Scope
from orka.types import Digest, Json, NodeId, Path


def feed(tree: RunTree, *events: tuple[str, str, dict[str, Json]]) -> RunTree:
    for kind, path, data in events:
        tree.apply(kind, Path(path), 1_000, data)
    return tree


def shown(tree: RunTree, limit: int = 50) -> list[str]:
    """Rows below the run's own as `depth state label note`, times left out."""
    rows = tree.rows(limit, 2_000)
    assert len(rows) <= limit
    return [f"{'  ' * (row.depth - 1)}{row.state} {row.label} {row.note}".rstrip() for row in rows[1:]]


def finished(path: str, **data: Json) -> tuple[str, str, dict[str, Json]]:
    return "node.finished", path, {"status": "success", "ms": 5.0, **data}


def test_visits_are_shown_in_order_with_their_state() -> None:
    tree = feed(
        RunTree(),
        ("run.started", "", {}),
        finished("first"),
        finished("bad", status="error", error={"kind": "ValueError", "message": "no luck"}),
        finished("often", attempts=3),
        ("node.started", "slow", {}),
        ("node.retrying", "again", {"attempt": 1, "error": {"kind": "E", "message": "busy"}}),
    )
    assert shown(tree) == [
        "success first",
        "error bad no luck",
        "success often 3 attempts",
        "running slow",
        "retrying again attempt 1 failed: busy",
    ]


def test_a_running_visit_shows_how_long_it_runs() -> None:
    tree = feed(RunTree(), ("node.started", "slow", {}), finished("done", ms=250.0))
    assert [row.seconds for row in tree.rows(10, 3_500)[1:]] == [2.5, 0.25]


def test_the_first_row_is_the_run_itself() -> None:
    tree = feed(RunTree(), ("run.started", "", {"graph": "desk"}))
    assert [(row.state, row.label, row.seconds) for row in tree.rows(10, 4_000)] == [("running", "desk", 3.0)]
    tree.apply("run.failed", Path(""), 6_000, {"error": {"kind": "E", "message": "no"}})
    row = tree.rows(10, 9_000)[0]
    assert (row.state, row.label, row.note, row.seconds) == ("error", "desk", "no", 5.0)


def test_branches_and_rounds_stand_below_their_node() -> None:
    tree = feed(
        RunTree(),
        ("fork.opened", "spread", {"branches": 2}),
        ("node.started", "spread.0/search", {}),
        finished("spread.1/read%2Eme"),
        ("node.started", "debate[2]/critic#3", {}),
        ("round.scored", "debate", {"round": 1, "score": 0.4}),
    )
    assert shown(tree) == [
        "running spread 1 of 2 branches",
        "  running 0: search",
        "  success 1: read.me",
        "running debate",
        "  running round 2",
        "    running critic #3",
        "  success round 1 score 0.4",
    ]


def test_branches_are_shown_in_declared_order_whichever_ends_first() -> None:
    tree = feed(
        RunTree(),
        ("fork.opened", "spread", {"branches": 11}),
        finished("spread.10/last"),
        finished("spread.2/third"),
        finished("spread.0/first"),
        ("node.started", "spread.2/more", {}),
        ("map.opened", "each", {"branches": 2}),
        finished("each.1/work"),
        finished("each.0/work"),
    )
    assert shown(tree) == [
        "running spread 3 of 11 branches",
        "  success 0: first",
        "  success 2: third",
        "  running 2: more",
        "  success 10: last",
        "success each 2 of 2 branches",
        "  success 0: work",
        "  success 1: work",
    ]


def test_ten_thousand_branches_are_one_line_and_little_memory() -> None:
    tree = feed(RunTree(), ("map.opened", "each", {"branches": 10_000}))
    for index in range(4_000):
        feed(tree, finished(f"each.{index}/work", status="error" if index % 1_000 == 0 else "success"))
        feed(tree, finished(f"each.{index}/deep.0/leaf"))
    assert shown(tree) == ["running each 4,000 of 10,000 branches, 4 failed"]
    assert tree.root.children[Path("each")].children == {}
    assert tree.root.children[Path("each")].progress == {}


def test_what_is_still_to_come_is_shown_where_there_is_room() -> None:
    scope = Scope(sequence=tuple(NodeId(f"step{number}") for number in range(9)), nodes={})
    graph = Graph(id="g", scope=scope, limits=Limits(), digest=Digest("0"))
    tree = feed(RunTree(graph), *(finished(f"step{number}") for number in range(6)))
    assert shown(tree, limit=20)[5:] == ["success step5", "waiting step6", "waiting step7", "waiting step8"]
    assert shown(tree, limit=9)[5:] == ["success step5", "waiting step6", "skipped 2 more to come"]
    assert shown(feed(tree, ("run.failed", "", {})), limit=20)[-1] == "success step5"


def test_a_branch_failed_when_one_of_its_members_did() -> None:
    fork = ForkNode(id=NodeId("spread"), branches=tuple((NodeId("a"), NodeId("b")) for _ in range(3)))
    scope = Scope(sequence=(fork.id,), nodes={fork.id: fork})
    graph = Graph(id="g", scope=scope, limits=Limits(), digest=Digest("0"))
    tree = feed(RunTree(graph), ("fork.opened", "spread", {"branches": 3}))
    feed(tree, finished("spread.0/a", status="error", consumed=True), finished("spread.1/a", status="error"))
    assert shown(tree)[0] == "running spread 1 of 3 branches, 1 failed"
    feed(tree, finished("spread.0/b"), finished("spread.2/a"), finished("spread.2/b"))
    assert shown(tree)[0] == "success spread 3 of 3 branches, 2 failed"


def test_a_long_routing_cycle_keeps_its_latest_visits() -> None:
    tree = feed(RunTree(), *(finished(f"step#{number}") for number in range(2, 1_002)))
    rows = shown(tree)
    assert rows[0] == f"skipped {1_000 - KEPT:,} earlier"
    assert rows[-1] == "success step #1001"
    assert len(rows) == KEPT + 1


def test_rows_fit_the_limit_and_the_end_is_what_stays() -> None:
    tree = feed(RunTree(), *(finished(f"step{number}") for number in range(30)), ("node.started", "last", {}))
    rows = shown(tree, limit=6)
    assert rows == ["skipped 27 more above", "success step27", "success step28", "success step29", "running last"]


def test_finished_groups_are_folded_before_anything_is_cut() -> None:
    tree = feed(RunTree(), ("fork.opened", "spread", {"branches": 4}))
    feed(tree, *(finished(f"spread.{index}/search") for index in range(4)), finished("spread"), finished("next"))
    assert shown(tree, limit=4) == ["success spread 4 of 4 branches", "success next"]


def test_a_finished_router_with_running_members_is_not_folded() -> None:
    tree = feed(RunTree(), *(finished(f"step{number}") for number in range(9)), finished("route"))
    feed(tree, ("node.started", "route/answer", {}))
    assert shown(tree, limit=5) == ["skipped 8 more above", "success step8", "success route", "  running answer"]


def test_what_was_under_way_when_the_run_ended_is_not_shown_as_running() -> None:
    tree = feed(RunTree(), ("node.started", "slow", {}), ("run.cancelled", "", {}))
    assert shown(tree) == ["cancelled slow"]


def test_markup_and_escape_sequences_of_ids_and_errors_are_shown_as_text() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100, color_system=None)
    error: Json = {"kind": "E", "message": "[bold]x[/] \x1b[2J\x9b\r"}
    console.print(draw(feed(RunTree(), finished("a%5Bred%5D", status="error", error=error)), console, 2_000))
    printed = output.getvalue()
    assert "a[red]" in printed
    assert "[bold]x[/] \\x1b[2J\\x9b\\x0d" in printed
    assert "\x1b[2J" not in printed
    assert "\x9b" not in printed


def test_a_pure_agent_is_shown_as_running_once_it_takes_long() -> None:
    tree = feed(RunTree(), ("run.started", "", {}), finished("first"))
    tree.begin(Path("slow"), 1_000)
    tree.begin(Path("quick"), 1_000)
    tree.show_begun(1_100)
    assert shown(tree) == ["success first"]
    feed(tree, finished("quick"))
    tree.show_begun(1_200)
    assert shown(tree) == ["success first", "success quick", "running slow"]
    feed(tree, finished("slow"))
    assert shown(tree) == ["success first", "success quick", "success slow"]


def test_what_began_is_forgotten_at_the_end_of_the_run() -> None:
    tree = feed(RunTree(), ("run.started", "", {}))
    tree.begin(Path("cut"), 1_000)
    feed(tree, ("run.cancelled", "", {}))
    tree.show_begun(9_000)
    assert shown(tree) == []


def token(path: str, text: str, seq: int, attempt: int = 1) -> tuple[str, str, dict[str, Json]]:
    return "node.token", path, {"id": path, "attempt": attempt, "text": text, "seq": seq}


def test_a_running_agent_shows_the_last_of_what_it_says_in_one_line() -> None:
    tree = feed(RunTree(), ("node.started", "a", {}), token("a", "one\ntwo ", 0), token("a", "three", 8))
    assert shown(tree) == ["running a one two three"]
    feed(tree, token("a", " and so on" * 20, 13))
    [line] = shown(tree)
    assert line.startswith("running a …")
    assert line.endswith("and so on")
    assert len(line) < 75


def test_words_go_with_their_attempt_and_their_visit() -> None:
    tree = feed(RunTree(), ("node.started", "a", {}), token("a", "first try", 0))
    feed(tree, ("node.retrying", "a", {"attempt": 1, "error": {"kind": "E", "message": "busy"}}))
    assert shown(tree) == ["retrying a attempt 1 failed: busy"]
    feed(tree, token("a", "second", 0, 2))
    assert shown(tree) == ["running a second"]
    feed(tree, finished("a", attempts=2), token("a", "late", 6, 2))
    assert shown(tree) == ["success a 2 attempts"]


def test_words_make_a_pure_agent_visible() -> None:
    tree = feed(RunTree(), ("run.started", "", {}), token("quiet", "hm", 0))
    assert shown(tree) == ["running quiet hm"]
