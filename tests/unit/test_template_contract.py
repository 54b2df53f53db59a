"""Rows of the contract's tables about templates (workflow-format 7.1 to 7.4) whose rules have an order or an edge."""

from typing import Any

import pytest

from orka.template.environment import Environment
from orka.template.view import View
from orka.types import Json

ENVIRONMENT = Environment()
LOOP: dict[str, Json] = {
    "input": "x",
    "result": {"write": {"response": "final", "quality": {"grade": "A"}, "steps": [{"name": "first"}]}},
    "loops_completed": 2,
    "final_score": 0.75,
    "threshold_met": False,
    "past_loops": [{"loop_number": 1, "score": 0.5}, {"loop_number": 2, "score": 0.75, "round": 2}],
}


def shown(source: str, outputs: dict[str, Json] | None = None, **more: Any) -> str:
    return ENVIRONMENT.compile(source).render(View(input=more.pop("input", "in"), outputs=outputs or {}, **more))


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ({"payload": {"response": "1", "result": "2"}, "result": "3", "response": "4"}, "1"),
        ({"payload": {"result": "2"}, "result": "3", "response": "4"}, "2"),
        ({"result": "3", "response": "4"}, "3"),
        ({"response": "4", "other": "5"}, "4"),
        ({"response": {"response": "inner", "confidence": 1}}, "inner"),
        ({"payload": {"response": {"response": "inner"}}}, "inner"),
        ({"result": {"response": "inner"}}, "inner"),
        ({"result": {"no": "response"}}, '{"no":"response"}'),
        ({"response": False}, "False"),
        ({"response": None, "confidence": "0.0"}, ""),
        ({"response": 0}, "0"),
        ({"other": 1}, '{"other":1}'),
        (["a", "b"], '["a","b"]'),
        ("text", "text"),
        ({"result": None, "response": "4"}, "4"),
    ],
)
def test_a_response_is_looked_for_in_the_order_of_the_contract(output: Json, text: str) -> None:
    assert shown("{{ get_agent_response('a') }}", {"a": output}) == text
    assert shown("{{ safe_get_response('a') }}", {"a": output}) == (text or "No response available")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("safe_get_response('gone')", "No response available"),
        ("safe_get_response('empty')", "No response available"),
        ("safe_get_response('gone', '')", ""),
        ("safe_get_response('loop.write')", "final"),
        ("safe_get_response('loop.write.response')", "final"),
        ("safe_get_response('loop.result.write.response')", "final"),
        ("safe_get_response('loop.write.quality.grade')", "A"),
        ("safe_get_response('loop.write.quality')", '{"grade":"A"}'),
        ("safe_get_response('loop.final_score')", "0.75"),
        ("safe_get_response('loop.nobody.response', 'none')", "none"),
        ("safe_get_response('nobody.write', 'none')", "none"),
        ("safe_get_response('with.dot')", "dotted id"),
        ("safe_get_response('x', 'none', {'x': {'response': 'given'}})", "given"),
        ("get_agent_response('gone') or 'falsy'", "falsy"),
        ("get_loop_output('loop').loops_completed", "2"),
        ("get_loop_output('loop').write.response", "final"),
        ("get_loop_output('gone').result.write.response | default('none')", "none"),
        ("get_loop_output('shown').final_score", "0.75"),
    ],
)
def test_ids_with_dots_lead_into_outputs(call: str, text: str) -> None:
    outputs: dict[str, Json] = {
        "loop": LOOP,
        "shown": {**LOOP, "response": LOOP},
        "empty": {"response": ""},
        "with.dot": {"response": "dotted id"},
    }
    assert shown(f"{{{{ {call} }}}}", outputs) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("words", "words"),
        ({"input": "inner", "task": "t"}, "inner"),
        ({"task": "t"}, '{"task":"t"}'),
        ({"input": {"a": 1}}, '{"a":1}'),
        (7, "7"),
        (None, ""),
    ],
)
def test_get_input_is_the_text_of_the_input(given: Json, text: str) -> None:
    assert shown("{{ get_input() }}", input=given) == text
    assert shown("{{ get_current_topic() }}", input=given) == text


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ({"past_loops": [{"score": 1}]}, "1"),
        ({"result": {"past_loops": [{"score": 2}]}}, "2"),
        ({"past_loops": [{"final_score": 3, "score": 4}]}, "3"),
        ({"past_loops": [{"agreement_score": 5, "final_score": 3}]}, "5"),
        ({"quality_score": 0.5}, "0.5"),
        ({"result": {"my_score": 0.25}}, "0.25"),
        ({"score": "high", "threshold": 1}, "Unknown"),
        ({"score": True}, "Unknown"),
        ("text", "Unknown"),
    ],
)
def test_the_final_score_is_looked_for_in_order(output: Json, text: str) -> None:
    assert shown("{{ get_final_score() }}", {"a": output}) == text


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        # 7.2: plain values, with attribute access and `result` as fall-back
        ("previous_outputs.a.confidence | float + 0.5", "1.25"),
        ("previous_outputs.a.confidence | round(1)", "0.8"),
        ("previous_outputs.a.confidence > 0.5", "True"),
        ("previous_outputs.a.decision == 'yes'", "True"),
        ("previous_outputs.a.deep", "found"),
        ("previous_outputs.a.decision.upper()", "YES"),
        ("previous_outputs.a.decision[0:2]", "ye"),
        ("previous_outputs.a.decision.startswith('y')", "True"),
        ("'decision' in previous_outputs.a", "True"),
        ("previous_outputs.a.get('gone', 'd')", "d"),
        ("previous_outputs.a.items() | length", "6"),
        ("previous_outputs.a.list | length", "2"),
        ("previous_outputs.a | length", "6"),
        ("previous_outputs.a._metrics.tokens", "3"),
        ("previous_outputs.a.formatted_prompt", "asked"),
        ("'yes' if previous_outputs.a else 'no'", "yes"),
        ("'yes' if previous_outputs.gone else 'no'", "no"),
        ("previous_outputs.gone is defined", "False"),
        ("previous_outputs.gone.x.y is none", "False"),
        ("previous_outputs.search", '["one","two"]'),
        ("previous_outputs.memories.memories[0].content", "m"),
        # 7.4: filters that differ from Jinja's
        ("{'a': 'ü', 'b': [1]} | tojson", '{"a": "ü", "b": [1]}'),
        ("'x' * 150 | int", "x" * 150),
        ("('x' * 150) | truncate | length", "100"),
        ("'abcdefgh' | truncate(5)", "ab..."),
        ("'abcdefgh' | truncate(5, suffix='')", "abcde"),
        ("'abc' | truncate(2)", ".."),
        ("{'k': 1} | safe_get('k')", "1"),
        ("{'k': none} | safe_get('k')", "unknown"),
        ("safe_get({'k': none}, 'k')", ""),
        ("'score is 0.9' | regex_search('[0-9.]+')", "0.9"),
        ("'none' | regex_search('[0-9]+')", ""),
        ("'kept' | extract_perspective", "kept"),
    ],
)
def test_values_and_filters_work_as_the_contract_says(expression: str, text: str) -> None:
    outputs: dict[str, Json] = {
        "a": {
            "decision": "yes",
            "confidence": 0.75,
            "list": [1, 2],
            "result": {"deep": "found"},
            "_metrics": {"tokens": 3},
            "formatted_prompt": "asked",
        },
        "search": ["one", "two"],
        "memories": {"memories": [{"content": "m"}], "num_results": 1},
    }
    assert shown(f"{{{{ {expression} }}}}", outputs) == text


