"""What `orka doctor` says of runs that wait for a limit of the fleet."""

import asyncio

import pytest
from support.crew import becomes, working
from support.journals import Gate
from support.limits import until
from support.running import opened

from orka.cli.doctor import _print_facts
from orka.dispatch.findings import Diagnosis, find_reasons
from orka.ids import new_run_id
from orka.redis.client import RedisHandle
from orka.settings import Settings


def graph(keys: str, top: str = "") -> str:
    return f"""
        orchestrator: {{id: g, agents: [every]{top}}}
        agents:
          - {{id: every, type: map, items: "range(3) | list", agents: [gate]}}
          - {{id: gate, type: gate{keys}}}
        """


def said(facts: Diagnosis) -> list[str]:
    return [finding.what for finding in find_reasons(facts)]


def crowd(facts: Diagnosis) -> dict[str, tuple[int, int, int]]:
    """Held, waiting, and turns to come of every limit."""
    return {use.limit.name: (len(use.holders), len(use.waiting), len(use.turns)) for use in facts.limits}


async def test_calls_that_wait_for_a_place_of_the_fleet_are_told_of_with_the_holder(
    redis_settings: Settings, clean_redis: RedisHandle, capsys: pytest.CaptureFixture[str]
) -> None:
    gate, run_id = Gate(), new_run_id()
    text = graph(", max_concurrency: 1", ", distributed: true")
    async with (
        working(redis_settings, registry=gate.registry()) as worker,
        opened(redis_settings, text, registry=gate.registry()) as orchestrator,
    ):
        running = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await asyncio.wait_for(gate.reached.wait(), 5)

        async def crowded() -> bool:
            return crowd(await orchestrator.runs.diagnose(run_id)) == {"agent:g/gate": (1, 2, 0)}

        await becomes(crowded)
        facts = await orchestrator.runs.diagnose(run_id)
        (what,) = [what for what in said(facts) if "limit" in what]
        assert what.startswith("1 of 1 places of limit agent:g/gate are held, by this run (every.")
        assert f"/gate on {worker._services.process}): 2 calls of this run wait for a place" in what
        assert sum("is under way" in what for what in said(facts)) == 1  # those that wait are not under way
        _print_facts(facts)
        assert "agent:g/gate  1 of 1  2 in line, 0 with a turn to come  2 " in capsys.readouterr().out
        gate.opened.set()
        await running
        assert (await orchestrator.runs.diagnose(run_id)).limits == ()


async def test_a_full_queue_and_its_holder_in_another_run_are_told_of(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate, first, second = Gate(), new_run_id(), new_run_id()
    text = graph("", ", distributed: true, queues: {default: {max_concurrency: 3}}")
    async with (
        working(redis_settings, registry=gate.registry()),
        opened(redis_settings, text, registry=gate.registry()) as orchestrator,
    ):
        running = [asyncio.create_task(orchestrator.execute("x", run_id=first))]
        await until(lambda: gate.calls == 3)
        running.append(asyncio.create_task(orchestrator.execute("x", run_id=second)))

        async def waits() -> bool:
            return any("limit queue:default" in what for what in said(await orchestrator.runs.diagnose(second)))

        await becomes(waits)
        facts = await orchestrator.runs.diagnose(second)
        (finding,) = [finding for finding in find_reasons(facts) if "limit" in finding.what]
        assert finding.what.startswith(f"3 of 3 places of limit queue:default are held, by run {first} (every.")
        assert f"`orka doctor {first}`" in finding.remedy
        assert not any("limit" in what for what in said(await orchestrator.runs.diagnose(first)))
        gate.opened.set()
        await asyncio.gather(*running)


async def test_a_run_that_waits_for_its_turn_is_told_when_that_is(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate, run_id = Gate(), new_run_id()
    gate.opened.set()
    text = graph(", resource: model", ", limits: {model: {rate_limit: 1/min}}")
    async with opened(redis_settings, text, registry=gate.registry()) as orchestrator:
        running = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await asyncio.wait_for(gate.reached.wait(), 5)

        async def waits() -> bool:
            return crowd(await orchestrator.runs.diagnose(run_id)) == {"resource:model": (0, 0, 2)}

        await becomes(waits)
        (what,) = [what for what in said(await orchestrator.runs.diagnose(run_id)) if "limit" in what]
        assert what.startswith(
            "limit resource:model lets one call begin every 60 s: 2 calls of this run wait for their turn"
        )
        assert what.split(", which begin in ")[1].startswith(("60.0 s and end in ", "59."))
        running.cancel()
        await asyncio.wait([running])
