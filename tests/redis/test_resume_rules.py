"""What a resumed run believes of its journal, and what it tries again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support import probe
from support.crash import Bench, check_journal, open_bench
from support.graphs import load
from support.reference import comparable

from orka.errors import JournalMismatch
from orka.results import RunResult
from orka.settings import Settings


async def run(bench: Bench, text: str) -> RunResult:
    probe.CURED.clear()
    probe.CALLS.clear()
    return await bench.run(load(text))


async def resume(bench: Bench, run_id: str, *cured: str, changed: str | None = None) -> RunResult:
    """Resumes; the probes named do not fail any more."""
    probe.CURED.update(cured)
    probe.CALLS.clear()
    result = await bench.finish(run_id, None if changed is None else load(changed))
    check_journal(await bench.entries(run_id))
    return result


def called() -> list[tuple[str, int]]:
    return sorted((call.path, call.attempt) for call in probe.CALLS)


@pytest.fixture(autouse=True)
def _nobody_is_cured() -> Any:  # pyright: ignore[reportUnusedFunction]
    yield
    probe.CURED.clear()


async def same_after_every_kill(bench: Bench, result: RunResult) -> None:
    """Of a run whose course does not depend on time."""
    expected = comparable(result.results)
    for keep in range(len(await bench.entries(result.run_id)) - 1, 0, -1):
        await bench.cut(result.run_id, keep)
        assert comparable((await resume(bench, result.run_id)).results) == expected


async def test_a_join_that_ran_out_of_time_before_any_branch_ended_stays_decided(redis_settings: Settings) -> None:
    async with open_bench(redis_settings) as bench:
        first = await run(
            bench,
            """
orchestrator: {agents: [f, j, e]}
agents:
  - {id: f, type: fork, targets: [[a], [s]]}
  - {id: a, type: probe, delay: 5}
  - {id: s, type: probe, delay: 5, pure: false}
  - {id: j, type: join, group: f, timeout: 0.05}
  - {id: e, type: probe, reads: [j]}
""",
        )
        assert [(seen.path, str(seen.status)) for seen in first.results] == [
            ("f", "success"),
            ("f.0/a", "cancelled"),
            ("f.1/s", "cancelled"),
            ("j", "error"),
            ("e", "success"),
        ]
        await bench.cut(first.run_id, len(await bench.entries(first.run_id)) - 2)
        assert comparable((await resume(bench, first.run_id)).results) == comparable(first.results)
        assert called() == [("e", 1)]


@pytest.mark.parametrize("slow", ["fork", "failover", "round"])
async def test_what_ran_out_of_time_stays_so(redis_settings: Settings, slow: str) -> None:
    nodes = {
        "fork": """
  - {id: f, type: fork, targets: [[a], [b, s]], timeout: 0.05}
  - {id: j, type: join, group: f}
""",
        "failover": """
  - {id: f, type: failover, timeout: 0.05, children: [{id: bad, type: probe, fails: 99}, {id: l, type: loop, max_loops: 1,
     internal_workflow: {orchestrator: {agents: [a, s]}, agents: []}}]}
  - {id: j, type: probe}
""",
        "round": """
  - {id: f, type: loop, max_loops: 2, timeout: 0.05, timeout_score: 0.1,
     internal_workflow: {orchestrator: {agents: [a, o, s]}, agents: [{id: o, type: fork, targets: [[b], [s]]}]}}
  - {id: j, type: probe}
""",
    }[slow]
    async with open_bench(redis_settings) as bench:
        first = await run(
            bench,
            f"""
orchestrator: {{agents: [f, j, e]}}
agents:{nodes}
  - {{id: a, type: probe}}
  - {{id: b, type: probe, pure: false}}
  - {{id: s, type: probe, delay: 0.15, pure: false}}
  - {{id: e, type: probe, reads: [f, j]}}
""",
        )
        await same_after_every_kill(bench, first)


async def test_branches_that_failed_a_join_run_again_and_the_others_do_not(redis_settings: Settings) -> None:
    async with open_bench(redis_settings) as bench:
        failed = await run(
            bench,
            """
orchestrator: {agents: [f, j, e]}
agents:
  - {id: f, type: fork, targets: [[a, b], [s]]}
  - {id: a, type: probe, fails: 99}
  - {id: b, type: probe, pure: false}
  - {id: s, type: probe, pure: false}
  - {id: j, type: join, group: f, on_failure: fail, on_error: stop}
  - {id: e, type: probe, reads: [j]}
""",
        )
        assert str(failed.status) == "failed"
        assert str((await resume(bench, failed.run_id)).status) == "failed"
        assert called() == [("f.0/a", 1)]
        assert str((await resume(bench, failed.run_id, "a")).status) == "completed"
        assert called() == [("e", 1), ("f.0/a", 1)]


async def test_items_that_failed_a_map_run_again_and_decided_joins_below_stay_decided(
    redis_settings: Settings,
) -> None:
    async with open_bench(redis_settings) as bench:
        failed = await run(
            bench,
            """
orchestrator: {agents: [l, m, e]}
agents:
  - {id: l, type: probe, size: 2}
  - {id: m, type: map, items: previous_outputs.l.items, agents: [a, b, f, j], on_failure: fail, on_error: stop}
  - {id: a, type: probe, fails: 99}
  - {id: b, type: probe, pure: false}
  - {id: f, type: fork, targets: [[x], [y]]}
  - {id: x, type: probe, fails: 99}
  - {id: y, type: probe, delay: 0.02}
  - {id: j, type: join, group: f, mode: any}
  - {id: e, type: probe, reads: [m]}
