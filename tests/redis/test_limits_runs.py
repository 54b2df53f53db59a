"""Limits of a file in runs: agents, resources and queues, in one process and on workers."""

import time
from dataclasses import replace
from itertools import pairwise

import anyio
import pytest
from support.limits import Gauge, state, until, worker
from support.running import opened

from orka.agents.base import AgentInput
from orka.agents.registry import Registry
from orka.dispatch.usage import read_usage
from orka.engine.limiting import all_limits
from orka.orchestrator import Orchestrator
from orka.redis.client import RedisHandle
from orka.results import RunResult
from orka.settings import Settings
from orka.types import RunStatus


def gauged() -> tuple[Registry, Gauge]:
    """A registry with the agent type `work`, which stays inside the gauge for a while."""
    registry, gauge = Registry(), Gauge()

    @registry.agent("work")
    async def work(task: AgentInput) -> str:
        await gauge.stay(task.path, float(task.options.get("seconds", 0.02)))  # type: ignore[arg-type]
        return task.node_id

    return registry, gauge


def mapped(size: int, orchestrator: str = "", agent: str = "") -> str:
    """A map of `size` items, each a call of `work`."""
    return f"""
        orchestrator: {{id: t, agents: [every]{orchestrator}}}
        agents:
          - {{id: every, type: map, items: "range({size}) | list", agents: [work]}}
          - {{id: work, type: work{agent}}}
        """


def went_well(result: RunResult) -> int:
    """Calls of `work`, none of which failed."""
    assert [visit.error for visit in result.results if visit.error is not None] == []
    return sum(visit.node_id == "work" for visit in result.results)


