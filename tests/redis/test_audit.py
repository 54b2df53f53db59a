"""What the runtime tells of runs in the bounded stream that `tail` reads: on both backends, on workers, after a resume."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from servers import Servers, start_cluster
from support import probe
from support.crash import open_bench
from support.crew import becomes, working
from support.graphs import load
from support.journals import Gate, registry_of
from support.running import opened

from orka.agents.base import AgentOutput
from orka.cli.dry import rehearsal
from orka.ids import new_run_id
from orka.lifecycle import end_idle, start_run
from orka.memory_logger import create_memory_logger
from orka.orchestrator import Orchestrator
from orka.redis.client import RedisHandle, open_redis
from orka.redis.keys import memory_events_key, run_keys
from orka.results import Failure, Usage
from orka.services import Services, open_services
from orka.settings import Settings
from orka.types import RunId, RunStatus

TWO = """
orchestrator: {id: shout, agents: [loud, mark]}
agents:
  - {id: loud, type: template, prompt: "{{ input | upper }}"}
  - {id: mark, type: template, prompt: "{{ previous_outputs.loud.response }}!"}
"""
Event = dict[str, Any]


async def tail(settings: Settings, count: int = 100) -> list[Event]:
    memory = create_memory_logger(settings=settings)
    try:
        return await memory.tail(count)
    finally:
        await memory.close()


def types(events: list[Event]) -> list[str]:
    return [event["event_type"] for event in events]


def told(events: list[Event]) -> list[str]:
    """`agent_id path` of the visits among the events."""
    return [f"{event['agent_id']} {event['path']}" for event in events if "path" in event]


@pytest.mark.parametrize("backend", ["redis", "redisstack"])
async def test_a_run_tells_its_beginning_and_its_end_and_memories_stay_apart(
    backend: str, redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    settings = replace(redis_settings, backend=backend)
    result = await opened(settings, TWO).execute("hello", session_id="s")  # closing it has sent all
    begun, ended = await tail(settings)
    assert begun.pop("timestamp") <= ended.pop("timestamp")
    assert begun.pop("id") < ended.pop("id")
    assert begun.pop("process") == ended.pop("process")
    assert begun == {
        "agent_id": "shout",
        "event_type": "run.started",
        "run_id": result.run_id,
        "log_type": "log",
        "payload": {"status": "running", "session_id": "s", "input": "hello", "trace_id": result.run_id},
    }
    assert ended.pop("payload") == {
        "status": "completed",
        "execution_time_ms": result.duration_ms,
        "visits": {"success": 2},
        "response": "HELLO!",
        "trace_id": result.run_id,
    }
    assert ended == {"agent_id": "shout", "event_type": "run.completed", "run_id": result.run_id, "log_type": "log"}
    memory = create_memory_logger(settings=settings)
    assert await memory.search_memories(log_type="all") == []
    assert (await memory.get_memory_stats())["total_entries"] == 0
    await memory.close()


async def test_every_visit_is_told_where_that_is_wished(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    async def asks(task: Any) -> AgentOutput:
        return AgentOutput(response="yes", usage=Usage(prompt_tokens=3))

    text = """
    orchestrator: {id: g, agents: [r, l]}
    agents:
      - {id: r, type: router, decision_key: input, routing_map: {"go": [a, bad]}}
      - {id: a, type: asks}
      - {id: bad, type: failing, message: "password=hunter2222 is wrong", retry: {attempts: 2, delay: 0}}
      - id: l
        type: loop
        max_loops: 2
        internal_workflow:
          orchestrator: {agents: [x]}
          agents: [{id: x, type: template, prompt: "{{ get_loop_number() }}"}]
    """
    settings = replace(redis_settings, audit="agents")
    result = await opened(settings, text, registry=registry_of(asks=asks)).execute("go")
    assert result.status is RunStatus.COMPLETED
    events = await tail(settings)
    assert [(event["agent_id"], event["event_type"], event.get("step")) for event in events] == [
        ("g", "run.started", None),
        ("r", "RouterNode", 1),
        ("a", "AsksAgent", 2),
        ("bad", "FailingNode", 3),
        ("x", "TemplateAgent", 4),
        ("x", "TemplateAgent", 5),
        ("l", "LoopNode", 6),
        ("g", "run.completed", None),
    ]
    visits = {event["path"]: event["payload"] for event in events if "path" in event}
    assert visits["r"]["response"] == ["a", "bad"]
    assert visits["a"]["token_usage"] == {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
    assert (visits["bad"]["status"], visits["bad"]["attempts"], visits["bad"]["error"]) == (
        "error",
        2,
        "password=*** is wrong",
    )
    assert visits["l[2]/x"]["response"] == "2"
    assert events[-1]["payload"]["visits"] == {"success": 5, "error": 1}
    assert events[-1]["payload"]["token_usage"]["prompt_tokens"] == 3


async def test_large_values_and_secrets_do_not_get_in(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    async def big(task: Any) -> dict[str, Any]:
        secret = {"api_key": "abcdefghijklmnop", "note": "Authorization: Bearer abcdef123456789"}
        return {"response": [secret, *[{"n": number, "text": "y" * 900} for number in range(1000)]]}

    text = "orchestrator: {id: g, agents: [a]}\nagents: [{id: a, type: big}]"
    settings = replace(redis_settings, audit="agents")
    edge = "x" * 485 + " sk-abcdefghijklmnop1234567890"  # begins within what is shown, and ends behind it
    await opened(settings, text, registry=registry_of(big=big)).execute({"question": edge, "rest": "z" * 100_000})
    begun, visit, ended = await tail(settings)
    assert begun["payload"]["input"]["question"] == "x" * 485 + " ***"
    for event in (visit, ended):
        assert event["payload"]["response"][0] == {"api_key": "***", "note": "Authorization: Bearer ***"}
    raw = await clean_redis.client.xrange(memory_events_key())  # pyright: ignore
    assert max(sum(len(part) for pair in fields.items() for part in pair) for _, fields in raw) < 2_000


async def test_visits_of_a_fork_are_told_by_the_process_that_executed_them(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    text = """
    orchestrator: {id: g, agents: [first, f, j, last]}
    agents:
      - {id: first, type: echo}
      - {id: f, type: fork, targets: [[a, b], [c], [d]]}
      - {id: a, type: echo, runs_on: gpu}
      - {id: b, type: echo}
      - {id: c, type: echo, runs_on: gpu}
      - {id: d, type: echo}
      - {id: j, type: join, group: f}
      - {id: last, type: echo, runs_on: gpu}
    """
    settings = replace(redis_settings, audit="agents")
    async with working(settings, "gpu") as worker, opened(settings, text) as orchestrator:
        result = await orchestrator.execute("x")
        assert result.status is RunStatus.COMPLETED
        there = worker._services.process  # pyright: ignore[reportPrivateUsage]
    events = await tail(settings)
    owner = next(event["process"] for event in events if event["event_type"] == "run.started")
    places = {event["path"]: event["process"] for event in events if "path" in event}
    assert len(places) == len(told(events)) == 8  # each of them once
    assert {path for path, process in places.items() if process == owner} == {"first", "f", "f.2/d", "j"}
    assert {path for path, process in places.items() if process == there} == {"f.0/a", "f.0/b", "f.1/c", "last"}
    groups = {event["path"]: event.get("fork_group") for event in events if "path" in event}
    assert (groups["f.0/a"], groups["f.2/d"], groups["j"]) == ("f", "f", None)
    assert Counter(types(events))["ForkNode"] == Counter(types(events))["JoinNode"] == 1


async def test_a_submitted_run_is_told_by_its_worker(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    async with opened(redis_settings, TWO) as orchestrator:
        handle = await orchestrator.submit("hello")
        assert await clean_redis.client.exists(memory_events_key()) == 0  # nobody executes it
        async with working(redis_settings) as worker:
            assert await handle.result() == "HELLO!"
            process = worker._services.process  # pyright: ignore[reportPrivateUsage]
    events = await tail(redis_settings)
    assert types(events) == ["run.started", "run.completed"]
    assert {event["process"] for event in events} == {process}


async def test_failed_and_cancelled_runs_tell_why(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    gate = Gate()
    text = """
    orchestrator: {id: g, agents: [a, b, gate]}
    agents:
      - {id: a, type: echo}
      - {id: b, type: failing, message: the disk is full, kind: OSError, on_error: WHAT}
      - {id: gate, type: gate}
    """
    registry = gate.registry()
    await opened(redis_settings, text.replace("WHAT", "stop"), registry=registry).execute("x")
    async with opened(redis_settings, text.replace("WHAT", "continue"), registry=registry) as orchestrator:
        run = asyncio.create_task(orchestrator.execute("x"))
        await gate.reached.wait()
        run.cancel()
        await asyncio.wait({run})
        gate.reached.clear()
        run_id = new_run_id()
        run = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await gate.reached.wait()
        assert await orchestrator.cancel(run_id) is RunStatus.CANCELLED
        await run
        queued = await orchestrator.submit("x", queue="nobody")
        assert await queued.cancel() is RunStatus.CANCELLED
    events = await tail(redis_settings)
    assert types(events) == ["run.started", "run.failed", *["run.started", "run.cancelled"] * 2, "run.cancelled"]
    failed, own, other, idle = (event["payload"] for event in events if event["event_type"] != "run.started")
    assert (failed["status"], failed["error"], failed["error_type"], failed["error_path"], failed["visits"]) == (
        "failed",
        "the disk is full",
        "OSError",
        "b",
        {"success": 1, "error": 1},
    )
    assert (own["status"], own["visits"], "error" in own) == (
        "cancelled",
        {"success": 1, "error": 1, "cancelled": 1},
        False,
    )
    assert other["error"] == "somebody else cancelled it (`orka cancel`)"
    assert (idle["status"], idle["error_type"], idle["trace_id"]) == ("cancelled", "RunCancelled", queued.run_id)


async def test_a_run_whose_task_was_given_up_tells_so(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    async with opened(redis_settings, TWO) as orchestrator, open_services(redis_settings) as services:
        handle = await orchestrator.submit("x", queue="nobody")
        await end_idle(services, handle.run_id, RunStatus.FAILED, Failure(kind="WorkerDied", message="given up"))
        assert await handle.cancel() is RunStatus.FAILED  # it has ended: nothing is told again
    [event] = await tail(redis_settings)
    assert (event["agent_id"], event["event_type"], event["payload"]["error"]) == ("shout", "run.failed", "given up")


async def test_a_resumed_run_does_not_tell_again_what_the_journal_answers(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    graph = load("""
orchestrator: {id: g, agents: [a, f, j, b]}
agents:
  - {id: a, type: probe}
  - {id: f, type: fork, targets: [[c], [d]]}
  - {id: c, type: probe}
  - {id: d, type: probe}
  - {id: j, type: join, group: f}
  - {id: b, type: probe, reads: [c, d]}
