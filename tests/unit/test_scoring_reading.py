"""Judgements read out of JSON and of what models write instead of it."""

import time

import pytest

from orka.scoring import CONTEXTS
from orka.scoring.reading import complete, find_objects, infer_convergence, read_object, read_text

LOOP = CONTEXTS["loop_convergence"].criteria
QUALITY = CONTEXTS["quality"].criteria


@pytest.mark.parametrize(
    "text",
    [
        '{"improvement": {"better_than_previous": true}, "stability": {"not_degrading": false}}',
        'So:\n```json\n{"improvement": {"better_than_previous": "yes"},\n "stability": {"not_degrading": "no"}}\n```\nDone.',
        '<think>{maybe}</think> {"better_than_previous": true, "not_degrading": false}',
        '{"evaluation": {"improvement.better_than_previous": 1, "Not Degrading": 0}}',
        '{"improvement": {"better_than_previous": {"value": true, "reason": "longer"}}, "not-degrading": false}',
        # an example first, the answer last
        '{"better_than_previous": false, "not_degrading": true} {"better_than_previous": true, "not_degrading": false}',
        # the outer object is broken, the inner ones are not
        '{"improvement": {"better_than_previous": true}, "stability": {"not_degrading": false}, "rationale": "cut o',
    ],
)
def test_json_is_found_wherever_it_stands(text: str) -> None:
    reading = read_text(text, LOOP)
    assert reading.by == "json"
    assert reading.evaluations == {
        "improvement": {"better_than_previous": True},
        "stability": {"not_degrading": False},
    }
    assert reading.found == 2


@pytest.mark.parametrize(
    "text",
    [
        "better_than_previous: true\nnot_degrading: FALSE",
        "* **better_than_previous**: yes\n* **not_degrading**: no",
        "{'better_than_previous': True, 'not_degrading': False, }",
        "Better than previous = passed; not-degrading = failed",
    ],
)
def test_pairs_are_read_when_there_is_no_json(text: str) -> None:
    reading = read_text(text, LOOP)
    assert reading.by == "pairs"
    assert reading.evaluations == {
        "improvement": {"better_than_previous": True},
        "stability": {"not_degrading": False},
    }


@pytest.mark.parametrize(
    "text",
    [
        "The criterion better_than_previous is clearly met. On not_degrading I must say it is not satisfied.",
        "✅ better than previous\n❌ not degrading",
        "- [x] better than previous\n- [ ] not degrading",
        "better than previous ... passes\nnot degrading ... fails, a good effort though",
    ],
)
def test_words_near_a_name_are_the_last_resort(text: str) -> None:
    reading = read_text(text, LOOP)
    assert reading.by == "words"
    assert reading.evaluations == {
        "improvement": {"better_than_previous": True},
        "stability": {"not_degrading": False},
    }


@pytest.mark.parametrize("text", ["", "I like it.", '{"score": 0.9}', "{{{{", "factually correct"])
def test_a_text_that_judges_nothing_meets_nothing(text: str) -> None:
    reading = read_text(text, QUALITY)
    assert (reading.by, reading.found) == ("nothing", 0)
    assert complete(reading.evaluations, QUALITY) == {
        "accuracy": {"factually_correct": False, "addresses_question": False, "no_hallucinations": False},
        "completeness": {"comprehensive_answer": False, "includes_examples": False},
        "clarity": {"well_structured": False, "easy_to_understand": False},
        "relevance": {"stays_on_topic": False},
    }


def test_only_criteria_of_the_context_are_read() -> None:
    assert read_object({"improvement": {"better_than_previous": True}}, QUALITY) == {}
    assert find_objects('{"accuracy": {"factually_correct": true, "invented": true}}', QUALITY) == {
        "accuracy": {"factually_correct": True}
    }


def test_wordings_speak_for_the_criteria_of_loops_unless_they_are_denied() -> None:
    text = "The draft is better and its direction consistent, but it shows no significant change. It remains stable."
    assert infer_convergence(text) == {
        "better_than_previous": True,
        "significant_delta": False,
        "approaching_target": False,
        "not_degrading": True,
        "consistent_direction": True,
        "delta_decreasing": False,
        "within_tolerance": False,
    }


@pytest.mark.parametrize("part", ['{"a":', "{", '{"a": [[[[', "better than ", "better_than_previous ", "```"])
def test_hostile_texts_are_read_in_bounded_time(part: str) -> None:
    began = time.perf_counter()
    read_text(part * 200_000, LOOP)
    infer_convergence(part * 200_000)
    assert time.perf_counter() - began < 1.0
