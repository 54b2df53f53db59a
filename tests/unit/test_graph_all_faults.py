"""Faults of a file are reported together: one that makes a value unreadable hides no other."""

import pytest

from orka.services import check_file


def report(text: str) -> list[str]:
    return [fault.render().splitlines()[0] for fault in check_file(text, "f.yml").faults]


def test_values_that_yaml_cannot_make_anything_of_do_not_end_the_report() -> None:
    text = f"""
orchestrator: {{agents: [a, q], timeout: .nan, deadline: .inf}}
agents:
  - {{id: a, type: echo, value: !mine x, prompt: !other y}}
  - {{id: b, type: ecko, timeout: {"9" * 5000}}}
  - {{id: c, type: template, prompt: {{{{ input }}}}}}
  - {{id: d, type: echo, depends_on: *nobody}}
"""
    nines = "9" * 60
    assert report(text) == [
        "f.yml:2:28: error: agent 'q' is not defined",
        "f.yml:2:41: error: '.nan' is not a finite number",
        "f.yml:2:57: error: '.inf' is not a finite number",
        "f.yml:4:32: error: tag '!mine' is not allowed in a graph file",
        "f.yml:4:49: error: tag '!other' is not allowed in a graph file",
        "f.yml:5:19: error: type 'ecko' of agent 'b' is not known (did you mean 'echo'?)",
        f"f.yml:5:34: error: '{nines}' does not fit into 64 bits (quote it to make it text)",
        'f.yml:6:38: error: a key must be text, not a mapping (a template needs quotes: "{{ ... }}")',
        "f.yml:7:37: error: alias '*nobody' has no anchor '&nobody' before it",
    ]


def test_a_bad_key_of_a_loop_hides_nothing_of_the_others() -> None:
    text = """
orchestrator: {agents: [b]}
agents:
  - id: b
    type: loop
    score_threshold: 80
    internal_workflow: {orchestrator: {agents: [a]}, agents: [{id: a, type: echo}]}
    past_loops_metadata: {kept: "{{ x"}
    cognitive_extraction: {extract_patterns: {insights: ["[z-a]"]}}
    score_extraction_pattern: "*"
    score_extraction_config:
      strategies:
        - {type: pattern, patterns: ["("]}
        - {type: agent_key}
        - {type: guess}
"""
    assert report(text) == [
        "f.yml:6:22: warning: 'score_threshold' of loop 'b' is never reached: scores are 0 to 1 (did you mean 0.8?)",
        "f.yml:8:33: error: bad template in 'past_loops_metadata' of 'b': unexpected end of template, expected "
        "'end of print statement'.",
        "f.yml:9:58: error: bad regular expression '[z-a]' in loop 'b': bad character range z-a at position 1",
        "f.yml:10:31: error: bad regular expression '*' in loop 'b': nothing to repeat at position 0",
        "f.yml:13:38: error: bad regular expression '(' in loop 'b': missing ), unterminated subpattern at position 0",
        "f.yml:14:11: error: strategy 'agent_key' of loop 'b' has no 'agents'",
        "f.yml:15:18: error: 'score_extraction_config.strategies[2].type' of loop 'b' must be "
        "'direct_key', 'pattern' or 'agent_key', not 'guess'",
    ]


def of_agent(keys: str) -> list[str]:
    return report(f"orchestrator: {{agents: [{{id: a, {keys}}}]}}")


@pytest.mark.parametrize(
    ("written", "meant"), [("locall_llm", "local_llm"), ("memory_reeder", "memory-reader"), ("ecko", "echo")]
)
def test_a_misspelt_type_may_have_meant_a_planned_one(written: str, meant: str) -> None:
    assert of_agent(f"type: {written}") == [
        f"f.yml:1:39: error: type {written!r} of agent 'a' is not known (did you mean {meant!r}?)"
    ]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("type: function, function: os.system", "'module:name', both without a leading underscore"),
        ("type: echo, runs_on: a b", "a name of at most 64 letters, digits, '_', '.' and '-'"),
    ],
)
def test_a_value_of_the_wrong_shape_is_told_in_words(keys: str, words: str) -> None:
    [fault] = of_agent(keys)
    assert f" must be {words}, not " in fault
    assert "^" not in fault
