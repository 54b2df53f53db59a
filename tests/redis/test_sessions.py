"""A run belongs to a session: what templates read, what agents are told, what a resume and another process see of it."""

import pytest
from support.fleet import open_fleet
from support.running import graph, opened, said

from orka.agents.base import AgentInput
from orka.agents.registry import Registry
from orka.errors import ConfigError, RunExists
from orka.ids import new_run_id
from orka.lifecycle import RunOptions, start_run
from orka.settings import Settings

TEXT = """
    orchestrator: {id: t, agents: [a, spread, gather]}
    agents:
      - {id: a, type: template, prompt: "{{ session_id }}|{{ run_id }}|{{ trace_id }}|{{ agent_id }}|{{ step_index }}"}
      - {id: spread, type: fork, targets: [b]}
      - {id: b, type: template, prompt: "{{ session_id }}|{{ step_index }}"}
      - {id: gather, type: join, group: spread}
    """


async def test_templates_read_the_session_and_without_one_the_runs_id(redis_settings: Settings) -> None:
    async with opened(redis_settings, TEXT) as orchestrator:
        given = await orchestrator.execute("x", run_id="in-a-session", session_id="chat 7")
        assert said(given, "a") == "chat 7|in-a-session|in-a-session|a|1"
        assert said(given, "spread.0/b") == "chat 7|2"
        own = await orchestrator.execute("x", run_id="without-one")
        assert said(own, "a") == "without-one|without-one|without-one|a|1"
        assert await orchestrator.run("x", session_id="s") == "s|2"


async def test_agents_are_told_and_a_resume_remembers(redis_settings: Settings) -> None:
    registry, told, ready = Registry(), list[str](), list[bool]()

    @registry.agent("listener")
    def listen(task: AgentInput) -> str:  # pyright: ignore[reportUnusedFunction]
        told.append(task.session)
        if not ready:
            raise ValueError("not yet")
        return "well"

    text = "{orchestrator: {id: t, agents: [a]}, agents: [{id: a, type: listener, on_error: stop}]}"
    async with opened(redis_settings, text, registry=registry) as orchestrator:
        failed = await orchestrator.execute("x", session_id="mine")
        ready.append(True)
        assert (await orchestrator.finish(failed.run_id)).output == "well"
        await orchestrator.run("x")
        assert told == ["mine", "mine", ""]


async def test_events_and_workers_know_the_session(redis_settings: Settings) -> None:
    async with opened(redis_settings, TEXT) as orchestrator:
        events = [event async for event in orchestrator.stream("x", session_id="s2")]
        assert events[0].data["session"] == "s2"
    async with open_fleet(redis_settings, 2) as bench:
        program = bench.services.build(graph(TEXT))
        result = await start_run(
            bench.services, program, "x", new_run_id(), RunOptions(distributed=True, session="far")
        )
        assert said(result, "spread.0/b") == "far|2"


async def test_a_submitted_run_is_the_same_only_with_the_same_session(redis_settings: Settings) -> None:
    async with opened(redis_settings, TEXT) as orchestrator:
        first = await orchestrator.submit("x", run_id="submitted-in-a-session", session_id="one")
        again = await orchestrator.submit("x", run_id="submitted-in-a-session", session_id="one")
        assert first.run_id == again.run_id
        with pytest.raises(RunExists):
            await orchestrator.submit("x", run_id="submitted-in-a-session", session_id="two")
        await first.cancel()


async def test_a_memory_that_a_run_writes_has_its_session(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [put]}
        agents: [{id: put, type: memory, namespace: sessions, config: {operation: write, vector: false}, prompt: "hi"}]
        """
    async with opened(redis_settings, text) as orchestrator:
        written = await orchestrator.execute("x", session_id="chat-9")
        plain = await orchestrator.execute("x")
    sessions = [result.results[0].output["session"] for result in (written, plain)]  # type: ignore[index,call-overload]
    assert sessions == ["chat-9", ""]


@pytest.mark.parametrize("bad", ["", "a\nb", "x" * 201, 3])
async def test_what_is_no_session_is_refused(redis_settings: Settings, bad: str) -> None:
    with pytest.raises(ConfigError, match="a session is a text of 1 to 200 characters"):
        await opened(redis_settings, TEXT).execute("x", session_id=bad)
