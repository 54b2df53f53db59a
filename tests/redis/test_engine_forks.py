"""Forks and joins in real runs: concurrency, isolation, modes, timeouts."""

import time
from typing import Any

import pytest
from support.running import answer, at, execute, opened, paths, said

from orka.agents.base import AgentInput
from orka.agents.registry import Registry
from orka.settings import Settings
from orka.types import Status


def gauge() -> tuple[Registry, dict[str, Any]]:
    """A registry with an agent `work` that waits 0.02 s, and how many of them ran at once at most."""
    registry, seen = Registry(), {"now": 0, "most": 0, "order": [], "cancelled": []}

    @registry.agent("work", pure=True)
    async def work(task: AgentInput) -> str:
        import anyio

        seen["now"] += 1
        seen["most"] = max(seen["most"], seen["now"])
        seen["order"].append(task.node_id)
        try:
            await anyio.sleep(float(task.options.get("delay", 0.02)))  # type: ignore[arg-type]
        except BaseException:
            seen["cancelled"].append(task.node_id)
            raise
        finally:
            seen["now"] -= 1
        return task.node_id

    return registry, seen


FOUR = """
    orchestrator: {id: t, agents: [spread, gather]}
    agents:
      - {id: spread, type: fork, targets: [a, [b], c, d]%s}
      - {id: a, type: work}
      - {id: b, type: work}
      - {id: c, type: work}
      - {id: d, type: work}
      - {id: gather, type: join, group: spread}
    """


async def test_branches_wait_at_the_same_time(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [spread, gather]}
        agents:
          - {id: spread, type: fork, targets: [a, b]}
          - {id: a, type: echo, delay: 0.2}
          - {id: b, type: echo, delay: 0.2}
          - {id: gather, type: join, group: spread}
        """
    async with opened(redis_settings, text) as orchestrator:
        started = time.perf_counter()
        await orchestrator.run("x")
        assert 0.2 <= time.perf_counter() - started < 0.35


@pytest.mark.parametrize(("extra", "most"), [("", 4), (", max_concurrency: 2", 2), (", mode: sequential", 1)])
async def test_as_many_branches_run_at_once_as_the_file_says(redis_settings: Settings, extra: str, most: int) -> None:
    registry, seen = gauge()
    result = await execute(redis_settings, FOUR % extra, registry=registry)
    assert seen["most"] == most
    assert seen["order"] == ["a", "b", "c", "d"]
    assert paths(result) == ["spread", "spread.0/a", "spread.1/b", "spread.2/c", "spread.3/d", "gather"]


async def test_an_agents_max_concurrency_holds_across_branches_and_runs(redis_settings: Settings) -> None:
    import anyio

    registry, seen = gauge()
    text = """
        orchestrator: {id: t, agents: [spread, gather]}
        agents:
          - {id: spread, type: fork, targets: [[a], [a], [a]]}
          - {id: a, type: work, max_concurrency: 2, delay: 0.01}
          - {id: gather, type: join, group: spread}
        """
    async with opened(redis_settings, text, registry=registry) as orchestrator, anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(orchestrator.execute, "x")
    assert seen["most"] == 2
    assert len(seen["order"]) == 9


async def test_a_branch_sees_what_was_before_the_fork_and_its_own_members_only(redis_settings: Settings) -> None:
    look = "{{ previous_outputs.before.response }}|{{ previous_outputs.x.response }}|{{ previous_outputs.y.response }}|{{ previous_outputs.between.response }}"  # noqa: E501
    result = await execute(
        redis_settings,
        f"""
        orchestrator: {{id: t, agents: [before, spread, between, early, gather, late]}}
        agents:
          - {{id: before, type: echo, prompt: B}}
          - {{id: spread, type: fork, targets: [[x, x2], [y, y2]]}}
          - {{id: x, type: echo, prompt: X}}
          - {{id: x2, type: template, prompt: "{look}"}}
          - {{id: y, type: echo, prompt: Y, delay: 0.03}}
          - {{id: y2, type: template, prompt: "{look}"}}
          - {{id: between, type: echo, prompt: M}}
          - {{id: early, type: template, prompt: "{look}"}}
          - {{id: gather, type: join, group: spread}}
          - {{id: late, type: template, prompt: "{look}"}}
        """,
    )
    assert said(result, "spread.0/x2") == "B|X||"
    assert said(result, "spread.1/y2") == "B||Y|"  # also though the parent was done with `between` long ago
    assert said(result, "early") == "B|||M"
    assert said(result, "late") == "B|X|Y|M"


async def test_later_branches_of_a_sequential_fork_see_earlier_ones(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [spread, gather]}
        agents:
          - {id: spread, type: fork, mode: sequential, targets: [x, y]}
          - {id: x, type: echo, prompt: X}
          - {id: y, type: template, prompt: "{{ previous_outputs.x.response }}Y"}
          - {id: gather, type: join, group: spread}
        """
    assert said(await execute(redis_settings, text), "spread.1/y") == "XY"


