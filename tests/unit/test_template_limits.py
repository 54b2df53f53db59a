"""Hostile templates: every one ends quickly, with a `TemplateError` that names the limit, or harmlessly."""

import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orka.errors import TemplateError
from orka.template.environment import Environment
from orka.template.limits import SIZE_LIMIT
from orka.template.patterns import compile_pattern
from orka.template.view import View
from orka.types import Json

ENVIRONMENT = Environment()
SECONDS = 5.0
"""Of the processor, and generous: each takes well under one second."""
DOUBLING = "{% set ns = namespace(x=START) %}{% for i in range(60) %}{% set ns.x = STEP %}{% endfor %}{{ ns.x USE }}"


def doubling(start: str, step: str, use: str = "") -> str:
    return DOUBLING.replace("START", start).replace("STEP", step).replace("USE", use)


@pytest.mark.parametrize(
    ("source", "limit"),
    [
        ("{{ 'a' * 300000000 }}", "characters or elements"),
        ("{{ 300000000 * [1] }}", "characters or elements"),
        ("{{ 9 ** (9 ** 9) }}", "bits"),
        ("{{ -10 ** 99999999 }}", "bits"),
        (doubling("3", "ns.x * ns.x"), "bits"),
        (doubling("'a'", "ns.x + ns.x"), "limit"),
        (doubling("'a'", "ns.x ~ ns.x"), "limit"),
        (doubling("['a']", "[ns.x, ns.x]"), "work"),
        (doubling("['a']", "[ns.x, ns.x]", "| tojson"), "work"),
        (doubling("['a']", "[ns.x, ns.x]", "== [[ns.x], ns.x]"), "work"),
        (doubling("['a']", "[ns.x] | batch(2, ns.x)"), "work"),
        (doubling("('a',)", "(ns.x, ns.x)", "in {}"), "work"),
        (doubling("{'a': 1}", "dict(a=ns.x, b=ns.x).values()"), "work"),
        (doubling("('a',)", "(ns.x, ns.x)", "~ dict([(ns.x, 1)])"), "work"),
        (doubling("('a',)", "(ns.x, ns.x)", "~ ({} | attr(ns.x))"), "work"),
        (doubling("('a',)", "(ns.x, ns.x)", "~ previous_outputs[ns.x]"), "work"),
        ("{{ range(999999999) }}", "range"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}", "work"),
        ("{% for i in range(99999) %}{% set x = big | upper %}{% endfor %}", "work"),
        ("{% for i in range(99999) if big ~ 'a' == big ~ 'b' %}{% endfor %}", "work"),
        ("{% for i in range(99999) %}{{ big.count('a') }}{% endfor %}", "work"),
        ("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}", "nesting"),
        ("{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}", "nesting"),
        ("{{ 'a' | center(900000000) }}", "characters"),
        ("{{ 'a'.center(900000000) }}{{ 'a'.zfill(900000000) }}", "characters"),
        ("{{ 'a' | indent(900000000) }}", "characters"),
        ("{{ big | replace('a', big) }}", "characters"),
        ("{{ big.replace('a', big) }}", "characters"),
        ("{{ range(99999) | join(big) }}", "characters"),
        ("{{ big.join(['a'] * 9999) }}", "limit"),
        ("{{ [1] | batch(900000000, 0) }}", "elements"),
        ("{{ [1] | slice(900000000) }}", "elements"),
        ("{{ range(99999) | map('center', 99999) }}", "limit"),
        ("{{ range(99999) | select('in', range(9999) | list) }}", "work"),
        ("{{ ([[1] * 1000] * 9000) | sum(start=[]) }}", "limit"),
        ("{{ '%900000000d' | format(1) }}", "format"),
        ("{{ '%*d' | format(900000000, 1) }}", "format"),
        ("{{ '%.900000000f' % 1 }}", "format"),
        ("{{ '{:900000000}'.format(1) }}", "format"),
        ("{{ '{:{}}'.format(1, 900000000) }}", "format"),
        ("{{ big | wordwrap(1) }}{{ big | wordwrap(1) }}", "work"),
        ("{{ big | regex_search('(a+)+b') }}", "repeats a group"),
        ("{{ big | regex_search('a*a*a*a*a*b') }}", "too many repeats"),
        ("{% for i in range(9999) %}{{ big | regex_search('a*b') }}{% endfor %}", "work"),
        ("{{ big }}" * 20, "characters"),
        ("{{ " + "(" * 500 + "1" + ")" * 500 + " }}", "nesting"),
        ("{{ a" + ".b" * 5000 + " }}", "nesting"),
        ("{{ 1" + " + 1" * 5000 + " }}", "nesting"),
        ("{{ " + "not " * 5000 + "1 }}", "nesting"),
        ("{% for i in [1] %}" * 40 + "{% endfor %}" * 40, "nest"),
        ("{% if 0 %}" + "{% elif 0 %}" * 200 + "{% endif %}", "levels"),
        ("{{ a }}" * 9000, "nodes"),
        ("{{ " + "a," * 60000 + " }}", "tokens"),
        ("a" * 1_000_001, "source"),
    ],
    ids=lambda value: value[:60],
)
def test_breach_ends_quickly_and_names_the_limit(source: str, limit: str) -> None:
    start = time.process_time()
    with pytest.raises(TemplateError, match=limit):
        ENVIRONMENT.compile(source).render(View(input="", outputs={}, variables={"big": "a" * 500_000}))
    assert time.process_time() - start < SECONDS


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ previous_outputs.__class__ }}{{ previous_outputs['__class__'] }}",
        "{{ get_input.__globals__ }}{{ range.__self__ }}{{ cycler.__init__.__globals__ }}{{ namespace.__init__ }}",
        "{{ '{0.__class__}'.format('x') }}{{ '{0.__class__.__mro__}'.format(1) }}",
        "{{ ''.format.__self__.__class__ }}{{ input | attr('__class__') }}",
        "{{ [input] | map(attribute='__class__') | first }}",
        "{{ self }}{{ self._TemplateReference__context }}{{ context }}{{ environment }}",
        "{{ joiner.__init__ }}{{ dict.mro }}{{ dict.fromkeys }}{{ loop.__class__ }}",
        "{% macro m() %}{% endmacro %}{{ m._func }}{{ m.__class__ }}{{ m._environment }}",
        "{% for i in [1] %}{{ loop._undefined }}{{ loop.__init__ }}{% endfor %}",
        "{{ [1].append(2) }}{{ {}.update(a=1) }}{{ {}.pop }}{{ ''.encode }}{{ 'a'.translate }}",
        "{{ (1).to_bytes }}{{ (1.5).hex }}{{ none.x }}{{ true.real }}",
    ],
)
def test_nothing_but_data_can_be_reached(source: str) -> None:
    view = View(input="in", outputs={"a": {"response": "r"}})
    assert ENVIRONMENT.compile(source).render(view) == ""
    assert view.warnings


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ 1 | round(-900000000) }}", ""),
        ("{{ ('9' * 1000000) | int }}", "0"),
        ("{{ 10 ** 30 }}{{ [10 ** 30] }}", "1" + "0" * 30 + "[1" + "0" * 30 + "]"),
        ("{{ 2.5 ** 99999999 }}", ""),
        ("{{ ('<' * 100000) | striptags | length }}", "100000"),
        ("{{ ['\ud800'] }}", '["\ud800"]'),
        ("{% for i in range(50000) %}{{ '.' }}{% endfor %}", "." * 50_000),
        ("{{ 'a' * 1000000 }}", "a" * 1_000_000),
    ],
    ids=lambda value: value[:40],
)
def test_odd_but_bounded_work_is_done(source: str, text: str) -> None:
    assert ENVIRONMENT.compile(source).render(View(input="", outputs={})) == text


