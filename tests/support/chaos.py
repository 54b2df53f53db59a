"""The driver of the chaos tests: keeps runs going through a fleet and breaks something every second or two.

What must hold is in `check_journals` and `check_keys`; how long a killed process's work lay still, in `Driver.recoveries`.
"""

import asyncio
import json
import os
import random
import re
import signal
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from support.chaos_agents import FORKS, LOSERS, executions
from support.journals import client_of, cut_connections, keys_of
from support.processes import Process, Processes, serves

from orka.ids import new_run_id
from orka.redis.keys import LEVELS, tag_of, task_stream
from orka.settings import Settings

TICK = 0.25
FAULTS = ("kill worker", "kill orchestrator", "stop worker", "stop orchestrator", "restart redis", "cut connections")
_BRANCH = re.compile(r"^(.*/)?([^/]+)\.\d+$")


class Server(Protocol):
    """`support.journals.OwnServer`."""

    def start(self) -> None: ...
    def end(self, number: signal.Signals) -> None: ...
    def lose_bytes(self, count: int) -> None: ...
    @property
    def written(self) -> int: ...


@dataclass(frozen=True)
class Plan:
    """How much, how fast, how hard."""

    runs: int
    batch: int = 10
    """Runs of one orchestrator process."""
    pause: float = 2.0
    """Seconds from one batch to the next."""
    workers: int = 3
    concurrency: int = 16
    deaths: int = 50
    faults: tuple[str, ...] = FAULTS
    every: tuple[float, float] = (1.0, 3.0)
    """Seconds from one fault to the next."""
    patience: float = 40.0
    """Seconds for the runs that are left when all have been started."""
    slowness: float = 4.0
    """How long the steps take: 1 for 40 ms."""


@dataclass
class Run:
    mode: str
    """`submit`: executed by workers; `run`: by the orchestrator, its branches by workers."""
    file: Path
    run_id: str = field(default_factory=new_run_id)
    slowness: float = 1.0

    def job(self, again: bool = False) -> dict[str, Any]:
        mode = "resume" if again and self.mode == "run" else self.mode
        given = {"name": "you", "file": str(self.file), "slowness": self.slowness}
        return {"mode": mode, "run_id": self.run_id, "input": given}


@dataclass(frozen=True)
class Wound:
    """Work that a killed process had under way."""

    run_id: str
    path: str
    """Of the task; '' for a run as a whole."""
    at_ms: int


