"""`budget` and `stream` of a graph file: what is accepted, what is told, and what travels."""

import pytest

from orka.agents.registry import default_registry
from orka.graph.codec import decode_graph, encode_graph
from orka.graph.load import Report, check_graph
from orka.graph.nodes import Budget
from orka.template.environment import Environment


def check(head: str) -> Report:
    text = f"orchestrator: {{agents: [a], {head}}}\nagents: [{{id: a, type: echo}}]\n"
    specs = default_registry().specs()
    return check_graph(text, source="flow.yml", specs=specs, compile_template=Environment().compile)


def test_a_budget_is_part_of_the_graph_and_of_what_is_stored() -> None:
    report = check("budget: {usd: 0.5, tokens: 1000, seconds: 2.5, on_exceed: stop}, stream: true")
    assert not report.faults
    assert report.graph is not None
    assert report.graph.limits.budget == Budget(usd=0.5, tokens=1000, seconds=2.5, on_exceed="stop")
    again = decode_graph(encode_graph(report.graph))
    assert (again.limits, again.digest) == (report.graph.limits, report.graph.digest)
    assert again.limits.stream


def test_a_graph_without_them_has_the_digest_that_it_always_had() -> None:
    graph = check("id: plain").graph
    assert graph is not None
    assert b"budget" not in encode_graph(graph)
    assert b"stream" not in encode_graph(graph)


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ("budget: {tokens: 0}", "'budget.tokens'"),
        ("budget: {usd: -1}", "'budget.usd'"),
        ("budget: {usd: yes}", "'budget.usd'"),
        ("budget: {seconds: soon}", "'budget.seconds'"),
        ("budget: {tokens: 5, on_exceed: warn}", "'budget.on_exceed'"),
        ("budget: {}", "'budget' limits nothing"),
        ("budget: 5", "'budget'"),
        ("budget: {token: 5, usd: 1}", "'token'"),
        ("stream: loudly", "'stream'"),
    ],
)
def test_what_a_budget_may_not_be_is_told(head: str, told: str) -> None:
    [fault] = check(head).faults
    assert told in fault.message
    assert fault.line == 1