async def test_a_fork_and_its_join_have_the_outputs_of_the_format(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [spread, gather]}
        agents:
          - {id: spread, type: fork, targets: [a, [b, c]]}
          - {id: a, type: echo, value: A}
          - {id: b, type: failing, message: broke}
          - {id: c, type: echo, value: {response: C, score: 1}}
          - {id: gather, type: join, group: spread}
        """,
    )
    assert at(result, "spread").output == {
        "status": "forked",
        "fork_group": "spread",
        "agents": ["a", "b", "c"],
        "mode": "parallel",
    }
    merged = {
        "a": {"response": "A"},
        "b": {"error": "broke", "error_type": "AgentError", "status": "error"},
        "c": {"response": "C", "score": 1},
    }
    assert at(result, "gather").output == {**merged, "status": "done", "merged": merged, "failed": ["b"]}
    assert at(result, "gather").status is Status.SUCCESS
    assert at(result, "spread.1/b").status is Status.ERROR
    assert {at(result, f"spread.{n}").group for n in ("0/a", "1/b", "1/c")} == {"spread"}


async def test_nested_lists_fork_inside_a_branch_and_their_members_count_as_its_own(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [spread, gather, end]}
        agents:
          - {id: spread, type: fork, targets: [a, [b, [[c], [d, e]], f]]}
          - {id: a, type: echo, prompt: a}
          - {id: b, type: echo, prompt: b}
          - {id: c, type: template, prompt: "c{{ previous_outputs.b.response }}{{ previous_outputs.d.response }}"}
          - {id: d, type: %s, prompt: d}
          - {id: e, type: template, prompt: "e{{ previous_outputs.d.response }}"}
          - {id: f, type: template, prompt: "f{{ previous_outputs.c.response }}{{ previous_outputs.e.response }}"}
          - {id: gather, type: join, group: spread, on_failure: fail}
          - id: end
            type: template
            prompt: "{{ previous_outputs.gather.merged.f.response }} {{ previous_outputs.gather.c.response }} {{ get_fork_responses('spread') | length }}"
        """  # noqa: E501
    result = await execute(redis_settings, text % "echo")
    assert result.output == "fcbed cb 6"
    assert at(result, "spread").output["agents"] == ["a", "b", "c", "d", "e", "f"]  # type: ignore[index,call-overload]
    assert list(at(result, "gather").output["merged"]) == ["a", "b", "c", "d", "e", "f"]  # type: ignore[index,call-overload,arg-type]
    result = await execute(redis_settings, text % "failing")
    assert at(result, "gather").status is Status.ERROR
    assert at(result, "gather").output["failed"] == ["d"]  # type: ignore[index,call-overload]


