"""The feed: live events, one cursor, readers that leave and come back."""

import asyncio
import contextlib
from pathlib import Path

import pytest
from support.journals import Gate, client_of, cut_connections, graph_file, keys_of, kinds_of, registry_of

from orka.errors import AgentError, ConfigError, RunNotFound
from orka.ids import new_run_id
from orka.orchestrator import Orchestrator
from orka.redis.client import RedisHandle
from orka.runs import RunEvent, open_runs
from orka.settings import Settings
from orka.types import RunStatus

GATED = """
- {id: a, type: echo, prompt: one}
- {id: wait, type: gate}
- {id: b, type: echo, prompt: two}
- {id: last, type: echo, prompt: three}
"""
WHOLE = [
    "run.started",
    "node.finished a",
    "node.started wait",
    "node.finished wait",
    "node.finished b",
    "node.finished last",
    "run.completed",
]


@pytest.fixture
def gated(tmp_path: Path) -> Path:
    return graph_file(tmp_path, "a, wait, b, last", GATED)


def name(event: RunEvent) -> str:
    return f"{event.kind} {event.path}".strip()


async def test_stream_gives_events_while_the_run_goes_on_and_ends_with_it(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    seen: list[str] = []
    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        async for event in orchestrator.stream("x"):
            seen.append(name(event))
            if event.kind == "node.started":
                gate.opened.set()  # it could not have ended before this event was read
    assert seen == WHOLE


async def test_stream_without_async_with_runs_to_the_end(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    gate.opened.set()
    before = asyncio.all_tasks()
    orchestrator = Orchestrator(gated, settings=redis_settings, registry=gate.registry())
    assert [name(event) async for event in orchestrator.stream("x")] == WHOLE
    assert asyncio.all_tasks() == before
    with pytest.raises(ConfigError):
        orchestrator.statistics()


async def test_two_streams_of_one_closed_orchestrator_do_not_share_their_fate(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    orchestrator = Orchestrator(gated, settings=redis_settings, registry=gate.registry())
    first, second = orchestrator.stream("x"), orchestrator.stream("y")
    assert [name(await anext(first)), name(await anext(second))] == [WHOLE[0]] * 2
    run = asyncio.create_task(orchestrator.run("z"))
    await first.aclose()
    gate.opened.set()
    assert [name(event) async for event in second] == WHOLE[1:]
    assert await run == "three"


async def test_leaving_a_stream_without_async_with_cancels_its_run_which_can_be_resumed(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    before = asyncio.all_tasks()
    orchestrator = Orchestrator(gated, settings=redis_settings, registry=gate.registry())
    async with contextlib.aclosing(orchestrator.stream("x")) as events:
        async for event in events:
            if event.kind == "node.started":
                break
    assert asyncio.all_tasks() == before
    async with open_runs(redis_settings) as runs:
        [info] = await runs.list()
    assert info.status is RunStatus.CANCELLED
    gate.opened.set()
    assert await orchestrator.resume(info.run_id) == "three"


async def test_a_reader_that_leaves_and_comes_back_by_id_misses_and_repeats_nothing(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    seen: list[str] = []
    last = "0"
    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        stream = orchestrator.stream("x")
        async for event in stream:
            seen.append(name(event))
            last = event.id
            break
        await stream.aclose()
        [info] = await orchestrator.runs.list()
        assert info.status is RunStatus.RUNNING  # it goes on without its reader
        gate.opened.set()
        while seen[-1] != "run.completed":  # leaves after every single event
            async with contextlib.aclosing(orchestrator.events(info.run_id, after=last)) as events:
                async for event in events:
                    seen.append(name(event))
                    last = event.id
                    break
    assert seen == WHOLE


async def test_two_followers_in_other_places_see_the_same_feed(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    run_id = new_run_id()

    async def follow() -> list[tuple[str, str]]:
        async with open_runs(redis_settings) as runs:
            return [(event.id, name(event)) async for event in runs.events(run_id, follow=True)]

    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        followers = [asyncio.create_task(follow()) for _ in range(2)]
        await asyncio.wait(followers, timeout=0.1)
        gate.opened.set()
        await run
    one, other = await asyncio.gather(*followers)
    assert one == other
    assert [event for _, event in one] == WHOLE


async def test_following_an_ended_run_ends_also_from_behind_its_last_event(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    gate.opened.set()
    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        result = await orchestrator.execute("x")
        async with asyncio.timeout(3):
            events = [event async for event in orchestrator.events(result.run_id)]
            assert [name(event) for event in events] == WHOLE
            assert [event async for event in orchestrator.events(result.run_id, after=events[-1].id)] == []


async def test_following_survives_cut_connections(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    run_id = new_run_id()
    seen: list[str] = []

    async def follow(orchestrator: Orchestrator) -> None:
        async for event in orchestrator.events(run_id):
            seen.append(name(event))

    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        following = asyncio.create_task(follow(orchestrator))
        for _ in range(3):
            await asyncio.wait({following}, timeout=0.1)
            await cut_connections(clean_redis.client)
        gate.opened.set()
        await run
        async with asyncio.timeout(5):
            await following
    assert seen == WHOLE


async def test_following_goes_on_over_a_resumption(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    run_id = new_run_id()
    async with Orchestrator(gated, settings=redis_settings, registry=gate.registry()) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        run.cancel()
        await asyncio.wait({run})
        gate.opened.set()
        await orchestrator.finish(run_id)
        seen = [name(event) async for event in orchestrator.events(run_id)]
    assert seen == [*WHOLE[:3], "run.cancelled", "run.resumed", "node.started wait", *WHOLE[3:]]


async def test_the_feed_of_an_unknown_run_is_refused(
    gated: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    async with open_runs(redis_settings) as runs:
        with pytest.raises(RunNotFound):
            await anext(runs.events(new_run_id(), follow=True))


async def test_events_carry_what_the_stream_holds(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    file = graph_file(tmp_path, "a", "- {id: a, type: echo}")
    told: list[RunEvent] = []
    async with Orchestrator(file, settings=redis_settings) as orchestrator:
        result = await orchestrator.execute({"n": [1, None, "ü"]}, on_event=told.append)
        read = [event async for event in orchestrator.events(result.run_id)]
    assert told == read
    assert read[0].data["input"] == {"n": [1, None, "ü"]}
    assert read[1].data["output"] == {"response": {"n": [1, None, "ü"]}}
    async with client_of(redis_settings) as client:
        ids = [entry_id.decode() for entry_id, _ in await client.xrange(keys_of(result.run_id).journal)]
        assert [event.id for event in read] == ids
        assert await kinds_of(client, result.run_id) == ["run.started", "node.finished a", "run.completed"]


@pytest.mark.parametrize("closed", [True, False])
async def test_a_stream_whose_run_cannot_be_created_raises_why(
    closed: bool, tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    orchestrator = Orchestrator(graph_file(tmp_path, "a", "- {id: a, type: echo}"), settings=redis_settings)
    async with contextlib.AsyncExitStack() as stack:
        if not closed:
            await stack.enter_async_context(orchestrator)
        with pytest.raises(AgentError, match="input is a bytes, which is not JSON"):
            async for _ in orchestrator.stream(b"x"):  # type: ignore[arg-type]
                pass
    assert await clean_redis.client.keys("*") == []


async def test_a_report_shows_the_latest_commit_of_a_visit(tmp_path: Path, redis_settings: Settings) -> None:
    cured: list[bool] = []

    async def flaky(task: object) -> str:
        if not cured:
            raise ValueError("boom")
        return "fine"

    nodes = """
    - {id: every, type: map, items: "[1, 2]", as: item, agents: [a], on_failure: fail, on_error: stop}
    - {id: a, type: flaky}
    """
    file = graph_file(tmp_path, "every", nodes)
    async with Orchestrator(file, settings=redis_settings, registry=registry_of(flaky=flaky)) as orchestrator:
        failed = await orchestrator.execute("x")
        report = await orchestrator.runs.show(failed.run_id)
        assert [(visit.path, visit.status) for visit in report.visits][-1] == ("every", "error")
        assert report.error is not None
        cured.append(True)
        await orchestrator.finish(failed.run_id)
        report = await orchestrator.runs.show(failed.run_id)
    assert {visit.path: visit.status for visit in report.visits} == {
        "every.0/a": "success",
        "every.1/a": "success",
        "every": "success",
    }
    assert report.error is None
