"""What a rendering prints: values, undefined names, failing expressions, and the notes it leaves."""

import pytest

from orka.errors import TemplateError
from orka.template.environment import Environment
from orka.template.view import View
from orka.types import Json

ENVIRONMENT = Environment()
OUTPUTS: dict[str, Json] = {
    "a": {
        "response": "yes",
        "score": 0.75,
        "n": 3,
        "nothing": None,
        "_metrics": {"tokens": 1},
        "formatted_prompt": "p",
    },
    "a-b": {"result": {"inner": {"deep": 1}}, "items": [1, 2]},
    "search": [{"title": "one"}, {"title": "zwei"}],
    "result": {"hidden": 1},
}


def view(**changes: object) -> View:
    values: dict[str, object] = {"input": "hello", "outputs": OUTPUTS, **changes}
    return View(**values)  # pyright: ignore[reportArgumentType]


def rendered(source: str, seen: View | None = None) -> tuple[str, list[str]]:
    seen = seen or view()
    return ENVIRONMENT.compile(source).render(seen), seen.warnings


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("no tags at all", "no tags at all"),
        ("kept:  two   spaces\n\n and lines\n\n", "kept:  two   spaces\n\n and lines\n"),
        ("{{ input }}", "hello"),
        ("{{ previous_outputs.a.response }}", "yes"),
        ("{{ previous_outputs['a-b'].inner.deep }}", "1"),
        ("{{ previous_outputs['a-b']['inner']['deep'] + 1 }}", "2"),
        ("{{ previous_outputs['a-b'].items }}", "[1,2]"),
        ("{{ previous_outputs.a.get('n') }}{{ previous_outputs.get('zz', 'd') }}", "3d"),
        ("{{ previous_outputs['a-b'].get('items') }}", "[1,2]"),
        ("{{ previous_outputs.search[0].title }}{{ previous_outputs.search[-1].title }}", "onezwei"),
        ("{{ previous_outputs.search[1:] }}", '[{"title":"zwei"}]'),
        ("{{ previous_outputs.a }}", '{"response":"yes","score":0.75,"n":3,"nothing":null}'),
        ("{{ previous_outputs.a._metrics.tokens }}", "1"),
        ("{{ previous_outputs.a.nothing }}|", "|"),
        ("{{ previous_outputs.a.score > 0.5 }}{{ previous_outputs.a.score == 0.75 }}", "TrueTrue"),
        ("{{ 1.0 }} {{ 2 }} {{ true }} {{ none }}", "1.0 2 True "),
        ("{{ ['ü', 1, none, (2, 3)] }}", '["ü",1,null,[2,3]]'),
        ("{% for k, v in {'x': 1, 'y': 2}.items() %}{{ loop.index }}{{ k }}{{ v }};{% endfor %}", "1x1;2y2;"),
        ("{% for i in range(5) if i is odd %}{{ i }}{% else %}none{% endfor %}", "13"),
        ("{% if previous_outputs.a.n == 4 %}a{% elif previous_outputs.a.n == 3 %}b{% else %}c{% endif %}", "b"),
        ("{% set x, y = [1, 2] %}{{ y }}{{ x }}", "21"),
        ("{% set ns = namespace(t=0) %}{% for i in [1, 2, 3] %}{% set ns.t = ns.t + i %}{% endfor %}{{ ns.t }}", "6"),
        ("{% macro f(a, b='!') %}[{{ a }}{{ b }}]{% endmacro %}{{ f('x') }}{{ f('y', '?') }}", "[x!][y?]"),
        ("{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}in{% endcall %}", "<in>"),
        ("{% filter upper %}ab{{ input }}{% endfilter %}", "ABHELLO"),
        ("{% set b %}x{{ input }}{% endset %}{{ b }}{{ b }}", "xhelloxhello"),
        ("{% with q = 2 %}{{ q * 2 }}{% endwith %}", "4"),
        ("{% raw %}{{ x }}{% endraw %}{# gone #}", "{{ x }}"),
        ("{% for i in [[1, [2]]] recursive %}{{ i if i is number else loop(i) }}{% endfor %}", "12"),
        ("{{ '{:.2f} {}'.format(1.239, previous_outputs.a.response) }} {{ '%05.1f' % 2.25 }}", "1.24 yes 002.2"),
        ("{{ input.upper() }} {{ input.replace('l', 'L') }} {{ ', '.join(['a', 'b']) }}", "HELLO heLLo a, b"),
        ("{{ previous_outputs.keys() | join(' ') }}", "a a-b search result"),
        ("{{ 'a' ~ 1 ~ none ~ [2] }}", "a1[2]"),
        ("{{ 'text with {{ braces }}' }}", "text with {{ braces }}"),
    ],
)
def test_rendering_prints(source: str, text: str) -> None:
    assert rendered(source) == (text, [])


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("[{{ nope }}]", "[]"),
        ("[{{ previous_outputs.nope.response.x[3].y }}]", "[]"),
        ("[{{ previous_outputs.a.nothing.x }}]", "[]"),
        ("[{{ previous_outputs.hidden }}]", "[]"),
        ("{{ nope + 1 }}", "1"),
        ("{{ 1.5 - nope }}", "1.5"),
        ("{{ 'x' + nope }}", "x"),
        ("{{ nope + [1] }}", "[1]"),
        ("{{ nope * 2 }}", "0"),
        ("[{{ nope + nope2 }}]", "[]"),
        ("[{{ -nope }}]", "[]"),
        ("{{ nope < 1 }}{{ nope > 1 }}{{ 1 > nope }}", "TrueFalseTrue"),
        ("{{ nope == '' }}{{ nope == none }}{{ nope == 'x' }}{{ nope != 'x' }}", "TrueTrueFalseTrue"),
        ("{{ 1 in nope }}{{ nope in [1] }}", "FalseFalse"),
        ("[{{ nope | round(2) }}]{{ nope | length }}{{ nope | float }}{{ nope | int }}", "[]00.00"),
        ("[{{ nope | upper | trim | replace('a', 'b') | truncate(3) }}]", "[]"),
        ("[{{ nope | join(',') }}{{ nope | first }}{{ nope | last }}]", "[]"),
        ("{{ nope | sort }}{{ nope | list }}{{ nope | map('upper') }}{{ nope | items }}", "[][][][]"),
        ("[{{ nope() }}{{ nope.method('x') }}]", "[]"),
        ("[{{ nope | tojson }}]", "[null]"),
        ("{% for x in nope.list %}{{ x }}{% else %}empty{% endfor %}", "empty"),
        ("[{{ previous_outputs.search[9].title }}]", "[]"),
    ],
)
def test_what_is_undefined_is_empty_and_noted_once(source: str, text: str) -> None:
    made, warnings = rendered(source)
    assert made == text
    assert warnings
    assert all("is undefined" in warning for warning in warnings)
    assert len(warnings) <= source.count("{{") + source.count("{%")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ nope | default('d') }}{{ previous_outputs.nope.x | default('e') }}", "de"),
        ("{{ '' | default('f', true) }}{{ (nope or '') | default('g', true) }}", "fg"),
        ("{{ nope is defined }}{{ nope.x is not defined }}", "FalseTrue"),
        ("{% if nope %}a{% elif nope.x %}b{% else %}c{% endif %}", "c"),
        ("{{ 'a' if nope else 'b' }}{{ nope or 'c' }}{{ not nope }}", "bcTrue"),
        ("[{{ 'x' if false }}]", "[]"),
        ("{{ safe_get_response('nope', 'none') }}{{ safe_get(nope, 'k', 'd') }}", "noned"),
        ("{% if true or nope > 3 %}ok{% endif %}", "ok"),
    ],
)
def test_what_handles_undefined_leaves_no_note(source: str, text: str) -> None:
    assert rendered(source) == (text, [])
    assert rendered(source, view(strict=True))[0] == text