async def test_a_fork_in_a_loop_in_a_branch(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [spread, gather, end]}
        agents:
          - {id: spread, type: fork, targets: [[improve], [y]]}
          - {id: y, type: echo, prompt: Y}
          - id: improve
            type: loop
            max_loops: 3
            score_threshold: 0.75
            internal_workflow:
              orchestrator: {id: inner, agents: [views, both, judge]}
              agents:
                - {id: views, type: fork, targets: [u, [v, w]]}
                - {id: u, type: template, prompt: "u{{ get_loop_number() }}"}
                - {id: v, type: echo, prompt: v}
                - {id: w, type: template, prompt: "w{{ previous_outputs.v.response }}"}
                - {id: both, type: join, group: views}
                - id: judge
                  type: template
                  prompt: "{{ previous_outputs.both.w.response }}{{ previous_outputs.u.response }} SCORE 0.{{ 6 + get_loop_number() }}"
          - {id: gather, type: join, group: spread}
          - {id: end, type: template, prompt: "{{ previous_outputs.improve.result.judge.response }}"}
        """,  # noqa: E501
    )
    assert result.output == "wvu2 SCORE 0.8"
    rounds = [p for p in paths(result) if p.startswith("spread.0/improve[2]")]
    assert rounds == [
        "spread.0/improve[2]/views",
        "spread.0/improve[2]/views.0/u",
        "spread.0/improve[2]/views.1/v",
        "spread.0/improve[2]/views.1/w",
        "spread.0/improve[2]/both",
        "spread.0/improve[2]/judge",
    ]


async def test_the_first_success_wins_and_the_losers_are_cancelled_at_once(redis_settings: Settings) -> None:
    registry, seen = gauge()
    text = """
        orchestrator: {id: t, agents: [spread, gather, end]}
        agents:
          - {id: spread, type: fork, targets: [[slow, never], quick, bad]}
          - {id: slow, type: work, delay: 30}
          - {id: never, type: work}
          - {id: quick, type: work, delay: 0.03}
          - {id: bad, type: failing}
          - {id: gather, type: join, group: spread, mode: any}
          - {id: end, type: template, prompt: "{{ previous_outputs.quick.response }}{{ previous_outputs.slow }}"}
        """
    async with opened(redis_settings, text, registry=registry) as orchestrator:
        started = time.perf_counter()
        result = await orchestrator.execute("x")
        assert time.perf_counter() - started < 1
    assert seen["cancelled"] == ["slow"]
    assert at(result, "gather").output == {
        "quick": {"response": "quick"},
        "status": "done",
        "merged": {"quick": {"response": "quick"}},
        "failed": ["bad"],
        "cancelled": ["slow", "never"],
    }
    assert result.output == "quick"


async def test_a_quorum_waits_for_enough_and_gives_up_when_it_cannot_be_reached(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [spread, gather, end]}
        agents:
          - {id: spread, type: fork, targets: [a, b, c]}
          - {id: a, type: %s, delay: 0.01, prompt: A}
          - {id: b, type: echo, delay: %s, prompt: B}
          - {id: c, type: failing}
          - {id: gather, type: join, group: spread, mode: quorum, min_success: 2}
          - {id: end, type: template, prompt: "{{ previous_outputs.gather.error }}"}
        """
    result = await execute(redis_settings, text % ("echo", "0.03"))
    assert list(at(result, "gather").output["merged"]) == ["a", "b"]  # type: ignore[index,call-overload,arg-type]
    result = await execute(redis_settings, text % ("failing", "30"))
    assert at(result, "gather").status is Status.ERROR
    assert at(result, "gather").error.kind == "BranchError"  # type: ignore[union-attr]
    assert result.output.startswith("2 branches had to succeed, 2 of 3 failed: branch 0: this node always fails; ")  # type: ignore[union-attr]


async def test_a_join_that_must_not_fail_names_the_branch(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [spread, gather]}
        agents:
          - {id: spread, type: fork, targets: [[a, b], c]}
          - {id: a, type: failing, message: boom, on_error: stop}
          - {id: b, type: echo, prompt: B}
          - {id: c, type: echo, prompt: C}
          - {id: gather, type: join, group: spread, on_failure: fail, on_error: stop}
        """
    result = await execute(redis_settings, text)
    assert (result.status, result.error_path) == ("failed", "gather")
    assert result.error is not None
    assert result.error.message == "every branch had to succeed, 1 of 2 failed: branch 0: boom"
    assert paths(result) == ["spread", "spread.0/a", "spread.1/c", "gather"]  # `b` was not reached


async def test_a_fork_that_takes_too_long_fails_the_branches_that_are_not_done(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [spread, gather, end]}
        agents:
          - {id: spread, type: fork, timeout: 0.05, targets: [slow, quick]}
          - {id: slow, type: echo, delay: 30}
          - {id: quick, type: echo, prompt: Q}
          - {id: gather, type: join, group: spread}
          - {id: end, type: template, prompt: "{{ previous_outputs.gather.slow.error }} {{ previous_outputs.quick.response }}"}
        """,
    )
    assert at(result, "gather").output["failed"] == ["slow"]  # type: ignore[index,call-overload]
    assert result.output == "not done within 0.05 s Q"


