"""What a run answers, and its log: workflow-format 6.2 and 6.4, from results alone."""

from typing import Any

import pytest

from orka.engine.answer import Answer, find_answer, item_output, log_entries, response_of
from orka.results import Failure, NodeResult, Usage
from orka.types import NodeId, Path, Status

LOOP = {"result": {}, "loops_completed": 2, "final_score": 0.5, "threshold_met": False, "past_loops": []}


def visit(path: str, output: Any = None, event_type: str = "TemplateAgent", **more: Any) -> NodeResult:
    node_id = NodeId(path.rpartition("/")[2].partition("#")[0])
    more.setdefault("status", Status.SUCCESS)
    return NodeResult(path=Path(path), node_id=node_id, event_type=event_type, output=output, **more)


def says(path: str, text: Any, **more: Any) -> NodeResult:
    return visit(path, {"response": text}, **more)


def fails(path: str, **more: Any) -> NodeResult:
    error = Failure(kind="AgentError", message="boom")
    return visit(path, None, more.pop("event_type", "TemplateAgent"), status=Status.ERROR, error=error, **more)


@pytest.mark.parametrize(
    ("results", "value", "paths"),
    [
        ([says("a", "A"), says("b", "B")], "B", ("b",)),
        ([says("a", "A"), fails("b")], "A", ("a",)),
        ([says("a", "A"), visit("b", None, "Unknown", status=Status.SKIPPED)], "A", ("a",)),
        ([says("a", "A"), visit("r", ["x"], "RouterNode")], "A", ("a",)),
        ([says("a", "A"), visit("f", {"status": "forked"}, "ForkNode")], "A", ("a",)),
        ([says("a", "A"), visit("j", {"response": "a member of that name"}, "JoinNode")], "A", ("a",)),
        ([says("a", "A"), visit("m", {"memory_key": "k"})], "A", ("a",)),
        ([says("a", {"response": "inner", "confidence": 1})], "inner", ("a",)),
        ([says("a", False)], False, ("a",)),
        ([says("a", "")], "", ("a",)),
        ([says("a", "A"), says("b", None)], "A", ("a",)),
        # marked nodes first, wherever they are
        ([says("a", "A", terminal=True), says("b", "B")], "A", ("a",)),
        ([says("a", "A", terminal=True), says("b", "B", terminal=True)], "B", ("b",)),
        ([fails("a", terminal=True), says("b", "B")], "B", ("b",)),
        ([says("l[1]/a", "A", inner=True, terminal=True), says("b", "B")], "A", ("l[1]/a",)),
        # what a loop stores or looks up at the end is no answer, unless there is no other
        (
            [
                says("l[2]/a", "A", inner=True),
                says("l[2]/m", "k", inner=True, event_type="MemoryWriterNode"),
                visit("l", LOOP, "LoopNode"),
            ],
            "A",
            ("l[2]/a",),
        ),
        (
            [says("l[2]/m", "found", inner=True, event_type="MemoryReaderNode"), visit("l", LOOP, "LoopNode")],
            "found",
            ("l[2]/m",),
        ),
        # a loop: its last round's last response
        (
            [
                says("l[1]/a", "first", inner=True),
                says("l[2]/a", "second", inner=True),
                says("l[2]/b", "last", inner=True),
                visit("l", LOOP, "LoopNode"),
            ],
            "last",
            ("l[2]/b",),
        ),
        (
            [
                says("l[2]/a", "A", inner=True),
                fails("l[2]/b", inner=True),
                visit("l[2]/r", [], "RouterNode", inner=True),
                visit("l", LOOP, "LoopNode"),
            ],
            "A",
            ("l[2]/a",),
        ),
        ([says("a", "A"), says("l[2]/x", None, inner=True), visit("l", LOOP, "LoopNode")], "A", ("a",)),
        # inner visits alone answer nothing
        ([says("a", "A"), says("m.0/x", "X", inner=True)], "A", ("a",)),
        # a failover: its child's
        (
            [
                fails("f.0/x", inner=True),
                says("f.1/y", "Y", inner=True),
                visit("f", {"response": "Y"}, "FailoverNode"),
            ],
            "Y",
            ("f.1/y",),
        ),
        # ids whose names begin alike are kept apart
        (
            [
                says("l[2]/a", "L", inner=True),
                says("l2[2]/a", "L2", inner=True),
                visit("l2", LOOP, "LoopNode"),
                visit("l", LOOP, "LoopNode"),
            ],
            "L",
            ("l[2]/a",),
        ),
    ],
)
def test_a_run_answers_with_its_last_response(results: list[NodeResult], value: Any, paths: tuple[str, ...]) -> None:
    assert find_answer(results) == Answer(value=value, paths=paths)  # type: ignore[arg-type]


