"""Tokens: pieces of answers reach whoever watches, in order with the journal's events, and cost nobody else anything."""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import pytest
from support import speaking
from support.crew import becomes, working
from support.journals import Gate, client_of, entries_of, keys_of, registry_of
from support.running import opened

from orka.agents.base import AgentInput
from orka.ids import new_run_id
from orka.journal.tokens import LIFETIME_MS
from orka.orchestrator import Orchestrator
from orka.redis.client import RedisHandle
from orka.runs import RunEvent
from orka.settings import Settings
from orka.types import RunStatus

SAID = """
orchestrator: {id: said, agents: [first, mute, second]}
agents:
  - {id: first, type: speaker, prompt: one two three, pause: 0.01}
  - {id: mute, type: echo}
  - {id: second, type: speaker, prompt: four five, pause: 0.01}
"""
BRANCHES = """
orchestrator: {id: apart, agents: [spread, gather]}
agents:
  - {id: spread, type: fork, targets: [[left], [right]]}
  - {id: left, type: speaker, prompt: to the left, pause: 0.01}
  - {id: right, type: speaker, prompt: to the right, pause: 0.01}
  - {id: gather, type: join, group: spread}
"""


def orders(events: list[RunEvent]) -> list[str]:
    """Kinds and paths, tokens of one visit in a row as one."""
    found: list[str] = []
    for event in events:
        name = f"{event.kind} {event.path}".strip()
        if not (event.kind == "node.token" and found and found[-1] == name):
            found.append(name)
    return found


def text_of(events: list[RunEvent], path: str, attempt: int = 1) -> str:
    """Put together from its tokens, none of which may be missing or there twice."""
    text = ""
    for event in events:
        if (event.kind, event.path, event.data.get("attempt")) == ("node.token", path, attempt):
            assert event.data["seq"] == len(text)
            text += str(event.data["text"])
    return text


async def stream_of(orchestrator: Orchestrator) -> list[RunEvent]:
    async with asyncio.timeout(10):
        return [event async for event in orchestrator.stream("x")]


IN_ORDER = [
    "run.started",
    "node.started first",
    "node.token first",
    "node.finished first",
    "node.finished mute",
    "node.started second",
    "node.token second",
    "node.finished second",
    "run.completed",
]


