"""What becomes of visits that were cut off: a record each, `cancelled`, at its declared place, the same after a resume."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support import probe
from support.crash import Entry, open_bench
from support.graphs import load

from orka.engine.answer import log_entries
from orka.graph.nodes import ForkNode
from orka.journal.paths import escape
from orka.results import NodeResult, RunResult
from orka.settings import Settings

Row = tuple[str, str, str | None]

LOSERS = """
orchestrator: {agents: [f, j, e]}
agents:
  - {id: f, type: fork, targets: [[quick], [done, [[x], [slow]], slow], [slow, slow]]}
  - {id: quick, type: probe, delay: 0.05}
  - {id: done, type: probe, pure: false}
  - {id: x, type: probe}
  - {id: slow, type: probe, delay: 30}
  - {id: j, type: join, group: f, mode: any}
  - {id: e, type: probe, fails: 99}
"""
LATE_BRANCH = """
orchestrator: {agents: [f, j]}
agents:
  - {id: f, type: fork, timeout: 0.05, targets: [[quick], [done, slow]]}
  - {id: quick, type: probe}
  - {id: done, type: probe}
  - {id: slow, type: probe, delay: 30}
  - {id: j, type: join, group: f}
"""
LATE_ITEM = """
orchestrator: {agents: [list, m]}
agents:
  - {id: list, type: probe, size: 2}
  - {id: m, type: map, timeout: 0.05, max_concurrency: 1, items: previous_outputs.list.items, agents: [quick, slow]}
  - {id: quick, type: probe}
  - {id: slow, type: probe, delay: 30}
"""
LATE_ROUND = """
orchestrator: {agents: [l]}
agents:
  - {id: l, type: loop, max_loops: 1, timeout: 0.05, internal_workflow: {orchestrator: {agents: [quick, slow, never]}, agents: [
     {id: quick, type: probe}, {id: slow, type: probe, delay: 30}, {id: never, type: probe}]}}
"""
LATE_CHILD = """
orchestrator: {agents: [t, e]}
agents:
  - {id: e, type: probe}
  - {id: t, type: failover, timeout: 0.05, children: [
     {id: bad, type: probe, fails: 99}, {id: slow, type: probe, delay: 30}, {id: never, type: probe}]}
"""
LEFT_OPEN = """
orchestrator: {agents: [o, j]}
agents:
  - {id: o, type: fork, targets: [[f, bad, never, k], [quick]]}
  - {id: f, type: fork, targets: [[quick, slow], [slow]]}
  - {id: quick, type: probe, pure: false}
  - {id: slow, type: probe, delay: 30}
  - {id: bad, type: probe, fails: 99, on_error: stop, pure: false, delay: 0.02}
  - {id: never, type: probe}
  - {id: k, type: join, group: f}
  - {id: j, type: join, group: o}
