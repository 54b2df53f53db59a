"""Expressions that search whole texts: as far as `re` takes them, and for a bounded time."""

import re
import threading
import time

import pytest
from structlog.testing import capture_logs

from orka.errors import TemplateError
from orka.template.searching import PATIENCE, compile_search

PAGE = "word and word again, line by line\n" * 500


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"(?:provides?|shows?)\s+(.+?)(?:\n|$)", PAGE + "It shows the way\n", "the way"),
        (
            r"(?:This|The)\s+(?:analysis|draft)\s+(?:reveals|shows)\s+(?:that\s+)?(.+?)(?:\.|$)",
            PAGE + "The draft shows that.",
            "that",
        ),
        (r"(?:score|final)\s*[:=]\s*(0?\.\d+|1\.0|[0-9]{1,3}%)", PAGE + "FINAL = .75", ".75"),
        (
            r"Final\s+Score\s*[:\-]?\s*\**\s*(\d+(?:\.\d+)?)\s*(?:/\s*(?:10|100))?",
            PAGE + "final score: **8.5** / 10",
            "8.5",
        ),
        (r"Response:\s*((?:.|\n)+?)(?:Score|$)", "Response: a\nb Score 1", "a\nb "),
        (r"(?:\w+\s+){1,3}insight: (.+)", PAGE + "one two insight: yes", "yes"),
        (r"(['\"])(\w+)\1", "say 'it'", "'"),
    ],
)
def test_ordinary_expressions_find_what_they_mean_anywhere_in_a_page(pattern: str, text: str, found: str) -> None:
    match = compile_search(pattern, re.IGNORECASE | re.DOTALL).first(text)
    assert match is not None
    assert match[1] == found


def test_a_search_that_takes_too_long_is_given_up_and_told_and_lets_others_run() -> None:
    turns = 0
    done = threading.Event()

    def turn() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1

    other = threading.Thread(target=turn)
    other.start()
    try:
        began = time.monotonic()
        with capture_logs() as logs:
            assert compile_search(r"(a|aa)+$").first("a" * 20_000 + "b") is None
        took = time.monotonic() - began
    finally:
        done.set()
        other.join()
    assert PATIENCE / 2 < took < 20 * PATIENCE
    assert [(entry["event"], entry["pattern"]) for entry in logs] == [("search.given_up", "(a|aa)+$")]
    assert turns > 1000


@pytest.mark.parametrize(
    "pattern", ["(", "a" * 1001, "((a{99}){99}){99}", "((((a{9}){9}){9}){9})*", "(" * 400 + ")" * 400]
)
def test_what_cannot_be_searched_with_is_refused(pattern: str) -> None:
    with pytest.raises(TemplateError):
        compile_search(pattern)
