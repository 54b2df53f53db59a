"""Limits in a graph file: what is accepted, what it means, and what is said about the rest."""

from typing import Any

import pytest
from support.running import graph

from orka.agents.registry import Registry
from orka.dispatch.limits import Limit
from orka.engine.limiting import all_limits, limits_of, most_under_way
from orka.graph.codec import decode_graph, encode_graph
from orka.graph.load import check_graph
from orka.graph.nodes import AgentNode, Rate, SharedLimit
from orka.graph.schema import json_schema
from orka.template.environment import Environment
from orka.types import NodeId

FULL = """
orchestrator:
  id: g
  agents: [a, b, c, d]
  limits:
    model: {rate_limit: 60/min, max_concurrency: 3}
    "api.example-1": {rate_limit: {rate: 5/day, burst: 2}}
  queues: {gpu: {max_concurrency: 4}}
agents:
  - {id: a, type: echo, rate_limit: 60/min}
  - {id: b, type: echo, max_concurrency: 2, rate_limit: {rate: 3/s, burst: 5}, resource: model}
  - {id: c, type: echo, resource: api.example-1}
  - {id: d, type: echo}
"""


def agent_of(text: str, name: str) -> AgentNode:
    node = graph(text).scope.nodes[NodeId(name)]
    assert isinstance(node, AgentNode)
    return node


def faults(orchestrator: str = "", agent: str = "") -> list[str]:
    text = f"orchestrator:\n  agents: [a]\n{orchestrator}\nagents:\n  - {{id: a, type: echo{agent}}}\n"
    report = check_graph(text, source="f.yml", specs=Registry().specs(), compile_template=Environment().compile)
    return [f"{fault.line}:{fault.column} {fault.severity}: {fault.message} ({fault.hint})" for fault in report.faults]


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ("7/s", Rate(count=7)),
        ("7/sec", Rate(count=7)),
        (" 60 / min ", Rate(count=60, seconds=60)),
        ("100/h", Rate(count=100, seconds=3600)),
        ("100/hour", Rate(count=100, seconds=3600)),
        ("1/day", Rate(count=1, seconds=86400)),
        ("{rate: 60/min, burst: 10}", Rate(count=60, seconds=60, burst=10)),
        ("{rate: 60/min}", Rate(count=60, seconds=60)),
    ],
)
def test_a_rate_is_so_many_per_time(written: str, rate: Rate) -> None:
    value = written if written.startswith("{") else f"'{written}'"
    assert (
        agent_of(f"orchestrator: {{agents: [a]}}\nagents: [{{id: a, type: echo, rate_limit: {value}}}]", "a").rate_limit
        == rate
    )


@pytest.mark.parametrize(
    "written", ["60", "0/s", "60/week", "-1/s", "1.5/s", "60 per min", "yes", "[1/s]", "1000000/s"]
)
def test_what_is_no_rate_is_refused_with_the_forms_that_are(written: str) -> None:
    [found] = faults(agent=f", rate_limit: {written}")
    assert found.startswith("5:")
    assert (
        "'rate_limit' of agent 'a' must be a rate like 60/min (per s, sec, min, h, hour or day) or a mapping" in found
    )


def test_a_burst_has_bounds() -> None:
    assert (
        "'rate_limit.burst' of agent 'a' must be at least 1" in faults(agent=", rate_limit: {rate: 1/s, burst: 0}")[0]
    )
    assert "at most 10000" in faults(agent=", rate_limit: {rate: 1/s, burst: 10001}")[0]
    assert "has no 'rate'" in faults(agent=", rate_limit: {burst: 2}")[0]
    assert "unknown key 'bursts'" in faults(agent=", rate_limit: {rate: 1/s, bursts: 2}")[0]