def test_a_map_answers_with_its_items_responses_in_order() -> None:
    results = [
        says("m.0/x", "x0", inner=True),
        says("m.0/y", "y0", inner=True),
        says("m.1/x", "x1", inner=True),
        fails("m.1/y", inner=True),
        fails("m.2/x", inner=True),
        says("m.10/x", "x10", inner=True),
        visit("m", {"results": [1, 2, 3], "failed": [1, 2]}, "MapNode"),
    ]
    assert find_answer(results) == Answer(
        value=["y0", "x1", "x10"], paths=(Path("m.0/y"), Path("m.1/x"), Path("m.10/x")), many=True
    )


def test_items_answer_like_runs_of_their_own() -> None:
    results = [
        says("m.0/f.0/l[2]/w", "W", inner=True),
        visit("m.0/f.0/l", LOOP, "LoopNode", inner=True),
        visit("m.0/f", {"response": LOOP}, "FailoverNode", inner=True),
        says("m.1/i.0/x", "1", inner=True),
        says("m.1/i.1/x", "2", inner=True),
        visit("m.1/i", {"results": [1, 2], "failed": []}, "MapNode", inner=True),
        visit("m", {"results": [1, 2], "failed": []}, "MapNode"),
    ]
    assert find_answer(results) == Answer(
        value=["W", "2"], paths=(Path("m.0/f.0/l[2]/w"), Path("m.1/i.1/x")), many=True
    )


BOOM = Failure(kind="AgentError", message="boom")
WRONG = {"error": "boom", "error_type": "AgentError", "status": "error"}
GIVES = {"results": [{"response": 1}], "failed": []}
SHOWN = {**LOOP, "response": LOOP, "confidence": 1.0, "internal_reasoning": "", "status": "success"}


@pytest.mark.parametrize(
    ("visits", "error", "expected"),
    [
        ([], None, None),
        ([], BOOM, WRONG),
        ([says("m.0/x", "x"), says("m.0/y", "y", prompt="p")], None, {"response": "y", "formatted_prompt": "p"}),
        ([says("m.0/x", "x"), fails("m.0/y")], BOOM, WRONG),
        ([says("m.0/x", "x"), fails("m.0/y")], None, {"response": "x"}),
        ([says("m.0/x", "x"), says("m.0/y", None)], None, {"response": "x"}),
        ([fails("m.0/x")], None, WRONG),
        ([fails("m.0/x"), says("m.0/y", None)], None, {"response": None}),
        ([says("m.0/x", "x", terminal=True), says("m.0/y", "y")], None, {"response": "x"}),
        # routers and forks show what runs; what ran is behind them
        ([says("m.0/x", "x"), visit("m.0/r", ["y"], "RouterNode"), says("m.0/y", "y")], None, {"response": "y"}),
        ([says("m.0/x", "x"), visit("m.0/r", [], "RouterNode")], None, {"response": "x"}),
        ([visit("m.0/r", [], "RouterNode")], None, None),
        ([visit("m.0/f", {"status": "forked"}, "ForkNode"), says("m.0/f.0/a", "a")], None, {"response": "a"}),
        ([says("m.0/f.0/a", "a"), visit("m.0/j", {"merged": {}}, "JoinNode")], None, {"merged": {}}),
        ([says("m.0/a", "a"), visit("m.0/b", None, status=Status.CANCELLED)], None, {"response": "a"}),
        # the parts of a node do not speak for it
        ([says("m.0/n.0/a", 1), visit("m.0/n", GIVES, "MapNode")], None, GIVES),
        ([says("m.0/l[2]/a", 1), visit("m.0/l", LOOP, "LoopNode")], None, SHOWN),
        ([says("m.0/a", "a"), fails("m.0/o.0/c"), fails("m.0/o", event_type="FailoverNode")], None, {"response": "a"}),
    ],
)
def test_an_item_of_a_map_gives_what_would_be_its_answer(
    visits: list[NodeResult], error: Failure | None, expected: Any
) -> None:
    given = item_output(visits, error)
    assert given == expected


