"""A completed run that is resumed: its stored answer, its log as it was, nothing executed and nothing written."""

from __future__ import annotations

import pytest
from support.journals import client_of, entries_of, registry_of
from support.running import opened

from orka.agents.base import AgentInput
from orka.errors import ConfigError, JournalMismatch
from orka.orchestrator import Orchestrator, finish
from orka.redis.keys import run_keys
from orka.settings import Settings

GRAPH = """
orchestrator: {agents: [one, spread, gather, two]}
agents:
  - {id: one, type: counted, prompt: "{{ input }} at {{ now() }}"}
  - {id: spread, type: fork, targets: [[left], [right]]}
  - {id: left, type: counted, retry: 2}
  - {id: right, type: failing, message: "no luck"}
  - {id: gather, type: join, group: spread}
  - {id: two, type: template, prompt: "{{ previous_outputs.one.response }} and {{ previous_outputs.left.response }}"}
"""


async def test_its_log_is_that_of_the_run_and_no_agent_is_called(redis_settings: Settings) -> None:
    calls: list[str] = []

    async def counted(task: AgentInput) -> str:
        calls.append(task.path)
        return f"call {len(calls)}"

    async with opened(redis_settings, GRAPH, registry=registry_of(counted=counted)) as orchestrator:
        log = await orchestrator.run("hello", return_logs=True)
        assert isinstance(log, list)
        first = log[0]
        assert isinstance(first, dict)
        run_id, before = str(first["run_id"]), list(calls)
        async with client_of(redis_settings) as client:
            entries = await entries_of(client, run_id)
            assert await orchestrator.resume(run_id, return_logs=True) == log
            assert await orchestrator.resume(run_id) == "call 1 and call 2"
            result = await orchestrator.finish(run_id)
            assert [visit.path for visit in result.results] == [
                "one",
                "spread",
                "spread.0/left",
                "spread.1/right",
                "gather",
                "two",
            ]
            assert await entries_of(client, run_id) == entries
        assert calls == before


async def test_the_answer_alone_needs_no_agent_of_the_graph(redis_settings: Settings) -> None:
    async def counted(task: AgentInput) -> str:
        return "done"

    first = await opened(redis_settings, GRAPH, registry=registry_of(counted=counted)).execute("hello")
    assert await Orchestrator.resume(first.run_id, settings=redis_settings) == "done and done"
    assert (await finish(first.run_id, settings=redis_settings, visits=False)).output == "done and done"
    with pytest.raises(ConfigError, match="'counted', which this process does not have"):
        await Orchestrator.resume(first.run_id, settings=redis_settings, return_logs=True)


async def test_a_journal_that_lacks_a_visit_is_told_and_nothing_is_executed(redis_settings: Settings) -> None:
    calls: list[str] = []

    async def counted(task: AgentInput) -> str:
        calls.append(task.path)
        return "done"

    async with opened(redis_settings, GRAPH, registry=registry_of(counted=counted)) as orchestrator:
        first = await orchestrator.execute("hello")
        calls.clear()
        async with client_of(redis_settings) as client:
            key = run_keys(first.run_id, redis_settings.partitions).journal
            for entry_id, fields in await client.xrange(key):
                if fields[b"path"] == b"spread.0/left":
                    await client.xdel(key, entry_id)
        with pytest.raises(JournalMismatch, match=r"does not tell what became of 'spread\.0/left'"):
            await orchestrator.finish(first.run_id)
        assert calls == []
