"""Which results a failover takes: workflow-format 8.4."""

from typing import Any

import pytest

from orka.engine.fallback import is_valid, merge_failover
from orka.results import NodeResult
from orka.types import NodeId, Path, Status


def result(output: Any, status: Status = Status.SUCCESS) -> NodeResult:
    return NodeResult(path=Path("f.0/c"), node_id=NodeId("c"), event_type="EchoAgent", status=status, output=output)


@pytest.mark.parametrize(
    "output",
    [
        {"response": "fine"},
        {"response": False},
        {"response": 0},
        {"response": "No error was found"},  # only plain texts and lists are searched for such words
        {"response": {"response": "inner"}},
        {"memories": []},
        {"response": ["x"]},
        "plain text",
        ["a finding"],
        False,
        0,
    ],
)
def test_a_result_that_says_something_is_valid(output: Any) -> None:
    assert is_valid(result(output))


@pytest.mark.parametrize(
    "output",
    [
        None,
        "",
        [],
        {},
        {"response": ""},
        {"response": "  "},
        {"response": "NONE"},
        {"response": None},
        {"response": []},
        {"response": {"response": "NONE"}},
        {"response": "text", "status": "error"},
        "Search failed",
        "HTTP 503",
        "Rate limit reached",
        "ratelimit",
        "request timed out: Timeout",
        ["2026-01-01", "DuckDuckGo error: 404"],
    ],
)
def test_empty_results_and_texts_that_tell_of_a_failure_are_not(output: Any) -> None:
    assert not is_valid(result(output))


@pytest.mark.parametrize("text", ["terrorism statistics", "page 5030", "unfailedly"])
def test_failure_words_count_as_whole_words_only(text: str) -> None:
    assert is_valid(result(text))


@pytest.mark.parametrize("status", [Status.ERROR, Status.SKIPPED, Status.CANCELLED])
def test_only_a_success_is_valid(status: Status) -> None:
    assert not is_valid(result({"response": "x"}, status))


def test_a_failover_shows_the_childs_output_by_its_name_and_its_response() -> None:
    assert merge_failover(result({"response": "r", "score": 1})) == {
        "result": {
            "result": {"response": "r", "score": 1},
            "response": "r",
            "status": "success",
            "component_id": "c",
        },
        "successful_child": "c",
        "c": {"response": "r", "score": 1},
        "response": "r",
        "status": "success",
    }
    assert merge_failover(result(["x"]))["response"] == ["x"]