def test_what_an_item_stores_at_its_end_is_not_its_answer() -> None:
    kept = [says("m.0/a", "A"), says("m.0/w", "key", event_type="MemoryWriterNode")]
    assert item_output(kept, None) == {"response": "A"}
    answer = find_answer([*kept, visit("m", {"results": [1], "failed": []}, "MapNode")])
    assert answer == Answer(value=["A"], paths=(Path("m.0/a"),), many=True)


def test_a_map_of_nothing_answers_with_an_empty_list() -> None:
    results = [says("a", "A"), visit("m", {"results": [], "failed": []}, "MapNode")]
    assert find_answer(results) == Answer(value=[], paths=(), many=True)


def test_a_run_without_any_response_answers_nothing() -> None:
    assert find_answer([]) is None
    assert find_answer([fails("a"), visit("r", ["a"], "RouterNode")]) is None


def test_the_response_is_taken_out_of_an_output() -> None:
    assert response_of({"response": "r"}) == "r"
    assert response_of({"response": {"response": "deep"}}) == "deep"
    assert response_of({"response": {"other": 1}}) == {"other": 1}
    assert response_of({"result": "r"}) is None
    assert response_of("text") is None
    assert response_of(None) is None


def test_log_entries_have_the_keys_of_the_format() -> None:
    results = [
        says(
            "a",
            "A",
            started_ms=1_767_225_600_123,
            duration_ms=1.5,
            attempts=2,
            prompt="the prompt",
            usage=Usage(prompt_tokens=3, completion_tokens=4, cost_usd=0.5),
            warnings=("`{{ x }}` (line 1): 'x' is undefined",),
        ),
        says("f.0/b", "B", group=Path("f"), started_ms=1_767_225_600_124),
    ]
    first, second = log_entries(results, "run-1")
    assert first == {
        "agent_id": "a",
        "event_type": "TemplateAgent",
        "timestamp": "2026-01-01T00:00:00.123+00:00",
        "step": 1,
        "run_id": "run-1",
        "payload": {
            "response": "A",
            "agent_id": "a",
            "result": {"response": "A"},
            "status": "success",
            "error": None,
            "execution_time_ms": 1.5,
            "trace_id": "run-1",
            "attempts": 2,
            "formatted_prompt": "the prompt",
            "token_usage": {"prompt_tokens": 3, "completion_tokens": 4, "cost_usd": 0.5},
            "cost_usd": 0.5,
            "warnings": ["`{{ x }}` (line 1): 'x' is undefined"],
        },
        "previous_outputs": {},
    }
    assert (second["step"], second["fork_group_id"]) == (2, "f")
    assert second["event_type"] == "TemplateAgent"
    assert second["previous_outputs"] == {"a": {"response": "A", "formatted_prompt": "the prompt"}}


def test_every_key_of_a_result_stands_in_its_payload_and_the_status_stays_truthful() -> None:
    (entry,) = log_entries(
        [visit("a", {"response": "r", "confidence": 0.9, "status": "error", "error": "made up"})], ""
    )
    payload: Any = entry["payload"]
    assert payload["confidence"] == 0.9
    assert payload["status"] == "success"
    assert payload["error"] is None
    assert payload["result"]["status"] == "error"


def test_the_keys_of_a_model_are_spread_and_its_numbers_are_numbers() -> None:
    output = {
        "response": "r",
        "confidence": "0.85",
        "internal_reasoning": "because",
        "topic": "t",
        "_metrics": {"tokens": "12", "cost_usd": "0.001", "latency_ms": None, "model": "m", "error": True},
    }
    usage = Usage(prompt_tokens=10, completion_tokens=2, cost_usd=0.001)
    (entry,) = log_entries([visit("a", output, "LocalLLMAgent", usage=usage, prompt="p")], "run-1")
    payload: Any = entry["payload"]
    assert (payload["response"], payload["topic"], payload["internal_reasoning"]) == ("r", "t", "because")
    assert payload["confidence"] == 0.85
    assert payload["_metrics"] == {"tokens": 12.0, "cost_usd": 0.001, "latency_ms": 0.0, "model": "m", "error": True}
    assert payload["result"] == output
    assert (payload["formatted_prompt"], payload["cost_usd"]) == ("p", 0.001)
    assert payload["token_usage"]["prompt_tokens"] == 10


