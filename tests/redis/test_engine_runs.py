"""Whole runs: many at once, deadlines, event loops, life without `async with`, and the sample of the format."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.running import answer, at, execute, graph, opened, paths, said

from orka.agents.base import AgentInput
from orka.agents.registry import Registry
from orka.errors import ConfigError, RunExists, RunTimeout
from orka.orchestrator import Orchestrator
from orka.settings import Settings
from orka.types import RunStatus

PLAIN = """
    orchestrator: {id: t, agents: [spread, gather, end]}
    agents:
      - {id: spread, type: fork, targets: [a, b]}
      - {id: a, type: template, prompt: "a{{ input }}", depends_on: []}
      - {id: b, type: echo, delay: 0.001}
      - {id: gather, type: join, group: spread}
      - {id: end, type: template, prompt: "{{ previous_outputs.a.response }}/{{ previous_outputs.b.response }}"}
    """


async def test_two_hundred_runs_at_once_do_not_mix(redis_settings: Settings) -> None:
    async with opened(redis_settings, PLAIN) as orchestrator:
        started = time.perf_counter()
        answers = await asyncio.gather(*(orchestrator.run(str(n)) for n in range(200)))
        assert time.perf_counter() - started < 5
        assert answers == [f"a{n}/{n}" for n in range(200)]
        listed = await orchestrator.runs.list(limit=1000)
        assert sum(info.status is RunStatus.COMPLETED for info in listed) >= 200
        assert orchestrator.statistics().calls.running == 0


async def test_runs_without_async_with_open_and_close_for_themselves(redis_settings: Settings) -> None:
    orchestrator = opened(redis_settings, PLAIN)
    assert await asyncio.gather(orchestrator.run("x"), orchestrator.run("y")) == ["ax/x", "ay/y"]
    with pytest.raises(ConfigError, match=r"needs an open Orchestrator: `async with Orchestrator"):
        orchestrator.statistics()


async def test_after_its_async_with_an_orchestrator_opens_for_each_call_and_can_be_opened_again(
    redis_settings: Settings,
) -> None:
    orchestrator = opened(redis_settings, PLAIN)
    async with orchestrator:
        assert await orchestrator.run("1") == "a1/1"
    assert await orchestrator.run("2") == "a2/2"
    with pytest.raises(ConfigError, match="needs an open Orchestrator"):
        orchestrator.statistics()
    async with orchestrator:
        assert await orchestrator.run("3") == "a3/3"


@pytest.mark.parametrize("run_id", ["", "a b", "x" * 129, "a/b", "{orka:1}", "a\n", "\u00e9", 5, b"id"])
async def test_a_run_id_that_does_not_suit_keys_is_refused(redis_settings: Settings, run_id: Any) -> None:
    with pytest.raises(ConfigError, match=r"run_id is .*; it may hold letters, digits and the characters - _ \. :"):
        await opened(redis_settings, PLAIN).execute("x", run_id=run_id)


async def test_a_run_id_may_be_chosen_and_names_one_run(redis_settings: Settings) -> None:
    chosen = f"Order-7_{time.time_ns()}.b:".ljust(128, "x")
    async with opened(redis_settings, PLAIN) as orchestrator:
        results = await asyncio.gather(
            *(orchestrator.execute(name, run_id=chosen) for name in ("1", "2")), return_exceptions=True
        )
        (done,) = [result for result in results if not isinstance(result, BaseException)]
        (refused,) = [result for result in results if isinstance(result, BaseException)]
        assert (done.run_id, done.status) == (chosen, RunStatus.COMPLETED)
        assert isinstance(refused, RunExists)
        assert f"a run {chosen!r} exists already: give another id" in str(refused)
        with pytest.raises(RunExists):  # an ended one counts, too
            await orchestrator.execute("3", run_id=chosen)
        assert (await orchestrator.finish(chosen)).output == done.output


async def test_two_orchestrators_live_beside_each_other(redis_settings: Settings) -> None:
    other = PLAIN.replace("a{{ input }}", "other {{ input }}")
    async with opened(redis_settings, PLAIN) as one, opened(redis_settings, other) as two:
        assert await asyncio.gather(one.run("1"), two.run("2"), one.run("3")) == ["a1/1", "other 2/2", "a3/3"]
    async with one:
        assert await one.run("4") == "a4/4"


async def test_an_open_orchestrator_is_not_opened_twice(redis_settings: Settings) -> None:
    async with opened(redis_settings, PLAIN) as orchestrator:
        with pytest.raises(ConfigError, match=r"open already; open another one"):
            async with orchestrator:
                pass
        assert await orchestrator.run("x") == "ax/x"


async def test_another_event_loop_is_refused_with_the_remedy(redis_settings: Settings) -> None:
    told: list[BaseException] = []

    def elsewhere(orchestrator: Orchestrator) -> None:
        try:
            asyncio.run(orchestrator.execute("x"))
        except ConfigError as exc:
            told.append(exc)

    async with opened(redis_settings, PLAIN) as orchestrator:
        thread = threading.Thread(target=elsewhere, args=(orchestrator,))
        thread.start()
        await asyncio.to_thread(thread.join)
    assert len(told) == 1
    assert "opened in another event loop; open one Orchestrator in each loop" in str(told[0])


async def test_a_deadline_ends_the_run_and_cancels_what_is_under_way(redis_settings: Settings) -> None:
    registry, cancelled = Registry(), list[str]()

    @registry.agent("sleeper")
    async def sleeper(task: AgentInput) -> str:
        try:
            await anyio.sleep(30)
        except BaseException:
            cancelled.append(task.path)
            raise
        return "slept"

    text = """
        orchestrator: {id: t, agents: [first, spread, slow, gather], deadline: 0.3}
        agents:
          - {id: first, type: echo, prompt: F}
          - {id: spread, type: fork, targets: [branch]}
          - {id: branch, type: sleeper}
          - {id: slow, type: sleeper}
          - {id: gather, type: join, group: spread}
        """
    async with opened(redis_settings, text, registry=registry) as orchestrator:
        started = time.perf_counter()
        result = await orchestrator.execute("x")
        assert 0.3 <= time.perf_counter() - started < 1.5
        assert sorted(cancelled) == ["slow", "spread.0/branch"]
        assert (result.status, result.output) == (RunStatus.FAILED, None)
        assert said(result, "first") == "F"
        with pytest.raises(RunTimeout, match=r"run [0-9a-f-]+ failed: the run's deadline of 0.3 s has passed"):
            await orchestrator.run("x")
        assert (await orchestrator.runs.info(result.run_id)).status is RunStatus.FAILED


async def test_strict_durability_stores_a_step_before_the_next_begins(redis_settings: Settings) -> None:
    registry, order = Registry(), list[str]()

    @registry.agent("note", pure=True)
    async def note(task: AgentInput) -> str:
        order.append(f"begin {task.node_id}")
        return "x"

    def stored(event: Any) -> None:
        if event.kind == "node.finished":
            order.append(f"stored {event.path}")

    text = """
        orchestrator: {id: t, agents: [a, b, c], durability: strict}
        agents: [{id: a, type: note}, {id: b, type: note}, {id: c, type: note}]
        """
    async with opened(redis_settings, text, registry=registry) as orchestrator:
        await orchestrator.execute("x", on_event=stored)
    assert order == ["begin a", "stored a", "begin b", "stored b", "begin c", "stored c"]


async def test_cancelling_a_run_cancels_its_agents_and_leaves_a_run_to_resume(redis_settings: Settings) -> None:
    registry, seen = Registry(), {"started": anyio.Event(), "cancelled": 0, "cured": False}

    @registry.agent("sleeper")
    async def sleeper(task: AgentInput) -> str:
        if seen["cured"]:
            return "awake"
        seen["started"].set()  # type: ignore[attr-defined]
        try:
            await anyio.sleep(30)
        finally:
            seen["cancelled"] += 1  # type: ignore[operator]
        return "slept"

    text = """
        orchestrator: {id: t, agents: [spread, gather]}
        agents:
          - {id: spread, type: fork, targets: [a, b]}
          - {id: a, type: echo, prompt: A}
          - {id: b, type: sleeper}
          - {id: gather, type: join, group: spread}
        """
    async with opened(redis_settings, text, registry=registry) as orchestrator:
        task = asyncio.create_task(orchestrator.run("x"))
        await seen["started"].wait()  # type: ignore[attr-defined]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen["cancelled"] == 1
        (info,) = [one for one in await orchestrator.runs.list() if one.status is RunStatus.CANCELLED]
        seen["cured"] = True
        assert await orchestrator.resume(info.run_id) == "awake"


async def test_a_path_may_be_a_file_or_a_graph(redis_settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "flow.yml"
    file.write_text("orchestrator: {id: t, agents: [a]}\nagents: [{id: a, type: echo}]\n")
    assert await Orchestrator(file, settings=redis_settings).run("one") == "one"
    assert await Orchestrator(str(file), settings=redis_settings).run("two") == "two"
    made = graph("orchestrator: {id: t, agents: [a]}\nagents: [{id: a, type: echo}]\n")
    assert await Orchestrator(made, settings=redis_settings).run("three") == "three"


async def test_five_hundred_steps_in_a_row(redis_settings: Settings) -> None:
    ids = [f"s{n}" for n in range(500)]
    nodes = "\n".join(f"  - {{id: {i}, type: echo, prompt: {i}}}" for i in ids)
    result = await execute(redis_settings, f"orchestrator: {{id: t, agents: [{', '.join(ids)}]}}\nagents:\n{nodes}\n")
    assert paths(result) == ids
    assert result.output == "s499"


SAMPLE = r"""
    orchestrator:
      id: demo
      strategy: sequential
      memory_preset: episodic
      structured_output_defaults: {enabled: true, mode: prompt, coerce_types: true}
      agents: [recall, spread, gather, gate, refine, store]
    agents:
      - {id: recall, type: echo, value: {memories: [], response: null}, prompt: "{{ get_input() }}"}
      - {id: spread, type: fork, targets: [[pro], [con, con_short]]}
      - {id: pro, type: template, prompt: "Arguments for: {{ input }}"}
      - {id: con, type: template, prompt: "Arguments against: {{ input }}"}
      - {id: con_short, type: template, prompt: "%s One line: {{ previous_outputs.con.response }}"}
      - {id: gather, type: join, group: spread}
      - id: gate
        type: router
        depends_on: gather
        params:
          decision_key: con_short
          routing_map: {"true": [warn], "false": []}
      - {id: warn, type: template, prompt: "Warn about {{ get_agent_response('con_short') }}"}
      - id: refine
        type: loop
        max_loops: 3
        score_threshold: 0.8
        score_extraction_config: {strategies: [{type: pattern, patterns: ['SCORE:\s*([0-9.]+)']}]}
        past_loops_metadata: {round: "{{ loop_number }}", score: "{{ score }}", mistakes: "{{ mistakes }}"}
        cognitive_extraction: {enabled: true, extract_patterns: {mistakes: ['mistake[:\s]+(.+?)(?:\n|$)']}}
        internal_workflow:
          orchestrator: {id: inner, strategy: sequential, agents: [write, judge]}
          agents:
            - id: write
              type: template
              prompt: |
                Task {{ get_input() }}, round {{ get_loop_number() }}.
                {%% if has_past_loops() %%}Avoid: {{ get_past_loops()[-1].mistakes }}{%% endif %%}
                Material: {{ previous_outputs.pro.response }}
            - {id: judge, type: template, prompt: "mistake: it is far too long\nSCORE: 0.{{ 6 + get_loop_number() }}"}
      - id: store
        type: template
        prompt: "{{ previous_outputs.refine.final_score }} {{ get_loop_output('refine').result.write.response | default('', true) }}"
    """  # noqa: E501


@pytest.mark.parametrize(("word", "routed"), [("Yes.", ["warn"]), ("No.", []), ("Well.", [])])
async def test_the_sample_of_the_format_runs_in_the_order_it_promises(
    redis_settings: Settings, word: str, routed: list[str]
) -> None:
    result = await execute(redis_settings, SAMPLE % word, "tea")
    assert paths(result) == [
        "recall",
        "spread",
        "spread.0/pro",
        "spread.1/con",
        "spread.1/con_short",
        "gather",
        "gate",
        *routed,
        "refine[1]/write",
        "refine[1]/judge",
        "refine[2]/write",
        "refine[2]/judge",
        "refine",
        "store",
    ]
    assert result.output == "0.8 Task tea, round 2.\nAvoid: it is far too long\nMaterial: Arguments for: tea"
    assert at(result, "gate").output == routed
    assert bool(at(result, "gate").warnings) == (word == "Well.")
    if routed:
        assert said(result, "warn") == "Warn about Yes. One line: Arguments against: tea"


async def test_without_its_last_step_the_sample_answers_with_the_loops_last_response(redis_settings: Settings) -> None:
    text = (SAMPLE % "No.").replace(", refine, store]", ", refine]")
    assert await answer(redis_settings, text, "tea") == "mistake: it is far too long\nSCORE: 0.8"


async def test_strict_durability_stores_what_control_nodes_open_and_decide_before_going_on(
    redis_settings: Settings,
) -> None:
    registry, order = Registry(), list[str]()

    @registry.agent("note", pure=True)
    async def note(task: AgentInput) -> str:
        order.append(f"begin {task.path}")
        return "x"

    def stored(event: Any) -> None:
        if event.kind in {"fork.opened", "map.opened", "round.scored"}:
            order.append(f"{event.kind} {event.path}")

    text = """
        orchestrator: {id: t, agents: [spread, every, refine], durability: strict}
        agents:
          - {id: spread, type: fork, targets: [[a]]}
          - {id: every, type: map, items: "[1]", as: item, agents: [b]}
          - id: refine
            type: loop
            max_loops: 2
            score_threshold: 1
            internal_workflow: {orchestrator: {id: inner, agents: [c]}, agents: [{id: c, type: note}]}
          - {id: a, type: note}
          - {id: b, type: note}
        """
    async with opened(redis_settings, text, registry=registry) as orchestrator:
        await orchestrator.execute("x", on_event=stored)
    assert order == [
        "fork.opened spread",
        "begin spread.0/a",
        "map.opened every",
        "begin every.0/b",
        "begin refine[1]/c",
        "round.scored refine[1]",
        "begin refine[2]/c",
        "round.scored refine[2]",
    ]