def test_a_bare_output_prints_as_json_without_what_is_no_answer() -> None:
    outputs: dict[str, Json] = {"a": {"response": "r", "n": 1, "_metrics": {"tokens": 3}, "formatted_prompt": "p"}}
    assert shown("{{ previous_outputs.a }}", outputs) == '{"response":"r","n":1}'


def test_one_bad_expression_takes_no_other_with_it_and_white_space_stays() -> None:
    view = View(input="in", outputs={})
    source = "{% set x = 1 %}A  {{ nope.deeper }}\n\n  {{ 1 / 0 }}{{ input }} {{ '{{' }} x }} {{ x }}\n{% if nope %}no{% endif %}"
    assert ENVIRONMENT.compile(source).render(view) == "A  \n\n  in {{ x }} 1\n"
    assert len(view.warnings) == 2


def test_the_names_that_old_versions_left_undefined_have_values() -> None:
    names = (
        "{{ run_id }} {{ session_id }} {{ current_time }} {{ step_index }} {{ now() }} {{ agent_id }} {{ trace_id }}"
    )
    text = shown(names, run_id="r", session_id="s", step=2, agent_id="a", now_ms=0)
    assert text == "r s 1970-01-01T00:00:00.000+00:00 2 1970-01-01T00:00:00.000+00:00 a r"


def test_inside_a_loop_the_input_is_the_original_text_and_outer_outputs_are_a_fall_back() -> None:
    inner: Any = {
        "input": "original",
        "loop_number": 2,
        "past_loops_metadata": {"mistakes": "m"},
        "previous_outputs": {},
    }
    view = View(
        input=inner,
        outputs={"outer": {"response": "o"}},
        past_loops=[{"score": 0.5, "mistakes": "long"}],
        loop_number=2,
        score_threshold=0.7,
        past_loops_metadata={"mistakes": "m"},
    )
    source = (
        "{{ input }}|{{ get_input() }}|{{ input.loop_number }}|{{ input.past_loops_metadata.mistakes }}|"
        "{{ previous_outputs.outer.response }}|{{ get_past_loops()[-1].mistakes }}|{{ get_score_threshold() }}|"
        "{{ get_past_loops_metadata().mistakes }}|{{ has_past_loops() }}"
    )
    assert ENVIRONMENT.compile(source).render(view) == "original|original|2|m|o|long|0.7|m|True"


def test_a_pattern_is_searched_at_both_ends_of_a_long_text() -> None:
    long = "lorem ipsum " * 5000
    source = "{{ input | regex_search('(?i)score *is *(.*?)!') }}"
    assert shown(source, input=f"{long}The score is 0.85!") == "0.85"
    assert shown(source, input=f"Score is 0.7! {long} the score is 0.85!") == "0.7"
    view = View(input=long + "score is 0.85!" + long, outputs={})
    assert ENVIRONMENT.compile(source).render(view) == ""
    assert "the first and the last" in view.warnings[0]
    assert shown("{{ input | regex_search('^a+ *b+$') }}", input="a" * 200_000 + "b") == ""


def test_inside_a_loop_a_text_as_input_has_the_facts_of_its_round() -> None:
    inside: dict[str, Any] = {"input": "hey", "past_loops": [], "loop_number": 2, "past_loops_metadata": {"m": "none"}}
    source = (
        "{{ input.input }} {{ input.loop_number }} {{ input.past_loops_metadata.m }} {{ input.previous_outputs.a }}"
    )
    assert shown(source, {"a": 1}, **inside) == "hey 2 none 1"
    source = (
        "{{ input }} {{ input[:2] }} {{ input.upper() }} {{ input == 'hey' }} {{ input | tojson }} {{ {'i': input} }}"
    )
    assert shown(source, **inside) == 'hey he HEY True "hey" {"i":"hey"}'
    assert shown("{{ input.loop_number }}", input="hey") == ""  # outside of loops it is text and nothing else