""")
    names = {"a": "a", "f": "f", "f.0/c": "c", "f.1/d": "d", "j": "j", "b": "b"}
    async with open_bench(replace(redis_settings, audit="agents")) as bench:
        for keep in range(1, 8):
            result = await bench.run(graph)
            entries = await bench.entries(result.run_id)
            assert len(entries) == 8
            await bench.cut(result.run_id, keep)
            known = {entry.path for entry in entries[1:keep]}
            await becomes(lambda: _idle(bench.services))
            await bench.client.delete(memory_events_key())
            assert (await bench.finish(result.run_id)).status is RunStatus.COMPLETED
            await becomes(lambda: _idle(bench.services))
            events = await tail(redis_settings)
            assert types(events)[0] == "run.resumed"
            assert types(events)[-1] == "run.completed"
            assert events[-1]["payload"]["visits"] == {"success": 6}
            assert sorted(told(events)) == sorted(f"{name} {path}" for path, name in names.items() if path not in known)
        await bench.client.delete(memory_events_key())
        assert (await bench.finish(result.run_id)).output == result.output
    assert await tail(redis_settings) == []


async def _idle(source: Orchestrator | Services) -> bool:
    return source.statistics().audit.waiting == 0


async def test_off_and_dry_runs_tell_nothing(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    await opened(replace(redis_settings, audit="off"), TWO).execute("x")
    assert await clean_redis.client.exists(memory_events_key()) == 0
    with rehearsal(replace(redis_settings, audit="agents")) as settings:
        assert settings.audit == "off"


async def test_with_runs_a_step_is_not_even_looked_at(redis_settings: Settings) -> None:
    async with open_services(redis_settings) as services:
        audit = services.audit_of(RunId("r"), "g")
        assert audit is not None
        assert audit.on_visit is None
        assert services.on_visit(RunId("r")) is None


async def test_the_stream_stays_bounded_and_many_runs_share_their_round_trips(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    async with clean_redis.client.pipeline(transaction=False) as pipe:
        for number in range(11_000):
            pipe.xadd(memory_events_key(), {"payload": str(number)})
        await pipe.execute()
    settings = replace(redis_settings, audit="agents")
    async with opened(settings, TWO) as orchestrator:
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(orchestrator.execute("x") for _ in range(300)))
        await becomes(lambda: _idle(orchestrator))
        took = asyncio.get_running_loop().time() - began
        counts = orchestrator.statistics().audit
        assert (counts.accepted, counts.written, counts.lost, counts.waiting) == (1200, 1200, 0, 0)
        assert counts.round_trips <= 1200 / 256 + took / 0.02 + 2
    assert 10_000 <= await clean_redis.client.xlen(memory_events_key()) < 10_300


async def test_on_a_cluster_all_events_are_in_one_stream(servers: Servers, with_url: Callable[[str], Settings]) -> None:
    nodes = await start_cluster(servers)
    url = "redis://:hunter2@" + ",".join(f"127.0.0.1:{node.port}" for node in nodes) + "/0"
    settings = replace(with_url(url), audit="agents", backend="redis")
    async with open_services(settings, registry=probe.registry()) as services:
        graph = load("orchestrator: {id: g, agents: [a]}\nagents: [{id: a, type: probe}]")
        program = services.build(graph)
        runs = [await start_run(services, program, "x", new_run_id()) for _ in range(20)]
        tags = {run_keys(RunId(result.run_id), settings.partitions).tag for result in runs}
        assert len(tags) > 3
    events = await tail(settings)
    assert Counter(types(events)) == {"run.started": 20, "ProbeAgent": 20, "run.completed": 20}
    async with open_redis(settings) as redis:
        assert await redis.client.xlen(memory_events_key()) == 60
