"""One agent in a real run: timeouts, retries, errors, templates, permissions, routes of its own."""

import asyncio
import signal
import time
from typing import Any

import anyio
import pytest
from support.running import answer, at, execute, opened, paths, said

from orka.agents.base import AgentInput
from orka.agents.registry import Registry
from orka.errors import AgentError, RunTimeout
from orka.settings import Settings
from orka.types import Status

ONE = """
    orchestrator: {id: t, agents: [a, end]%s}
    agents:
      - {id: a, %s}
      - {id: end, type: template, prompt: "[{{ previous_outputs.a.response }}]"}
    """


async def test_attempts_are_counted_in_the_result(redis_settings: Settings) -> None:
    text = ONE % ("", "type: failing, times: 2, prompt: done, retry: {attempts: 5, delay: 0.001}")
    result = await execute(redis_settings, text)
    assert (at(result, "a").attempts, at(result, "a").status) == (3, Status.SUCCESS)
    result = await execute(redis_settings, ONE % ("", "type: failing, message: m, retry: {attempts: 4, delay: 0}"))
    assert (at(result, "a").attempts, at(result, "a").status) == (4, Status.ERROR)
    assert at(result, "a").error.message == "m"  # type: ignore[union-attr]
    assert result.output == "[]"


async def test_pauses_between_attempts_grow_as_the_file_says(redis_settings: Settings) -> None:
    text = ONE % ("", "type: failing, retry: {attempts: 4, delay: 0.04, factor: 2, max_delay: 0.06, jitter: 0}")
    delays: list[int] = []

    def note(event: Any) -> None:
        if event.kind == "node.retrying":
            delays.append(event.data["delay_ms"])

    async with opened(redis_settings, text) as orchestrator:
        started = time.perf_counter()
        await orchestrator.execute("x", on_event=note)
        assert 0.16 <= time.perf_counter() - started < 0.5
    assert delays == [40, 60, 60]


@pytest.mark.parametrize(
    ("agent", "on", "attempts"),
    [
        ("type: failing, kind: ConnectionError", "ConnectionError", 3),
        ("type: failing, kind: ConnectionError", "[KeyError, AgentError]", 3),
        ("type: failing, kind: ConnectionError", "KeyError", 1),
        ("type: echo, delay: 9, timeout: 0.01", "TimeoutError", 3),
        ("type: echo, delay: 9, timeout: 0.01", "RunTimeout", 3),
        ("type: echo, delay: 9, timeout: 0.01", "ConnectionError", 1),
        ("type: function, function: 'support.functions:fail_in_a_group'", "ValueError", 3),
        ("type: function, function: 'support.functions:not_json'", "ValueNotJson", 3),
    ],
)
async def test_only_the_errors_named_are_retried(redis_settings: Settings, agent: str, on: str, attempts: int) -> None:
    text = ONE % ("", f"{agent}, retry: {{attempts: 3, delay: 0, on: {on}}}")
    result = await execute(redis_settings, text, allow_functions=True)
    assert at(result, "a").attempts == attempts


async def test_a_timeout_bounds_one_attempt_and_says_how_long_it_waited(redis_settings: Settings) -> None:
    started = time.perf_counter()
    result = await execute(redis_settings, ONE % ("", "type: echo, delay: 30, timeout: 0.05"))
    assert time.perf_counter() - started < 1
    failure = at(result, "a").error
    assert failure is not None
    assert (failure.kind, failure.message) == ("RunTimeout", "no answer within 0.05 s")
    with pytest.raises(RunTimeout, match=r"run [0-9a-f-]+ failed at 'a': no answer within 0.05 s") as told:
        await answer(redis_settings, ONE % ("", "type: echo, delay: 30, timeout: 0.05, on_error: stop"))
    assert told.value.path == "a"


async def test_defaults_of_the_orchestrator_hold_for_agents_that_say_nothing(redis_settings: Settings) -> None:
    common = ", timeout: 0.02, on_error: stop, retry: {attempts: 2, delay: 0}"
    result = await execute(redis_settings, ONE % (common, "type: echo, delay: 9"))
    assert (result.error_path, at(result, "a").attempts) == ("a", 2)
    result = await execute(
        redis_settings, ONE % (common, "type: failing, on_error: continue, retry: {attempts: 3, delay: 0}")
    )
    assert (result.error_path, at(result, "a").attempts) == (None, 3)


