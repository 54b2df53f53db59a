"""Redis is killed and comes back without its last second, in which branches and runs had ended. Whoever still knows writes that
again: nothing is executed twice, and no journal has a gap."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from support.crew import becomes, working
from support.journals import OwnServer, client_of, entries_of, field_of, graph_file, keys_of, own_server, registry_of

from orka.agents.registry import Registry
from orka.ids import new_run_id
from orka.orchestrator import Orchestrator
from orka.settings import Settings
from orka.worker import Worker

NODES = """
- {id: begin, type: step}
- {id: spread, type: fork, targets: [[left], [deep, gather], [items, after]]}
- {id: left, type: step}
- {id: deep, type: fork, targets: [[low], [lower, lowest]]}
- {id: low, type: step}
- {id: lower, type: step}
- {id: lowest, type: step}
- {id: gather, type: join, group: deep}
- {id: items, type: map, items: "range(6) | list", as: item, agents: [each, more], max_concurrency: 3}
- {id: each, type: step, prompt: "{{ item }}"}
- {id: more, type: step, prompt: "{{ previous_outputs.each.response }}"}
- {id: after, type: step}
- {id: join, type: join, group: spread}
- {id: end, type: step, prompt: "{{ previous_outputs['join'] }}"}
"""
LASTS = frozenset({"node.finished", "fork.opened", "map.opened", "branch.finished", "run.started", "run.completed"})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnServer]:
    with own_server(tmp_path / "redis") as started:
        yield started


@dataclass
class Fleet:
    """A run of a graph with forks in forks, what it executes, and the server's size at each of these moments."""

    server: OwnServer
    settings: Settings
    file: Path
    calls: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    crash_at: int = 0
    """The number of the call during which the server is killed; 0: none."""
    lose: int = 0
    """Calls that this crash takes the server back."""
    run_id: str = field(default_factory=new_run_id)
    workers: list[Worker] = field(default_factory=list)

    def registry(self) -> Registry:
        async def step(task: Any) -> str:
            return await self.step(task)

        return registry_of(step=step)

    async def step(self, task: Any) -> str:
        self.calls.append(task.path)
        self.sizes.append(self.server.written)
        number = len(self.calls)
        await asyncio.sleep(0.02)
        if number == self.crash_at:
            await self.crash(self.sizes[-self.lose])
        return f"{task.path}: {task.text}"

    async def crash(self, size: int) -> None:
        await asyncio.to_thread(self.server.crash, size)

    async def kinds(self) -> Counter[tuple[str, str]]:
        async with client_of(self.settings) as client:
            entries = await entries_of(client, self.run_id)
        return Counter((kind, path) for kind, path, _ in entries if kind in LASTS)

    async def whole(self) -> bool:
        """The run is completed, and everything that was called is in its journal, once."""
        async with client_of(self.settings) as client:
            status = await field_of(client, self.run_id, "status")
        kinds = await self.kinds()
        done = {path for kind, path in kinds if kind == "node.finished"}
        return status == "completed" and done >= set(self.calls) and set(kinds.values()) == {1}

    def statistics(self) -> tuple[int, int]:
        counts = [worker._services.statistics().journal for worker in self.workers]  # pyright: ignore
        return sum(count.restored for count in counts), sum(count.overtaken for count in counts)


@asynccontextmanager
async def open_fleet(server: OwnServer, folder: Path, workers: int = 2, lease: float = 5.0) -> AsyncIterator[Fleet]:
    file = graph_file(folder, "begin, spread, join, end", NODES)
    fleet = Fleet(server, replace(server.settings, lease=lease), file)
    async with AsyncExitStack() as stack:
        for _ in range(workers):
            one = working(fleet.settings, registry=fleet.registry(), concurrency=5)
            fleet.workers.append(await stack.enter_async_context(one))
        yield fleet


def owner_of(fleet: Fleet) -> Orchestrator:
    return Orchestrator(fleet.file, settings=fleet.settings, registry=fleet.registry())


async def check(fleet: Fleet, owner: Orchestrator, output: Any) -> None:
    """The run is read again with all its visits, and nothing was executed twice."""
    result = await owner.finish(fleet.run_id, visits=True)
    assert result.output == output
    assert {visit.path for visit in result.results} >= set(fleet.calls)
    assert max(Counter(fleet.calls).values()) == 1, fleet.calls
    async with client_of(fleet.settings) as client:
        keys = keys_of(fleet.run_id)
        assert await client.exists(keys.branches, keys.scopes) == 0

        async def no_task_is_left() -> bool:  # one that was sent twice is taken off by whoever gets it
            return not any([await client.xlen(key) for key in await client.keys("*:tasks:*")])

        await becomes(no_task_is_left)
        assert await client.hget(f"{keys.tag}:graph:{owner.graph.digest}", "runs") == b"0"
        assert await client.zcard(f"{keys.tag}:runs:open") == 0


