"""Random graphs run on a real server give what a second, much simpler interpreter gives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, given, settings
from support import probe
from support.crash import Bench, check_result, open_bench
from support.graphs import graph_texts, load, random_text

from orka.results import RunResult
from orka.settings import Settings
from orka.types import RunStatus

EXAMPLES = int(os.environ.get("ORKA_TEST_EXAMPLES", "150"))


class Door:
    """The bench, from a test without a loop of its own: hypothesis calls synchronous functions."""

    def __init__(self, portal: Any, bench: Bench) -> None:
        self._portal = portal
        self._bench = bench

    def check(self, text: str) -> None:
        self._portal.call(self._check, text)

    async def _check(self, text: str) -> None:
        graph = load(text)
        result = await self._bench.run(graph)
        check_result(graph, result, await self._bench.entries(result.run_id))
        if result.status == RunStatus.COMPLETED:
            await self._check_read_again(result)

    async def _check_read_again(self, result: RunResult) -> None:
        """Its journal alone gives the same results, to the millisecond; nothing is executed and nothing written."""
        before = await self._bench.state(result.run_id)
        probe.CALLS.clear()
        again = await self._bench.finish(result.run_id)
        assert (again.status, again.output, again.results) == (result.status, result.output, result.results)
        assert (probe.CALLS, await self._bench.state(result.run_id)) == ([], before)


@pytest.fixture(scope="module")
def door(redis_settings: Settings) -> Iterator[Door]:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(open_bench(redis_settings)) as bench:
        yield Door(portal, bench)


@given(text=graph_texts())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
def test_random_graphs_run_as_the_reference_says(door: Door, text: str) -> None:
    door.check(text)


@pytest.mark.chaos
@pytest.mark.parametrize("first", range(0, 4000, 500))
def test_thousands_of_random_graphs_run_as_the_reference_says(door: Door, first: int) -> None:
    for seed in range(first, first + 500):
        door.check(random_text(seed, size=40))