"""
CUT: dict[str, tuple[str, list[Row]]] = {
    "losers of a join": (
        LOSERS,
        [
            ("f", "success", None),
            ("f.0/quick", "success", None),
            ("f.1/done", "cancelled", None),
            ("f.1/NESTED", "cancelled", None),
            ("f.1/NESTED.0/x", "cancelled", None),
            ("f.1/NESTED.1/slow", "cancelled", None),
            ("f.1/slow", "cancelled", None),
            ("f.2/slow", "cancelled", None),
            ("f.2/slow#2", "cancelled", None),
            ("j", "success", None),
            ("e", "error", "ProbeError"),
        ],
    ),
    "a branch late by its fork's timeout": (
        LATE_BRANCH,
        [
            ("f", "success", None),
            ("f.0/quick", "success", None),
            ("f.1/done", "cancelled", "RunTimeout"),
            ("f.1/slow", "cancelled", "RunTimeout"),
            ("j", "success", None),
        ],
    ),
    "items late by their map's timeout": (
        LATE_ITEM,
        [
            ("list", "success", None),
            ("m.0/quick", "cancelled", "RunTimeout"),
            ("m.0/slow", "cancelled", "RunTimeout"),
            ("m.1/quick", "cancelled", "RunTimeout"),
            ("m.1/slow", "cancelled", "RunTimeout"),
            ("m", "success", None),
        ],
    ),
    "a round that timed out": (
        LATE_ROUND,
        [
            ("l[1]/quick", "cancelled", "RunTimeout"),
            ("l[1]/slow", "cancelled", "RunTimeout"),
            ("l[1]/never", "cancelled", "RunTimeout"),
            ("l", "success", None),
        ],
    ),
    "a failover that timed out": (
        LATE_CHILD,
        [
            ("t.0/bad", "error", "ProbeError"),
            ("t.1/slow", "cancelled", "RunTimeout"),
            ("t", "error", "RunTimeout"),
            ("e", "success", None),
        ],
    ),
    "a fork that a stopped branch left open": (
        LEFT_OPEN,
        [
            ("o", "success", None),
            ("o.0/f", "success", None),
            ("o.0/f.0/quick", "cancelled", None),
            ("o.0/f.0/slow", "cancelled", None),
            ("o.0/f.1/slow", "cancelled", None),
            ("o.0/bad", "error", "ProbeError"),
            ("o.1/quick", "success", None),
            ("j", "success", None),
        ],
    ),
}


def rows(result: RunResult) -> list[Row]:
    """Path, status and error of every visit; the fork that a nested list became is called NESTED."""
    nested = next(escape(node.id) for node in load(LOSERS).nodes() if isinstance(node, ForkNode) and node.awaited)
    return [
        (visit.path.replace(nested, "NESTED"), str(visit.status), visit.error.kind if visit.error else None)
        for visit in result.results
    ]


def cut_visits(result: RunResult) -> list[NodeResult]:
    return [visit for visit in result.results if visit.status == "cancelled"]


@pytest.mark.parametrize("what", list(CUT))
async def test_visits_that_were_cut_off_are_recorded_as_cancelled_at_their_place(
    redis_settings: Settings, what: str
) -> None:
    text, expected = CUT[what]
    async with open_bench(redis_settings) as bench:
        assert rows(await bench.run(load(text))) == expected


@pytest.mark.parametrize("what", list(CUT))
async def test_records_of_cut_off_visits_are_the_same_after_a_resume(redis_settings: Settings, what: str) -> None:
    text, expected = CUT[what]
    async with open_bench(redis_settings) as bench:
        first = await bench.run(load(text))
        entries = await bench.entries(first.run_id)
        cut = next(number for number, entry in enumerate(entries, 1) if is_cut(entry))
        for keep in range(len(entries) - 1, 0, -1):
            await bench.cut(first.run_id, keep)
            again = await bench.finish(first.run_id)
            assert rows(again) == expected
            if keep >= cut:  # before that another moment decides
                assert cut_visits(again) == cut_visits(first)


def is_cut(entry: Entry) -> bool:
    """The entry by which the branches, the round or the child were cut off."""
    return entry.path in {"j", "m", "l[1]", "t"} and entry.kind in {"node.finished", "round.scored"}


@pytest.mark.parametrize("what", list(CUT))
async def test_a_completed_run_is_read_again_with_its_cut_off_visits(redis_settings: Settings, what: str) -> None:
    # Every value beside its entry: reading then waits for each, and branches that nobody joined have time to begin.
    async with open_bench(replace(redis_settings, value_limit=10)) as bench:
        first = await bench.run(load(CUT[what][0]))
        before = await bench.state(first.run_id)
        probe.CALLS.clear()
        assert (await bench.finish(first.run_id)).results == first.results
        assert probe.CALLS == []
        assert await bench.state(first.run_id) == before


async def test_the_log_has_cut_off_visits_and_nothing_reads_them(redis_settings: Settings) -> None:
    async with open_bench(redis_settings) as bench:
        result = await bench.run(load(LOSERS))
        log: list[Any] = log_entries(result.results, result.run_id)
    losers = [entry for entry in log if entry["payload"]["status"] == "cancelled"]
    assert losers[0]["agent_id"] == "done"
    assert all(entry["payload"]["response"] is None and entry["fork_group_id"].startswith("f") for entry in losers)
    assert "done" not in log[-1]["previous_outputs"]
    assert str(result.output).startswith("quick:")
    assert [visit.node_id for visit in result.failed] == ["e"]


async def test_what_was_under_way_at_the_deadline_is_recorded(redis_settings: Settings) -> None:
    text = """
orchestrator: {deadline: 0.2, agents: [first, f, slow, never, j]}
agents:
  - {id: first, type: probe}
  - {id: f, type: fork, targets: [[first, slow]]}
  - {id: slow, type: probe, delay: 30, pure: false}
  - {id: never, type: probe}
  - {id: j, type: join, group: f}
"""
    async with open_bench(redis_settings) as bench:
        result = await bench.run(load(text))
    assert str(result.status) == "failed"
    assert rows(result) == [
        ("first", "success", None),
        ("f", "success", None),
        ("f.0/first", "cancelled", None),
        ("f.0/slow", "cancelled", None),
        ("slow", "cancelled", None),
    ]