def test_a_breach_names_the_tag_and_its_line() -> None:
    with pytest.raises(TemplateError) as caught:
        ENVIRONMENT.compile("ok\n{{ 'a' * 300000000 }}").render(View(input="", outputs={}))
    assert caught.value.line == 2
    assert str(caught.value).startswith(
        "`{{ 'a' * 300000000 }}` (line 2): the template goes beyond the limit of 8,000,000"
    )


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+b",
        r"(a*)*b",
        r"(a|a)*b",
        r"(a|aa)+$",
        r"(?:a{1,99}){1,99}b",
        r"(a?){99}a{99}",
        r"((?:){999}){999}",
        r"(a)\1*",
        r"(?P<x>a)(?P=x)",
        r"(a)(?(1)b|c)",
        r"(?x)a* a* a* b",
        r"a{1000}",
        r"(?u)(?a)x",
        r"a*a*a*a*a*b",
        r"(",
        "a" * 1001,
    ],
)
def test_patterns_that_could_take_for_ever_are_refused(pattern: str) -> None:
    with pytest.raises(TemplateError):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "text", "found", "searched"),
    [
        (r"(?i)score[:\s]+([0-9]+(?:\.[0-9]+)?)", "SCORE: 0.85", "SCORE: 0.85", 100_000),
        (r"SCORE:(.*?)END", "SCORE: 1 END", "SCORE: 1 END", 3162),
        (r"\d+", "abc 123", "123", 100_000),
        (r"[a-z]+\s*=\s*\"([^\"]*)\"", 'key = "value"', 'key = "value"', 3162),
        (r"(?:ab)+c", "ababc", "ababc", 3162),
        (r"^\w+(?=:)", "key: v", "key", 3162),
        (r"(?!b)?(?:ab)++[^b]?[ab]++[^b]?", "ababcb", "ababcb", 3162),
        (r"[\]x-z]+", "a]y", "]y", 100_000),
        (r"x{2,3}", "axxxx", "xxx", 100_000),
        (r"a{}*", "xa{}}}x", "a{}}}", 100_000),
        (r"a.*b.*c", "a1b2c", "a1b2c", 215),
    ],
)
def test_ordinary_patterns_search_as_far_as_is_safe(pattern: str, text: str, found: str, searched: int) -> None:
    compiled = compile_pattern(pattern)
    match = compiled.search(text)
    assert match is not None
    assert (match[0], compiled.text_limit) == (found, searched)


