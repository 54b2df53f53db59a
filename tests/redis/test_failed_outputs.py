"""Agents that fail and still have something to show, and those whose response stands for the whole result."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest
from pydantic import BaseModel, ConfigDict
from support.crew import working
from support.running import at, execute, opened

from orka.agents.base import AgentInput, AgentOutput, AgentTools, AgentType
from orka.agents.registry import Registry
from orka.errors import AgentError, LLMRateLimited
from orka.graph.nodes import AgentNode
from orka.results import Failure, RunResult, Usage
from orka.settings import Settings
from orka.types import Json, Status


class Anything(BaseModel):
    model_config = ConfigDict(extra="allow")


class Talker:
    """Fails as its prompt says."""

    def __init__(self, node: AgentNode, tools: AgentTools) -> None:
        pass

    async def run(self, task: AgentInput, /) -> AgentOutput:
        match task.text:
            case "own":
                output: dict[str, Json] = {"response": ["at noon", "down"], "tried": [1, 2]}
                raise AgentError("is down", kind="Down", output=output, usage=Usage(prompt_tokens=3, cost_usd=0.5))
            case "usage":
                raise AgentError("is down", kind="Down", usage=Usage(prompt_tokens=2))
            case "not json":
                raise AgentError("is down", kind="Down", output={"response": {1, 2}})  # type: ignore[dict-item]
            case "stands for":
                raise AgentError("slow down", kind="LLMRateLimited") from LLMRateLimited("slow down")
            case "plain":
                raise KeyError("x")
            case "sleep":
                await asyncio.sleep(9)
        return AgentOutput(response=["at noon", "found"], fields={"hits": [{"url": "u"}]})


def on_failure(failure: Failure, at_ms: int) -> Mapping[str, Json]:
    return {"response": [f"at {at_ms > 0}", f"{failure.kind}: {failure.message}"]}


def registry() -> Registry:
    found = Registry()
    plain = AgentType(name="talker", event_type="Talker", options=Anything, build=Talker)
    found.add(plain)
    found.add(replace(plain, name="bare", bare=True, on_failure=on_failure))
    return found


async def run(settings: Settings, kind: str, prompt: str, rest: str = "") -> RunResult:
    text = f"""
        orchestrator: {{id: t, agents: [a, end]}}
        agents:
          - {{id: a, type: {kind}, prompt: {prompt}{rest}}}
          - id: end
            type: template
            prompt: >-
              {{{{ previous_outputs.a }}}}|{{{{ previous_outputs.a.response }}}}|{{{{ get_agent_response("a") }}}}|
              {{%- for line in previous_outputs.a %}}<{{{{ line }}}}>{{% endfor %}}
        """
    return await execute(settings, text, registry=registry())


async def test_an_error_brings_its_output_to_templates_logs_and_the_bill(redis_settings: Settings) -> None:
    result = await run(redis_settings, "talker", "own")
    visit = at(result, "a")
    assert (visit.status, visit.output) == (Status.ERROR, {"response": ["at noon", "down"], "tried": [1, 2]})
    assert visit.error == Failure(kind="Down", message="is down")
    assert result.usage == Usage(prompt_tokens=3, cost_usd=0.5)
    assert result.output == (
        '{"response":["at noon","down"],"tried":[1,2],"error":"is down","error_type":"Down","status":"error"}'
        '|["at noon","down"]|["at noon","down"]|<response><tried><error><error_type><status>'
    )


async def test_a_bare_output_is_seen_as_its_response_failed_or_not(redis_settings: Settings) -> None:
    lines = '["at noon","found"]'
    result = await run(redis_settings, "bare", "fine")
    assert result.output == f"{lines}|{lines}|{lines}|<at noon><found>"
    assert at(result, "a").output == {"response": ["at noon", "found"], "hits": [{"url": "u"}]}
    result = await run(redis_settings, "bare", "own")
    assert str(result.output).startswith('["at noon","down"]|')


@pytest.mark.parametrize(
    ("prompt", "rest", "line"),
    [
        ("plain", "", "KeyError: 'x'"),
        ("sleep", ", timeout: 0.01", "RunTimeout: no answer within 0.01 s"),
        ("usage", "", "Down: is down"),
    ],
)
async def test_the_type_says_what_is_seen_of_errors_that_bring_nothing(
    redis_settings: Settings, prompt: str, rest: str, line: str
) -> None:
    result = await run(redis_settings, "bare", prompt, rest)
    assert at(result, "a").status is Status.ERROR
    assert str(result.output).endswith(f"|<at True><{line}>")


async def test_usage_without_an_output_counts_too(redis_settings: Settings) -> None:
    result = await run(redis_settings, "talker", "usage")
    assert (result.usage.prompt_tokens, at(result, "a").output) == (2, None)


async def test_an_output_that_is_not_json_is_dropped_and_the_error_kept(redis_settings: Settings) -> None:
    visit = at(await run(redis_settings, "talker", "not json"), "a")
    assert visit.error == Failure(kind="Down", message="is down")
    assert visit.output is None
    assert visit.warnings == (
        "the output that came with the error is dropped: response is a set, which is not JSON: "
        "return a sorted list of it",
    )


async def test_retry_knows_the_error_that_an_agent_error_stands_for(redis_settings: Settings) -> None:
    result = await run(redis_settings, "talker", "stands for", ", retry: {attempts: 3, delay: 0, on: LLMError}")
    assert at(result, "a").attempts == 3


GRAPH = """
orchestrator: {id: t, agents: [spread, gather, over, each, again, end]}
agents:
  - {id: spread, type: fork, targets: [[down], [up]]%s}
  - {id: down, type: bare, prompt: own}
  - {id: up, type: bare, prompt: fine}
  - {id: gather, type: join, group: spread}
  - id: over
    type: failover
    children: [{id: one, type: bare, prompt: own}, {id: two, type: bare, prompt: fine}]
  - {id: each, type: map, items: "['own', 'fine']", agents: [look]}
  - {id: look, type: bare, prompt: "{{ item }}"}
  - {id: again, type: talker, prompt: own}
  - id: end
    type: template
    prompt: >-
      {{ previous_outputs.gather.merged.down }}{{ previous_outputs.up }}{{ get_fork_responses("spread") }}
      {{ previous_outputs.over.two }}{{ previous_outputs.over.successful_child }}
      {{ previous_outputs.each.results }}{{ previous_outputs.again.response }}
