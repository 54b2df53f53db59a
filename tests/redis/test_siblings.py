"""Sequences of one task that wait for branches at the same time: whatever returns first, the task holds no slot and no
place in its queue while one of them still waits. Else a worker with one slot would wait for itself."""

import asyncio

import pytest
from support.crew import working
from support.journals import registry_of
from support.running import opened

from orka.redis.client import RedisHandle
from orka.settings import Settings
from orka.types import RunStatus

GRAPH = """
orchestrator: {id: siblings, distributed: true, agents: [outer, all]LIMITS}
agents:
  - {id: outer, type: fork, targets: [[one, two]]}
  - {id: one, type: fork, mode: sequential, targets: [[first, first_join]]}
  - {id: two, type: fork, mode: sequential, targets: [[second, second_join]]}
  - {id: first, type: fork, targets: [a, b]}
  - {id: first_join, type: join, group: first}
  - {id: second, type: fork, targets: [c, d]}
  - {id: second_join, type: join, group: second}
  - {id: a, type: called}
  - {id: b, type: called}
  - {id: c, type: called}
  - {id: d, type: called}
  - {id: all, type: join, group: outer}
"""


@pytest.mark.parametrize(
    ("limits", "concurrency"),
    [("", 1), (", queues: {default: {max_concurrency: 1}}", 1), (", queues: {default: {max_concurrency: 1}}", 4)],
)
async def test_a_worker_with_one_slot_finishes_a_task_of_which_two_sequences_wait(
    redis_settings: Settings, clean_redis: RedisHandle, limits: str, concurrency: int
) -> None:
    calls: list[str] = []
    most = at_once = 0

    async def called(task: object) -> str:
        nonlocal most, at_once
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        calls.append(task.node_id)  # type: ignore[attr-defined]
        return "called"

    registry = registry_of(called=called)
    async with (
        working(redis_settings, registry=registry, concurrency=concurrency) as worker,
        opened(redis_settings, GRAPH.replace("LIMITS", limits), registry=registry) as orchestrator,
    ):
        for _ in range(3):
            calls.clear()
            result = await asyncio.wait_for(orchestrator.execute("x"), 10)
            assert result.status is RunStatus.COMPLETED
            assert sorted(calls) == ["a", "b", "c", "d"]
        assert most == 1
        assert (worker.slots.used, worker.slots.parked) == (0, 0)
