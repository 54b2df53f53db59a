"""Branches on a queue that nobody serves: said once after a lease, not again and again, and not of slow workers."""

import asyncio
import logging
from dataclasses import replace

import pytest
from support.crew import working
from support.journals import Gate
from support.running import opened

from orka.ids import new_run_id
from orka.redis.client import RedisHandle
from orka.settings import Settings

GRAPH = """
orchestrator: {id: waiting, agents: [spread, join]}
agents:
  - {id: spread, type: fork, targets: [[gate], [other]], runs_on: gpu}
  - {id: gate, type: gate}
  - {id: other, type: template, prompt: "other"}
  - {id: join, type: join, group: spread}
"""


def warnings(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    found = [record.__dict__["orka"] for record in caplog.records if record.name == "orka"]
    return [event for event in found if event["event"] == "branch.waiting"]


async def test_it_is_said_once_with_the_queue_and_the_remedy_and_the_run_goes_on_when_a_worker_comes(
    redis_settings: Settings, clean_redis: RedisHandle, caplog: pytest.LogCaptureFixture
) -> None:
    settings, gate, run_id = replace(redis_settings, lease=0.25), Gate(), new_run_id()
    gate.opened.set()
    caplog.set_level(logging.WARNING, "orka")
    async with opened(settings, GRAPH, registry=gate.registry()) as orchestrator:
        running = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        async with asyncio.timeout(5):
            while orchestrator.statistics().sender.resent < 6:  # three leases  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert warnings(caplog) == [
            {
                "event": "branch.waiting",
                "run_id": run_id,
                "queue": "gpu",
                "branches": 2,
                "why": "no worker serves this queue",
                "remedy": "start `orka worker --queue gpu`",
            }
        ]
        async with working(settings, "gpu", registry=gate.registry()):
            assert (await asyncio.wait_for(running, 5)).status == "completed"


async def test_nothing_is_said_of_branches_that_a_worker_takes_its_time_for(
    redis_settings: Settings, clean_redis: RedisHandle, caplog: pytest.LogCaptureFixture
) -> None:
    settings, gate = replace(redis_settings, lease=0.25), Gate()
    caplog.set_level(logging.WARNING, "orka")
    async with (
        working(settings, "gpu", registry=gate.registry()),
        opened(settings, GRAPH, registry=gate.registry()) as orchestrator,
    ):
        running = asyncio.create_task(orchestrator.execute("x"))
        async with asyncio.timeout(5):
            while orchestrator.statistics().sender.resent < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert warnings(caplog) == []
        gate.opened.set()
        await running
