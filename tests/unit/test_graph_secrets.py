"""A graph file that holds a secret is refused, and no message quotes it."""

import json
import textwrap

import pytest
from support.running import graph

from orka.agents.registry import default_registry
from orka.graph.load import Report, check_graph
from orka.template.environment import Environment


def report(agent: str, head: str = "") -> Report:
    text = f"orchestrator:\n  id: t\n  agents: [a]\n{head}agents:\n" + textwrap.indent(f"- id: a\n{agent}", "  ")
    return check_graph(
        text, source="flow.yml", specs=default_registry().specs(), compile_template=Environment().compile
    )


@pytest.mark.parametrize(
    ("agent", "secret"),
    [
        ("  type: echo\n  api_key: s3cret-of-mine", "s3cret-of-mine"),
        ("  type: echo\n  params: {apiKey: s3cret-of-mine}", "s3cret-of-mine"),
        ("  type: echo\n  headers:\n    Authorization: Bearer s3cret of mine", "s3cret of mine"),
        ("  type: echo\n  value: {auth: [{password: 's3cret: \"mine\"'}]}", "s3cret"),
        ("  type: echo\n  model_url: http://me:s3cret-of-mine@host/v1", "s3cret-of-mine"),
        ("  type: echo\n  model_url: https://host/v1?api_key=s3cret-of-mine", "s3cret-of-mine"),
        ("  type: echo\n  servers: [https://s3cret-of-mine@host]", "s3cret-of-mine"),
        ("  type: echo\n  token: 123456789", "123456789"),
    ],
)
def test_a_secret_in_an_agent_is_an_error_that_does_not_tell_it(agent: str, secret: str) -> None:
    found = report(agent)
    assert found.graph is None
    (fault,) = [fault for fault in found.faults if fault.severity == "error"]
    assert "is stored with its runs" in fault.message
    assert "api_key_env" in (fault.hint or "")
    assert fault.line >= 5
    for each in found.faults:  # that the key is unknown is said, too
        assert secret not in each.render()
        assert secret not in json.dumps(each.as_json())


def test_a_secret_under_orchestrator_is_an_error() -> None:
    head = "  memory: {config: {redis_url: 'redis://:s3cret-of-mine@host:6379'}}\n"
    found = report("  type: echo", head)
    assert found.graph is None
    assert [fault.line for fault in found.faults] == [4]
    assert "s3cret-of-mine" not in found.faults[0].render()
    assert "REDIS_URL" in found.faults[0].render()


@pytest.mark.parametrize(
    "agent",
    [
        "  type: echo\n  value: {api_key: not-needed, token: '', password: '{{ input }}', api_key_env: OPENAI_API_KEY}",
        "  type: echo\n  value: {url: 'http://localhost:1234/v1', max_tokens: 100000, url2: 'https://h/x?key={{ input }}'}",
        "  type: echo\n  prompt: 'An example: https://user:password@host and api_key: abcdefgh'",
    ],
)
def test_what_is_no_secret_is_accepted(agent: str) -> None:
    found = report(agent)
    assert found.graph is not None, [fault.render() for fault in found.faults]


def test_the_stored_graph_of_a_clean_file_is_unchanged() -> None:
    assert graph("{orchestrator: {id: t, agents: [a]}, agents: [{id: a, type: echo, value: {k: v}}]}").options == {}
