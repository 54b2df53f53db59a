"""A run that is cut off after any of its journal entries, and resumed, comes to the same end."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from support import probe
from support.crash import Bench, check_calls, check_journal, check_kill, check_result, open_bench
from support.graphs import load, random_text

from orka.graph.graph import Graph
from orka.settings import Settings

RICH = {
    "branches": """
orchestrator: {agents: [start, spread, aside, gather, ask, left, open, end]}
agents:
  - {id: start, type: probe, route: go}
  - {id: spread, type: fork, targets: [[a, b], [c, [[d], [e]], f], [rounds]], max_concurrency: 2}
  - {id: a, type: probe, pure: false, reads: [start]}
  - {id: b, type: probe, fails: 1, retry: {attempts: 2, delay: 0}, reads: [a], prompt: "b {{ previous_outputs.a.response }}"}
  - {id: c, type: probe, fails: 99}
  - {id: d, type: probe, pure: false}
  - {id: e, type: probe, fails: 1, pure: false, retry: {attempts: 2, delay: 0}}
  - {id: f, type: probe, reads: [c, d, e]}
  - id: rounds
    type: loop
    max_loops: 3
    score_threshold: 0.8
    score_extraction_key: score
    internal_workflow:
      orchestrator: {agents: [split, draft, judge]}
      agents:
        - {id: split, type: fork, targets: [[one], [two]]}
        - {id: one, type: probe, pure: false}
        - {id: two, type: probe, fails: 99, on_error: stop}
        - {id: draft, type: probe, reads: [start, judge]}
        - {id: judge, type: probe, base: 0.6, prompt: "round {{ get_loop_number() }}"}
  - {id: aside, type: probe, reads: [spread]}
  - {id: gather, type: join, group: spread}
  - {id: ask, type: router, decision_key: start.route, routing_map: {go: [open, again, open], stay: []}}
  - {id: again, type: fork, targets: [[a], [b]]}
  - {id: left, type: fork, mode: sequential, targets: [[a, c], [f, b]]}
  - {id: open, type: probe, pure: false, reads: [a, b, gather]}
  - {id: end, type: probe, reads: [a, b, c, d, e, f, rounds, gather, left]}
""",
    "fallbacks": """
orchestrator: {agents: [list, every, tries, hopeless, twice, all, strict, quorum, chosen, end]}
agents:
  - {id: list, type: probe, size: 3}
  - {id: every, type: map, items: previous_outputs.list.items, agents: [work, spread, first, inner], max_concurrency: 2}
  - {id: work, type: probe, pure: false, prompt: "do {{ item }} at {{ index }}"}
  - {id: spread, type: fork, targets: [[x], [y], [z]]}
  - {id: x, type: probe, fails: 99, retry: {attempts: 2, delay: 0}}
  - {id: y, type: probe, pure: false, reads: [work]}
  - {id: z, type: probe, pure: false, delay: 0.02}
  - {id: first, type: join, group: spread, mode: any}
  - {id: inner, type: failover, children: [bad, {id: fine, type: probe, pure: false, reads: [first]}]}
  - {id: bad, type: probe, fails: 99, on_error: stop}
  - id: tries
    type: failover
    children:
      - {id: none, type: failover, children: [bad, {id: worse, type: probe, fails: 99}]}
      - {id: some, type: map, items: previous_outputs.list.items, agents: [work, bad], on_failure: fail}
      - {id: good, type: probe, pure: false, reads: [every]}
  - {id: hopeless, type: failover, children: [bad, {id: lost, type: probe, fails: 99, pure: false}]}
  - {id: twice, type: fork, targets: [[work2, bad], [inner]]}
  - {id: work2, type: probe, pure: false}
  - {id: all, type: join, group: twice, on_failure: fail}
  - {id: strict, type: fork, targets: [[y], [x], [work2]]}
  - {id: quorum, type: join, group: strict, mode: quorum, min_success: 2}
  - {id: chosen, type: router, decision_key: list.route, routing_map: {none: []}, fallback_route: [work2, every]}
  - {id: end, type: probe, reads: [every, tries, hopeless, all, quorum, work2]}