async def test_a_stream_has_the_tokens_of_each_visit_between_its_beginning_and_its_end(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    async with opened(redis_settings, SAID, registry=speaking.registry()) as orchestrator:
        events = await stream_of(orchestrator)
        counts = orchestrator.statistics().tokens
    assert orders(events) == IN_ORDER
    assert text_of(events, "first") == "one two three "
    assert text_of(events, "second") == "four five "
    assert next(event for event in events if event.kind == "node.token").data["id"] == "first"
    assert (counts.accepted, counts.written, counts.lost, counts.waiting) == (5, 5, 0, 0)


async def test_an_agent_that_leaves_no_entry_when_it_begins_is_heard_too(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    graph = "orchestrator: {agents: [a]}\nagents: [{id: a, type: mutterer, prompt: one two, pause: 0.01}]"
    async with opened(redis_settings, graph, registry=speaking.registry()) as orchestrator:
        events = await stream_of(orchestrator)
    assert orders(events) == ["run.started", "node.token a", "node.finished a", "run.completed"]
    assert text_of(events, "a") == "one two "


async def test_the_end_of_a_visit_waits_for_its_last_tokens_however_fast_it_comes(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    text = SAID.replace(", pause: 0.01", "")
    async with opened(redis_settings, text, registry=speaking.registry()) as orchestrator:
        for _ in range(20):
            events = await stream_of(orchestrator)
            assert orders(events) == IN_ORDER
            assert text_of(events, "first") == "one two three "


async def test_a_token_reaches_a_reader_of_the_stream_within_milliseconds(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    emitted: list[float] = []
    read: list[float] = []

    async def talks(task: AgentInput) -> str:
        assert task.emit is not None
        for number in range(20):
            emitted.append(time.perf_counter())
            task.emit(f"{number} ")
            await asyncio.sleep(0.02)
        return "done"

    graph = "orchestrator: {agents: [a]}\nagents: [{id: a, type: talks}]"
    async with opened(redis_settings, graph, registry=registry_of(talks=talks)) as orchestrator:
        async for event in orchestrator.stream("x"):
            if event.kind == "node.token":
                read.append(time.perf_counter())
    assert len(read) == 20
    latencies = sorted(there - here for here, there in zip(emitted, read, strict=True))
    print(f"median {latencies[10] * 1000:.2f} ms")
    assert latencies[10] < 0.01


async def test_a_run_that_nobody_watches_emits_nothing_and_costs_nothing(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    async with opened(redis_settings, SAID, registry=speaking.registry()) as orchestrator:
        speaking.CALLS.clear()
        result = await orchestrator.execute("x")
        assert speaking.CALLS == ["first silent", "second silent"]
        assert orchestrator.statistics().tokens.round_trips == 0
        assert not await clean_redis.client.exists(keys_of(result.run_id).tokens)
        assert all("emitted" not in data for _, _, data in await entries_of(clean_redis.client, result.run_id))


async def test_on_event_is_told_of_tokens_in_order_with_the_events(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    told: list[RunEvent] = []
    text = SAID.replace(", pause: 0.01", "")
    async with opened(redis_settings, text, registry=speaking.registry()) as orchestrator:
        for _ in range(10):
            told.clear()
            await orchestrator.execute("x", on_event=told.append, tokens=True)
            assert orders(told) == IN_ORDER
            assert text_of(told, "second") == "four five "


async def test_a_file_that_says_stream_is_watched_always(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    text = SAID.replace("{id: said,", "{id: said, stream: true,")
    async with opened(redis_settings, text, registry=speaking.registry()) as orchestrator:
        result = await orchestrator.execute("x")
        assert 0 < await clean_redis.client.pttl(keys_of(result.run_id).tokens) <= LIFETIME_MS
        events = [event async for event in orchestrator.events(result.run_id)]
        assert orders(events) == IN_ORDER
        past = [event async for event in orchestrator.events(result.run_id, follow=False)]
        assert [event.kind for event in past] == [event.kind for event in events if event.kind != "node.token"]


async def test_another_attempt_says_so_and_begins_anew(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    graph = """
    orchestrator: {agents: [a]}
    agents: [{id: a, type: speaker, prompt: one two, fails: 1, retry: {attempts: 2, delay: 0.01}}]
    """
    async with opened(redis_settings, graph, registry=speaking.registry()) as orchestrator:
        events = await stream_of(orchestrator)
    assert orders(events) == [
        "run.started",
        "node.started a",
        "node.token a",
        "node.retrying a",
        "node.started a",
        "node.token a",
        "node.finished a",
        "run.completed",
    ]
    assert text_of(events, "a", 1) == text_of(events, "a", 2) == "one two "


async def test_a_plain_function_emits_from_its_thread(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    def talks(task: AgentInput) -> str:
        for word in ("one ", "two ", "\ud800"):
            if task.emit is not None:
                task.emit(word)
        return "done"

    graph = "orchestrator: {agents: [a]}\nagents: [{id: a, type: talks}]"
    async with opened(redis_settings, graph, registry=registry_of(talks=talks)) as orchestrator:
        assert text_of(await stream_of(orchestrator), "a") == "one two ?"


async def test_a_reader_that_leaves_after_every_event_misses_and_repeats_nothing(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    text = """
    orchestrator: {id: kept, agents: [a, wait, b], stream: true}
    agents:
      - {id: a, type: speaker, prompt: one two three, pause: 0.01}
      - {id: wait, type: gate}
      - {id: b, type: speaker, prompt: four five, pause: 0.01}
    """
    registry = gate.registry(speaker=speaking.speak)
    run_id = new_run_id()
    async with opened(redis_settings, text, registry=registry) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        gate.opened.set()
        await run
        whole = [event async for event in orchestrator.events(run_id)]
        seen: list[RunEvent] = []
        after = "0"
        while not seen or seen[-1].kind != "run.completed":
            async with contextlib.aclosing(orchestrator.events(run_id, after=after)) as events:
                event = await anext(events)
                # Behind an entry, a token of its millisecond may come again.
                if not seen or event.kind != "node.token" or event.data not in [one.data for one in seen]:
                    seen.append(event)
                after = event.id
        assert [(event.kind, event.path, event.data) for event in seen] == [
            (event.kind, event.path, event.data) for event in whole
        ]


async def test_branches_on_workers_are_heard(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    registry = speaking.registry()
    async with (
        working(redis_settings, registry=registry),
        opened(redis_settings, BRANCHES, registry=registry) as orchestrator,
    ):
        speaking.CALLS.clear()
        await orchestrator.execute("x", distributed=True)
        assert {call.split()[1] for call in speaking.CALLS} == {"silent"}
        run_id = new_run_id()
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id, distributed=True, tokens=True))
        await becomes(lambda: _is_there(clean_redis, keys_of(run_id).run))
        events = [event async for event in orchestrator.events(run_id)]
        assert (await run).status is RunStatus.COMPLETED
    for path, text in (("spread.0/left", "to the left "), ("spread.1/right", "to the right ")):
        assert text_of(events, path) == text
        own = [event.kind for event in events if event.path == path]
        assert own == ["node.started", *["node.token"] * (len(own) - 2), "node.finished"]


async def _is_there(redis: RedisHandle, key: str) -> bool:
    return bool(await redis.client.exists(key))


async def test_a_submitted_run_is_heard_where_it_was_asked_for(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    registry = speaking.registry()
    async with (
        opened(redis_settings, BRANCHES, registry=registry) as orchestrator,
        working(redis_settings, registry=registry),
    ):
        handle = await orchestrator.submit("x", tokens=True)
        async with asyncio.timeout(10):
            events = [event async for event in handle.events()]
            assert (await handle.finished()).status is RunStatus.COMPLETED
    assert text_of(events, "spread.0/left") == "to the left "
    assert text_of(events, "spread.1/right") == "to the right "


async def test_a_resumed_run_emits_again_what_its_dead_process_had_not_finished(
    tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()

    async def talks(task: AgentInput) -> str:
        if task.emit is not None:
            task.emit("half ")
        await gate(task)
        if task.emit is not None:
            task.emit("whole")
        return "done"

    graph = "orchestrator: {id: again, agents: [a]}\nagents: [{id: a, type: talks}]"
    run_id = new_run_id()
    async with opened(redis_settings, graph, registry=registry_of(talks=talks)) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id, tokens=True))
        await gate.reached.wait()
        await becomes(lambda: _is_there(clean_redis, keys_of(run_id).tokens))
        run.cancel()
        await asyncio.wait({run})
        gate.opened.set()
        await orchestrator.finish(run_id)
        events = [event async for event in orchestrator.events(run_id)]
    assert orders(events) == [
        "run.started",
        "node.started a",
        "node.token a",
        "run.cancelled",
        "run.resumed",
        "node.started a",
        "node.token a",
        "node.finished a",
        "run.completed",
    ]
    later = events[next(i for i, event in enumerate(events) if event.kind == "run.resumed") :]
    assert text_of(later, "a") == "half whole"


async def test_a_reader_that_waits_for_the_end_alone_is_given_no_tokens(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    """Those of a run whose tokens have expired do not hold its feed up either."""
    text = SAID.replace("{id: said,", "{id: said, stream: true,").replace(", pause: 0.01", "")
    async with opened(redis_settings, text, registry=speaking.registry()) as orchestrator:
        result = await orchestrator.execute("x")
        async with client_of(redis_settings) as client:
            await client.delete(keys_of(result.run_id).tokens)
        await asyncio.sleep(1.1)  # its end is none of a moment ago
        began = time.perf_counter()
        events = [event async for event in orchestrator.events(result.run_id)]
        assert time.perf_counter() - began < 0.2
    assert "node.token" not in {event.kind for event in events}


@pytest.mark.parametrize("pieces", [10, 3_000])
async def test_what_comes_faster_than_it_is_sent_leaves_together(
    pieces: int, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    async def talks(task: Any) -> str:
        for number in range(pieces):
            task.emit(f"{number} ")
        return "done"

    graph = "orchestrator: {agents: [a]}\nagents: [{id: a, type: talks}]"
    async with opened(redis_settings, graph, registry=registry_of(talks=talks)) as orchestrator:
        events = await stream_of(orchestrator)
        counts = orchestrator.statistics().tokens
    assert text_of(events, "a") == "".join(f"{number} " for number in range(pieces))
    assert sum(event.kind == "node.token" for event in events) <= max(1, pieces // 300)
    assert (counts.accepted, counts.written, counts.lost) == (pieces, pieces, 0)
