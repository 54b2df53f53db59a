"""Every filter: what it makes of ordinary values."""

import pytest

from orka.template.environment import Environment
from orka.template.filters import FILTERS
from orka.template.view import View
from orka.types import Json

ENVIRONMENT = Environment()
PEOPLE: list[Json] = [{"n": "bo", "age": 3}, {"n": "Al", "age": 5}, {"n": "cy", "age": 3}]
OUTPUTS: dict[str, Json] = {
    "people": PEOPLE,
    "a": {"response": "yes", "_metrics": 1},
    "loops": [{"loop_number": 1, "score": 0.5, "mistakes": "slow", "timestamp": "t"}, {"score": 0.75}],
}
CASES = [
    ("abs", "{{ -3 | abs }}", "3"),
    ("attr", "{{ previous_outputs.a | attr('response') }}", "yes"),
    ("batch", "{{ [1, 2, 3] | batch(2, 0) }}", "[[1,2],[3,0]]"),
    ("batch", "{{ [1, 2, 3] | batch(2) }}", "[[1,2],[3]]"),
    ("capitalize", "{{ 'aBC' | capitalize }}", "Abc"),
    ("center", "[{{ 'a' | center(5) }}]", "[  a  ]"),
    ("count", "{{ 'abc' | count }}", "3"),
    ("d", "{{ nope | d('x') }}", "x"),
    ("default", "{{ '' | default('x', true) }}{{ 0 | default('y') }}", "x0"),
    ("dictsort", "{{ {'b': 1, 'a': 2} | dictsort }}", '[["a",2],["b",1]]'),
    ("e", "{{ '<a>' | e }}", "&lt;a&gt;"),
    ("escape", "{{ '<a>' | escape }}", "&lt;a&gt;"),
    ("filesizeformat", "{{ 13000 | filesizeformat }}", "13.0 kB"),
    ("first", "{{ [4, 5] | first }}", "4"),
    ("float", "{{ '0.5' | float }}{{ 'x' | float(1.5) }}", "0.51.5"),
    ("forceescape", "{{ '<' | forceescape }}", "&lt;"),
    ("format", "{{ '%s has %.1f' | format('a', 1.25) }}", "a has 1.2"),
    ("format", "{{ '%(x)s' | format(x=[1]) }}", "[1]"),
    (
        "format_loop_metadata",
        "{{ previous_outputs.loops | format_loop_metadata }}",
        "Loop 1 (score 0.5); mistakes: slow\nLoop 2 (score 0.75)",
    ),
    ("format_loop_metadata", "{{ previous_outputs.loops | format_loop_metadata(1) }}", "Loop 2 (score 0.75)"),
    ("format_loop_metadata", "{{ [] | format_loop_metadata }}", "No past loops"),
    (
        "groupby",
        "{% for age, ps in previous_outputs.people | groupby('age') %}{{ age }}:{{ ps | length }};{% endfor %}",
        "3:2;5:1;",
    ),
    (
        "groupby",
        "{% for g in previous_outputs.people | groupby('age') %}{{ g.grouper }}{{ g.list[0].n }}{% endfor %}",
        "3bo5Al",
    ),
    ("indent", "{{ 'a\nb' | indent(2) }}", "a\n  b"),
    ("int", "{{ '7' | int }}{{ 'x' | int(2) }}{{ 3.9 | int }}{{ 'ff' | int(0, 16) }}", "723255"),
    ("items", "{{ {'a': 1} | items }}", '[["a",1]]'),
    ("join", "{{ [1, none, 'a', [2]] | join('-') }}", "1--a-[2]"),
    ("join", "{{ previous_outputs.people | join('+', attribute='n') }}", "bo+Al+cy"),
    ("last", "{{ [4, 5] | last }}", "5"),
    ("length", "{{ previous_outputs.people | length }}", "3"),
    ("list", "{{ 'ab' | list }}", '["a","b"]'),
    ("lower", "{{ 'AB' | lower }}", "ab"),
    ("map", "{{ ['a', 'b'] | map('upper') }}", '["A","B"]'),
    ("map", "{{ previous_outputs.people | map(attribute='age') | sum }}", "11"),
    ("map", "{{ [{}, {'a': 1}] | map(attribute='a', default=0) }}", "[0,1]"),
    ("max", "{{ [1, 3, 2] | max }}", "3"),
    ("min", "{{ previous_outputs.people | min(attribute='age') | attr('n') }}", "bo"),
    ("pprint", "{{ {'a': 1} | pprint }}", '{\n  "a": 1\n}'),
    ("regex_search", "{{ 'score: 0.8!' | regex_search('[0-9.]+') }}", "0.8"),
    ("regex_search", "{{ 'Score = 9/10' | regex_search('score\\\\s*=\\\\s*(\\\\d+)', ignorecase=true) }}", "9"),
    ("regex_search", "{{ 'a\nb1' | regex_search('^b.', multiline=true) }}[{{ 'a' | regex_search('b') }}]", "b1[]"),
    ("reject", "{{ [1, 2, 3] | reject('odd') }}", "[2]"),
    ("rejectattr", "{{ previous_outputs.people | rejectattr('age', 'eq', 3) | map(attribute='n') }}", '["Al"]'),
    ("replace", "{{ 'aaa' | replace('a', 'b', 2) }}", "bba"),
    ("reverse", "{{ 'abc' | reverse }}{{ [1, 2] | reverse }}", "cba[2,1]"),
    ("round", "{{ 2.567 | round(1) }}{{ '0.85' | round(1, 'floor') }}{{ 7 | round }}", "2.60.87"),
    ("safe", "{{ '<a>' | safe }}", "<a>"),
    ("safe_get", "{{ {'k': 1} | safe_get('k') }}{{ {} | safe_get('k') }}{{ nope | safe_get('k', 'd') }}", "1unknownd"),
    ("select", "{{ [1, 2, 3] | select('odd') }}", "[1,3]"),
    ("selectattr", "{{ previous_outputs.people | selectattr('age', '>', 3) | map(attribute='n') }}", '["Al"]'),
    ("slice", "{{ [1, 2, 3] | slice(2) }}", "[[1,2],[3]]"),
    ("sort", "{{ ['b', 'A', 'c'] | sort }}{{ [1, 2] | sort(reverse=true) }}", '["A","b","c"][2,1]'),
    ("string", "{{ {'a': 1} | string | length }}", "7"),
    ("striptags", "{{ '<p>a  <b>b</b> &amp; c</p>' | striptags }}", "a b & c"),
    ("sum", "{{ [1, 2.5] | sum }}{{ previous_outputs.people | sum(attribute='age') }}", "3.511"),
    ("title", "{{ 'two words' | title }}", "Two Words"),
    ("to_json_string", "{{ {'a': 'ü'} | to_json_string }}", '{"a": "ü"}'),
    (
        "tojson",
        "{{ previous_outputs.people | tojson }}",
        '[{"n": "bo", "age": 3}, {"n": "Al", "age": 5}, {"n": "cy", "age": 3}]',
    ),
    ("tojson", "{{ {'a': [1, none, true]} | tojson(indent=1) }}", '{\n "a": [\n  1,\n  null,\n  true\n ]\n}'),
    ("trim", "[{{ '  a ' | trim }}{{ 'xax' | trim('x') }}]", "[aa]"),
    ("truncate", "{{ 'abcdefgh' | truncate(5) }}{{ 'abc' | truncate(3) }}", "ab...abc"),
    ("truncate", "{{ 'abcdefgh' | truncate(4, '~') }}{{ 'abcdefgh' | truncate(2) }}", "abc~.."),
    (
        "truncate",
        "{{ 'abcdefgh' | truncate(5, true, '+') }}{{ 'abcdefgh' | truncate(5, killwords=true) }}",
        "abcd+ab...",
    ),
    ("unique", "{{ ['a', 'A', 'b'] | unique }}", '["a","b"]'),
    ("unknown_filter", "{{ 1 | unknown_filter('x') }}", "1"),
    ("upper", "{{ {'a': 'b'} | upper }}", '{"A":"B"}'),
    ("urlencode", "{{ 'a b/ü' | urlencode }}", "a%20b/%C3%BC"),
    ("wordcount", "{{ 'two words' | wordcount }}", "2"),
    ("wordwrap", "{{ 'aa bb cc' | wordwrap(5) }}", "aa bb\ncc"),
]


@pytest.mark.parametrize(("name", "source", "text"), CASES)
def test_filter_makes(name: str, source: str, text: str) -> None:
    view = View(input="", outputs=OUTPUTS)
    assert ENVIRONMENT.compile(source).render(view) == text
    assert view.warnings == (
        [] if name != "unknown_filter" else ["`{{ 1 | unknown_filter('x') }}` (line 1): unknown filter 'x'"]
    )


def test_every_filter_has_a_case() -> None:
    assert {name for name, _, _ in CASES} == set(FILTERS)


def test_filters_that_would_not_repeat_on_replay_do_not_exist() -> None:
    assert not {"random", "urlize", "xmlattr"} & set(FILTERS)
    assert ENVIRONMENT.compile("{{ [1] | random }}").notes
