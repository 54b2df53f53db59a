"""Every function and name of a template, over outputs of the shapes that runs leave behind."""

import json

import pytest

from orka.template.environment import Environment
from orka.template.functions import FUNCTIONS, NAMES
from orka.template.view import View
from orka.types import Json

ENVIRONMENT = Environment()
LOOP: dict[str, Json] = {
    "input": "x",
    "result": {"write": {"response": "final text", "quality": {"grade": "A"}}},
    "loops_completed": 2,
    "final_score": 0.9,
    "threshold_met": True,
    "past_loops": [{"loop_number": 1, "score": 0.5}, {"loop_number": 2, "score": 0.9}],
}
OUTPUTS: dict[str, Json] = {
    "agent": {"response": "text", "confidence": 0.5, "topic": "t"},
    "nested": {"result": {"response": "inner"}},
    "wrapped": {"payload": {"result": {"response": "deep"}}},
    "number": {"response": 3},
    "plain": "just text",
    "empty": {"response": ""},
    "router": ["warn", "log"],
    "refine": {"response": LOOP, **LOOP},
    "spread": {"status": "initiated", "fork_group": "spread", "agents": ["pro", "con"]},
    "pro": {"response": "for it"},
    "con": {"response": "against it"},
    "gather": {"status": "done", "merged": {"pro": {"response": "for it"}, "late": {"response": "me too"}}},
    "tools": {"response": "r", "tool_calls": ["search"]},
    "joined": {"result": {"joined_results": [1, 2]}},
    "recall": {"memories": [{"content": f"m{n}", "metadata": {"agent_type": "critic"}} for n in range(5)]},
    "radical_progressive": {"response": "forward"},
    "purist_refinement": {"response": "pure"},
}
MEMBERS = {"spread": ("pro", "con", "silent"), "gather": ("pro", "con")}
PAST: list[Json] = [
    {"loop_number": 1, "agreement_score": 0.4, "round": "1", "critic": "too long", "synthesis_insights": "old"},
    {"loop_number": 2, "agreement_score": 0.7, "round": "2", "critic": "better", "synthesis_insights": "new"},
]


def outside(**changes: object) -> View:
    values: dict[str, object] = {"input": "the topic", "outputs": OUTPUTS, "members": MEMBERS, **changes}
    return View(**values)  # pyright: ignore[reportArgumentType]


def inside(**changes: object) -> View:
    return outside(
        past_loops=PAST, loop_number=3, score_threshold=0.85, past_loops_metadata={"mistakes": "m"}, **changes
    )


def rendered(source: str, view: View) -> str:
    text = ENVIRONMENT.compile(source).render(view)
    assert view.warnings == []
    return text


CASES_OUTSIDE = [
    ("get_input()", "the topic"),
    ("get_current_topic()", "the topic"),
    ("get_input_field({'a': 1}, 'a')", "1"),
    ("get_input_field({'a': 1}, 'b', 'd')", "d"),
    ("get_input_field('text', 'b', 'd')", "d"),
    ("get_agent_response('agent')", "text"),
    ("get_agent_response('nested')", "inner"),
    ("get_agent_response('wrapped')", "deep"),
    ("get_agent_response('number') + '!'", "3!"),
    ("get_agent_response('plain')", "just text"),
    ("get_agent_response('router')", '["warn","log"]'),
    ("get_agent_response('missing')", ""),
    ("safe_get_response('agent')", "text"),
    ("safe_get_response('missing')", "No response available"),
    ("safe_get_response('empty', 'fb')", "fb"),
    ("safe_get_response('missing', 'fb', previous_outputs)", "fb"),
    ("safe_get_response('refine.write')", "final text"),
    ("safe_get_response('refine.write.quality.grade')", "A"),
    ("safe_get_response('refine.write.nope', 'fb')", "fb"),
    ("safe_get_response('other', 'fb', {'other': {'response': 'given'}})", "given"),
    ("get_loop_output('refine').result.write.response", "final text"),
    ("get_loop_output('agent').topic", "t"),
    ("get_loop_output('missing')", "{}"),
    ("get_loop_output('x', {'x': {'response': {'y': 1}}}).y", "1"),
    ("get_loop_number()", "1"),
    ("has_past_loops()", "True"),
    ("get_past_loops() | length", "2"),
    ("get_past_loops()[-1].score", "0.9"),
    ("get_past_loops_metadata()", "{}"),
    ("get_past_insights()", ""),
    ("get_past_loop_data()", '{"loop_number":2,"score":0.9}'),
    ("get_past_loop_data('score')", "0.9"),
    ("get_past_loop_data('nope')", ""),
    ("get_round_info()", "1"),
    ("get_score_threshold()", "0.9"),
    ("get_loop_rounds()", "2"),
    ("get_final_score()", "0.9"),
    ("get_loop_status()", "initiated"),
    ("get_fork_responses('spread')", '{"pro":"for it","con":"against it"}'),
    ("get_fork_responses('gather')", '{"pro":"for it","con":"against it","late":"me too"}'),
    ("get_fork_responses().spread.con", "against it"),
    ("get_fork_responses('missing')", "{}"),
    ("joined_results()", "[1,2]"),
    ("get_progressive_response()", "forward"),
    ("get_conservative_response()", ""),
    ("get_realist_response()", ""),
    ("get_purist_response()", "pure"),
    ("get_collaborative_responses()", "Progressive: forward\n\nPurist: pure"),
    ("format_memory_query('critic')", "Critic perspective on: the topic"),
    ("format_memory_query('critic', 'x')", "Critic perspective on: x"),
    ("get_my_past_memory('critic')", "- m2\n- m3\n- m4"),
    ("get_my_past_memory('other')", ""),
    ("get_my_past_decisions('critic')", ""),
    ("get_agent_memory_context('critic', 'critic')", "Past memories:\n- m2\n- m3\n- m4"),
    ("get_debate_evolution()", "Agreement by round: round 1: 0.5, round 2: 0.9"),
    ("safe_get({'a': none}, 'a')", ""),
    ("safe_get({'a': [5]}, 'a')[0]", "5"),
    ("safe_get([5, 6], 1, 'd') + safe_get([5], 9, 1)", "7"),
    ("safe_str(none)", ""),
    ("safe_str(nope)", ""),
    ("safe_str([1])", "[1]"),
    ("has_context('agent')", "True"),
    ("has_context('missing')", "False"),
    ("truncate_text('abcdefgh', 5)", "ab..."),
    ("truncate_text('abcdefgh', 5, '!')", "abcd!"),
    ("format_loop_metadata(get_past_loops(), 1)", "Loop 2 (score 0.9)"),
    ("to_json_string({'a': 1})", '{"a": 1}'),
    ("now()", "2026-01-02T03:04:05.678+00:00"),
    ("get_execution_artifacts(previous_outputs).nodes_executed | length", "17"),
]


