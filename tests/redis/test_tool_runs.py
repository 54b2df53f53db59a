"""Runs whose models call tools: what is journaled, repeated after a crash, and left behind when a run is cancelled."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import anyio
import pytest
from support import tools
from support.running import graph

from orka.agents.base import AgentTools
from orka.agents.registry import Registry
from orka.agents.tooling.spec import needs_of
from orka.engine.needs import lacking_for
from orka.orchestrator import Orchestrator
from orka.settings import Settings
from orka.testing import HashEmbedder, ScriptedLLM, tool_calls
from orka.types import Json, RunStatus

SERVER = Path(__file__).resolve().parents[1] / "support" / "tool_server.py"
BOTH = """
orchestrator: {id: both, agents: [ask, say]}
agents:
  - id: ask
    type: llm
    prompt: "{{ input }}"
    tools:
      - support.tools:book
      - {mcp: {command: python, args: [SERVER], env: {ORKA_TEST_PIDS: FILE}}}
  - id: say
    type: template
    prompt: "{% for call in previous_outputs.ask.tool_calls %}{{ call.name }}={{ call.result }} {% endfor %}"
"""


def both(tmp_path: Path) -> str:
    return BOTH.replace("SERVER", str(SERVER)).replace("FILE", str(tmp_path / "pids"))


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_visits_keep_their_calls_and_the_server_is_shared_by_runs(
    tmp_path: Path, redis_settings: Settings
) -> None:
    llm = ScriptedLLM().when(lambda question: question.messages[-1].role == "tool", "Done.")
    llm.when("", tool_calls(("add", {"a": 1, "b": 2}), ("book", {"seat": "4a"})))
    orchestrator = Orchestrator(graph(both(tmp_path)), settings=redis_settings, llm=llm, allow_functions=True)
    async with orchestrator:
        answers = await asyncio.gather(*(orchestrator.run("x") for _ in range(5)))
        assert answers == ["add=3 book=booked 4a "] * 5
        (pid,) = map(int, (tmp_path / "pids").read_text().split())
        assert lives(pid)
    assert not lives(pid)


async def test_repeated_visit_calls_its_tools_under_the_same_keys_and_a_finished_one_does_not(
    tmp_path: Path, redis_settings: Settings
) -> None:
    hangs = True

    def answer(question: Any) -> bool:
        return question.messages[-1].role == "tool"

    llm = ScriptedLLM(latency=0.0).when(lambda question: not answer(question), tool_calls(("book", {"seat": "4a"})))
    llm.when(answer, "Done.")

    class Slow:
        """Hangs after the tools were called, for the first process."""

        def client(self, endpoint: Any) -> Any:
            inner = llm.client(endpoint)

            class Client:
                async def ask(self, question: Any, /, *, on_token: Any = None) -> Any:
                    if hangs and answer(question):
                        await anyio.sleep(60)
                    return await inner.ask(question, on_token=on_token)

            return Client()

    tools.called.clear()
    flow = graph(
        "orchestrator: {id: g, agents: [ask]}\n"
        "agents: [{id: ask, type: llm, prompt: x, tools: ['support.tools:book']}]\n"
    )
    first = Orchestrator(flow, settings=redis_settings, llm=Slow(), allow_functions=True)
    job = asyncio.create_task(first.execute("x", run_id="booked-twice"))
    with anyio.fail_after(10):
        while not tools.called:  # noqa: ASYNC110  # a tool sets no event
            await anyio.sleep(0.01)
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    hangs = False
    result = await Orchestrator(flow, settings=redis_settings, llm=Slow(), allow_functions=True).finish("booked-twice")
    assert (result.status, result.output) == (RunStatus.COMPLETED, "Done.")
    keys = [given[1] for _, given in tools.called]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert keys[0].startswith("booked-twice:ask:book:")
    again = await Orchestrator(flow, settings=redis_settings, llm=Slow(), allow_functions=True).finish("booked-twice")
    assert (again.output, len(tools.called)) == ("Done.", 2)


async def test_cancelling_a_run_in_mid_call_leaves_no_process(tmp_path: Path, redis_settings: Settings) -> None:
    llm = ScriptedLLM([tool_calls(("slow", {}))])
    orchestrator = Orchestrator(graph(both(tmp_path)), settings=redis_settings, llm=llm, allow_functions=True)
    job = asyncio.create_task(orchestrator.execute("x"))
    pids = tmp_path / "pids"
    with anyio.fail_after(10):
        while not (pids.exists() and llm.asked):  # noqa: ASYNC110  # a process sets no event
            await anyio.sleep(0.01)
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    assert job.cancelled()
    assert not lives(int(pids.read_text()))


async def test_server_that_is_not_permitted_fails_the_visit_with_the_remedy(
    tmp_path: Path, redis_settings: Settings
) -> None:
    allowed = {"support.tools"}
    flow = graph(both(tmp_path))
    result = await Orchestrator(flow, settings=redis_settings, llm=ScriptedLLM(), allow_functions=allowed).execute("x")
    error = result.results[0].error
    assert error is not None
    assert error.kind == "ServerNotAllowed"
    assert "--allow-functions=mcp:python" in error.message
    assert not (tmp_path / "pids").exists()


def test_worker_must_permit_what_the_tools_of_its_branches_need() -> None:
    listed: list[Json] = [
        {"function": "my.tools:sky", "tool": None, "mcp": None},
        {"function": None, "tool": "fog", "mcp": None},
        {"function": None, "tool": None, "mcp": {"command": "npx", "url": None}},
        {"function": None, "tool": None, "mcp": {"command": None, "url": "http://x"}},
    ]
    assert list(needs_of({"tools": listed})) == ["function:my.tools", "tool:fog", "mcp:npx"]
    types = frozenset({"llm", "function"})
    nothing = AgentTools(embedder=HashEmbedder(), toolbox=Registry(()).toolbox)
    needs = ("llm", "function:my.tools", "tool:fog", "mcp:npx", "mine")
    assert [lacking_for(need, types, nothing) for need in needs] == [
        None,
        "this worker may not call functions of 'my.tools': start it with --allow-functions",
        "this worker has no tool 'fog': start it with --import MODULE",
        "this worker may not start 'npx': start it with --allow-functions=mcp:npx",
        "this worker has no agent type 'mine': start it with --import MODULE",
    ]
    registry = Registry(())
    registry.toolbox.add(tools.weather, name="fog")
    allowed = frozenset({"my", "mcp:npx"})
    ready = AgentTools(embedder=HashEmbedder(), toolbox=registry.toolbox, allow_functions=allowed)
    assert [lacking_for(need, types, ready) for need in needs[:4]] == [None] * 4


def test_needs_of_a_graph_include_those_of_tools(tmp_path: Path) -> None:
    found = graph(both(tmp_path))
    node: Any = found.scope.nodes["ask"]  # type: ignore[index]
    assert list(needs_of(node.options)) == ["function:support.tools", "mcp:python"]


@pytest.mark.parametrize("key", ["Authorization", "X-Api-Key"])
def test_headers_name_variables_and_a_secret_is_refused(key: str) -> None:
    text = "orchestrator: {id: g, agents: [a]}\nagents: [{id: a, type: llm, prompt: x, tools: [{mcp: {url: 'http://x', %s}}]}]\n"
    graph(text % f"headers_env: {{{key}: TOOLS_AUTH}}")
    with pytest.raises(AssertionError, match="a graph is stored with its runs"):
        graph((text % f"headers: {{{key}: abcdefgh12345678}}").replace("url", "command"))