def test_limits_of_the_orchestrator_are_read_and_survive_encoding() -> None:
    made = graph(FULL)
    assert made.limits.resources == {
        "model": SharedLimit(rate=Rate(count=60, seconds=60), max_concurrency=3),
        "api.example-1": SharedLimit(rate=Rate(count=5, seconds=86400, burst=2)),
    }
    assert made.limits.queues == {"gpu": SharedLimit(max_concurrency=4)}
    assert made.options == {}
    assert decode_graph(encode_graph(made)) == decode_graph(encode_graph(decode_graph(encode_graph(made))))
    again = decode_graph(encode_graph(made))
    assert (again.limits, again.digest) == (made.limits, made.digest)
    assert [node.rate_limit for node in again.nodes() if isinstance(node, AgentNode)] == [
        Rate(count=60, seconds=60),
        Rate(count=3, burst=5),
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("orchestrator", "agent", "message"),
    [
        (
            "  limits: {openai: {rate_limit: 1/s}}",
            ", resource: openia",
            "5:35 error: agent 'a' uses the resource 'openia', which is not defined (did you mean 'openai'?)",
        ),
        (
            "",
            ", resource: openai",
            "5:35 error: agent 'a' uses the resource 'openai', which is not defined"
            " (define it under 'limits' of 'orchestrator')",
        ),
        (
            "  limits: {x: {}}",
            "",
            "3:15 error: limit 'x' limits nothing (give it 'rate_limit' or 'max_concurrency')",
        ),
        (
            "  limits: {a b: {max_concurrency: 1}}",
            "",
            "3:12 error: 'a b' is no name for an entry of 'limits' (use up to 64 letters, digits, '_', '-' and points)",
        ),
        (
            "  queues: {gpu: {max_concurency: 1, max_concurrency: 1}}",
            "",
            "3:18 warning: unknown key 'max_concurency' in 'gpu' of 'queues' (did you mean 'max_concurrency'?)",
        ),
        ("  queues: {gpu: {}}", "", "3:17 error: 'queues.gpu' of 'orchestrator' has no 'max_concurrency' (None)"),
        (
            "  limits: {x: 3}",
            "",
            "3:15 error: 'limits.x' of 'orchestrator' must be a mapping, not 3 (None)",
        ),
    ],
)
def test_faults_have_their_place_and_a_hint(orchestrator: str, agent: str, message: str) -> None:
    assert faults(orchestrator, agent) == [message]


def test_a_control_node_has_no_rate() -> None:
    text = """
orchestrator: {agents: [f]}
agents: [{id: f, type: fork, targets: [a], rate_limit: 1/s}, {id: a, type: echo}]
"""
    report = check_graph(text, source="f.yml", specs=Registry().specs(), compile_template=Environment().compile)
    assert [fault.message for fault in report.faults] == ["unknown key 'rate_limit' in fork 'f'"]


def test_whole_run_limits_have_no_effect_inside_a_loop() -> None:
    text = """
orchestrator: {agents: [l]}
agents:
  - id: l
    type: loop
    internal_workflow:
      orchestrator: {agents: [a], limits: {m: {max_concurrency: 1}}}
      agents: [{id: a, type: echo}]
"""
    report = check_graph(text, source="f.yml", specs=Registry().specs(), compile_template=Environment().compile)
    assert "'limits' has no effect inside a loop" in [fault.message for fault in report.faults]


def test_names_are_scoped_by_graph_for_agents_and_shared_for_resources_and_queues() -> None:
    assert all_limits(graph(FULL)) == {
        limit.name: limit
        for limit in (
            Limit(name="queue:gpu", most=4),
            Limit(name="agent:g/a", interval=1_000_000),
            Limit(name="agent:g/b", most=2, interval=333_333, burst=5),
            Limit(name="resource:model", most=3, interval=1_000_000),
            Limit(name="resource:api.example-1", interval=17_280_000_000, burst=2),
        )
    }


def test_what_a_call_waits_for_depends_on_whether_others_call_too() -> None:
    made = graph(FULL)
    limits = limits_of(made, agent_of(FULL, "b"))
    assert limits is not None
    assert limits.here is not None
    assert limits.here.total_tokens == 2
    model = Limit(name="resource:model", most=3, interval=1_000_000)
    assert limits.shared == (Limit(name="agent:g/b", interval=333_333, burst=5), model)
    assert limits.in_fleet == (Limit(name="agent:g/b", most=2, interval=333_333, burst=5), model)
    assert limits_of(made, agent_of(FULL, "d")) is None
    assert (most_under_way(made, "gpu"), most_under_way(made, "default")) == (4, 0)


def test_the_schema_knows_the_forms() -> None:
    definitions: dict[str, Any] = json_schema(Registry().specs())["$defs"]
    forms = definitions["agent.common"]["properties"]["rate_limit"]["anyOf"]
    assert forms[0]["type"] == "string"
    assert "min" in forms[0]["pattern"]
    assert definitions["orchestrator.RateKeys"]["properties"]["burst"]["maximum"] == 10_000
    assert definitions["orchestrator"]["properties"]["queues"]["additionalProperties"] == {
        "$ref": "#/$defs/orchestrator.QueueKeys"
    }