ATOMS = ["a", "b", ".", r"\w", r"\s", "[ab]", "[^b]", "(?:ab)", "(a)", "a|b", "(?=a)", "(?!b)", "^", "$", r"\b", "(?i)"]
REPEATS = ["", "*", "+", "?", "*?", "{2}", "{1,3}", "{2,}", "++"]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ATOMS), st.sampled_from(REPEATS)), min_size=1, max_size=7))
def test_any_accepted_pattern_is_quick_on_texts_made_to_hurt(parts: list[tuple[str, str]]) -> None:
    try:
        pattern = compile_pattern("".join(atom + repeat for atom, repeat in parts))
    except TemplateError:
        return
    for text in ("a" * 20_000, "ab" * 10_000, " " * 20_000):
        start = time.process_time()
        pattern.search(text)
        assert time.process_time() - start < SECONDS


WORDS = [
    *["{{", "}}", "{%", "%}", "{%-", "-%}", "{#", "#}", "\n", "text"],
    *["if", "else", "elif", "endif", "for", "in", "endfor", "recursive", "loop", "loop.index", "set", "endset"],
    *["macro", "endmacro", "m", "call", "endcall", "filter", "endfilter", "with", "endwith", "raw", "endraw"],
    *["not", "and", "or", "is", "defined", "(", ")", "[", "]", ",", ".", ":", "|", "=", "==", "<", "~"],
    *["+", "-", "*", "**", "/", "//", "%", "0", "1", "3.5", "'a'", '"b"', "'a{}'", "none", "true", "nope", "x", "ns"],
    *["input", "previous_outputs", "previous_outputs.a", "previous_outputs.a.list", "range(9)", "namespace(x=1)"],
    *["get_past_loops()", "get_agent_response('a')", "get_fork_responses()", "upper", "length", "round", "join"],
    *["tojson", "default('d')", "map('upper')", "sort", "regex_search('a+')", "batch(2)", "first", "frob"],
    *["truncate(3)", "center(9)", "replace('a', 'bb')"],
]


def fragments() -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(WORDS), min_size=1, max_size=14).map(" ".join)


def tags() -> st.SearchStrategy[str]:
    expression = st.lists(
        st.sampled_from(["input", "nope", "1", "'a'", "[1]", "{'a': 1}", "previous_outputs.a", "x"]),
        min_size=1,
        max_size=3,
    )
    operators = st.sampled_from(
        [" + ", " * ", " ~ ", " == ", " < ", " in ", " | ", " ** ", ".", " if ", " and ", " is "]
    )
    joined = st.tuples(
        expression, operators, st.sampled_from(["", " | upper", " | length", "[0]", ".x", "()", " | list", " | sum"])
    )
    made = joined.map(lambda parts: parts[1].join(parts[0]) + parts[2])
    frames = st.sampled_from(
        [
            "{{ E }}",
            "{% if E %}B{% endif %}",
            "{% for x in E %}B{% endfor %}",
            "{% for a, b in E if b %}B{% else %}n{% endfor %}",
            "{% set x = E %}B",
            "{% set x %}B{% endset %}{{ x }}",
            "{% with x = E %}B{% endwith %}",
            "{% macro m(x=E) %}B{% endmacro %}{{ m() }}",
            "{% filter upper %}B{% endfilter %}",
        ]
    )
    return st.recursive(
        st.tuples(frames, made).map(lambda pair: pair[0].replace("E", pair[1]).replace("B", "b")),
        lambda inner: st.tuples(frames, made, inner).map(lambda t: t[0].replace("E", t[1]).replace("B", t[2])),
        max_leaves=6,
    )


@settings(max_examples=300, deadline=None)
@given(fragments() | tags() | st.text(string.printable, max_size=30))
def test_any_source_renders_to_text_or_is_a_template_error(source: str) -> None:
    view = View(input="in", outputs={"a": {"response": "r", "list": [1, "b", None, {"c": 2}]}})
    try:
        text = ENVIRONMENT.compile(source).render(view)
    except TemplateError:
        return
    assert isinstance(text, str)
    assert len(text) <= SIZE_LIMIT
    assert all(isinstance(warning, str) for warning in view.warnings)


@settings(max_examples=100, deadline=None)
@given(fragments() | tags())
def test_any_expression_source_evaluates_or_is_a_template_error(source: str) -> None:
    try:
        ENVIRONMENT.compile_expression(source).evaluate(View(input="in", outputs={"a": {"list": [1]}}))
    except TemplateError:
        return


def test_large_outputs_can_be_looked_at_and_handed_on() -> None:
    outputs: dict[str, Json] = {"big": {"list": [{"text": "x" * 1000} for _ in range(30_000)]}}
    source = "{{ previous_outputs.big.list | length }} {{ previous_outputs.big.list[7].text | default('') | length }}"
    assert ENVIRONMENT.compile(source).render(View(input="", outputs=outputs)) == "30000 1000"
    large = ENVIRONMENT.compile_expression("previous_outputs.big.list").evaluate(View(input="", outputs=outputs))
    assert isinstance(large, list)
    assert len(large) == 30_000
