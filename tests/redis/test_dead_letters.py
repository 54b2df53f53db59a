"""Tasks that were given up: shown, dropped, and tried again in their run's next generation."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from servers import until
from support.crew import becomes, take_and_bury, working
from support.journals import Gate, entries_of, keys_of, registry_of
from support.running import opened

from orka.agents.registry import Registry
from orka.dispatch.dead import DeadLetters, Letter
from orka.errors import LetterNotFound, RetryRefused
from orka.ids import new_run_id
from orka.operations import cancel_run, retry_letter
from orka.redis.client import RedisHandle
from orka.results import RunResult
from orka.services import Services, open_services
from orka.settings import Settings
from orka.types import RunId, RunStatus

GRAPH = """
orchestrator: {id: poisoned, distributed: true, agents: [before, spread, join, after]}
agents:
  - {id: before, type: counted}
  - {id: spread, type: fork, targets: [[fine], [poison]]}
  - {id: fine, type: counted}
  - {id: poison, type: counted}
  - {id: join, type: join, group: spread, on_failure: MODE, on_error: stop}
  - {id: after, type: template, prompt: "{{ previous_outputs.poison.response }}"}
"""


@dataclass
class Poisoned:
    """A run of which one branch was given up, and how often each visit was executed."""

    result: RunResult
    letter: Letter
    services: Services
    registry: Registry
    calls: dict[str, int]

    @property
    def letters(self) -> DeadLetters:
        return DeadLetters(self.services.registry)


@asynccontextmanager
async def poisoned(settings: Settings, client: Any, on_failure: str = "fail") -> Any:
    """The worker hangs in `poison`; its task is taken from it and buried, and the run goes on without the branch."""
    calls: dict[str, int] = {}
    hanging = asyncio.Event()
    hangs = True

    async def counted(task: Any) -> str:
        calls[task.path] = calls.get(task.path, 0) + 1
        if hangs and task.path.endswith("/poison"):
            hanging.set()
            await asyncio.Event().wait()
        return f"call {calls[task.path]}"

    registry, run_id = registry_of(counted=counted), new_run_id()
    async with open_services(settings, registry=registry) as services:
        async with (
            working(settings, registry=registry),
            opened(settings, GRAPH.replace("MODE", on_failure), registry=registry) as orchestrator,
        ):
            running = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
            await asyncio.wait_for(hanging.wait(), 5)
            await take_and_bury(services, client, run_id, "spread.1")
            result = await asyncio.wait_for(running, 5)
        hangs = False
        (letter,) = await DeadLetters(services.registry).list()
        yield Poisoned(result, letter, services, registry, calls)


async def test_a_buried_branch_is_retried_by_resuming_its_run_and_nothing_that_finished_is_repeated(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    client = clean_redis.client
    async with poisoned(redis_settings, client) as it:
        run_id = it.result.run_id
        assert it.result.status is RunStatus.FAILED
        assert it.result.error is not None
        assert "given up" in it.result.error.message
        assert (it.letter.run, it.letter.path, it.letter.queue, it.letter.level) == (run_id, "spread.1", "default", 1)

        assert await retry_letter(it.services, it.letter) == "default"
        info = await it.services.registry.info(run_id)
        assert (info.status, info.on_queue, info.waiting) == ("failed", True, True)
        assert await it.letters.list() == []
        assert await client.pttl(keys_of(run_id).branches) > 0  # goes with its run, if no worker ever comes

        async with working(redis_settings, registry=it.registry):
            await becomes(lambda: _has(it.services, run_id, "completed"))
        assert it.calls == {"before": 1, "spread.0/fine": 1, "spread.1/poison": 2}
        kinds = [kind for kind, _, _ in await entries_of(client, run_id)]
        assert kinds.count("run.resumed") == 1
        assert kinds.count("run.failed") == 1
        assert kinds[-1] == "run.completed"
        assert await client.keys("*:branches") == []


async def _has(services: Services, run_id: str, status: str) -> bool:
    return (await services.registry.info(RunId(run_id))).status == status


async def test_records_of_a_retried_run_do_not_expire_while_it_goes_on(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    gate = Gate()
    graph = """
    orchestrator: {id: again, agents: [first, gate]}
    agents:
      - {id: first, type: shaky, on_error: stop}
      - {id: gate, type: gate}
    """
    fails = [True]

    async def shaky(task: Any) -> str:
        if fails.pop():
            raise ValueError("not yet")
        return "now"

    registry = gate.registry(shaky=shaky)
    async with open_services(redis_settings, registry=registry) as services:
        async with opened(redis_settings, graph, registry=registry) as orchestrator:
            failed = await orchestrator.execute("x")
        fails.append(False)
        client, run_id = clean_redis.client, failed.run_id
        letter = await written(client, run_id, "")
        await retry_letter(services, letter, queue="other")
        async with working(redis_settings, "other", registry=registry):
            await asyncio.wait_for(gate.reached.wait(), 5)
            assert await client.pttl(keys_of(run_id).branches) == -1
            gate.opened.set()
            await becomes(lambda: _has(services, run_id, "completed"))


async def written(client: Any, run_id: str, path: str) -> Letter:
    """A dead letter as `bury` leaves it, without a worker that died."""
    keys = keys_of(run_id)
    stream = f"{keys.tag}:tasks:default:1"
    fields = {"run": run_id, "path": path, "stream": stream, "reason": "given up", "deaths": 3, "task": "{}"}
    entry_id = (await client.xadd(f"{keys.tag}:dead", fields)).decode()
    number = keys.tag.removeprefix("{orka:").removesuffix("}")
    return Letter(
        id=f"{number}-{entry_id}",
        run=RunId(run_id),
        path=path,  # type: ignore[arg-type]
        queue="default",
        level=1,
        reason="given up",
        deaths=3,
        died_ms=int(entry_id.split("-")[0]),
        task="{}",
    )


async def test_the_letter_of_a_run_that_went_on_without_the_branch_is_kept_with_the_reason(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    async with poisoned(redis_settings, clean_redis.client, on_failure="continue") as it:
        assert it.result.status is RunStatus.COMPLETED
        with pytest.raises(RetryRefused, match="it completed: its join has taken the failure in"):
            await retry_letter(it.services, it.letter)
        assert await it.letters.list() == [it.letter]
        await it.letters.drop(it.letter.id)
        assert await it.letters.list() == []
        for act in (it.letters.find(it.letter.id), it.letters.drop(it.letter.id), it.letters.find("nonsense")):
            with pytest.raises(LetterNotFound):
                await act


async def test_the_letter_of_a_run_under_way_is_not_retried(redis_settings: Settings, clean_redis: RedisHandle) -> None:
    gate = Gate()
    graph = "orchestrator: {id: under-way, agents: [gate]}\nagents: [{id: gate, type: gate}]"
    run_id = new_run_id()
    async with (
        open_services(redis_settings) as services,
        opened(redis_settings, graph, registry=gate.registry()) as orchestrator,
    ):
        running = asyncio.create_task(orchestrator.execute("x", run_id=run_id))
        await asyncio.wait_for(gate.reached.wait(), 5)
        letter = await written(clean_redis.client, run_id, "spread.0")
        with pytest.raises(RetryRefused, match="it is under way"):
            await retry_letter(services, letter)
        gate.opened.set()
        await running
        queued = await orchestrator.submit("x", queue="nowhere")
        with pytest.raises(RetryRefused, match="it waits on a queue already"):
            await retry_letter(services, await written(clean_redis.client, queued.run_id, ""))
        await queued.cancel()
        gone = await written(clean_redis.client, new_run_id(), "")
        with pytest.raises(RetryRefused, match="is gone"):
            await retry_letter(services, gone)
        assert len(await DeadLetters(services.registry).list()) == 3


async def test_two_letters_of_one_run_are_one_task_and_cancelling_calls_it_off(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    client = clean_redis.client
    async with poisoned(redis_settings, client) as it:
        second = await written(client, it.result.run_id, "spread.0")
        await retry_letter(it.services, it.letter)
        await retry_letter(it.services, second)
        assert await it.letters.list() == []
        tag = keys_of(it.result.run_id).tag
        assert await client.xlen(f"{tag}:tasks:default:0") == 1
        with pytest.raises(LetterNotFound):  # sent again after it was done
            await cancel_and_retry(it, second)
        info = await it.services.registry.info(RunId(it.result.run_id))
        assert (info.status, info.on_queue) == ("cancelled", False)
        assert await client.xlen(f"{tag}:tasks:default:0") == 0


async def cancel_and_retry(it: Poisoned, letter: Letter) -> None:
    assert await cancel_run(it.services, letter.run) is RunStatus.CANCELLED
    await retry_letter(it.services, letter)


async def test_the_task_of_a_run_that_expired_meanwhile_is_taken_off_by_the_worker(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    client = clean_redis.client
    async with poisoned(redis_settings, client) as it:
        keys = keys_of(it.result.run_id)
        await retry_letter(it.services, it.letter)
        await client.delete(keys.run, keys.journal, keys.values, keys.branches)  # they have the same lifetime
        async with working(redis_settings, registry=it.registry) as worker:
            await until(lambda: worker.consumer.statistics().done == 1)
        assert await client.xlen(f"{keys.tag}:tasks:default:0") == 0


async def test_letters_of_two_partitions_have_ids_of_their_own(
    redis_settings: Settings, clean_redis: RedisHandle
) -> None:
    client = clean_redis.client
    async with open_services(redis_settings) as services:
        for partition, reason in ((3, "one"), (12, "two")):
            fields = {"run": "r", "path": "p.0", "stream": "{orka:3}:tasks:a:b:2", "reason": reason, "deaths": 1}
            await client.xadd(f"{{orka:{partition}}}:dead", fields, id="5-0")
        letters = DeadLetters(services.registry)
        assert {letter.id: (letter.reason, letter.queue) for letter in await letters.list()} == {
            "3-5-0": ("one", "a:b"),
            "12-5-0": ("two", "a:b"),
        }
        await letters.drop("3-5-0")
        assert [letter.reason for letter in await letters.list()] == ["two"]