async def test_on_error_stop_ends_the_run_and_continue_goes_on_with_an_error_to_read(redis_settings: Settings) -> None:
    text = """
        orchestrator: {id: t, agents: [a, end]}
        agents:
          - {id: a, type: failing, message: boom, kind: Broken, on_error: %s}
          - {id: end, type: template, prompt: "{{ previous_outputs.a.error_type }}: {{ previous_outputs.a.error }}"}
        """
    assert await answer(redis_settings, text % "continue") == "Broken: boom"
    result = await execute(redis_settings, text % "stop")
    assert (result.status, result.output, paths(result)) == ("failed", None, ["a"])
    with pytest.raises(AgentError, match=r"failed at 'a': boom") as told:
        await answer(redis_settings, text % "stop")
    assert (told.value.kind, told.value.path) == ("Broken", "a")


async def test_what_an_agents_task_group_raised_is_told_as_it_was(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        ONE % ("", "type: function, function: 'support.functions:fail_in_a_group'"),
        allow_functions=True,
    )
    failure = at(result, "a").error
    assert failure is not None
    assert (failure.kind, failure.message) == ("ValueError", "inside the group")


async def test_an_agent_that_cancels_itself_fails_and_the_run_goes_on(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings, ONE % ("", "type: function, function: 'support.functions:cancel_itself'"), allow_functions=True
    )
    assert at(result, "a").error.kind == "CancelledError"  # type: ignore[union-attr]
    assert (result.status, result.output) == ("completed", "[]")


async def test_a_pure_agent_that_cancels_itself_fails_too_and_is_cancelled_with_its_run(
    redis_settings: Settings,
) -> None:
    registry, waits = Registry(), anyio.Event()

    @registry.agent("own", pure=True)
    async def own(task: AgentInput) -> str:
        if task.input == "wait":
            waits.set()
            await anyio.sleep(30)
        raise asyncio.CancelledError

    for timeout in ("", ", timeout: 20"):
        text = ONE % ("", f"type: own{timeout}")
        result = await execute(redis_settings, text, registry=registry)
        assert at(result, "a").error.kind == "CancelledError"  # type: ignore[union-attr]
        assert (result.status, result.output) == ("completed", "[]")
        run = asyncio.create_task(execute(redis_settings, text, "wait", registry=registry))
        await waits.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("next is a text", "next is 'end', which is not a tuple of ids"),
        ("next has numbers", "next is [1], which is not a tuple of ids"),
        ("cost is not a number", "usage.cost_usd is nan, which is not a number to add up"),
        ("tokens are a text", "usage.prompt_tokens is 'many', which is not a number to add up"),
        ("usage is a dict", "usage.prompt_tokens is None, which is not a number to add up"),
        ("a key is a number", "key 1 is an output, which is not JSON: keys must be strings"),
    ],
)
async def test_what_no_journal_could_give_back_fails_its_visit(
    redis_settings: Settings, what: str, message: str
) -> None:
    result = await execute(
        redis_settings,
        ONE % ("", f"type: function, function: 'support.functions:misleading', prompt: {what}"),
        allow_functions=True,
    )
    assert at(result, "a").error.message == message  # type: ignore[union-attr]
    assert (result.status, result.output) == ("completed", "[]")


async def test_an_error_whose_message_no_journal_can_hold_is_kept_readable(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings, ONE % ("", "type: function, function: 'support.functions:unreadable'"), allow_functions=True
    )
    assert at(result, "a").error.message == "caf\\udce9"  # type: ignore[union-attr]
    assert result.status == "completed"


@pytest.mark.parametrize("pure", ["", ", pure: true", ", pure: true, timeout: 20"])
@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        ("leave", "SystemExit", "the agent raised SystemExit: 3"),
        ("leave_at_once", "SystemExit", "the agent raised SystemExit: gone"),
        ("interrupt", "KeyboardInterrupt", "the agent raised KeyboardInterrupt: "),
        ("stop_generating", "GeneratorExit", "the agent raised GeneratorExit: "),
        ("speechless", "Speechless", "(its text cannot be told: ValueError)"),
    ],
)
async def test_an_agent_that_would_end_the_process_fails_its_visit_and_other_runs_go_on(
    redis_settings: Settings, monkeypatch: pytest.MonkeyPatch, pure: str, function: str, kind: str, message: str
) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _: lambda *_: None)  # as under `asyncio.run`: a handler of its own
    text = ONE % ("", f"type: function, function: 'support.functions:{function}', retry: 2{pure}")
    text = text.replace("retry: 2", f"retry: {{attempts: 2, delay: 0, on: {kind}}}")
    async with opened(redis_settings, text, allow_functions=True) as orchestrator, asyncio.timeout(10):
        for result in await asyncio.gather(*(orchestrator.execute(str(n)) for n in range(3))):
            failed = at(result, "a")
            assert failed.error is not None
            assert (failed.error.kind, failed.error.message, failed.attempts) == (kind, message, 2)
            assert (result.status, result.output) == ("completed", "[]")


