"""A branch that was given up: its failure is told, is believed once a join has taken it in, and nothing tries it again."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from support.crew import DEATH, take_and_bury, working
from support.journals import registry_of
from support.running import at, opened

from orka.cli.remarks import remarks
from orka.engine.answer import log_entries
from orka.ids import new_run_id
from orka.redis.client import RedisHandle
from orka.services import open_services
from orka.settings import Settings
from orka.types import RunStatus, Status

GRAPH = """
orchestrator: {id: given-up, distributed: true, agents: [spread, gather, last]}
agents:
  - {id: spread, type: fork, targets: [[fine], [BRANCH]]}
  - {id: fine, type: counted}
  - {id: first, type: counted}
  - {id: poison, type: POISON}
  - {id: inside, type: fork, targets: [[third], [fourth]]}
  - {id: third, type: counted}
  - {id: fourth, type: counted}
  - {id: joined, type: join, group: inside}
  - {id: gather, type: join, group: spread}
  - {id: last, type: counted, on_error: stop}
"""


@pytest.mark.parametrize(
    ("branch", "poison", "status_shown"),
    [
        ("first, poison", "counted", "error"),
        ("first, poison", "silent", None),  # a pure agent leaves no entry when it begins
        ("inside, joined, poison, first", "counted", "error"),
    ],
)
async def test_it_is_told_of_and_not_tried_again_once_a_join_has_taken_it_in(
    redis_settings: Settings, clean_redis: RedisHandle, branch: str, poison: str, status_shown: str | None
) -> None:
    calls: Counter[str] = Counter()
    hanging = asyncio.Event()

    async def counted(task: Any) -> str:
        calls[task.path] += 1
        if task.path.endswith("/poison"):
            hanging.set()
            await asyncio.Event().wait()
        if task.path == "last" and calls[task.path] == 1:
            raise ValueError("not yet")
        return f"call {calls[task.path]}"

    registry, run_id = registry_of(counted=counted), new_run_id()
    registry.agent("silent", pure=True)(counted)
    text = GRAPH.replace("BRANCH", branch).replace("POISON", poison)
    async with (
        open_services(redis_settings, registry=registry) as services,
        opened(redis_settings, text, registry=registry) as orchestrator,
    ):
        async with working(redis_settings, registry=registry):
            running = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
            await asyncio.wait_for(hanging.wait(), 5)
            await take_and_bury(services, clean_redis.client, run_id, "spread.1")
            failed = await asyncio.wait_for(running, 5)
        assert failed.status is RunStatus.FAILED
        found = at(failed, "spread.1/poison")
        assert (found.status, found.error, found.group) == (Status.ERROR, DEATH, "spread")
        assert f"spread.1/poison failed: WorkerDied: {DEATH.message}" in remarks(failed.results, run_id)
        assert [entry["agent_id"] for entry in log_entries(failed.results, run_id)].count("poison") == 1
        before = Counter(calls)

        # No worker is there: whoever executed the branch again would be this process.
        done = await asyncio.wait_for(orchestrator.finish(run_id), 5)
        assert (done.status, done.output) == (RunStatus.COMPLETED, "call 2")
        assert calls - before == Counter({"last": 1})
        assert done.results[:-1] == failed.results[:-1]
        assert (await orchestrator.finish(run_id)).results == done.results
        shown = {visit.path: visit.status for visit in (await orchestrator.runs.show(run_id)).visits}
        assert shown.get("spread.1/poison") == status_shown
        assert shown["spread.0/fine"] == "success"
        assert calls - before == Counter({"last": 1})
