"""Which route a router takes: the look-up order of workflow-format 8.3, without a run."""

from typing import Any

import pytest

from orka.engine.routing import choose_route, decision_value, read_path
from orka.graph.nodes import RouterNode

BINARY = {"true": ["yes_path"], "false": ["no_path"]}
BOOLEAN = {True: ["yes_path"], False: ["no_path"]}
LEVELS = {"safeguard_gate": ["s"], "caution_path": ["c"], "normal_path": ["n"]}


def router(routes: dict[Any, list[str]], fallback: list[str] | None = None) -> RouterNode:
    return RouterNode(
        id="gate",  # type: ignore[arg-type]
        decision_key="a",
        routes=tuple((key, tuple(ids)) for key, ids in routes.items()),  # type: ignore[arg-type]
        fallback=None if fallback is None else tuple(fallback),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("routes", "value", "route"),
    [
        # the raw value, then its text without case and blanks
        (BINARY, "true", ["yes_path"]),
        (BINARY, " FALSE \n", ["no_path"]),
        (BINARY, True, ["yes_path"]),
        (BINARY, False, ["no_path"]),
        (BOOLEAN, True, ["yes_path"]),
        (BOOLEAN, "False", ["no_path"]),
        ({"Billing": ["b"], "Other": ["o"]}, "billing", ["b"]),
        ({"billing": ["b"], "other": ["o"]}, "BILLING", ["b"]),
        ({"7": ["seven"]}, 7, ["seven"]),
        ({"0.5": ["half"]}, 0.5, ["half"]),
        ({"7": ["seven"]}, "7", ["seven"]),
        # quotes and punctuation around the text do not count; where a key has them, they do
        (BINARY, "'True'.", ["yes_path"]),
        (LEVELS, '"caution_path"!', ["c"]),
        (LEVELS, "`normal_path`", ["n"]),
        ({"done.": ["d"], "open": ["o"]}, "Done.", ["d"]),
        ({"c++.": ["exact"], "c++": ["trimmed"]}, "C++.", ["exact"]),
        # the boolean of a text
        (BINARY, "yes", ["yes_path"]),
        (BINARY, "No.", ["no_path"]),
        (BINARY, "1", ["yes_path"]),
        (BINARY, 0, ["no_path"]),
        (BOOLEAN, "YES", ["yes_path"]),
        (BOOLEAN, 1, ["yes_path"]),
        # a route that is named wins over a boolean one
        ({"yes": ["named"], "true": ["boolean"]}, "yes", ["named"]),
        ({"1": ["named"], "true": ["boolean"]}, 1, ["named"]),
        # `on:` and `off:` are booleans to YAML
        (BOOLEAN, "On", ["yes_path"]),
        (BOOLEAN, "off.", ["no_path"]),
        # a key inside a longer one that is there is not held for itself
        ({"high": ["h"], "high-risk": ["r"], "low": ["l"]}, "this is high-risk work", ["r"]),
        ({"high": ["h"], "high-risk": ["r"]}, "high is not high-risk", None),
        # words in a longer text: one side only
        (BINARY, "Yes, that is harmful.", ["yes_path"]),
        (BINARY, "The claim is TRUE as far as I can see", ["yes_path"]),
        (BINARY, "I would say no", ["no_path"]),
        (BOOLEAN, "certainly false", ["no_path"]),
        (BINARY, "nothing to know, a noble yesterday", None),
        (BINARY, "yes and no", None),
        (BINARY, "true or false?", None),
        # the only key that a longer text holds as a whole word
        (LEVELS, "I recommend the caution_path for this user", ["c"]),
        (LEVELS, "either caution_path or normal_path", None),
        (LEVELS, "the caution_paths", None),
        ({"high": ["h"], "low": ["l"]}, "Risk level: HIGH", ["h"]),
        ({"c++": ["cpp"], "java": ["j"]}, "written in C++, mostly", ["cpp"]),
        ({"over there": ["o"], "here": ["h"]}, "it lies over there.", ["o"]),
        ({"yes": ["y"], "maybe": ["m"]}, "no, maybe", ["m"]),
        # structures are read as text
        ({"apple": ["a"]}, ["apple", "pear"], ["a"]),
        # an empty route is a route
        ({"true": ["x"], "false": []}, "no", []),
        # an empty key matches an empty text and no other
        ({"": ["empty"], "x": ["x"]}, "", ["empty"]),
        ({"": ["empty"], "x": ["x"]}, "nothing, of that", None),
    ],
)
def test_a_value_takes_the_route_that_the_format_says(routes: dict[Any, list[str]], value: object, route: Any) -> None:
    expected = None if route is None else tuple(route)
    assert choose_route(router(routes), value) == expected


def test_what_fits_nothing_takes_the_fallback_and_an_empty_fallback_is_one() -> None:
    assert choose_route(router(BINARY, ["other"]), "perhaps") == ("other",)
    assert choose_route(router(BINARY, ["other"]), None) == ("other",)
    assert choose_route(router(BINARY, []), "perhaps") == ()
    assert choose_route(router(BINARY), None) is None


@pytest.mark.parametrize(
    ("output", "value"),
    [
        ({"response": "yes"}, "yes"),
        ({"response": {"response": "deep", "confidence": 1}}, "deep"),
        ({"result": "r", "status": "success"}, "r"),
        ({"response": False, "result": "r"}, False),
        ({"response": {"result": "inner"}}, "inner"),
        ({"topic": "t"}, {"topic": "t"}),
        ("text", "text"),
        (["a"], ["a"]),
        (0, 0),
    ],
)
def test_the_decision_is_the_response_inside_an_output(output: Any, value: object) -> None:
    assert decision_value({"a": output}, "a") == value


def test_a_visit_that_failed_decides_nothing_by_the_words_of_its_error() -> None:
    failed = {"error": "no answer within 5 s", "error_type": "RunTimeout", "status": "error"}
    assert decision_value({"a": failed}, "a") is None
    assert decision_value({"a": failed}, "a.status") == "error"
    assert decision_value({"a": failed}, "a.error_type") == "RunTimeout"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a", {"response": {"topic": "billing"}, "list": [{"x": 1}, {"x": 2}]}),
        ("a.topic", "billing"),
        ("a.response.topic", "billing"),
        ("a.list.1.x", 2),
        ("a.list.7.x", None),
        ("a.nothing", None),
        ("b.deep", "found under result"),
        ("dotted.id", "the id wins"),
        ("dotted.other", "inside"),
        ("missing", None),
        ("missing.deep", None),
    ],
)
def test_a_dotted_key_leads_into_an_output(path: str, value: object) -> None:
    outputs: dict[str, Any] = {
        "a": {"response": {"topic": "billing"}, "list": [{"x": 1}, {"x": 2}]},
        "b": {"result": {"deep": "found under result"}},
        "dotted.id": "the id wins",
        "dotted": {"id": "not this", "other": "inside"},
    }
    assert read_path(outputs, path) == value