async def test_a_rate_limit_holds_without_workers_and_the_timeout_begins_behind_the_waiting(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    registry, gauge = gauged()
    async with (
        opened(redis_settings, mapped(6, agent=", rate_limit: 10/s, timeout: 0.3"), registry=registry) as one,
        opened(redis_settings, mapped(6, agent=", rate_limit: 10/s, timeout: 0.3"), registry=registry) as two,
        anyio.create_task_group() as tasks,
    ):
        results: list[RunResult] = []

        async def run(orchestrator: Orchestrator) -> None:
            results.append(await orchestrator.execute("x"))

        tasks.start_soon(run, one)
        tasks.start_soon(run, two)
    assert [went_well(result) for result in results] == [6, 6]
    assert gauge.times[-1] - gauge.times[0] == pytest.approx(1.1, abs=0.1)
    assert min(later - earlier for earlier, later in pairwise(gauge.times)) > 0.07


async def test_a_resource_is_shared_by_agents_and_graphs(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    registry, gauge = gauged()
    limits = ", limits: {model: {max_concurrency: 2}}"
    other = mapped(8, limits, ", resource: model").replace("id: t", "id: other")
    async with (
        opened(redis_settings, mapped(8, limits, ", resource: model"), registry=registry) as one,
        opened(redis_settings, other, registry=registry) as two,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(one.execute, "x")
        tasks.start_soon(two.execute, "x")
    assert (gauge.most, len(gauge.order)) == (2, 16)


async def test_a_graph_without_limits_asks_nobody(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    registry, gauge = gauged()
    async with opened(redis_settings, mapped(4, agent=", max_concurrency: 2"), registry=registry) as orchestrator:
        await orchestrator.execute("x")
        statistics = orchestrator.statistics()
    assert gauge.most == 2
    assert (statistics.limits.asked, statistics.inbox.read) == (0, 0)
    assert not [key async for key in clean_redis.client.scan_iter("*:limit:*")]


async def test_an_agents_max_concurrency_holds_across_workers(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    registry, gauge = gauged()
    text = mapped(24, ", distributed: true", ", max_concurrency: 3")
    async with (
        worker(redis_settings, registry) as one,
        worker(redis_settings, registry) as two,
        opened(redis_settings, text, registry=registry) as orchestrator,
    ):
        result = await orchestrator.execute("x")
        shares = [made.consumer.statistics().done for made in (one, two)]
    assert went_well(result) == 24
    assert (gauge.most, len(gauge.order)) == (3, 24)
    assert min(shares) > 0


@pytest.mark.parametrize("submitted", [False, True])
async def test_a_queue_is_limited_across_workers_and_lets_nested_forks_through(
    redis_settings: Settings, clean_redis: RedisHandle, submitted: bool
) -> None:
    registry, gauge = gauged()
    text = """
        orchestrator: {id: t, agents: [outer, gather], distributed: true, queues: {default: {max_concurrency: 2}}}
        agents:
          - {id: outer, type: fork, targets: [[w, inner, after], [w, inner, after], [w, inner, after], [w, inner, after]]}
          - {id: inner, type: map, items: "range(3) | list", agents: [w]}
          - {id: w, type: work}
          - {id: after, type: work}
          - {id: gather, type: join, group: outer}
        """
    async with (
        worker(redis_settings, registry, concurrency=1),
        worker(redis_settings, registry, concurrency=4),
        opened(redis_settings, text, registry=registry) as orchestrator,
    ):
        with anyio.fail_after(15):
            if submitted:
                result = await (await orchestrator.submit("x")).finished()
            else:
                result = await orchestrator.execute("x")
    assert result.status is RunStatus.COMPLETED
    assert (gauge.most, len(gauge.order)) == (2, 4 * 5)
    assert not [key async for key in clean_redis.client.scan_iter("*:limit:*")]


async def test_a_full_queue_keeps_no_other_from_its_slots(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    registry, gauge = gauged()
    text = """
        orchestrator: {id: t, agents: [many, few, g1, g2], queues: {slow: {max_concurrency: 1}}}
        agents:
          - {id: many, type: fork, targets: [a, b, c, d, e, f], runs_on: slow}
          - {id: few, type: fork, targets: [x, y, z], runs_on: quick}
          - {id: a, type: work, seconds: 0.2}
          - {id: b, type: work, seconds: 0.2}
          - {id: c, type: work, seconds: 0.2}
          - {id: d, type: work, seconds: 0.2}
          - {id: e, type: work, seconds: 0.2}
          - {id: f, type: work, seconds: 0.2}
          - {id: x, type: work}
          - {id: y, type: work}
          - {id: z, type: work}
          - {id: g1, type: join, group: few}
          - {id: g2, type: join, group: many}
        """
    async with (
        worker(redis_settings, registry, concurrency=2, queues=("slow", "quick")) as made,
        opened(redis_settings, text, registry=registry) as orchestrator,
    ):
        began = time.monotonic()
        result = await orchestrator.execute("x")
        assert made.slots.used == 0
    assert result.status is RunStatus.COMPLETED
    slow = [at for path, at in zip(gauge.order, gauge.times, strict=True) if path.startswith("many")]
    quick = [at for path, at in zip(gauge.order, gauge.times, strict=True) if path.startswith("few")]
    assert max(quick) - began < 0.6
    assert min(later - earlier for earlier, later in pairwise(slow)) > 0.19


async def test_waiting_longer_than_a_lease_costs_no_lease(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    registry, gauge = gauged()
    text = mapped(
        4, ", distributed: true, queues: {default: {max_concurrency: 2}}", ", seconds: 0.8, max_concurrency: 1"
    )
    settings = replace(redis_settings, lease=0.5)
    async with (
        worker(redis_settings, registry, lease=0.5) as one,
        worker(redis_settings, registry, lease=0.5) as two,
        opened(settings, text, registry=registry) as orchestrator,
    ):
        result = await orchestrator.execute("x")
        counts = [made.consumer.statistics() for made in (one, two)]
        refused = one.refused + two.refused
    assert went_well(result) == 4
    assert (gauge.most, len(gauge.order)) == (1, 4)
    assert (sum(count.done for count in counts), refused) == (4, 0)


async def test_a_run_cancelled_while_it_waits_leaves_nothing_behind(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    registry, _ = gauged()
    limits = ", distributed: true, limits: {m: {max_concurrency: 1}}, queues: {default: {max_concurrency: 3}}"
    text = mapped(5, limits, ", seconds: 30, resource: m")
    async with (
        worker(redis_settings, registry) as made,
        opened(redis_settings, text, registry=registry) as orchestrator,
    ):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(orchestrator.execute, "x")

            async def waiting() -> bool:
                return [await state(clean_redis, name) for name in ("resource:m", "queue:default")] == [(1, 2), (3, 2)]

            await until(waiting)
            services, _ = orchestrator._current()
            usages = await read_usage(services.registry, all_limits(orchestrator.graph).values())
            shown = {
                usage.limit.name: (len(usage.holders), [ticket.path for ticket in usage.waiting]) for usage in usages
            }
            assert set(shown) == {"resource:m", "queue:default"}
            assert [count for count, _ in shown.values()] == [3, 1]
            assert len(shown["resource:m"][1]) == len(shown["queue:default"][1]) == 2
            assert all(path.endswith("/work") for path in shown["resource:m"][1])
            assert {ticket.process for usage in usages for ticket in usage.holders} == {made._services.process}
            tasks.cancel_scope.cancel()

        async def gone() -> bool:
            return not [key async for key in clean_redis.client.scan_iter("*:limit:*")]

        await until(gone)
        assert made.slots.used == 0
        assert made._services.limits.statistics()[2:4] == (0, 0)


async def test_a_task_cut_off_in_front_of_its_queue_ends_at_once(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    registry, gauge = gauged()
    text = """
        orchestrator: {id: t, agents: [race, first], distributed: true, queues: {default: {max_concurrency: 1}}}
        agents:
          - {id: race, type: fork, targets: [a, b, c]}
          - {id: a, type: work, seconds: 0.1}
          - {id: b, type: work, seconds: 0.1}
          - {id: c, type: work, seconds: 0.1}
          - {id: first, type: join, group: race, mode: any}
        """
    async with (
        worker(redis_settings, registry) as made,
        opened(redis_settings, text, registry=registry) as orchestrator,
    ):
        result = await orchestrator.execute("x")
        await until(lambda: made.slots.used == 0 and made.slots.parked == 0)
    assert result.status is RunStatus.COMPLETED
    assert len(gauge.order) <= 2


async def test_the_deadline_of_a_run_ends_the_waiting(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    registry, _ = gauged()
    text = mapped(3, ", deadline: 0.4", ", rate_limit: 1/h")
    async with opened(redis_settings, text, registry=registry) as orchestrator:
        began = time.monotonic()
        result = await orchestrator.execute("x")
        assert time.monotonic() - began < 1.5
        assert orchestrator.statistics().limits.waiting == 0
    assert result.status is RunStatus.FAILED
    assert result.error is not None
    assert "deadline" in result.error.message
