"""Runs on a real Redis Cluster of three primaries: each run in one slot, all runs over all primaries."""

import asyncio
from collections.abc import Callable

from redis.crc import key_slot
from servers import Servers, Started, start_cluster, until
from support import speaking
from support.crew import working
from support.fleet import open_fleet
from support.graphs import load, random_text
from support.probe import registry
from support.running import opened

from orka.ids import new_run_id
from orka.lifecycle import submit_run
from orka.operations import retry_letter
from orka.orchestrator import Orchestrator
from orka.redis.client import open_redis
from orka.redis.keys import run_keys
from orka.services import open_services
from orka.settings import Settings
from orka.stored import await_run
from orka.types import RunId, RunStatus

RUNS = 30


def cluster_url(nodes: list[Started]) -> str:
    return "redis://:hunter2@" + ",".join(f"127.0.0.1:{node.port}" for node in nodes) + "/0"


async def test_runs_spread_over_the_primaries_and_are_resumed_there(
    servers: Servers, with_url: Callable[[str], Settings]
) -> None:
    nodes = await start_cluster(servers)
    settings = with_url(cluster_url(nodes))
    async with Orchestrator("configs/fork_join.yml", settings=settings) as orchestrator:
        results = await asyncio.gather(*[orchestrator.execute(f"text {n}") for n in range(RUNS)])
        assert {result.status for result in results} == {RunStatus.COMPLETED}
        async with open_redis(settings) as redis:
            router = await redis.open_router()
        slots = {
            router.node_of(key_slot(run_keys(result.run_id, settings.partitions).run.encode())) for result in results
        }
        assert slots == set(router.nodes)
        listed = await orchestrator.runs.list(limit=100)
        assert {info.run_id for info in listed} == {result.run_id for result in results}
        for result in results[:5]:
            assert (await orchestrator.finish(result.run_id)).output == result.output
            kinds = [event.kind async for event in orchestrator.events(result.run_id)]
            assert kinds[0] == "run.started"
            assert kinds[-1] == "run.completed"


async def test_workers_serve_all_primaries_and_leave_nothing(
    servers: Servers, with_url: Callable[[str], Settings]
) -> None:
    """One reader per partition, no command over two slots: an error reply would stop a run or a worker."""
    settings = with_url(cluster_url(await start_cluster(servers)))
    graphs = [load(random_text(seed, size=16, any_joins=False)) for seed in range(RUNS)]
    async with open_fleet(settings, 1, 4) as bench:
        at_home = [
            await Orchestrator(graph, settings=settings, registry=registry()).execute("input") for graph in graphs
        ]
        away = await asyncio.gather(*(bench.run(graph) for graph in graphs))
        submitted = [new_run_id() for _ in graphs]
        for run_id, graph in zip(submitted, graphs, strict=True):
            await submit_run(bench.services, bench.services.build(graph), "input", run_id, "default")
        async with asyncio.timeout(30):
            ended = [await await_run(bench.services, run_id) for run_id in submitted]
        for home, there, other in zip(at_home, away, ended, strict=True):
            assert (there.status, there.output) == (home.status, home.output)
            assert (other.status, other.output) == (home.status, home.output)
        assert sum(worker.consumer.statistics().taken for worker in bench.workers) > RUNS
        assert all(worker.consumer.statistics().reconnects == 0 for worker in bench.workers)
        client = bench.client
        for key in await client.keys("*", target_nodes=client.PRIMARIES):
            assert not key.endswith((b":branches", b":scopes")), key
            if b":tasks:" in key:
                assert (await client.xlen(key), (await client.xpending(key, "workers"))["pending"]) == (0, 0), key


async def test_runs_in_every_slot_are_cancelled_diagnosed_and_retried(
    servers: Servers, with_url: Callable[[str], Settings]
) -> None:
    """No command over two slots here either."""
    settings = with_url(cluster_url(await start_cluster(servers)))
    graph = load("orchestrator: {id: fails, agents: [a]}\nagents: [{id: a, type: failing, on_error: stop}]")
    async with Orchestrator(graph, settings=settings) as orchestrator, open_services(settings) as services:
        queued = [await orchestrator.submit("x", queue="nowhere") for _ in range(RUNS)]
        for handle in queued:
            (task,) = (await orchestrator.runs.diagnose(handle.run_id)).branches
            assert (task.state, task.queue) == ("queued", "nowhere")
        assert {await handle.cancel() for handle in queued} == {RunStatus.CANCELLED}
        failed = [await orchestrator.execute("x") for _ in range(RUNS)]
        for result in failed:
            keys = run_keys(RunId(result.run_id), settings.partitions)
            fields = {
                "run": result.run_id,
                "path": "",
                "stream": f"{keys.tag}:tasks:other:0",
                "reason": "r",
                "deaths": 3,
            }
            await services.redis.client.xadd(f"{keys.tag}:dead", fields)
        letters = await orchestrator.runs.dead()
        assert {letter.run for letter in letters} == {result.run_id for result in failed}
        for letter in letters:
            assert await retry_letter(services, letter, "other") == "other"
        assert await orchestrator.runs.dead() == []
        async with working(settings, "other") as worker:
            await until(lambda: worker.consumer.statistics().done == RUNS)
            assert [info.queues for info in await orchestrator.runs.workers()] == [("other",)]
        infos = [await orchestrator.runs.info(RunId(result.run_id)) for result in failed]
        assert {(info.status, info.generation) for info in infos} == {(RunStatus.FAILED, 2)}


async def test_tokens_and_journals_of_runs_are_read_together_on_every_primary(
    servers: Servers, with_url: Callable[[str], Settings]
) -> None:
    settings = with_url(cluster_url(await start_cluster(servers)))
    text = """
    orchestrator: {agents: [spread, gather, last], budget: {tokens: 250, on_exceed: stop}}
    agents:
      - {id: spread, type: fork, targets: [[left], [right]]}
      - {id: left, type: speaker, prompt: to the left, pause: 0.01, tokens: 100}
      - {id: right, type: speaker, prompt: to the right, pause: 0.01, tokens: 200}
      - {id: gather, type: join, group: spread}
      - {id: last, type: speaker, prompt: unheard}
    """
    async with (
        opened(settings, text, registry=speaking.registry()) as orchestrator,
        working(settings, registry=speaking.registry()),
    ):
        handles = [await orchestrator.submit(f"{number}", tokens=True) for number in range(8)]
        for handle in handles:
            async with asyncio.timeout(20):
                events = [event async for event in handle.events()]
            said = dict.fromkeys(("spread.0/left", "spread.1/right"), "")
            for event in events:
                if event.kind == "node.token":
                    said[event.path] += str(event.data["text"])
            assert said == {"spread.0/left": "to the left ", "spread.1/right": "to the right "}
            result = await handle.finished()
            assert (result.status, result.usage.tokens, len(result.warnings)) == (RunStatus.COMPLETED, 300, 1)