@pytest.mark.parametrize("back", [1, 5, 12, 17])
async def test_what_ended_in_the_lost_second_is_written_again_by_those_who_know(
    back: int, server: OwnServer, tmp_path: Path
) -> None:
    """The run is over and its result reported; then the server goes back to its `back`-th last step, and the owner and the
    workers, idle by now, notice by themselves."""
    async with open_fleet(server, tmp_path) as fleet, owner_of(fleet) as owner:
        result = await owner.execute("x", run_id=fleet.run_id, distributed=True)
        before, calls = await fleet.kinds(), list(fleet.calls)
        size = fleet.sizes[-back]
        for again in range(3):  # what was put back has other ids, and must not be put back once more
            await fleet.crash(size if again != 1 else server.written)
            await becomes(fleet.whole)
            assert await fleet.kinds() == before
            assert fleet.calls == calls
        await check(fleet, owner, result.output)
        assert owner.statistics().journal.restored == 2
        assert fleet.statistics()[1] == 0


@pytest.mark.parametrize(("at", "lose"), [(2, 1), (6, 3), (9, 8), (14, 6), (17, 17)])
async def test_a_crash_in_the_middle_takes_no_branch_from_the_worker_that_has_it(
    at: int, lose: int, server: OwnServer, tmp_path: Path
) -> None:
    async with open_fleet(server, tmp_path) as fleet, owner_of(fleet) as owner:
        fleet.crash_at, fleet.lose = at, lose
        result = await owner.execute("x", run_id=fleet.run_id, distributed=True)
        await becomes(fleet.whole)
        await check(fleet, owner, result.output)


async def test_a_run_of_which_nothing_is_left_is_made_again_with_all_its_branches(
    server: OwnServer, tmp_path: Path
) -> None:
    async with open_fleet(server, tmp_path, lease=1.5) as fleet, owner_of(fleet) as owner:
        size = server.written
        result = await owner.execute("x", run_id=fleet.run_id, distributed=True)
        before, calls = await fleet.kinds(), list(fleet.calls)
        await fleet.crash(size)
        await becomes(fleet.whole)
        assert (await fleet.kinds(), fleet.calls) == (before, calls)
        await check(fleet, owner, result.output)


async def test_the_end_of_a_local_run_is_written_again_by_its_idle_process(server: OwnServer, tmp_path: Path) -> None:
    """Nothing of it was on a queue, and nobody else knows of it."""
    file = graph_file(tmp_path, "a, b", "- {id: a, type: echo, prompt: one}\n- {id: b, type: echo, prompt: two}")
    fleet = Fleet(server, server.settings, file)
    sizes: list[int] = []
    async with Orchestrator(file, settings=server.settings) as owner:
        for _ in range(3):
            sizes.append(server.written)
            fleet.run_id = new_run_id()
            await owner.execute("x", run_id=fleet.run_id, on_event=lambda _: sizes.append(server.written))
        before = await fleet.kinds()
        await fleet.crash(sizes[-4])  # nothing but the beginning of the last one is left
        await becomes(fleet.whole)
        assert await fleet.kinds() == before
        assert [info.status for info in await owner.runs.list()] == ["completed"] * 3
        assert (await owner.finish(fleet.run_id, visits=True)).output == "two"
        assert owner.statistics().journal.restored == 1


async def test_the_end_of_a_submitted_run_is_written_again_by_its_worker(server: OwnServer, tmp_path: Path) -> None:
    async with open_fleet(server, tmp_path) as fleet, owner_of(fleet) as owner:
        handle = await owner.submit("x", run_id=fleet.run_id)
        output = await asyncio.wait_for(handle.result(), 10)
        before, calls = await fleet.kinds(), list(fleet.calls)
        for back in (1, 6, 19):
            await fleet.crash(fleet.sizes[-back])
            await becomes(fleet.whole)
            assert (await fleet.kinds(), fleet.calls) == (before, calls)
        await check(fleet, owner, output)


async def test_a_clean_restart_makes_nobody_write_anything_again(server: OwnServer, tmp_path: Path) -> None:
    async with open_fleet(server, tmp_path) as fleet, owner_of(fleet) as owner:
        result = await owner.execute("x", run_id=fleet.run_id, distributed=True)
        before = await fleet.kinds()
        kept = owner.statistics().journal.kept
        await asyncio.to_thread(server.end, signal.SIGTERM)
        await asyncio.to_thread(server.start)
        async with client_of(fleet.settings) as client:
            await becomes(lambda: asked_again(client))
        assert await fleet.kinds() == before
        assert (owner.statistics().journal.restored, fleet.statistics()) == (0, (0, 0))
        assert owner.statistics().journal.kept == kept == 1
        await check(fleet, owner, result.output)


async def asked_again(client: Any) -> bool:
    """The owner and both workers have asked for what they keep: the owner for one run, the workers for its branches."""
    calls = (await client.info("commandstats")).get("cmdstat_evalsha", {}).get("calls", 0)
    return calls >= 1 + 11