async def test_a_value_that_is_not_json_is_an_error_that_names_it(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings, ONE % ("", "type: function, function: 'support.functions:not_json'"), allow_functions=True
    )
    assert at(result, "a").error.message == "response is a set, which is not JSON: return a sorted list of it"  # type: ignore[union-attr]


async def test_functions_are_called_only_with_permission_and_the_error_says_how_to_give_it(
    redis_settings: Settings,
) -> None:
    text = ONE % ("", "type: function, function: 'support.functions:upper', prompt: '{{ input }}'")
    for allowed in (True, {"support"}, ["support.functions"]):
        result = await execute(redis_settings, text, allow_functions=allowed)
        assert at(result, "a").output == {"response": "HELLO", "attempt": 1}
    for refused in (False, (), {"support.other"}):
        result = await execute(redis_settings, text, allow_functions=refused)
        failure = at(result, "a").error
        assert failure is not None
        assert failure.kind == "FunctionNotAllowed"
        for part in ("'support.functions:upper'", "--allow-functions=support.functions", "allow_functions={"):
            assert part in failure.message


async def test_an_agent_may_choose_what_runs_next(redis_settings: Settings) -> None:
    result = await execute(
        redis_settings,
        """
        orchestrator: {id: t, agents: [a, end]}
        agents:
          - {id: a, type: function, function: "support.functions:choose", prompt: "y nobody x"}
          - {id: x, type: template, prompt: "{{ previous_outputs.y.response }}X"}
          - {id: y, type: echo, prompt: Y}
          - {id: end, type: template, prompt: "{{ previous_outputs.x.response }}!"}
        """,
        allow_functions=True,
    )
    assert paths(result) == ["a", "y", "nobody", "x", "end"]
    assert at(result, "nobody").status is Status.SKIPPED
    assert at(result, "nobody").warnings == ("'nobody' is not defined",)
    assert result.output == "YX!"


async def test_an_agent_is_given_a_key_that_is_the_same_on_every_attempt(redis_settings: Settings) -> None:
    registry, keys = Registry(), list[tuple[str, int]]()

    @registry.agent("flaky")
    async def flaky(task: AgentInput) -> str:
        keys.append((task.idempotency_key, task.attempt))
        if task.attempt < 3:
            raise ConnectionError("not yet")
        return "ok"

    text = ONE % ("", "type: flaky, retry: {attempts: 3, delay: 0}")
    result = await execute(redis_settings, text, registry=registry)
    assert keys == [(f"{result.run_id}:a", 1), (f"{result.run_id}:a", 2), (f"{result.run_id}:a", 3)]


async def test_undefined_names_are_empty_and_recorded_with_agent_and_expression(redis_settings: Settings) -> None:
    prompt = "type: template, prompt: 'x{{ nope }}y{{ previous_outputs.gone.response }}z {{ input }}'"
    result = await execute(redis_settings, ONE % ("", prompt))
    assert said(result, "a") == "xyz hello"
    assert at(result, "a").status is Status.SUCCESS
    first, second = at(result, "a").warnings
    assert "`{{ nope }}`" in first
    assert "'nope' is undefined" in first
    assert "`{{ previous_outputs.gone.response }}`" in second


async def test_in_strict_mode_undefined_names_fail_the_agent_and_name_the_expression(redis_settings: Settings) -> None:
    text = ONE % (", strict_templates: true", "type: template, on_error: stop, prompt: 'x {{ nope.deep }}'")
    with pytest.raises(
        AgentError, match=r"failed at 'a': `\{\{ nope.deep \}\}` \(line 1\): 'nope' is undefined"
    ) as told:
        await answer(redis_settings, text)
    assert told.value.kind == "TemplateError"
    result = await execute(redis_settings, text)
    assert at(result, "a").attempts == 1
