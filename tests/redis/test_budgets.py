"""A run's budget: what it ends, what is kept, and that a resumed run decides the same."""

import asyncio
from typing import Any

import pytest
from support import speaking
from support.crew import working
from support.journals import Gate, entries_of, registry_of
from support.running import at, graph, opened, paths

from orka.agents.base import AgentInput, AgentOutput
from orka.errors import BudgetExceeded
from orka.ids import new_run_id
from orka.orchestrator import Orchestrator
from orka.redis.client import RedisHandle
from orka.results import RunResult, Usage
from orka.settings import Settings
from orka.types import RunStatus, Status


def chain(budget: str, count: int = 4) -> str:
    """Agents that cost 100 tokens and a cent each."""
    ids = [f"n{number}" for number in range(count)]
    nodes = "\n".join(f"  - {{id: {name}, type: speaker, prompt: {name}, tokens: 100, usd: 0.01}}" for name in ids)
    return f"orchestrator: {{id: costly, agents: [{', '.join(ids)}], budget: {{{budget}}}}}\nagents:\n{nodes}\n"


async def run(settings: Settings, text: str, **options: Any) -> RunResult:
    return await opened(settings, text, registry=speaking.registry()).execute("x", **options)


@pytest.mark.parametrize(
    ("budget", "done", "why"),
    [
        ("tokens: 150", 2, "200 of 150 tokens"),
        ("usd: 0.03", 3, r"\$0.0300 of \$0.03"),
        ("usd: 1, tokens: 100", 1, "100 of 100 tokens"),
    ],
)
async def test_a_run_that_has_used_up_its_budget_fails_before_its_next_visit(
    budget: str, done: int, why: str, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    text = chain(budget)
    result = await run(redis_settings, text)
    assert (result.status, len(result.results)) == (RunStatus.FAILED, done)
    assert result.error is not None
    assert result.error.kind == "BudgetExceeded"
    assert result.usage.tokens == 100 * done
    with pytest.raises(BudgetExceeded, match=why):
        await opened(redis_settings, text, registry=speaking.registry()).run("x")


async def test_what_has_been_paid_for_is_not_thrown_away(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    """The last visit goes beyond the budget, and the answer is there."""
    result = await run(redis_settings, chain("tokens: 350"))
    assert (result.status, result.output, result.usage.tokens) == (RunStatus.COMPLETED, "n3", 400)
    assert result.warnings == ("the run's budget is used up (400 of 350 tokens)",)


async def test_with_stop_a_run_completes_with_the_answer_that_it_has(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    async with opened(
        redis_settings, chain("tokens: 150, on_exceed: stop"), registry=speaking.registry()
    ) as orchestrator:
        speaking.CALLS.clear()
        result = await orchestrator.execute("x")
        assert speaking.CALLS == ["n0 silent", "n1 silent"]
        assert (result.status, result.output, result.usage.tokens) == (RunStatus.COMPLETED, "n1", 200)
        assert [visit.status for visit in result.results] == [Status.SUCCESS] * 2 + [Status.SKIPPED] * 2
        assert at(result, "n2").error is not None
        [warning] = result.warnings
        assert warning.startswith("the run's budget was used up (200 of 150 tokens)")
        again = await orchestrator.finish(result.run_id)
        assert (again.output, again.warnings, again.usage) == (result.output, result.warnings, result.usage)
        assert [(v.path, v.status, v.error) for v in again.results] == [
            (v.path, v.status, v.error) for v in result.results
        ]
        report = await orchestrator.runs.show(result.run_id)
        assert report.usage == result.usage
        assert report.warnings == result.warnings
        assert [visit.usage for visit in report.visits][:2] == [
            Usage(prompt_tokens=50, completion_tokens=50, cost_usd=0.01)
        ] * 2


LOOP = """
orchestrator: {id: looped, agents: [refine, tell], budget: {tokens: 450, on_exceed: stop}}
agents:
  - id: refine
    type: loop
    max_loops: 10
    score_threshold: 0.9
    internal_workflow:
      orchestrator: {agents: [draft, judge]}
      agents:
        - {id: draft, type: speaker, prompt: "draft {{ get_loop_number() }}", tokens: 100}
        - {id: judge, type: speaker, prompt: "SCORE: 0.5", score: 0.5, tokens: 100}
  - {id: tell, type: template, prompt: "told {{ previous_outputs.refine.response }}"}
"""


async def test_a_loop_that_is_stopped_gives_its_last_whole_round(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    async with opened(redis_settings, LOOP, registry=speaking.registry()) as orchestrator:
        result = await orchestrator.execute("x")
        assert result.status is RunStatus.COMPLETED
        output: Any = at(result, "refine").output
        assert (output["loops_completed"], output["threshold_met"]) == (2, False)
        assert result.output == "SCORE: 0.5"
        assert at(result, "refine[3]/draft").status is Status.SUCCESS
        assert at(result, "refine[3]/judge").status is Status.SKIPPED
        assert at(result, "tell").status is Status.SKIPPED
        again = await orchestrator.finish(result.run_id)
        assert [(v.path, v.status, v.output) for v in again.results] == [
            (v.path, v.status, v.output) for v in result.results
        ]


CONTROL = """
orchestrator: {id: all, agents: [pay, route, spread, gather, every, fall, turn], budget: {tokens: 100, on_exceed: stop}}
agents:
  - {id: pay, type: speaker, prompt: paid, tokens: 100}
  - {id: route, type: router, decision_key: pay, routing_map: {paid: [left]}}
  - {id: spread, type: fork, targets: [[left], [right]]}
  - {id: left, type: speaker, prompt: left}
  - {id: right, type: speaker, prompt: right}
  - {id: gather, type: join, group: spread, on_failure: fail}
  - {id: every, type: map, items: "[1, 2]", agents: [left]}
  - {id: fall, type: failover, children: [{id: one, type: speaker, prompt: one}, {id: two, type: speaker, prompt: two}]}
  - id: turn
    type: loop
    internal_workflow: {orchestrator: {agents: [left]}, agents: []}
"""


async def test_nothing_of_any_kind_is_begun_after_the_stop(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    async with opened(redis_settings, CONTROL, registry=speaking.registry()) as orchestrator:
        speaking.CALLS.clear()
        result = await orchestrator.execute("x")
        assert speaking.CALLS == ["pay silent"]
        assert (result.status, result.output) == (RunStatus.COMPLETED, "paid")
        assert {visit.status for visit in result.results[1:]} == {Status.SKIPPED}
        assert paths(result) == [
            "pay",
            "route",
            "spread",
            "gather",
            "every",
            "fall.0/one",
            "fall",
            "turn[1]/left",
            "turn",
        ]
        again = await orchestrator.finish(result.run_id)
        assert [(v.path, v.status) for v in again.results] == [(v.path, v.status) for v in result.results]


FORKED = """
orchestrator: {id: forked, agents: [spread, gather], budget: {tokens: 250, on_exceed: stop}}
agents:
  - {id: spread, type: fork, targets: [[a, b, c], [d, e, f]], mode: sequential}
  - {id: a, type: speaker, prompt: a, tokens: 100}
  - {id: b, type: speaker, prompt: b, tokens: 100}
  - {id: c, type: speaker, prompt: c, tokens: 100}
  - {id: d, type: speaker, prompt: d, tokens: 100}
  - {id: e, type: speaker, prompt: e, tokens: 100}
  - {id: f, type: speaker, prompt: f, tokens: 100}
  - {id: gather, type: join, group: spread, mode: MODE, on_failure: fail}
"""


@pytest.mark.parametrize("mode", ["all", "any"])
async def test_a_join_takes_in_what_its_branches_had(
    mode: str, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    result = await run(redis_settings, FORKED.replace("MODE", mode))
    assert result.status is RunStatus.COMPLETED
    assert result.usage.tokens == 300
    output: Any = at(result, "gather").output
    assert output["merged"]["c"]["response"] == "c"
    if mode == "all":
        assert at(result, "gather").status is Status.SKIPPED
        assert output["failed"] == ["d", "e", "f"]
        assert result.output == "c"


async def test_a_failed_run_goes_on_with_a_larger_budget_and_counts_nothing_twice(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    failed = await run(redis_settings, chain("tokens: 150"))
    small = opened(redis_settings, chain("tokens: 150"), registry=speaking.registry())
    assert (await small.finish(failed.run_id)).status is RunStatus.FAILED
    larger = opened(redis_settings, chain("tokens: 350"), registry=speaking.registry())
    speaking.CALLS.clear()
    result = await larger.finish(failed.run_id, changed_graph=True)
    assert speaking.CALLS == ["n2 silent", "n3 silent"]
    assert (result.status, result.output, result.usage.tokens) == (RunStatus.COMPLETED, "n3", 400)


@pytest.mark.parametrize("on_exceed", ["stop", "fail"])
async def test_seconds_count_from_the_beginning_of_the_run(
    on_exceed: str, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    text = chain(f"seconds: 0.15, on_exceed: {on_exceed}").replace("prompt: n0,", "prompt: n0, pause: 0.2,")
    result = await run(redis_settings, text)
    assert [visit.path for visit in result.results if visit.status is Status.SUCCESS] == ["n0"]
    assert result.status is (RunStatus.COMPLETED if on_exceed == "stop" else RunStatus.FAILED)


@pytest.mark.parametrize("on_exceed", ["stop", "fail"])
async def test_a_process_that_died_under_way_has_spent_what_it_has_spent(
    on_exceed: str, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()

    async def pays(task: AgentInput) -> AgentOutput:
        if task.node_id == "n1":
            await gate(task)
        return AgentOutput(response=task.text, usage=Usage(completion_tokens=100))

    text = chain(f"tokens: 200, on_exceed: {on_exceed}", 3).replace("speaker", "pays")
    run_id = new_run_id()
    async with opened(redis_settings, text, registry=registry_of(pays=pays)) as orchestrator:
        task = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        task.cancel()
        await asyncio.wait({task})
        gate.opened.set()
        result = await orchestrator.finish(run_id)
    assert result.usage.tokens == 200
    done = [visit.path for visit in result.results if visit.status is Status.SUCCESS]
    assert done == ["n0", "n1"]
    assert result.status is (RunStatus.COMPLETED if on_exceed == "stop" else RunStatus.FAILED)


AWAY = """
orchestrator: {id: away, agents: [pay, spread, gather, after], budget: {tokens: 250, on_exceed: EXCEED}}
agents:
  - {id: pay, type: speaker, prompt: pay, tokens: 100}
  - {id: spread, type: fork, targets: [[a, b, c], [d]]}
  - {id: a, type: speaker, prompt: a, tokens: 100}
  - {id: b, type: speaker, prompt: b, tokens: 100}
  - {id: c, type: speaker, prompt: c, tokens: 100}
  - {id: d, type: speaker, prompt: d, tokens: 100}
  - {id: gather, type: join, group: spread}
  - {id: after, type: speaker, prompt: after, tokens: 100}
"""


@pytest.mark.parametrize("how", ["distributed", "submitted"])
async def test_workers_stop_at_what_was_left_and_their_usage_counts_at_the_join(
    how: str, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    text = AWAY.replace("EXCEED", "stop")
    async with (
        working(redis_settings, registry=speaking.registry()),
        opened(redis_settings, text, registry=speaking.registry()) as orchestrator,
    ):
        speaking.CALLS.clear()
        if how == "distributed":
            result = await orchestrator.execute("x", distributed=True)
        else:
            handle = await orchestrator.submit("x")
            await handle.finished()
            result = await orchestrator.finish(handle.run_id)
    called = {call.split()[0] for call in speaking.CALLS}
    # Each branch may use up the 150 that are left: two calls in the one, one in the other.
    assert called == {"pay", "spread.0/a", "spread.0/b", "spread.1/d"}
    assert (result.status, result.usage.tokens) == (RunStatus.COMPLETED, 400)
    assert at(result, "spread.0/c").status is Status.SKIPPED
    assert at(result, "after").status is Status.SKIPPED
    output: Any = at(result, "gather").output
    assert output["merged"]["b"]["response"] == "b"


async def test_a_branch_on_a_worker_that_has_used_up_the_budget_fails_the_run(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    text = AWAY.replace("EXCEED", "fail")
    async with (
        working(redis_settings, registry=speaking.registry()),
        opened(redis_settings, text, registry=speaking.registry()) as orchestrator,
    ):
        result = await orchestrator.execute("x", distributed=True)
        assert (result.status, result.error and result.error.kind) == (RunStatus.FAILED, "BudgetExceeded")
        spent = {p for k, p, data in await entries_of(clean_redis.client, result.run_id) if data.get("usage")}
        larger = Orchestrator(
            graph(text.replace("250", "10000"), speaking.registry()),
            settings=redis_settings,
            registry=speaking.registry(),
        )
        speaking.CALLS.clear()
        done = await larger.finish(result.run_id, changed_graph=True)
    assert (done.status, done.usage.tokens) == (RunStatus.COMPLETED, 600)
    assert not {call.split()[0] for call in speaking.CALLS} & spent
