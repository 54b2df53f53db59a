"""Random graphs whose branches other processes execute give what the reference gives; so they do when they are resumed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, given, settings
from support import probe
from support.crash import check_kill, check_result
from support.fleet import FleetBench, open_fleet
from support.graphs import graph_texts, load, random_text

from orka.settings import Settings

EXAMPLES = int(os.environ.get("ORKA_TEST_EXAMPLES", "60"))


class Door:
    """The fleet, from a test without a loop of its own."""

    def __init__(self, portal: Any, bench: FleetBench) -> None:
        self._portal = portal
        self._bench = bench

    def check(self, text: str) -> None:
        self._portal.call(self._check, text)

    def kill(self, text: str, every: int = 1) -> int:
        return self._portal.call(self._kill, text, every)

    async def _check(self, text: str) -> str:
        graph = load(text)
        probe.CALLS.clear()
        result = await self._bench.run(graph)
        check_result(graph, result, await self._bench.entries(result.run_id))
        await self._bench.check_empty()
        return result.run_id

    async def _kill(self, text: str, every: int) -> int:
        """As if the owner had died after each entry in turn: what the workers had written then stays."""
        run_id = await self._check(text)
        calls = list(probe.CALLS)
        graph = load(text)
        points = range(1, len(await self._bench.entries(run_id)), every)
        for keep in reversed(points):
            await check_kill(self._bench, graph, run_id, keep, calls)
            await self._bench.check_empty()
        return len(points)


@pytest.fixture(scope="module")
def door(redis_settings: Settings) -> Iterator[Door]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(open_fleet(redis_settings, 1, 3)) as bench,
    ):
        yield Door(portal, bench)


@given(text=graph_texts())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
def test_random_graphs_on_workers_run_as_the_reference_says(door: Door, text: str) -> None:
    door.check(text)


def test_runs_on_workers_are_resumed_from_any_entry(door: Door) -> None:
    points = sum(door.kill(random_text(seed, size=14), 3) for seed in range(100, 112))
    assert points > 50


@pytest.mark.chaos
@pytest.mark.parametrize("first", range(0, 2000, 500))
def test_thousands_of_random_graphs_on_workers_run_as_the_reference_says(door: Door, first: int) -> None:
    for seed in range(first, first + 500):
        door.check(random_text(seed, size=40))


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(20))
def test_runs_on_workers_are_resumed_from_every_entry(door: Door, seed: int) -> None:
    door.kill(random_text(seed, size=30))
