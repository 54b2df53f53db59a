"""Payloads in prompts: JSON, Python literals, and what is neither."""

import pytest

from orka.agents.payload import agents_of, context_of, nodes_of, parse_object, text_at


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": [1, true, null]}', {"a": [1, True, None]}),
        ("{'a': [1, True, None], 'b': (2, 3)}", {"a": [1, True, None], "b": [2, 3]}),
        (
            '{"success": True, "given": {"a": null, "b": [false]}}',
            {"success": True, "given": {"a": None, "b": [False]}},
        ),
        (' ```json\n{"a": "it\'s"}\n``` ', {"a": "it's"}),
        ('{"text": "two\nlines"}', {"text": "two\nlines"}),
        ("{}", {}),
        ("plain words", None),
        ("", None),
        ("[1, 2]", None),
        ("{'a': __import__('os')}", None),
        ("{'a': 1 + x}", None),
        ("{1: 2}", None),
        ("{'a': {1, 2}}", None),
        ('{"a": NaN}', None),
        ("{" + "'a': {" * 200 + "}" * 201, None),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", None),
        ("{'a': '" + "x" * 300_000 + "'}", None),
    ],
)
def test_objects_are_read_and_nothing_is_evaluated(text: str, expected: object) -> None:
    assert parse_object(text) == expected


def test_brackets_inside_of_texts_do_no_harm() -> None:
    assert parse_object('{"a": "' + "[]" * 500 + '"}') == {"a": "[]" * 500}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a", {"id": "b"}, 3], ["a", "b", "3"]),
        ("a → b -> c => d", ["a", "b", "c", "d"]),
        ("a, b", ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        (None, []),
        (7, []),
    ],
)
def test_paths_come_as_lists_or_texts(value: object, expected: list[str]) -> None:
    assert nodes_of(value) == expected  # type: ignore[arg-type]


def test_agents_come_as_lists_texts_or_json() -> None:
    assert agents_of([{"id": "a"}, "b"]) == [{"id": "a"}, "b"]
    assert agents_of('[{"id": "a", "role": "critic"}]') == [{"id": "a", "role": "critic"}]
    assert agents_of("[{'id': 'a'}]") == [{"id": "a"}]
    assert agents_of("a, b") == ["a", "b"]
    assert agents_of("[broken") == []


def test_without_a_task_the_text_is_the_task() -> None:
    assert context_of({"response": "do it", "domain": "law", "other": 1}) == {"domain": "law", "task": "do it"}
    assert context_of({"task": "t", "response": "r"}) == {"task": "t"}
    assert text_at({"a": 0.5, "b": [1]}, "a") == "0.5"
    assert text_at({"b": [1]}, "b") == text_at({}, "b") == ""
