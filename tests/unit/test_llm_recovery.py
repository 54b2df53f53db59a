"""JSON is found in whatever a model writes around it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orka.llm.recovery import find_object, without_thoughts


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"response": "yes"}', {"response": "yes"}),
        ('  \n{"a": 1}\n', {"a": 1}),
        ('Sure!\n```json\n{"a": 1}\n```\nDone.', {"a": 1}),
        ('```JSON\n{"a": 1}\n```', {"a": 1}),
        ('```\n{"a": [1, 2]}\n```', {"a": [1, 2]}),
        ('<think>{"a": "a draft"}</think>\n{"a": "meant"}', {"a": "meant"}),
        ('<reasoning>maybe {"x": 2}?</reasoning> {"a": 1} and no more', {"a": 1}),
        ('thinking without a beginning {"no": 1}</think>{"a": 1}', {"a": 1}),
        ('The answer is {"a": {"b": "}"}} I think.', {"a": {"b": "}"}}),
        ('Say {"q": "a \\" quote {"} end', {"q": 'a " quote {'}),
        ("{'ok': True, 'why': None, 'not': False}", {"ok": True, "why": None, "not": False}),
        ("Result: {'score': 0.8, 'who': 'it\\'s me'}", {"score": 0.8, "who": "it's me"}),
        ('{"a": 1,}', {"a": 1}),
        ('{"a": "x", "b": [1, 2', {"a": "x", "b": [1, 2]}),
        ('{a: 1, "b": 2}', {"a": 1, "b": 2}),
        ('```json\n{"a": 1', {"a": 1}),
        ('{"a": 1} {"a": 2}', {"a": 1}),
        ('{"n": 123456789012345678901, "l": [18446744073709551615]}', {"n": "123456789012345678901", "l": [2**64 - 1]}),
        ('<think>maybe\n```json\n{"a": "a draft"}\n```\n</think>{"a": "meant"}', {"a": "meant"}),
        ('<think>never closed, <thought>hm</thought> {"a": 1}', {"a": 1}),
        ('Given {x} and {"y"}, I say: {"a": {"b": 1}}', {"a": {"b": 1}}),
        ('Given {x}, I say: {"a": {"b": 1,}', {"a": {"b": 1}}),
        ('{"a": "x", "b": {"c": 1}, "d": [1, 2', {"a": "x", "b": {"c": 1}, "d": [1, 2]}),
        ('A brace { alone, and {"a": 1}', {"a": 1}),
        ('{"a": "one\ntwo", "b": NaN}', {"a": "one\ntwo", "b": None}),
        ('{"a": 123456789012345678901234567890, "b": [-1e3]}', {"a": "123456789012345678901234567890", "b": [-1000.0]}),
        ('{"a": "half \\ud83d of it"}', {"a": "half ? of it"}),
        ('{"response": "Umlaute: ÄÖ \\u00fc"}', {"response": "Umlaute: ÄÖ ü"}),
    ],
)
def test_object_is_found(text: str, found: object) -> None:
    assert find_object(text) == found


@pytest.mark.parametrize("text", ["", "no JSON here", "[1, 2, 3]", '"{"', "}{", "{", "{}}{{", "a { b", "set {1, 2}"])
def test_no_object_is_none(text: str) -> None:
    assert find_object(text) in (None, {})


def test_a_whole_text_that_is_json_is_read_as_it_is() -> None:
    assert find_object('{"response": "```json\\n{\\"a\\": 1}\\n```"}') == {"response": '```json\n{"a": 1}\n```'}


def test_a_long_answer_that_is_json_is_read_whole() -> None:
    text = "word " * 400_000
    assert find_object(f'{{"response": "{text}"}}') == {"response": text}


def test_nesting_without_end_is_no_answer_and_takes_no_time() -> None:
    assert find_object("{'a':" * 5000) is None
    assert find_object('{"a":[' * 100_000) is None


@pytest.mark.parametrize(
    "text", ["<think>" * 100_000, "</think" * 100_000, "<think>{</thought>" * 50_000, "{" * 500_000]
)
def test_tags_and_braces_without_end_take_no_time(text: str) -> None:
    began = time.perf_counter()
    find_object(text + "{")
    assert time.perf_counter() - began < 3


@given(st.text(max_size=300) | st.text(alphabet="{}[]\"':,\\` \nabc<think>/", max_size=300))
def test_any_text_is_answered_with_an_object_or_none(text: str) -> None:
    found = find_object(text)
    assert found is None or isinstance(found, dict)


def test_thoughts_are_taken_out() -> None:
    assert without_thoughts("<think>hm\nhm</think>\nYes.") == "Yes."
    assert without_thoughts("<thought>a</thought><thinking>b</thinking>c") == "c"
    assert without_thoughts("no thoughts") == "no thoughts"