@pytest.mark.parametrize(("call", "text"), CASES_OUTSIDE)
def test_function_outside_loops(call: str, text: str) -> None:
    assert rendered(f"{{{{ {call} }}}}", outside(now_ms=1767323045678)) == text


def test_every_function_has_a_case() -> None:
    assert {call.split("(")[0] for call, _ in CASES_OUTSIDE} == set(FUNCTIONS)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("get_loop_number()", "3"),
        ("loop_number", "3"),
        ("has_past_loops()", "True"),
        ("get_past_loops()[-1].critic", "better"),
        ("past_loops[0].critic", "too long"),
        ("get_past_loops_metadata().mistakes ~ past_loops_metadata.mistakes", "mm"),
        ("get_past_insights()", "new"),
        ("get_past_loop_data('critic')", "better"),
        ("get_round_info()", "2"),
        ("get_score_threshold()", "0.85"),
        ("get_loop_rounds()", "2"),
        ("get_final_score()", "0.7"),
        ("get_my_past_decisions('critic')", "- round 1: too long\n- round 2: better"),
        ("get_debate_evolution()", "Agreement by round: round 1: 0.4, round 2: 0.7"),
        (
            "get_agent_memory_context('none', 'critic')",
            "Past decisions:\n- round 1: too long\n- round 2: better",
        ),
    ],
)
def test_function_inside_a_loop(call: str, text: str) -> None:
    assert rendered(f"{{{{ {call} }}}}", inside()) == text


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("has_past_loops()", "False"),
        ("get_past_loops()", "[]"),
        ("get_past_loop_data()", ""),
        ("get_loop_rounds()", "Unknown"),
        ("get_final_score()", "Unknown"),
        ("get_loop_status()", "completed"),
        ("joined_results()", "[]"),
        ("get_debate_evolution()", "No earlier rounds"),
        ("get_fork_responses()", "{}"),
        ("get_collaborative_responses()", ""),
    ],
)
def test_function_in_a_run_that_has_nothing_yet(call: str, text: str) -> None:
    assert rendered(f"{{{{ {call} }}}}", View(input="x", outputs={})) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("agent_id", "me"),
        ("current_time", "1970-01-01T00:00:01.500+00:00"),
        ("input", "in"),
        ("loop_number", "1"),
        ("past_loops", "[]"),
        ("past_loops_metadata", "{}"),
        ("previous_outputs", '{"a":{"response":"r"}}'),
        ("run_id", "run"),
        ("session_id", "session"),
        ("step_index", "4"),
        ("timestamp", "1970-01-01T00:00:01.500+00:00"),
        ("trace_id", "run"),
    ],
)
def test_name(name: str, text: str) -> None:
    view = View(
        input="in",
        outputs={"a": {"response": "r", "_metrics": 1}},
        agent_id="me",
        run_id="run",
        session_id="session",
        step=4,
        now_ms=1500,
    )
    assert rendered(f"{{{{ {name} }}}}", view) == text
    assert name in NAMES


def test_variables_win_over_names_and_functions() -> None:
    view = View(input="in", outputs={}, variables={"input": "mine", "now": "then", "item": {"x": 1}})
    assert rendered("{{ input }} {{ now }} {{ item.x }}", view) == "mine then 1"


