"""Programs and agents written for OrKa 0.9 in Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orka import AgentError, BaseAgent, Orchestrator, Settings
from orka.agents.registry import Registry
from orka.cli.core import run_cli_entrypoint

GRAPH = """
orchestrator: {id: g, agents: [hello, shout, broken, last]}
agents:
  - {id: hello, type: template, prompt: "Hello {{ input }}"}
  - {id: shout, type: shouting, prompt: "{{ previous_outputs.hello.response }}", marks: 3, params: {extra: true}}
  - {id: broken, type: breaking}
  - {id: last, type: template, prompt: "{{ previous_outputs.shout.response }} {{ previous_outputs.broken.error }}"}
"""


class Shouting(BaseAgent):
    def __init__(self, agent_id: str, marks: int = 1, **kwargs: Any) -> None:
        super().__init__(agent_id, **kwargs)
        self.marks = marks

    async def _run_impl(self, ctx: dict[str, Any]) -> object:
        assert ctx["previous_outputs"]["hello"]["response"] == "Hello Ada"
        assert (ctx["input"], self.params) == ("Ada", {"extra": True})
        return {"response": ctx["formatted_prompt"].upper() + "!" * self.marks, "agent": self.agent_id}


class Breaking(BaseAgent):
    async def _run_impl(self, ctx: dict[str, Any]) -> object:
        return {"result": None, "status": "error", "error": "it broke", "component_id": self.agent_id}


async def test_agents_of_0_9_run_as_they_are(tmp_path: Path, redis_settings: Settings) -> None:
    registry = Registry()
    registry.agent("shouting")(Shouting)
    registry.agent("breaking")(Breaking)
    file = tmp_path / "g.yml"
    file.write_text(GRAPH, encoding="utf-8")
    result = await Orchestrator(file, settings=redis_settings, registry=registry).execute("Ada")
    assert result.output == "HELLO ADA!!! it broke"
    assert [visit.event_type for visit in result.results[1:3]] == ["Shouting", "Breaking"]


async def test_an_agent_can_be_called_by_hand() -> None:
    assert await Shouting("s", marks=0, extra=True).run(
        {"formatted_prompt": "x", "input": "Ada", "previous_outputs": {"hello": {"response": "Hello Ada"}}}
    ) == {"response": "X", "agent": "s"}
    with pytest.raises(AgentError, match="it broke"):
        await Breaking("b").run({})
    with pytest.raises(NotImplementedError, match="_run_impl"):
        await BaseAgent("b").run({})


async def test_the_entry_point_of_programs(
    tmp_path: Path, redis_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORKA_HOME", str(redis_settings.home))
    monkeypatch.setenv("ORKA_SERVER_LINGER", "0")
    file = tmp_path / "g.yml"
    file.write_text("orchestrator: {id: g, agents: [a]}\nagents:\n  - {id: a, type: echo, prompt: 'x {{ input }}'}\n")
    answer = await run_cli_entrypoint("g.yml", "1", log_to_file=True)
    log = await run_cli_entrypoint("g.yml", "1", verbose=True)
    assert isinstance(log, list)
    entry: Any = log[0]
    assert answer == entry["payload"]["response"]
    assert [one["agent_id"] for one in json.loads((tmp_path / "orka_trace.log").read_text())] == ["a"]
