"""Sequences and routers in real runs."""

import pytest
from support.running import answer, at, execute, opened, paths, said

from orka.errors import RouteNotFound, StepsExceeded
from orka.settings import Settings
from orka.types import RunId, RunStatus, Status


async def test_depends_on_moves_only_what_it_must(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [d, c, b, a, e]}
        agents:
          - {id: a, type: echo}
          - {id: b, type: echo, depends_on: [a, unlisted]}
          - {id: c, type: echo}
          - {id: d, type: echo, depends_on: b}
          - {id: e, type: echo}
          - {id: unlisted, type: echo}
        """,
    )
    assert paths(result) == ["c", "a", "b", "d", "e"]


async def test_the_rest_of_the_list_goes_on_after_a_route(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [a, gate, b]}
        agents:
          - {id: a, type: echo, prompt: "Yes, please."}
          - {id: gate, type: router, params: {decision_key: a, routing_map: {true: [x, y], false: []}}}
          - {id: x, type: echo, prompt: X}
          - {id: y, type: template, prompt: "{{ previous_outputs.x.response }}Y {{ previous_outputs.gate }}"}
          - {id: b, type: template, prompt: "{{ previous_outputs.y.response }}B"}
        """,
    )
    assert paths(result) == ["a", "gate", "x", "y", "b"]
    assert at(result, "gate").output == ["x", "y"]
    assert result.output == 'XY ["x","y"]B'


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("'no'", ["a", "gate", "b"]),
        ("false", ["a", "gate", "b"]),
        ("TRUE.", ["a", "gate", "x", "b"]),
        ("perhaps", ["a", "gate", "y", "b"]),
        ("{topic: billing}", ["a", "gate", "y", "b"]),
    ],
)
async def test_empty_text_and_fallback_routes(redis_settings: Settings, response: str, expected: list[str]) -> None:
    text = f"""
        orchestrator: {{id: t, agents: [a, gate, b]}}
        agents:
          - {{id: a, type: echo, value: {{response: {response}}}}}
          - id: gate
            type: router
            params: {{decision_key: a, routing_map: {{"true": x, "false": []}}, fallback_route: y}}
          - {{id: x, type: echo}}
          - {{id: y, type: echo}}
          - {{id: b, type: echo}}
        """
    assert paths(await execute(redis_settings, text)) == expected


async def test_a_router_decides_by_a_field_and_by_the_default_route(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [a, gate]}
        agents:
          - {id: a, type: echo, value: {response: x, topic: %s}}
          - {id: gate, type: router, params: {decision_key: a.topic, routing_map: {billing: [b], default: [d]}}}
          - {id: b, type: echo, prompt: B}
          - {id: d, type: echo, prompt: D}
        """
    assert await answer(redis_settings, text % "Billing") == "B"
    assert await answer(redis_settings, text % "weather") == "D"


async def test_a_route_may_lead_to_what_ran_before(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [draft, gate, end]}
        agents:
          - {id: draft, type: template, prompt: "{{ previous_outputs.draft.response }}i"}
          - id: gate
            type: router
            params: {decision_key: draft, routing_map: {i: [draft, gate], ii: [draft, gate], iii: []}}
          - {id: end, type: template, prompt: "{{ previous_outputs.draft.response }}!"}
        """,
    )
    assert paths(result) == ["draft", "gate", "draft#2", "gate#2", "draft#3", "gate#3", "end"]
    assert result.output == "iii!"


async def test_a_routing_cycle_ends_by_max_steps_and_says_so(redis_settings: Settings) -> None:
    orchestrator = opened(
        redis_settings,
        """
        orchestrator: {id: t, agents: [a, gate], max_steps: 3000}
        agents:
          - {id: a, type: echo, prompt: "yes"}
          - {id: gate, type: router, params: {decision_key: a, routing_map: {true: [a, gate]}}}
        """,
    )
    async with orchestrator:
        with pytest.raises(
            StepsExceeded, match=r"took more than 3,000 steps.*routing cycle.*raise `max_steps`"
        ) as told:
            await orchestrator.run("x")
        run_id = told.value.run_id
        assert run_id is not None
        info = await orchestrator.runs.info(RunId(run_id))
        assert info.status is RunStatus.FAILED


async def test_a_decision_that_fits_nothing_is_a_warning_with_the_value_and_the_routes(
    redis_settings: Settings,
) -> None:
    text = """
        orchestrator: {id: t, agents: [a, gate, b], strict_templates: %s}
        agents:
          - {id: a, type: echo, prompt: perhaps}
          - {id: gate, type: router, on_error: stop, params: {decision_key: a, routing_map: {high: [b], low: []}}}
          - {id: b, type: echo}
        """
    result = await execute(redis_settings, text % "false")
    assert at(result, "gate").status is Status.SUCCESS
    assert at(result, "gate").output == []
    (warning,) = at(result, "gate").warnings
    for part in ("'gate'", "a = 'perhaps'", "'high'", "'low'", "`default`"):
        assert part in warning
    with pytest.raises(RouteNotFound, match=r"failed at 'gate': no route of 'gate' fits a = 'perhaps'"):
        await answer(redis_settings, text % "true")


async def test_a_failed_decision_takes_the_fallback_not_the_words_of_the_error(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [a, gate]}
        agents:
          - {id: a, type: echo, delay: 5, timeout: 0.01}
          - id: gate
            type: router
            params: {decision_key: a, routing_map: {"true": [y], "false": [n], default: [f]}}
          - {id: y, type: echo, prompt: Y}
          - {id: n, type: echo, prompt: N}
          - {id: f, type: echo, prompt: F}
        """
    result = await execute(redis_settings, text)
    assert at(result, "a").error is not None
    assert "no answer" in at(result, "a").error.message  # type: ignore[union-attr]
    assert result.output == "F"


async def test_a_routed_fork_is_joined_in_the_list_around_it(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [a, gate, gather, end]}
        agents:
          - {id: a, type: echo, prompt: "yes"}
          - {id: gate, type: router, params: {decision_key: a, routing_map: {true: [spread]}}}
          - {id: spread, type: fork, targets: [x, y]}
          - {id: x, type: echo, prompt: X}
          - {id: y, type: echo, prompt: Y}
          - {id: gather, type: join, group: spread}
          - {id: end, type: template, prompt: "{{ previous_outputs.x.response }}{{ previous_outputs.gather.y.response }}"}
        """,
    )
    assert paths(result) == ["a", "gate", "spread", "spread.0/x", "spread.1/y", "gather", "end"]
    assert said(result, "end") == "XY"


async def test_a_router_may_decide_by_the_input(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [gate]}
        agents:
          - {id: gate, type: router, params: {decision_key: %s, routing_map: {urgent: [a], default: [b]}}}
          - {id: a, type: echo, prompt: A}
          - {id: b, type: echo, prompt: B}
        """
    assert await answer(redis_settings, text % "input.kind", {"kind": "Urgent"}) == "A"
    assert await answer(redis_settings, text % "input.kind", {"other": 1}) == "B"
    assert await answer(redis_settings, text % "input", "this is urgent!") == "A"
