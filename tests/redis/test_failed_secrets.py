"""An agent whose error repeats a secret: what is journaled, logged, raised and shown of it."""

import logging
from typing import Any

import pytest
from support.running import opened

from orka.agents.base import AgentInput
from orka.agents.registry import Registry
from orka.errors import AgentError
from orka.settings import Settings

KEY = "sk-live-0123456789abcdefghij"
TEXT = """
    orchestrator: {id: t, agents: [a, b]}
    agents:
      - {id: a, type: leaky, retry: {attempts: 2, delay: 0}}
      - {id: b, type: template, prompt: "{{ previous_outputs.a }}", on_error: stop}
    """

ALONE = "{orchestrator: {id: t, agents: [a]}, agents: [{id: a, type: leaky}]}"


async def test_an_agents_error_is_kept_without_the_secrets_in_it(
    redis_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()

    @registry.agent("leaky")
    def leak(task: AgentInput) -> str:  # pyright: ignore[reportUnusedFunction]
        raise ValueError(f"GET https://me:{KEY}@host/?api_key={KEY} with Authorization: Bearer {KEY}")

    with caplog.at_level(logging.DEBUG, "orka"):
        async with opened(redis_settings, TEXT, registry=registry) as orchestrator:
            result = await orchestrator.execute("x")
            events = [event async for event in orchestrator.events(result.run_id)]
            with pytest.raises(AgentError) as raised:
                await opened(redis_settings, ALONE, registry=registry).run("x")
    kept: list[Any] = [result, events, str(raised.value), caplog.text]
    assert [KEY in repr(one) for one in kept] == [False] * 4
    assert result.results[0].error is not None
    assert result.results[0].error.message == "GET https://me:***@host/?api_key=*** with Authorization: Bearer ***"
    assert {event.kind for event in events} >= {"node.retrying", "node.finished"}