class Driver:
    """One chaos test under way."""

    def __init__(self, fleet: Processes, server: Server, settings: Settings, plan: Plan, seed: int) -> None:
        self.fleet = fleet
        self.settings = settings
        self.plan = plan
        self.faults: Counter[str] = Counter()
        self.wounds: list[Wound] = []
        self._server = server
        self._chance = random.Random(seed)
        self.runs = [
            Run(("submit", "run")[number % 2], fleet.folder / f"run-{number}", slowness=plan.slowness)
            for number in range(plan.runs)
        ]
        self._waiting = list(self.runs)
        self._workers: list[Process] = []
        self._orchestrators: list[Process] = []
        self._asleep: list[tuple[float, Process]] = []
        self._written: deque[int] = deque(maxlen=4)
        """What the server had written at the last ticks, a second in all: that is what a crash may lose."""
        self.lost_bytes: list[int] = []
        self._resumed: set[str] = set()
        self.status: dict[str, str] = {}
        """Of each run, as the server said last."""

    async def drive(self) -> None:
        """Until every run has ended; fails when one has not within the plan's patience."""
        plan = self.plan
        for _ in range(plan.workers):
            self._hire()
        began = time.monotonic()
        next_batch, next_fault, deadline = began, began + 1.0, None
        while True:
            self._written.append(self._server.written)
            now = time.monotonic()
            if self._waiting and now >= next_batch:
                batch, self._waiting = self._waiting[: plan.batch], self._waiting[plan.batch :]
                self._orchestrators.append(self.fleet.orchestrator([run.job() for run in batch]))
                next_batch = now + plan.pause
            await self._wake(now)
            if now >= next_fault and (self._waiting or self._unfinished()):
                await self._break()
                next_fault = now + self._chance.uniform(*plan.every)
            self._look_after()
            await self._observe()
            self._resume_forgotten()
            if not self._waiting and not self._unfinished():
                return
            if not self._waiting:
                deadline = deadline or now + plan.patience
                assert now < deadline, self._why_not_done()
            await asyncio.sleep(TICK)

    def _unfinished(self) -> list[str]:
        started = self.plan.runs - len(self._waiting)
        return [run.run_id for run in self.runs[:started] if self.status.get(run.run_id) != "completed"]

    def _why_not_done(self) -> str:
        left = self._unfinished()
        shown = "\n".join(f"{run_id}: {self.status.get(run_id)}" for run_id in left[:10])
        said = [(p.pid, p.outcomes().get(run_id)) for run_id in left[:10] for p in self.fleet.processes]
        return f"{len(left)} runs are not done:\n{shown}\n{[item for item in said if item[1]]}\n{self.fleet.folder}"

    async def _observe(self) -> None:
        left = self._unfinished()
        if not left:
            return
        async with client_of(self.settings) as client, client.pipeline(transaction=False) as pipe:
            for run_id in left:
                pipe.hget(keys_of(run_id).run, "status")
            for run_id, raw in zip(left, await pipe.execute(), strict=True):
                self.status[run_id] = "" if raw is None else raw.decode()

    def _hire(self) -> None:
        plan = self.plan
        self._workers.append(
            self.fleet.worker(
                *("--concurrency", str(plan.concurrency), "--max-deaths", str(plan.deaths)),
                *("--grace", "5", "--allow-functions=support.chaos_agents"),
            )
        )

    def _look_after(self) -> None:
        """As a supervisor does: whoever died is started again; what a dead orchestrator had is given to another."""
        for worker in [worker for worker in self._workers if worker.gone]:
            self._workers.remove(worker)
            self._hire()
        for dead in [process for process in self._orchestrators if process.gone]:
            self._orchestrators.remove(dead)
            if dead.killed or not dead.outcomes():
                self._rescue(dead)

    def _rescue(self, owner: Process) -> None:
        """Another process takes what is left of its jobs."""
        ended = owner.outcomes()
        left = {job["run_id"] for job in owner.jobs if job["run_id"] not in ended}
        jobs = [run.job(again=True) for run in self.runs if run.run_id in left]
        if jobs:
            self._orchestrators.append(self.fleet.orchestrator(jobs))

    def _resume_forgotten(self) -> None:
        """Runs whose end was reported, and then lost with the server's last second: their owner has gone."""
        if not self.lost_bytes:
            return
        ended = {run_id for p in self.fleet.processes if p.gone and not p.killed for run_id in p.outcomes()}
        left = {run_id for run_id in self._unfinished() if run_id in ended} - self._resumed
        jobs = [run.job(again=True) for run in self.runs if run.run_id in left]
        if jobs:
            self._resumed |= left
            self._orchestrators.append(self.fleet.orchestrator(jobs))

    async def _break(self) -> None:
        choices = [fault for fault in self.plan.faults if self._possible(fault)]
        if not choices:
            return
        fault = self._chance.choice(choices)
        self.faults[fault] += 1
        match fault:
            case "kill worker":
                await self._kill(self._chance.choice(self._serving()))
            case "kill orchestrator":
                await self._kill(self._chance.choice(self._awake(self._orchestrators)))
            case "stop worker":
                self._stop(self._chance.choice(self._serving()), 1.2)
            case "stop orchestrator":
                owner = self._chance.choice(self._awake(self._orchestrators))
                self._stop(owner, 1.5)
                self._rescue(owner)
            case "restart redis":
                await asyncio.to_thread(self._server.end, signal.SIGTERM)
                await asyncio.to_thread(self._server.start)
            case "crash redis":
                await asyncio.to_thread(self._server.end, signal.SIGKILL)
                window = self._server.written - self._written[0]
                self.lost_bytes.append(int(window * self._chance.random()))
                self._server.lose_bytes(self.lost_bytes[-1])
                await asyncio.to_thread(self._server.start)
                self._written.clear()
                self.status.clear()
                self._resumed.clear()
            case _:
                async with client_of(self.settings) as client:
                    await cut_connections(client)

    def _possible(self, fault: str) -> bool:
        kind = fault.rpartition(" ")[2]
        if fault.startswith("stop") and self._asleep:
            return False
        if kind == "worker":
            return len(self._serving()) > 1
        return kind != "orchestrator" or bool(self._awake(self._orchestrators))

    def _serving(self) -> list[Process]:
        return [worker for worker in self._awake(self._workers) if serves(worker)]

    def _awake(self, processes: list[Process]) -> list[Process]:
        asleep = {id(process) for _, process in self._asleep}
        return [process for process in processes if id(process) not in asleep and not process.gone]

    def _stop(self, process: Process, leases: float) -> None:
        process.send(signal.SIGSTOP)
        until = time.monotonic() + self.settings.lease * self._chance.uniform(leases, 2.0)
        self._asleep.append((until, process))

    async def _wake(self, now: float) -> None:
        for until, process in list(self._asleep):
            if now >= until:
                process.send(signal.SIGCONT)
                self._asleep.remove((until, process))

    async def _kill(self, process: Process) -> None:
        process.kill()
        async with client_of(self.settings) as client:
            self.wounds += await self._wounds_of(client, process)

    async def _wounds_of(self, client: Any, process: Process) -> list[Wound]:
        """What it had under way, and does not do any more."""
        found: list[tuple[str, str]] = []
        mine = f"-{process.pid}-"
        async for stream, consumer, entry_id in pending(client):
            if mine not in consumer:
                continue
            for _, fields in await client.xrange(stream, entry_id, entry_id):
                run_id, path = fields[b"run"].decode(), fields[b"path"].decode()
                raw = await client.hget(keys_of(run_id).branches, path)
                if raw is not None and raw.startswith(b"open|") and entry_id.encode() in raw:
                    found.append((run_id, path))
        for job in process.jobs:
            owner, status = await client.hmget(keys_of(job["run_id"]).run, "process", "status")
            if status == b"running" and mine in (owner or b"").decode():
                found.append((job["run_id"], ""))
        seconds, micros = await client.time()
        return [Wound(run_id, path, seconds * 1000 + micros // 1000) for run_id, path in found]

    async def dismiss(self) -> None:
        """The workers leave, as after SIGTERM."""
        await self._wake(float("inf"))
        async with client_of(self.settings) as client, asyncio.timeout(10):
            while [key async for key in client.scan_iter("*:parked")]:  # noqa: ASYNC110  (of runs that have ended)
                await asyncio.sleep(0.1)
        for worker in self._workers:
            worker.told = True
            worker.send(signal.SIGTERM)
        async with asyncio.timeout(20):
            while not all(process.gone for process in [*self._workers, *self._orchestrators]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for process in self.fleet.processes:
            if process.killed or not (serves(process) or process.outcomes()):  # or it found no server at its start
                continue
            assert process.said.rstrip().endswith("exit 0"), f"{process.log}: {process.said[-2000:]}"

    async def recoveries(self) -> list[float]:
        """Seconds from each kill to the next entry of what the process had under way."""
        found: list[float] = []
        async with client_of(self.settings) as client:
            for wound in self.wounds:
                entries = await client.xrange(keys_of(wound.run_id).journal, min=wound.at_ms)
                times = [
                    int(entry_id.split(b"-")[0])
                    for entry_id, fields in entries
                    if task_of(fields[b"path"].decode(), fields[b"kind"].decode()) == wound.path
                ]
                if times:
                    found.append((times[0] - wound.at_ms) / 1000)
                else:
                    assert wound.path.startswith(LOSERS), f"{wound} was never gone on with"
        return sorted(found)


def task_of(path: str, kind: str) -> str:
    """The task that wrote an entry: the innermost branch that its path lies in."""
    if kind.startswith("run."):
        return ""
    segments = path.split("/")
    for end in range(len(segments), 0, -1):
        name = _BRANCH.match(segments[end - 1])
        if name is not None and name[2] in FORKS:
            return "/".join(segments[:end])
    return ""


async def pending(client: Any, queue: str = "default") -> Any:
    """(stream, consumer, id) of everything that the consumer groups have given out."""
    for number in range(Settings().partitions):
        for level in LEVELS:
            stream = task_stream(tag_of(number), queue, level)
            if not await client.exists(stream):
                continue
            for item in await client.xpending_range(stream, "workers", "-", "+", 10_000):
                yield stream, item["consumer"].decode(), item["message_id"].decode()


@dataclass
class Counts:
    """What the journals say."""

    runs: int = 0
    wrong: int = 0
    """Runs without an end, or with another answer."""
    lost: int = 0
    """Visits of the undisturbed run that are in no journal."""
    doubled: int = 0
    """Entries that must be there once, and are there again."""
    repeated: int = 0
    """Executions beyond the first of a step: allowed, where a process died or was fenced."""
    most_executions: int = 0
    """Of any one step."""
    faults: list[str] = field(default_factory=list)


ONCE = frozenset({"node.finished", "fork.opened", "map.opened", "branch.finished", "run.started", "run.completed"})
"""Kinds of which a path may have one. No visit of the graph fails in the end, so nothing is ever tried again: `node.started`,
`node.retrying` and `run.resumed` alone may be there more than once, one for each attempt, retry or resumption."""


async def check_journals(client: Any, runs: list[Run], undisturbed: set[tuple[str, str]], whole: bool = True) -> Counts:
    """`undisturbed`: (kind, path) of the entries of `ONCE` that every run has to have. `whole`: nothing was lost with
    the server's last second."""
    counts = Counts(runs=len(runs))
    for run in runs:
        raw = await client.xrange(keys_of(run.run_id).journal)
        entries = [(fields[b"kind"].decode(), fields[b"path"].decode(), fields[b"data"]) for _, fields in raw]
        seen = Counter((kind, path) for kind, path, _ in entries if kind in ONCE)
        missing = undisturbed - set(seen)
        again = {name: times for name, times in seen.items() if times > 1}
        counts.lost += len(missing)
        counts.doubled += sum(times - 1 for times in again.values())
        done = executions(run.file)
        counts.repeated += sum(times - 1 for times in done.values())
        counts.most_executions = max(counts.most_executions, *done.values())
        started = Counter(path for kind, path, _ in entries if kind == "node.started")
        complaints = [f"lost {name}" for name in sorted(missing)] + [f"doubled {name}" for name in sorted(again)]
        if whole:
            complaints += [
                f"{path} was executed {times} times, and begun {started[path]} times"
                for path, times in done.items()
                if times > started[path]
            ]
        if not entries or entries[-1][0] != "run.completed":
            complaints.append(f"the last entry is {entries[-1][:2] if entries else None}")
        keys = {line.split(" ")[1] for line in run.file.read_text().splitlines()}
        if keys != {f"{run.run_id}:{path}" for path in done}:
            complaints.append("idempotency keys differ")
        counts.faults += [f"{run.run_id} ({run.mode}): {complaint}" for complaint in complaints]
    return counts


KEPT = re.compile(
    r"\{orka:\d+\}:(run:[0-9A-Za-z-]+(:journal|:values)?|graph:\w+|runs:(open|ended)|tasks:[^:]+:\d|inbox:.+|worker:.+"
    r"|workers|queues|sweeper)|orka:memory"
)


async def check_keys(client: Any) -> list[str]:
    """What is left behind and should not be."""
    faults: list[str] = []
    async for raw in client.scan_iter(count=1000):
        key = raw.decode()
        if KEPT.fullmatch(key) is None:
            kind = (await client.type(key)).decode()
            faults.append(f"{key} is left: {await client.zrange(key, 0, -1) if kind == 'zset' else kind}")
        elif re.search(r":(inbox|worker|workers|sweeper)\b", key) and await client.pttl(key) < 0:
            faults.append(f"{key} does not expire")
        elif ":tasks:" in key and await client.xlen(key):
            faults.append(f"{key} holds {await client.xlen(key)} tasks")
        elif key.endswith(":runs:open") and await client.zcard(key):
            faults.append(f"{key} has runs under way")
    faults += [
        f"{stream}: {entry_id} is pending for {consumer}" async for stream, consumer, entry_id in pending(client)
    ]
    return faults


async def undisturbed_run(
    fleet: Processes, settings: Settings, until: Callable[..., Any]
) -> tuple[Any, set[tuple[str, str]]]:
    """The answer that every run has to give, and the entries that it has to have. Of a loser nothing is asked."""
    run = Run("submit", fleet.folder / "undisturbed")
    worker = fleet.worker("--allow-functions=support.chaos_agents")
    owner = fleet.orchestrator([run.job()])
    await until(lambda: owner.gone, 20)
    worker.send(signal.SIGTERM)
    await until(lambda: worker.gone, 10)
    ended = owner.outcomes()[run.run_id]
    assert ended["status"] == "completed", (ended, worker.said)
    async with client_of(settings) as client:
        counts = await check_journals(client, [run], set())
        assert not counts.faults, counts.faults
        assert counts.repeated == 0
        raw = await client.xrange(keys_of(run.run_id).journal)
    names = [(fields[b"kind"].decode(), fields[b"path"].decode()) for _, fields in raw]
    needed = {(kind, path) for kind, path in names if kind in ONCE and not path.startswith(LOSERS)}
    return ended["answer"], needed


def percentile(values: list[float], share: float) -> float:
    """Of sorted values; 0 of none."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def report(driver: Driver, counts: Counts, recoveries: list[float], seconds: float) -> str:
    """One line of JSON for people and notes."""
    return json.dumps(
        {
            "runs": counts.runs,
            "faults": dict(driver.faults),
            "wrong": counts.wrong,
            "lost": counts.lost,
            "doubled": counts.doubled,
            "lost_bytes": sum(driver.lost_bytes),
            "repeated_executions": counts.repeated,
            "wounds": len(driver.wounds),
            "recovery_p50_s": round(percentile(recoveries, 0.5), 2),
            "recovery_p99_s": round(percentile(recoveries, 0.99), 2),
            "seconds": round(seconds, 1),
            "cores": os.cpu_count(),
        }
    )