@pytest.mark.parametrize(
    ("given", "number"),
    [(0.5, 0.5), (1, 1), ("0.7", 0.7), (" 1 ", 1.0), ("high", 0.0), (None, 0.0), (True, 1.0), ("nan", 0.0), ([1], 0.0)],
)
def test_confidence_is_a_number(given: Any, number: float) -> None:
    (entry,) = log_entries([visit("a", {"response": "r", "confidence": given})], "")
    assert entry["payload"]["confidence"] == number  # type: ignore[index,call-overload]


def test_results_without_a_response_are_their_own() -> None:
    entries: Any = log_entries([visit("r", ["x"], "RouterNode"), visit("m", {"memories": []}), visit("n", False)], "")
    assert [entry["payload"]["response"] for entry in entries] == [["x"], {"memories": []}, False]


def test_failures_are_entries_too_and_later_steps_see_them() -> None:
    entries: Any = log_entries([fails("a"), says("b", "B")], "")
    assert entries[0]["payload"]["status"] == "error"
    assert entries[0]["payload"]["error"] == "boom"
    assert entries[0]["payload"]["error_type"] == "AgentError"
    assert entries[0]["payload"]["result"] is None
    assert entries[1]["previous_outputs"] == {"a": {"error": "boom", "error_type": "AgentError", "status": "error"}}


def test_loops_and_forks_have_what_readers_expect_of_them() -> None:
    output = {**LOOP, "input": "in", "result": {"a": {"response": "A"}}}
    fork = visit("f", {"status": "forked", "agents": ["a"]}, "ForkNode")
    loop, forked, after = (
        entry
        for entry in log_entries(
            [says("l[1]/a", "A", inner=True), visit("l", output, "LoopNode"), fork, says("z", "Z")], ""
        )
    )
    payload: Any = loop["payload"]
    assert loop["step"] == 1  # what is inside a loop is part of its entry
    assert payload["response"] == output
    assert payload["result"] == {"a": {"response": "A"}}
    assert (payload["loops_completed"], payload["final_score"], payload["threshold_met"]) == (2, 0.5, False)
    assert (payload["past_loops"], payload["confidence"], payload["status"]) == ([], 1.0, "success")
    assert forked["payload"]["fork_group_id"] == "f"  # type: ignore[index,call-overload]
    assert forked["payload"]["fork_execution_status"] == "initiated"  # type: ignore[index,call-overload]
    seen: Any = after["previous_outputs"]
    assert seen["l"]["response"] == output
    assert seen["l"]["final_score"] == 0.5
    assert seen["l"]["confidence"] == 1.0


def test_members_of_a_join_are_seen_beside_it() -> None:
    merged = {"a": {"response": "A"}, "b": {"response": "B"}}
    entries: Any = log_entries([visit("j", {"merged": merged, "status": "done"}, "JoinNode"), says("z", "Z")], "")
    assert entries[1]["previous_outputs"] == {"j": {"merged": merged, "status": "done"}, **merged}
    said: Any = log_entries([visit("a", {"response": "A", "merged": {"z": 1}}), says("z", "Z")], "")
    assert list(said[1]["previous_outputs"]) == ["a"]  # a model may use the word, too


def test_an_entrys_snapshot_is_its_own() -> None:
    entries: Any = log_entries([says("a", "1"), says("b", "2"), says("a#2", "3"), says("z", "4")], "")
    assert [sorted(entry["previous_outputs"]) for entry in entries] == [[], ["a"], ["a", "b"], ["a", "b"]]
    assert entries[2]["previous_outputs"]["a"] == {"response": "1"}
    assert entries[3]["previous_outputs"]["a"] == {"response": "3"}