@pytest.mark.parametrize(
    ("source", "text", "error"),
    [
        ("a{{ 1 / 0 }}b", "ab", "ZeroDivisionError"),
        ("a{{ 'x' + 1 }}b{{ input }}", "abhello", "TypeError"),
        ("{{ input | round }}.", ".", "ValueError"),
        ("{{ input() }}.", ".", "TypeError"),
        ("{{ input.upper }}.", ".", "TypeError"),
        ("{% if input + 1 %}a{% else %}b{% endif %}", "b", "TypeError"),
        ("{% if false %}{% elif 1 / 0 %}a{% endif %}b", "b", "ZeroDivisionError"),
        ("{% for x in 5 %}{{ x }}{% else %}none{% endfor %}", "none", "TypeError"),
        ("{% for x in [0, 1] if 1 / x %}{{ x }}{% endfor %}", "1", "ZeroDivisionError"),
        ("{% for a, b in [1, (2, 3)] %}{{ a }}{{ b }};{% endfor %}", ";23;", "ValueError"),
        ("{% set x = 1 / 0 %}[{{ x }}]", "[]", "ZeroDivisionError"),
        ("{% set x, y = 1 %}[{{ x }}{{ y }}]", "[]", "ValueError"),
        ("{% set nope.x = 1 %}z", "z", "TemplateRuntimeError"),
        ("{% with x = 1 / 0 %}[{{ x }}]{% endwith %}", "[]", "ZeroDivisionError"),
        ("{% filter round %}a{% endfilter %}z", "z", "ValueError"),
        ("{% set x | round %}a{% endset %}z", "z", "ValueError"),
        ("{% macro m() %}{{ caller(1) }}{% endmacro %}{% call m() %}a{% endcall %}z", "z", "TypeError"),
    ],
)
def test_a_failing_expression_is_empty_and_harms_nothing_else(source: str, text: str, error: str) -> None:
    made, warnings = rendered(source)
    assert made == text
    assert len(warnings) == 1
    assert error in warnings[0]


