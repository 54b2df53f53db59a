"""docs/templates.md: its examples print what they show, its tables name what there is."""

import json
import re
from itertools import pairwise

import pytest
from support.pages import ROOT, read_blocks

from orka.template import limits
from orka.template.environment import Environment
from orka.template.filters import FILTERS
from orka.template.functions import FUNCTIONS, NAMES
from orka.template.patterns import TEXT_LIMIT, compile_pattern
from orka.template.view import View

FILE = ROOT / "docs" / "templates.md"
PAGE = FILE.read_text(encoding="utf-8")
BLOCKS = [(block.kind, block.text) for block in read_blocks(FILE)]
EXAMPLES = [(text, shown) for (kind, text), (after, shown) in pairwise(BLOCKS) if (kind, after) == ("jinja", "text")]


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(title: str) -> list[str]:
    return re.findall(r"^\| `(\w+)", section(title), re.MULTILINE)


@pytest.mark.parametrize(("source", "shown"), EXAMPLES)
def test_example_prints_what_the_page_shows(source: str, shown: str) -> None:
    outputs = json.loads(next(text for kind, text in BLOCKS if kind == "json"))
    printed = Environment().compile(source).render(View(input="How do I reset it?", outputs=outputs))
    assert printed.strip("\n") == shown.strip("\n")


def test_every_example_is_checked() -> None:
    assert len(EXAMPLES) == PAGE.count("```jinja\n") == 6


def test_tables_name_every_name_and_function() -> None:
    assert sorted(first_cells("Names")) == sorted(NAMES)
    assert sorted(first_cells("Functions")) == sorted(FUNCTIONS)


def test_page_names_every_filter() -> None:
    own, prose = section("Filters").split("\nOf Jinja's own filters")
    named = {*re.findall(r"^\| `(\w+)", own, re.MULTILINE), *re.findall(r"`(\w+)`", prose.split("Not there")[0])}
    assert named == set(FILTERS) - {"unknown_filter"}


def test_limits_of_the_page_are_those_of_the_code() -> None:
    numbers = [int(found.replace(",", "")) for found in re.findall(r"\| ([\d,]+) \|$", section("Limits"), re.MULTILINE)]
    assert numbers == [
        limits.SOURCE_LIMIT,
        limits.TOKEN_LIMIT,
        limits.NODE_LIMIT,
        limits.DEPTH_LIMIT,
        limits.SIZE_LIMIT,
        limits.WORK_LIMIT,
        limits.RANGE_LIMIT,
        limits.BITS_LIMIT,
        4,
    ]
    assert (limits.NODE_WORK, limits.ELEMENT_WORK, TEXT_LIMIT) == (16, 32, 100_000)
    assert compile_pattern("SCORE:(.*?)END").text_limit == 3162
    assert compile_pattern("a.*b.*c").text_limit == 215