""",
        )
        assert str(failed.status) == "failed"
        healed = await resume(bench, failed.run_id, "a", "x")
        assert str(healed.status) == "completed"
        assert called() == [("e", 1), ("m.0/a", 1), ("m.1/a", 1)]
        assert [str(seen.status) for seen in healed.results if seen.node_id == "x"] == ["error", "error"]


async def test_a_run_that_failed_for_want_of_an_answer_tries_its_last_failure_again(redis_settings: Settings) -> None:
    async with open_bench(redis_settings) as bench:
        failed = await run(
            bench,
            """
orchestrator: {agents: [a, r]}
agents:
  - {id: a, type: probe, fails: 99, pure: false, route: x}
  - {id: r, type: router, decision_key: a.route, routing_map: {x: [b]}}
  - {id: b, type: probe}
""",
        )
        assert str(failed.status) == "failed"
        await resume(bench, failed.run_id)
        assert called() == [("a", 1)]
        await bench.cut(failed.run_id, len(await bench.entries(failed.run_id)) - 3)  # killed before it tried anything
        answered = await resume(bench, failed.run_id, "a")
        assert (str(answered.status), answered.output) == ("completed", "a:264a6f7a")
        assert called() == [("a", 1)]


async def test_steps_are_counted_alike_however_often_the_run_was_killed(redis_settings: Settings) -> None:
    async with open_bench(redis_settings) as bench:
        first = await run(
            bench,
            """
orchestrator: {agents: [f, j, e]}
agents:
  - {id: f, type: fork, targets: [[a], [s, t]]}
  - {id: a, type: probe}
  - {id: s, type: probe}
  - {id: t, type: probe, delay: 5}
  - {id: j, type: join, group: f, mode: any}
  - {id: e, type: probe, pure: false, prompt: "step {{ step_index }}"}
""",
        )
        assert [call.prompt for call in probe.CALLS if call.prompt] == ["step 6"]
        for keep in range(len(await bench.entries(first.run_id)) - 1, 1, -1):
            await bench.cut(first.run_id, keep)
            await resume(bench, first.run_id)
            assert {call.prompt for call in probe.CALLS if call.prompt} <= {"step 6"}


CHAIN = """
orchestrator: {agents: [a, b, c]}
agents:
  - {id: a, type: probe, pure: false}
  - {id: b, type: probe, fails: 99, on_error: stop}
  - {id: c, type: probe, reads: [b]}
"""


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("[a, b, c]", "[b, c]", "a"),
        ("[a, b, c]", "[b, a, c]", "a"),
        ("{id: a, type: probe, pure: false}", "{id: a, type: probe, pure: false, reads: [c]}", "a"),
        ("{id: a, type: probe, pure: false}", "{id: z, type: probe}", "a"),
        ("fails: 99", "fails: 0", None),
        ("reads: [b]", "reads: [a]", None),
    ],
)
async def test_a_changed_graph_is_taken_or_refused_with_the_path_and_nothing_written(
    redis_settings: Settings, old: str, new: str, path: str | None
) -> None:
    changed = CHAIN.replace(old, new)
    if "id: z" in new:
        changed = changed.replace("[a, b, c]", "[z, b, c]")
    async with open_bench(redis_settings) as bench:
        run_id = (await run(bench, CHAIN)).run_id
        if path is None:
            healed = await resume(bench, run_id, "b", changed=changed)
            assert str(healed.status) == "completed"
            assert called() == [("b", 1), ("c", 1)]
            return
        before = await bench.state(run_id)
        with pytest.raises(JournalMismatch, match=f"'{path}'") as caught:
            await resume(bench, run_id, changed=changed)
        assert caught.value.path == path
        after = await bench.state(run_id)
        assert {**after[0], b"lease": b""} == {**before[0], b"lease": b""}
        assert after[1:] == before[1:]
        assert str((await resume(bench, run_id, "b")).status) == "completed"


OPEN = """
orchestrator: {agents: [f, a, b, j]}
agents:
  - {id: f, type: fork, targets: [[x, y, y], [again]]}
  - {id: x, type: probe, pure: false}
  - {id: y, type: probe, pure: false}
  - {id: again, type: loop, max_loops: 2, internal_workflow: {orchestrator: {agents: [one, two]}, agents: [
     {id: one, type: probe, pure: false}, {id: two, type: probe, pure: false, delay: 0.1}]}}
  - {id: a, type: probe, pure: false, delay: 0.05}
  - {id: b, type: probe, pure: false, delay: 0.05}
  - {id: j, type: join, group: f}
"""


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("[f, a, b, j]", "[f, b, a, j]", "a"),
        ("[f, a, b, j]", "[f, b, j]", "a"),
        ("[f, a, b, j]", "[a, b, j]", "f"),
        ("agents: [one, two]", "agents: [two]", "f.1/again[1]/one"),
    ],
)
async def test_a_changed_sequence_is_refused_before_an_open_branch_writes_anything(
    redis_settings: Settings, old: str, new: str, path: str
) -> None:
    # Every value beside its entry: replay then waits for each, and branches come before the sequence that opened them.
    async with open_bench(replace(redis_settings, value_limit=10)) as bench:
        run_id = (await run(bench, OPEN)).run_id
        entries = await bench.entries(run_id)
        keep = next(n for n, entry in enumerate(entries, 1) if (entry.kind, entry.path) == ("node.finished", "a"))
        await bench.cut(run_id, keep)
        before = await bench.state(run_id)
        probe.CALLS.clear()
        with pytest.raises(JournalMismatch, match="which this graph does not lead to") as caught:
            await bench.finish(run_id, load(OPEN.replace(old, new)))
        assert (caught.value.path, probe.CALLS) == (path, [])
        assert (await bench.state(run_id))[1:] == before[1:]
        longer = OPEN.replace("[f, a, b, j]", "[f, a, y, j]")
        assert str((await bench.finish(run_id, load(longer))).status) == "completed"