def test_a_note_shows_the_expression_and_its_line() -> None:
    _, warnings = rendered("one\ntwo {{ previous_outputs.nope\n .response }}\n{{ 1/0 }}")
    assert warnings == [
        "`{{ previous_outputs.nope\n .response }}` (line 2): 'nope' is undefined",
        "`{{ 1/0 }}` (line 4): failed with ZeroDivisionError: division by zero",
    ]


def test_a_tag_in_a_loop_is_noted_once() -> None:
    _, warnings = rendered("{% for i in range(50) %}{{ nope }}{% endfor %}")
    assert warnings == ["`{{ nope }}` (line 1): 'nope' is undefined"]


@pytest.mark.parametrize(
    "source", ["a\n{{ nope }}", "\n{{ 1 / 0 }}", "\n{% for i in nope %}{% endfor %}", "\n{{ 1 | frob }}"]
)
def test_strict_mode_raises_with_the_line(source: str) -> None:
    with pytest.raises(TemplateError) as caught:
        rendered(source, view(strict=True))
    assert caught.value.line == 2


def test_unknown_filters_leave_the_value_and_are_noted_at_compile_time() -> None:
    template = ENVIRONMENT.compile("x\n{{ input | frob('a') | upper }}")
    assert template.notes == (
        "`{{ input | frob('a') | upper }}` (line 2): unknown filter 'frob' leaves its value as it is",
    )
    seen = view()
    assert template.render(seen) == "x\nHELLO"
    assert seen.warnings == ["`{{ input | frob('a') | upper }}` (line 2): unknown filter 'frob'"]