async def test_a_join_that_runs_out_of_time_keeps_what_is_there_and_cancels_the_rest(redis_settings: Settings) -> None:
    registry, seen = gauge()
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [spread, gather, end]}
        agents:
          - {id: spread, type: fork, targets: [slow, quick]}
          - {id: slow, type: work, delay: 30}
          - {id: quick, type: work, delay: 0}
          - {id: gather, type: join, group: spread, timeout: 0.05}
          - {id: end, type: template, prompt: "{{ previous_outputs.gather.error }}/{{ previous_outputs.quick.response }}"}
        """,
        registry=registry,
    )
    assert seen["cancelled"] == ["slow"]
    assert at(result, "gather").error.kind == "RunTimeout"  # type: ignore[union-attr]
    assert at(result, "gather").output["cancelled"] == ["slow"]  # type: ignore[index,call-overload]
    assert result.output == "1 of 2 branches were not done within the timeout/quick"


async def test_a_join_without_its_fork_is_skipped_and_says_why(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [gather, a]}
        agents:
          - {id: gather, type: join, group: spread}
          - {id: a, type: echo, prompt: A}
          - {id: spread, type: fork, targets: [a]}
        """,
    )
    assert at(result, "gather").status is Status.SKIPPED
    assert at(result, "gather").warnings == ("'spread' has not been opened here, so there is nothing to wait for",)


@pytest.mark.parametrize("mode", ["all", "any"])
async def test_a_fork_that_was_joined_is_not_waited_for_again(redis_settings: Settings, mode: str) -> None:
    result = await execute(
        redis_settings,
        f"""
        orchestrator: {{id: t, agents: [spread, gather, again, end]}}
        agents:
          - {{id: spread, type: fork, targets: [a, b]}}
          - {{id: a, type: echo, prompt: A}}
          - {{id: b, type: echo, prompt: B, delay: {0 if mode == "all" else 30}}}
          - {{id: gather, type: join, group: spread, mode: {mode}}}
          - {{id: again, type: join, group: spread}}
          - {{id: end, type: template, prompt: "{{{{ previous_outputs.again.a.response }}}}"}}
        """,
    )
    assert result.output == "A"
    assert paths(result).count("spread.0/a") == 1
    assert at(result, "again").status is Status.SKIPPED
    assert at(result, "again").output == at(result, "gather").output
    assert at(result, "again").warnings == ("'spread' has been joined before, so there is nothing to wait for",)


async def test_a_fork_that_no_join_names_is_joined_at_once(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [first, spread, after, other, last]}
        agents:
          - {id: first, type: echo, prompt: F}
          - {id: spread, type: fork, targets: [a, [b, within]]}
          - {id: a, type: echo, prompt: A, delay: 0.02}
          - {id: b, type: echo, prompt: B}
          - {id: within, type: fork, targets: [c]}
          - {id: c, type: echo, prompt: C}
          - {id: after, type: template, prompt: "[{{ previous_outputs.a.response }}]"}
          - {id: other, type: fork, targets: [c]}
          - {id: last, type: template, prompt: "{{ previous_outputs | length }}"}
        """
    async with opened(redis_settings, text) as orchestrator:
        result = await orchestrator.execute("x")
        again = await orchestrator.finish(result.run_id)
        log: Any = await orchestrator.run("x", return_logs=True)
    assert paths(result) == [
        *("first", "spread", "spread.0/a", "spread.1/b", "spread.1/within", "spread.1/within.0/c"),
        *("after", "other", "other.0/c", "last"),
    ]
    assert (said(result, "after"), said(result, "last")) == ("[A]", "8")
    assert result.output == "8"
    assert again.results == result.results
    assert [entry["agent_id"] for entry in log] == [
        *("first", "spread", "a", "b", "within", "c", "after", "other", "c", "last"),
    ]
    assert [entry["step"] for entry in log] == list(range(1, 11))


async def test_a_join_names_the_first_failure_in_declared_order_whichever_came_first(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [around, gather]}
        agents:
          - {id: around, type: fork, targets: [[within]]}
          - {id: within, type: fork, targets: [slow, quick]}
          - {id: slow, type: failing, message: slow failed, delay: 0.03}
          - {id: quick, type: failing, message: quick failed}
          - {id: gather, type: join, group: around, on_failure: fail}
        """
    result = await execute(redis_settings, text)
    failure = at(result, "gather").error
    assert failure is not None
    assert failure.message == "every branch had to succeed, 1 of 1 failed: branch 0: slow failed"