def test_input_mapping_outside_a_loop_prints_as_json() -> None:
    view = View(input={"input": "text", "task": "t"}, outputs={})
    assert rendered("{{ input }} {{ input.task }} {{ get_input() }}", view) == '{"input":"text","task":"t"} t text'


def test_input_mapping_inside_a_loop_prints_the_original_text_and_keeps_its_keys() -> None:
    view = View(input={"input": "text", "loop_number": 2}, outputs={}, past_loops=[])
    assert rendered("{{ input }} {{ input.loop_number }} {{ get_input() }}", view) == "text 2 text"


@pytest.mark.parametrize(
    ("given", "printed", "text"),
    [
        ("words", "words", "words"),
        ({"input": "words", "task": "t"}, "words", "words"),
        ({"task": "t"}, '{"task":"t"}', '{"task":"t"}'),
        ({"input": "words", "loop_number": "mine"}, "words", "words"),
    ],
)
def test_the_input_inside_a_loop_leads_to_the_round_whatever_it_is(given: Json, printed: str, text: str) -> None:
    view = View(
        input=given,
        outputs={"outer": {"response": "o"}},
        past_loops=[],
        loop_number=2,
        past_loops_metadata={"mistakes": "m"},
        scoring_context="quality",
    )
    source = "{{ input }} {{ get_input() }} {{ input.previous_outputs.outer.response }} {{ input.scoring_context }} "
    source += "{{ input.past_loops_metadata.mistakes }} {{ input.get('loop_number') or input.loop_number }}"
    number = given.get("loop_number", 2) if isinstance(given, dict) else 2
    if isinstance(given, str):
        source = source.replace("input.get('loop_number') or ", "")
    assert rendered(source, view) == f"{printed} {text} o quality m {number}"
    assert view.warnings == []
    assert rendered("{{ input.input }}", view) == text
    assert rendered("{{ input | tojson }} {{ [input] }} {{ input | length }}", view) == (
        f"{json.dumps(given)} {json.dumps([given], separators=(',', ':'))} {len(given)}"  # type: ignore[arg-type]
    )


def test_execution_artifacts_tell_of_a_tool_that_failed() -> None:
    outputs: dict[str, Json] = {"ask": {"response": "r", "tool_calls": [{"name": "sky", "error": "no sky", "ms": 1}]}}
    view = View(input="", outputs=outputs)
    assert json.loads(rendered("{{ get_execution_artifacts().tool_calls | tojson }}", view)) == [
        {
            "node_id": "ask",
            "tool": "sky",
            "status": "error",
            "error_handled": True,
            "execution_continued_after_error": True,
        }
    ]


def test_execution_artifacts_tell_what_ran() -> None:
    source = "{{ get_execution_artifacts(previous_outputs) | tojson }}"
    outputs: dict[str, Json] = {name: OUTPUTS[name] for name in ("agent", "router", "spread", "pro", "gather", "tools")}
    outputs |= {
        "lost": {"error": "down", "error_type": "SearchError", "status": "error"},
        "scout": {"response": "x", "decision": "shortlist", "target": [{"path": ["a", "b"]}], "parse_error": True},
    }
    assert json.loads(rendered(source, View(input="", outputs=outputs))) == {
        "nodes_executed": ["agent", "router", "spread", "pro", "gather", "tools", "lost", "scout"],
        "fork_groups": {
            "spread": {
                "agents": ["pro", "con"],
                "status": "initiated",
                "has_join": True,
                "branches": ["pro", "con"],
                "completed_branches": ["pro"],
            }
        },
        "router_decisions": {"router": {"chosen_target": "warn", "targets": ["warn", "log"]}},
        "graph_structure": {
            "nodes": ["agent", "router", "spread", "pro", "gather", "tools", "lost", "scout", "con"],
            "edges": [
                {"src": "agent", "dst": "router"},
                {"src": "router", "dst": "spread"},
                {"src": "spread", "dst": "pro"},
                {"src": "pro", "dst": "gather"},
                {"src": "gather", "dst": "tools"},
                {"src": "tools", "dst": "lost"},
                {"src": "lost", "dst": "scout"},
                {"src": "spread", "dst": "con"},
            ],
        },
        "tool_calls": [
            {
                "node_id": "tools",
                "tool": "search",
                "status": "success",
                "error_handled": False,
                "execution_continued_after_error": False,
            },
            {
                "node_id": "lost",
                "tool": None,
                "error": "down",
                "status": "error",
                "error_handled": False,
                "execution_continued_after_error": True,
            },
        ],
        "structured_outputs": {
            "agent": {"topic": "t", "schema_valid": True},
            "gather": {
                "merged": {"late": {"response": "me too"}, "pro": {"response": "for it"}},
                "status": "done",
                "schema_valid": True,
            },
            "lost": {"error": "down", "error_type": "SearchError", "status": "error", "schema_valid": True},
            "scout": {
                "decision": "shortlist",
                "parse_error": True,
                "schema_valid": False,
                "target": [{"path": ["a", "b"]}],
            },
        },
        "graphscout_candidates": [{"path": ["a", "b"]}],
    }
