"""`runs_on` sends branches, and single visits, to the workers of a queue; results are those of a run in one process."""

from __future__ import annotations

import pytest
from support.fleet import open_fleet
from support.graphs import load
from support.probe import clean

from orka.ids import new_run_id
from orka.lifecycle import RunOptions, start_run
from orka.results import RunResult
from orka.settings import Settings
from orka.worker import WorkerOptions

GPU = WorkerOptions(queues=("gpu",), concurrency=2, grace=5)
GRAPHS = {
    "agent": """
orchestrator: {id: g, agents: [a, b, c]}
agents:
  - {id: a, type: probe, prompt: "{{ input }}"}
  - {id: b, type: probe, runs_on: gpu, prompt: "{{ previous_outputs.a.response }}", reads: [a]}
  - {id: c, type: probe, reads: [b], prompt: "{{ previous_outputs.b.formatted_prompt }}"}
""",
    "agent, twice and after a failed attempt": """
orchestrator: {id: g, agents: [a, b, a]}
agents:
  - {id: a, type: probe, runs_on: gpu, fails: 1, pure: false, retry: {attempts: 2, delay: 0}}
  - {id: b, type: probe, reads: [a]}
""",
    "agent that fails": """
orchestrator: {id: g, agents: [a, b]}
agents:
  - {id: a, type: probe, runs_on: gpu, fails: 99}
  - {id: b, type: probe, reads: [a]}
""",
    "agent in a loop": """
orchestrator: {id: g, agents: [l]}
agents:
  - id: l
    type: loop
    max_loops: 3
    score_extraction_key: score
    internal_workflow:
      orchestrator: {agents: [x, y]}
      agents:
        - {id: x, type: probe, runs_on: gpu, prompt: "round {{ get_loop_number() }}", base: 0.5}
        - {id: y, type: probe, reads: [x]}
""",
    "child of a failover": """
orchestrator: {id: g, agents: [f]}
agents:
  - id: f
    type: failover
    children:
      - {id: x, type: probe, runs_on: gpu, fails: 99}
      - {id: y, type: probe, runs_on: gpu}
""",
    "branch": """
orchestrator: {id: g, agents: [f, j]}
agents:
  - {id: f, type: fork, targets: [[a, b], [c]]}
  - {id: a, type: probe, runs_on: gpu}
  - {id: b, type: probe, reads: [a]}
  - {id: c, type: probe}
  - {id: j, type: join, group: f}
""",
    "map": """
orchestrator: {id: g, agents: [m]}
agents:
  - {id: m, type: map, items: "[1, 2, 3]", agents: [a], runs_on: gpu}
  - {id: a, type: probe, prompt: "{{ item }} {{ index }}"}
""",
}


def shown(result: RunResult) -> list[object]:
    return [
        (
            visit.path,
            visit.status,
            clean(visit.output),
            visit.error,
            visit.attempts,
            visit.prompt,
            visit.group,
            visit.inner,
        )
        for visit in result.results
    ]


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("distributed", [False, True])
async def test_work_of_a_queue_is_done_there_and_gives_the_same(
    redis_settings: Settings, name: str, distributed: bool
) -> None:
    graph = load(GRAPHS[name])
    at_home = load(GRAPHS[name].replace("runs_on: gpu, ", "").replace(", runs_on: gpu", ""))
    async with open_fleet(redis_settings, GPU, 2) as bench:
        program = bench.services.build(graph)
        result = await start_run(bench.services, program, "input", new_run_id(), RunOptions(distributed=distributed))
        expected = await start_run(bench.services, bench.services.build(at_home), "input", new_run_id())
        assert bench.workers[0].consumer.statistics().taken > 0
        assert distributed or bench.workers[1].consumer.statistics().taken == 0
        assert (result.status, result.output, shown(result)) == (expected.status, expected.output, shown(expected))
        await bench.check_empty()
        again = await bench.finish(result.run_id)
        assert (again.status, again.output, shown(again)) == (result.status, result.output, shown(result))


async def test_a_resumed_run_does_not_execute_again_what_a_queue_has_done(redis_settings: Settings) -> None:
    graph = load(GRAPHS["agent, twice and after a failed attempt"])
    async with open_fleet(redis_settings, GPU) as bench:
        result = await start_run(bench.services, bench.services.build(graph), "input", new_run_id())
        total = len(await bench.entries(result.run_id))
        for keep in range(total - 1, 1, -1):
            await bench.cut(result.run_id, keep)
            again = await bench.finish(result.run_id)
            assert (again.status, again.output, shown(again)) == (result.status, result.output, shown(result))
            await bench.check_empty()
