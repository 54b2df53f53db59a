"""What `run` gives, its log, and what templates see: workflow-format 6.2 to 6.4, in real runs."""

from datetime import datetime
from typing import Any

import pytest
from support.running import answer, at, execute, opened, paths, said

from orka.errors import AgentError
from orka.results import Usage
from orka.settings import Settings

LOOP = """
          - id: improve
            type: loop
            max_loops: 2
            score_threshold: 0.9
            internal_workflow:
              orchestrator: {id: inner, agents: [w]}
              agents: [{id: w, type: template, prompt: "round {{ loop_number }} SCORE: 0.7"}]
"""


@pytest.mark.parametrize(
    ("agents", "nodes", "value"),
    [
        ("[a, b]", "", "B"),
        ("[a, bad]", "", "A"),
        ("[a, gate]", "", "A"),
        ("[b, gate]", "", "A"),
        ("[a, improve]", LOOP, "round 2 SCORE: 0.7"),
        ("[improve, a]", LOOP, "A"),
        ("[a, each]", "", ["x1", "x2"]),
        ("[a, spread]", "", "B"),
        ("[a, spread, gather]", "", "B"),
        ("[a, fail_over]", "", "F"),
        ("[marked, b]", "", "M"),
        ("[a, whole]", "", {"k": 1}),
        ("[a, nothing]", "", "A"),
        ("[gate]", "", None),
    ],
)
async def test_the_value_of_a_run_is_its_last_meaningful_response(
    redis_settings: Settings, agents: str, nodes: str, value: Any
) -> None:
    text = f"""
        orchestrator: {{id: t, agents: {agents}}}
        agents:
          - {{id: a, type: echo, prompt: A}}
          - {{id: b, type: echo, prompt: B}}
          - {{id: bad, type: failing}}
          - {{id: marked, type: echo, prompt: M, is_terminal: true}}
          - {{id: whole, type: echo, value: {{response: {{k: 1}}}}}}
          - {{id: nothing, type: echo, value: {{response: null}}}}
          - {{id: gate, type: router, params: {{decision_key: b, routing_map: {{b: [a]}}}}}}
          - {{id: each, type: map, items: "[1, 2]", agents: [one]}}
          - {{id: one, type: template, prompt: "x{{{{ item }}}}"}}
          - {{id: spread, type: fork, targets: [a, b]}}
          - {{id: gather, type: join, group: spread}}
          - {{id: fail_over, type: failover, children: [{{id: c, type: failing}}, {{id: d, type: echo, prompt: F}}]}}
          {nodes}
        """
    assert await answer(redis_settings, text) == value