""",
    "failing": """
orchestrator: {agents: [start, spread, fine, gather, end]}
agents:
  - {id: start, type: probe, pure: false}
  - {id: spread, type: fork, targets: [[a, b], [c]]}
  - {id: a, type: probe, pure: false}
  - {id: b, type: probe, fails: 99, retry: {attempts: 3, delay: 0}, on_error: stop}
  - {id: c, type: probe, pure: false}
  - {id: fine, type: probe, reads: [start]}
  - {id: gather, type: join, group: spread, on_failure: fail, on_error: stop}
  - {id: end, type: probe}
""",
}
"""Graphs with everything that can be under way when a process dies."""


async def kill_everywhere(bench: Bench, graph: Graph, *, step: int = 1) -> int:
    """Kills after every `step`-th entry, from the last to the first. Gives the number of kills."""
    probe.CALLS.clear()
    result = await bench.run(graph)
    calls = list(probe.CALLS)
    entries = await bench.entries(result.run_id)
    check_result(graph, result, entries)
    points = range(len(entries) - 1, 0, -step)
    for keep in points:
        await check_kill(bench, graph, result.run_id, keep, calls)
    return len(points)


@pytest.mark.parametrize(("name", "least"), [("branches", 50), ("fallbacks", 100), ("failing", 10)])
async def test_rich_graphs_survive_a_kill_after_every_entry(redis_settings: Settings, name: str, least: int) -> None:
    async with open_bench(redis_settings) as bench:
        assert await kill_everywhere(bench, load(RICH[name])) >= least


async def test_random_graphs_survive_a_kill_after_every_entry(redis_settings: Settings) -> None:
    async with open_bench(redis_settings) as bench:
        kills = 0
        for seed in range(12):
            kills += await kill_everywhere(bench, load(random_text(seed, size=16)))
        assert kills >= 300


async def test_resumed_runs_survive_further_kills(redis_settings: Settings) -> None:
    async with open_bench(redis_settings) as bench:
        for seed in range(100, 130):
            graph, random = load(random_text(seed, size=16)), Random(seed)
            probe.CALLS.clear()
            run_id = (await bench.run(graph)).run_id
            calls, least = list(probe.CALLS), 1
            for _ in range(3):
                keep = random.randint(least, max(least, len(await bench.entries(run_id)) - 1))
                await check_kill(bench, graph, run_id, keep, calls)
                least = keep + 1


async def test_failed_runs_fail_alike_when_resumed_and_go_on_once_the_fault_is_mended(redis_settings: Settings) -> None:
    async with open_bench(redis_settings) as bench:
        failed = 0
        for seed in range(200, 260):
            graph = load(random_text(seed, size=16))
            result = await bench.run(graph)
            if str(result.status) == "failed":
                failed += 1
                await resume_failed(bench, graph, result.run_id)
        assert failed >= 5


async def resume_failed(bench: Bench, graph: Graph, run_id: str) -> None:
    before = await bench.entries(run_id)
    probe.CALLS.clear()
    result = await bench.finish(run_id)
    check_calls(before, [], list(probe.CALLS))
    check_result(graph, result, await bench.entries(run_id))
    before = await bench.entries(run_id)
    probe.CALLS.clear()
    probe.CURED.update(str(node.id) for node in graph.nodes())
    try:
        await bench.finish(run_id)
    finally:
        probe.CURED.clear()
    check_calls(before, [], list(probe.CALLS))
    check_journal(await bench.entries(run_id))


@pytest.mark.chaos
@pytest.mark.parametrize("first", range(1000, 1200, 25))
async def test_many_random_graphs_survive_a_kill_after_every_entry(redis_settings: Settings, first: int) -> None:
    # Every value beside its entry: replay then waits for each, and interleaves as runs do.
    async with open_bench(replace(redis_settings, value_limit=10)) as bench:
        for seed in range(first, first + 25):
            await kill_everywhere(bench, load(random_text(seed, size=30)))