@pytest.mark.parametrize(
    ("source", "message", "line"),
    [
        ("a\n{{ 1 + }}", "unexpected", 2),
        ("a\n\n{% if x %}", "end of template", 3),
        ("{{ 'a", "unexpected", 1),
        ("\n{% frob %}", "unknown tag", 2),
        ("\n{{ 1 is frob }}", "unknown test 'frob'", 2),
        ("\n{% include 'x' %}", "`include` is not available", 2),
        ("{% extends 'x' %}", "`extends` is not available", 1),
        ("{% import 'x' as y %}", "`import` is not available", 1),
        ("{% from 'x' import y %}", "`from` is not available", 1),
        ("{% block x %}{% endblock %}", "`block` is not available", 1),
        ("\n{% for a, (b, c) in x %}{% endfor %}", "unpacking within unpacking", 2),
        ("\n{% for loop in x %}{% endfor %}", "loop", 2),
    ],
)
def test_what_does_not_compile_says_why_and_where(source: str, message: str, line: int) -> None:
    with pytest.raises(TemplateError) as caught:
        ENVIRONMENT.compile(source)
    assert message.lower() in str(caught.value).lower()
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("source", "reads", "reads_all"),
    [
        ("{{ input }}", set(), False),
        ("{{ previous_outputs.a.b }}{{ previous_outputs['c-d'] }}", {"a", "c-d"}, False),
        ("{{ previous_outputs.get('e') }}{% if previous_outputs.f %}{% endif %}", {"e", "f"}, False),
        ("{{ get_agent_response('a') }}{{ safe_get_response('b.c.d', 'x') }}", {"a", "b"}, False),
        ("{{ get_loop_output('l').x }}{{ has_context('h') }}{{ get_fork_responses('f') }}", {"f", "h", "l"}, False),
        ("{{ previous_outputs[input] }}", set(), True),
        ("{{ get_agent_response(input) }}", set(), True),
        ("{% for k in previous_outputs %}{% endfor %}", set(), True),
        ("{% for k, v in previous_outputs.items() %}{% endfor %}", set(), True),
        ("{{ get_execution_artifacts(previous_outputs) }}", set(), True),
        ("{{ get_past_loops() }}", set(), True),
    ],
)
def test_reads_names_the_outputs(source: str, reads: set[str], reads_all: bool) -> None:
    template = ENVIRONMENT.compile(source)
    assert (template.reads, template.reads_all) == (reads, reads_all)


def test_constant_says_whether_there_is_anything_to_evaluate() -> None:
    assert ENVIRONMENT.compile("a {# b #} {% raw %}{{ c }}{% endraw %}\n").constant
    assert ENVIRONMENT.compile("a {# b #} {% raw %}{{ c }}{% endraw %}\n").render(view()) == "a  {{ c }}"
    assert not ENVIRONMENT.compile("{{ 1 }}").constant


def test_compiled_sources_are_kept() -> None:
    assert ENVIRONMENT.compile("{{ input }}!") is ENVIRONMENT.compile("{{ input }}!")


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("previous_outputs.search", [{"title": "one"}, {"title": "zwei"}]),
        ("{{ previous_outputs.search | map(attribute='title') }}", ["one", "zwei"]),
        (" {{ input }} ", "hello"),
        ("(1, (2, none))", [1, [2, None]]),
        ("previous_outputs.a.keys()", ["response", "score", "n", "nothing", "_metrics", "formatted_prompt"]),
        ("previous_outputs.a.n > 2", True),
        ("range(3)", [0, 1, 2]),
        ("none", None),
    ],
)
def test_an_expression_evaluates_to_json(source: str, value: Json) -> None:
    seen = view()
    assert ENVIRONMENT.compile_expression(source).evaluate(seen) == value
    assert seen.warnings == []


def test_an_expression_gives_the_output_itself_not_a_copy() -> None:
    assert ENVIRONMENT.compile_expression("previous_outputs.search").evaluate(view()) is OUTPUTS["search"]


@pytest.mark.parametrize("source", ["nope.x", "previous_outputs.nope", "1 / 0", "input.upper"])
def test_an_expression_without_a_value_is_none_and_noted(source: str) -> None:
    seen = view()
    assert ENVIRONMENT.compile_expression(source).evaluate(seen) is None
    assert len(seen.warnings) == 1
    with pytest.raises(TemplateError):
        ENVIRONMENT.compile_expression(source).evaluate(view(strict=True))


@pytest.mark.parametrize("source", ["", "{{ }}", "{{ a }}{{ b }}", "{{ a }} b", "a }} b {{ c", "{% if a %}{% endif %}"])
def test_what_is_not_one_expression_is_refused(source: str) -> None:
    with pytest.raises(TemplateError):
        ENVIRONMENT.compile_expression(source)


def test_rendering_leaves_outputs_as_they_were() -> None:
    outputs: dict[str, Json] = {"a": {"list": [1], "_metrics": {}}}
    source = "{{ previous_outputs.a }}{{ previous_outputs.a.list.append(2) }}{{ previous_outputs.a.list | reverse }}"
    rendered(source, view(outputs=outputs))
    assert outputs == {"a": {"list": [1], "_metrics": {}}}