"""
SEEN = (
    '["at noon","down"]["at noon","found"]{"down":["at noon","down"],"up":["at noon","found"]} '
    '["at noon","found"]two '
    '[["at noon","down"],["at noon","found"]]["at noon","down"]'
)


async def test_control_nodes_pass_on_what_is_seen_and_a_resumed_run_sees_the_same(redis_settings: Settings) -> None:
    async with opened(redis_settings, GRAPH % "", registry=registry()) as orchestrator:
        result = await orchestrator.execute("x")
        assert str(result.output).split() == SEEN.split()
        log = await orchestrator.resume(str(result.run_id), return_logs=True)
    assert isinstance(log, list)
    entry = next(one for one in log if isinstance(one, dict) and one["agent_id"] == "down")
    assert isinstance(entry, dict)
    payload = entry["payload"]
    assert isinstance(payload, dict)
    assert (payload["status"], payload["result"], payload["tried"]) == ("error", ["at noon", "down"], [1, 2])
    last = log[-1]
    assert isinstance(last, dict)
    assert isinstance(last["previous_outputs"], dict)
    assert last["previous_outputs"]["down"] == ["at noon", "down"]


async def test_branches_on_workers_bring_the_outputs_of_their_failures_back(redis_settings: Settings) -> None:
    async with (
        working(redis_settings, "gpu", registry=registry()),
        opened(redis_settings, GRAPH % ", runs_on: gpu", registry=registry()) as orchestrator,
    ):
        result = await orchestrator.execute("x")
    assert str(result.output).split() == SEEN.split()