async def test_a_run_that_stops_leaves_no_branch_behind(redis_settings: Settings) -> None:
    registry, seen = gauge()
    text = """
        orchestrator: {id: t, agents: [spread, bad, gather]}
        agents:
          - {id: spread, type: fork, targets: [slow]}
          - {id: slow, type: work, delay: 30}
          - {id: bad, type: failing, on_error: stop}
          - {id: gather, type: join, group: spread}
        """
    started = time.perf_counter()
    result = await execute(redis_settings, text, registry=registry)
    assert time.perf_counter() - started < 2
    assert (result.status, result.error_path) == ("failed", "bad")
    assert seen["now"] == 0


async def test_a_hundred_branches_keep_their_order(redis_settings: Settings) -> None:
    ids = [f"n{n}" for n in range(100)]
    nodes = "\n".join(f"  - {{id: {i}, type: echo, prompt: {i}, delay: {0.02 if i == 'n0' else 0}}}" for i in ids)
    text = f"""
orchestrator: {{id: t, agents: [spread, gather]}}
agents:
  - {{id: spread, type: fork, targets: [{", ".join(ids)}]}}
  - {{id: gather, type: join, group: spread}}
{nodes}
"""
    result = await execute(redis_settings, text)
    assert list(at(result, "gather").output["merged"]) == ids  # type: ignore[index,call-overload,arg-type]
    assert paths(result)[1:-1] == [f"spread.{n}/n{n}" for n in range(100)]
    assert await answer(redis_settings, text) == "n99"


@pytest.mark.parametrize("mode", ["all", "any", "quorum, min_success: 2"])
async def test_a_resumed_run_joins_again_as_it_did_without_running_branches_twice(
    redis_settings: Settings, mode: str
) -> None:
    registry, seen = gauge()
    cured = list[str]()

    @registry.agent("flaky", pure=True)
    async def flaky(task: AgentInput) -> str:
        if not cured:
            raise ConnectionError("down")
        return "up"

    text = f"""
        orchestrator: {{id: t, agents: [spread, gather, again, flaky, end]}}
        agents:
          - {{id: spread, type: fork, targets: [a, [b, [[c], [d]]], e]}}
          - {{id: a, type: work, delay: 0.03}}
          - {{id: b, type: work, delay: 0}}
          - {{id: c, type: work, delay: 0}}
          - {{id: d, type: work, delay: 0}}
          - {{id: e, type: work, delay: {0.06 if mode == "all" else 30}}}
          - {{id: gather, type: join, group: spread, mode: {mode}}}
          - {{id: again, type: join, group: spread}}
          - {{id: flaky, type: flaky, on_error: stop}}
          - {{id: end, type: template, prompt: "{{{{ previous_outputs.gather.merged | list | join }}}}"}}
        """
    async with opened(redis_settings, text, registry=registry) as orchestrator:
        failed = await orchestrator.execute("x")
        assert (failed.status, failed.error_path) == ("failed", "flaky")
        calls = list(seen["order"])
        cured.append("now")
        finished = await orchestrator.finish(failed.run_id)
    assert seen["order"] == calls
    assert finished.output == {"all": "abcde", "any": "bcd"}.get(mode, "abcd")
    for path in ("gather", "again"):
        assert at(finished, path).output == at(failed, path).output
        assert at(finished, path).status is at(failed, path).status
    assert paths(finished) == [*paths(failed), "end"]