async def test_a_run_in_which_nothing_answered_fails_with_the_last_error(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [a, b]}
        agents: [{id: a, type: failing, message: first}, {id: b, type: failing, message: second, kind: Down}]
        """
    with pytest.raises(AgentError, match=r"^run [0-9a-f-]+ failed at 'b': second$") as told:
        await answer(redis_settings, text)
    assert (told.value.kind, told.value.path) == ("Down", "b")
    result = await execute(redis_settings, text)
    assert (result.status, result.output, result.error_path) == ("failed", None, "b")
    assert [visit.path for visit in result.failed] == ["a", "b"]


WHOLE = """
    orchestrator: {id: t, agents: [a, spread, between, gather, improve, gate, pick, each, bad]}
    agents:
      - {id: a, type: template, prompt: "A {{ input.task }}{{ nope }}"}
      - {id: spread, type: fork, targets: [[x, x2], [y]]}
      - {id: x, type: echo, value: {response: X, score: 1}, delay: 0.03}
      - {id: x2, type: echo, prompt: X2}
      - {id: y, type: echo, prompt: Y}
      - {id: between, type: echo, prompt: M}
      - {id: gather, type: join, group: spread}
      - id: improve
        type: loop
        max_loops: 1
        internal_workflow:
          orchestrator: {id: inner, agents: [w]}
          agents: [{id: w, type: echo, value: "SCORE: 0.9"}]
      - {id: gate, type: router, params: {decision_key: a, routing_map: {a: []}}}
      - {id: pick, type: failover, children: [{id: d, type: failing}, {id: e, type: echo, value: E}]}
      - {id: each, type: map, items: "[1]", agents: [one]}
      - {id: one, type: echo, value: ONE}
      - {id: bad, type: failing, message: boom, retry: {attempts: 2, delay: 0}}
      - {id: see, type: template, prompt: "{{ EXPRESSION }}"}
    """


async def test_the_log_has_one_truthful_entry_per_step_in_declared_order(redis_settings: Settings) -> None:
    async with opened(redis_settings, WHOLE) as orchestrator:
        entries: Any = await orchestrator.run({"task": "T"}, return_logs=True)
    assert [(entry["step"], entry["agent_id"], entry["event_type"]) for entry in entries] == [
        (1, "a", "TemplateAgent"),
        (2, "spread", "ForkNode"),
        (3, "between", "EchoAgent"),
        (4, "x", "EchoAgent"),
        (5, "x2", "EchoAgent"),
        (6, "y", "EchoAgent"),
        (7, "gather", "JoinNode"),
        (8, "improve", "LoopNode"),
        (9, "gate", "RouterNode"),
        (10, "pick", "FailoverNode"),
        (11, "each", "MapNode"),
        (12, "bad", "FailingNode"),
    ]
    for entry in entries:
        assert set(entry) - {"fork_group_id"} == {
            "agent_id",
            "event_type",
            "timestamp",
            "step",
            "run_id",
            "payload",
            "previous_outputs",
        }
        assert datetime.fromisoformat(entry["timestamp"]).utcoffset().total_seconds() == 0  # type: ignore[union-attr]
        assert entry["payload"]["agent_id"] == entry["agent_id"]
        assert entry["payload"]["execution_time_ms"] >= 0
    assert len({entry["run_id"] for entry in entries}) == 1
    assert [entry.get("fork_group_id") for entry in entries[2:7]] == [None, "spread", "spread", "spread", None]
    by_id: Any = {entry["agent_id"]: entry for entry in entries}
    assert by_id["a"]["previous_outputs"] == {}
    assert list(by_id["between"]["previous_outputs"]) == ["a", "spread"]
    assert by_id["a"]["payload"]["formatted_prompt"] == "A T"
    assert by_id["a"]["payload"]["warnings"] == ["`{{ nope }}` (line 1): 'nope' is undefined"]
    assert by_id["x"]["payload"]["score"] == 1
    assert by_id["x"]["payload"]["execution_time_ms"] >= 30
    assert by_id["spread"]["payload"]["fork_execution_status"] == "initiated"
    assert by_id["spread"]["payload"]["fork_group_id"] == "spread"
    assert by_id["gather"]["payload"]["result"]["merged"]["y"]["response"] == "Y"
    improved = by_id["improve"]["payload"]
    assert (improved["loops_completed"], improved["final_score"], improved["confidence"]) == (1, 0.9, 1.0)
    assert improved["result"] == {"w": {"response": "SCORE: 0.9"}}
    assert improved["response"]["past_loops"] == improved["past_loops"]
    assert by_id["gate"]["payload"]["result"] == []
    assert by_id["pick"]["payload"]["e"] == {"response": "E"}
    assert by_id["each"]["payload"]["result"] == {"results": [{"response": "ONE"}], "failed": []}
    failed = by_id["bad"]["payload"]
    assert (failed["status"], failed["error"], failed["attempts"], failed["result"]) == ("error", "boom", 2, None)
    assert {entry["payload"]["status"] for entry in entries[:-1]} == {"success"}
    seen = by_id["bad"]["previous_outputs"]
    assert seen["improve"]["response"]["final_score"] == 0.9
    assert seen["y"]["response"] == "Y"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("previous_outputs.a.response", "A T"),
        ("previous_outputs['a'].response", "A T"),
        ("previous_outputs.a.formatted_prompt", "A T"),
        ("previous_outputs.a", '{"response":"A T"}'),
        ("previous_outputs.x.score + 1", "2"),
        ("previous_outputs.spread.status", "forked"),
        ("previous_outputs.spread.fork_group", "spread"),
        ("previous_outputs.spread.agents | join(' ')", "x x2 y"),
        ("previous_outputs.gather.merged.x.response", "X"),
        ("previous_outputs.gather.y.response", "Y"),
        ("previous_outputs.gather.status", "done"),
        ("previous_outputs.x2.response", "X2"),
        ("previous_outputs.improve.result.w.response", "SCORE: 0.9"),
        ("previous_outputs.improve.response.result.w.response", "SCORE: 0.9"),
        ("previous_outputs.improve.final_score", "0.9"),
        ("previous_outputs.improve.threshold_met", "True"),
        ("previous_outputs.improve.loops_completed", "1"),
        ("previous_outputs.improve.past_loops[0].loop_number", "1"),
        ("previous_outputs.improve.confidence", "1.0"),
        ("previous_outputs.improve.internal_reasoning", ""),
        ("previous_outputs.gate", "[]"),
        ("previous_outputs.pick.response", "E"),
        ("previous_outputs.pick.e.response", "E"),
        ("get_agent_response('pick')", "E"),
        ("previous_outputs.each.results[0].response", "ONE"),
        ("previous_outputs.each.failed", "[]"),
        ("previous_outputs.bad.error", "boom"),
        ("previous_outputs.bad.status", "error"),
        ("get_fork_responses('gather') | tojson", '{"x": "X", "x2": "X2", "y": "Y"}'),
    ],
)
async def test_templates_see_outputs_in_the_shapes_of_the_format(
    redis_settings: Settings, expression: str, text: str
) -> None:
    whole = WHOLE.replace("each, bad]}", "each, bad, see]}").replace("EXPRESSION", expression)
    result = await execute(redis_settings, whole, {"task": "T"})
    assert said(result, "see") == text
    assert at(result, "see").warnings == ()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("words", "words|words||"),
        ({"task": "T"}, '{"task":"T"}|{"task":"T"}|T|'),
        ({"input": "I", "task": "T"}, '{"input":"I","task":"T"}|I|T|'),
        ([1, "two"], '[1,"two"]|[1,"two"]||two'),
        (None, "|||"),
        (5, "5|5||"),
        ("", "|||"),
        ("ünïcode ✓", "ünïcode ✓|ünïcode ✓||"),
    ],
)
async def test_the_input_may_be_any_json(redis_settings: Settings, given: Any, text: str) -> None:
    graph = """
        orchestrator: {id: t, agents: [a]}
        agents:
          - id: a
            type: template
            prompt: >-
              {{ input }}|{{ get_input() }}|{{ input.task if input is mapping }}|{{ input[1] if input is sequence and input is not string and input is not mapping }}
        """  # noqa: E501
    assert await answer(redis_settings, graph, given) == text


async def test_an_input_that_is_no_json_is_refused_before_anything_runs(redis_settings: Settings) -> None:
    with pytest.raises(AgentError, match=r"^input is a set, which is not JSON: return a sorted list of it$"):
        await answer(redis_settings, WHOLE, {1, 2})


async def test_usage_is_the_sum_of_all_visits(redis_settings: Settings) -> None:
    from orka.agents.base import AgentInput, AgentOutput
    from orka.agents.registry import Registry

    registry = Registry()

    @registry.agent("model", pure=True)
    async def model(task: AgentInput) -> AgentOutput:
        return AgentOutput(response="x", usage=Usage(prompt_tokens=2, completion_tokens=3, cost_usd=0.25))

    text = """
        orchestrator: {id: t, agents: [m, a]}
        agents:
          - {id: m, type: map, items: "[1, 2, 3]", agents: [a]}
          - {id: a, type: model}
        """
    result = await execute(redis_settings, text, registry=registry)
    assert result.usage == Usage(prompt_tokens=8, completion_tokens=12, cost_usd=1.0)


async def test_ids_of_any_spelling_can_be_read(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [an-agent_14, "with space", b]}
        agents:
          - {id: an-agent_14, type: echo, prompt: A}
          - {id: "with space", type: echo, prompt: S}
          - id: b
            type: template
            prompt: "{{ previous_outputs['an-agent_14'].response }}{{ get_agent_response('with space') }}"
        """
    result = await execute(redis_settings, text)
    assert result.output == "AS"
    assert paths(result) == ["an-agent_14", "with space", "b"]
