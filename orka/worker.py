"""`Worker`: executes branches and submitted runs that it takes from shared queues, until it is told to stop."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

import anyio
import anyio.abc

from orka.clock import now_ms
from orka.dispatch.consumer import Consumer
from orka.dispatch.delivery import Delivery
from orka.dispatch.gate import Gate
from orka.dispatch.health import HealthFile
from orka.dispatch.inbox import Message
from orka.dispatch.roster import Roster
from orka.dispatch.slots import Slot, Slots
from orka.dispatch.sweeper import GivenUp, Sweeper
from orka.dispatch.task import BranchTask, decode_task
from orka.engine.away import Away
from orka.engine.branch import BranchAssignment, execute_branch, hand_over
from orka.engine.needs import lacking_for
from orka.engine.shelf import Shelf
from orka.errors import (
    LeaseLost,
    OrkaError,
    RunAlive,
    RunNotFound,
    StoreError,
    TaskRefused,
    TaskUndecodable,
)
from orka.journal.entries import RULES, WORKER_DIED, BranchFinished, encode_json
from orka.journal.holder import current_holder
from orka.journal.log import RunLog
from orka.journal.replay import Replay, build_replay
from orka.journal.terms import Claim
from orka.lifecycle import carry_out, end_idle, prepare
from orka.logs import get_logger
from orka.redis.keys import RUNS
from orka.redis.recovery_scripts import bury
from orka.redis.task_scripts import claim_task
from orka.results import Failure
from orka.services import Services
from orka.types import Path, RunStatus
from orka.version import VERSION

_REFUSED_FOR = 1.0
"""Seconds until a task that this worker cannot execute is offered again."""
_BROKEN_FOR = 5.0
"""The same after a defect here."""
_MOST_ABANDONED = 20
"""Agents that ignore their cancellation: a worker with so many of them stops, to be started afresh."""
_FAREWELL = 2.0
"""Seconds that a task which is cut off at the end has to write what it has."""

_log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What a worker serves, and how much at once."""

    queues: tuple[str, ...] = ("default",)
    concurrency: int = 10
    grace: float = 30.0
    """Seconds that tasks under way have to end after `stop`; then they are handed back."""
    most_deaths: int = 3
    """Times that a task may take down a worker in which it is alone."""
    health: FilePath | None = None
    """File that shows the worker's progress, rewritten at every sign of life."""


class Worker:
    """Made on open services, of whose process it is a part. `run` is its background task."""

    def __init__(self, services: Services, options: WorkerOptions) -> None:
        self._services = services
        self._options = options
        self._workshop = replace(services.workshop, lenient=True)
        self._types = frozenset(self._workshop.types)
        self._shelf = Shelf(services.registry, self._workshop)
        self._logs: dict[RunLog, None] = {}
        self._health = None if options.health is None else HealthFile(options.health)
        self._stopping = False
        self._started_ms = self._progress_ms = now_ms()
        self.refused = 0
        """Branches that were cut off, or that another worker was given: what they still had is not used."""
        self.slots = Slots(options.concurrency)
        self.roster = Roster(services.registry)
        self.consumer = Consumer(
            services.router,
            services.registry,
            process=services.process,
            queues=options.queues,
            partitions=services.settings.partitions,
            lease=services.settings.lease,
            slots=self.slots,
            handler=self._handle,
        )
        self.sweeper = Sweeper(
            services.registry,
            self.roster,
            process=services.process,
            partitions=services.settings.partitions,
            lease=services.settings.lease,
            most_deaths=options.most_deaths,
            bury=self._bury,
        )

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Works until `stop` has been called and everything under way has ended or was handed back."""
        await self._sign()
        async with anyio.create_task_group() as background:
            background.start_soon(self._beat)
            background.start_soon(self.sweeper.run)
            async with anyio.create_task_group() as work:
                await work.start(self.consumer.run)
                _log.info("worker.started", worker=self._services.process, queues=self._options.queues)
                task_status.started()
            background.cancel_scope.cancel()
        with anyio.CancelScope(shield=True), suppress(StoreError):
            await self.consumer.leave()
            await self.roster.strike(self._services.process)
        _log.info("worker.stopped", worker=self._services.process, done=self.consumer.statistics().done)

    async def stop(self) -> None:
        """Takes nothing more, waits for what is under way, and hands back what has not ended within the grace period."""
        self._stopping = True
        with anyio.move_on_after(_FAREWELL), suppress(StoreError):
            await self._sign()  # before `run` can end, and strike it off the roster
        await self.consumer.stop()
        with anyio.move_on_after(self._options.grace):
            while self.consumer.statistics().under_way:
                await self.slots.wait()
        for log in list(self._logs):
            with anyio.move_on_after(_FAREWELL), suppress(OrkaError):
                await log.barrier()
            log.fail(LeaseLost("this worker stops", run_id=log.run_id))

    async def _handle(self, delivery: Delivery, slot: Slot) -> None:
        self._progress_ms = now_ms()  # else the first task after an idle hour looked stuck
        try:
            task = decode_task(delivery.task)
            self._require(task)
            execute = self._execute_branch if delivery.path else self._execute_run
            await execute(delivery, task, slot)
        except (TaskUndecodable, TaskRefused) as exc:
            await self._give_back(delivery, _REFUSED_FOR, str(exc))
        except RunAlive as exc:
            await self._give_back(delivery, max(0.05, exc.left_ms / 1000), f"its lease is held by {exc.holder}")
        except LeaseLost:
            self.refused += 1
            if self._stopping:
                await self._give_back(delivery, 0, "its worker was stopped")
        except RunNotFound:
            await self._give_back(delivery, 0, "")
        except StoreError as exc:  # no death: if it cannot be handed back, its lease runs out
            _log.warning("task.interrupted", run_id=delivery.run, path=delivery.path, error=str(exc))
            await self._give_back(delivery, _REFUSED_FOR, str(exc))
        # Bulkhead: a defect in one task must not take the worker's other tasks down; it is shown by `orka doctor`.
        except Exception as exc:
            _log.error("task.broken", run_id=delivery.run, path=delivery.path, error=f"{type(exc).__name__}: {exc}")
            await self._give_back(delivery, _BROKEN_FOR, f"{type(exc).__name__}: {exc}")
        self._progress_ms = now_ms()

    async def _give_back(self, delivery: Delivery, delay: float, why: str) -> None:
        _log.info("task.handed_back", run_id=delivery.run, path=delivery.path, why=why)
        with suppress(StoreError):  # else its lease runs out
            await self.consumer.hand_back(delivery, delay=delay, why=why)

    def _require(self, task: BranchTask) -> None:
        """`TaskRefused` for what this worker lacks."""
        for need in task.needs:
            if (lacking := lacking_for(need, self._types, self._workshop.tools)) is not None:
                raise TaskRefused(lacking)

    async def _execute_branch(self, delivery: Delivery, task: BranchTask, slot: Slot) -> None:
        services = self._services
        token = f"{services.process}/{delivery.id}"
        claim = Claim(path=task.path, token=token, parent=task.parent, stream=delivery.stream, task=delivery.task)
        log = services.leases.claim(task.run, task.digest, claim)
        scope = anyio.CancelScope()

        def stop(message: Message) -> None:
            if message["claim"] == token.encode():
                log.cut_off = True
                scope.cancel()

        services.inbox.expect("stop", task.run, task.path, stop)
        self._logs[log] = None
        try:
            replay = await self._claim(task, log) if delivery.again else None
            seen, given = await self._shelf.seen_by(task)
            finished = await execute_branch(
                BranchAssignment(
                    task=task,
                    program=await self._shelf.program(task.run, task.digest),
                    seen=seen,
                    input=given,
                    log=log,
                    away=self._away(task, slot),
                    worker=services.process,
                    replay=replay,
                    tokens=services.tokens.of(log.keys) if task.tokens else None,
                    on_visit=services.on_visit(task.run),
                ),
                scope,
                registry=services.registry,
                calls=services.calls,
                codec=services.codec,
            )
            if finished is None:
                raise log.failure or LeaseLost(f"branch {task.path!r} is not wanted any more", run_id=task.run)
            slot.free()  # the next one may begin while this one is on its way to the store
            await hand_over(log, task.path, finished)
        finally:
            del self._logs[log]
            services.inbox.forget("stop", task.run, task.path, stop)
            services.journal.remove(log)

    async def _claim(self, task: BranchTask, log: RunLog) -> Replay | None:
        """What an earlier execution has written. `LeaseLost` when the task is another's by now, or nobody's."""
        assert log.claim is not None
        registry = self._services.registry
        reply = await registry.one(log.keys.run, claim_task(log.keys, claim=log.claim.token, path=task.path))
        if reply[0] != b"ok":
            raise LeaseLost(f"task {task.path!r} is not this worker's any more", run_id=task.run)
        if not reply[1]:
            return None
        log.written = None
        entries = await registry.branch_history(task.run, task.path, reply[1].decode(), reply[2].decode())
        return build_replay(task.run, entries, retried=task.retried)

    async def _execute_run(self, delivery: Delivery, task: BranchTask, slot: Slot) -> None:
        services = self._services
        taken = await services.leases.take(task.run)
        if taken is None:
            await self.consumer.hand_back(delivery)
            return
        try:
            assignment = await prepare(services, taken, None, away=self._away(task, slot, taken.info.deadline_ms or 0))
        except BaseException:
            with anyio.CancelScope(shield=True), suppress(StoreError):
                await services.leases.release(taken.log)
            raise
        self._logs[taken.log] = None
        try:
            await carry_out(services, assignment)
        except LeaseLost:
            if self._stopping:
                await services.leases.release(taken.log)
            raise
        finally:
            del self._logs[taken.log]

    def _away(self, task: BranchTask, slot: Slot, deadline_ms: int = 0) -> Away:
        gate = Gate(self._services.limits, self.consumer, slot, task) if task.most else None
        return Away(
            sender=self._services.sender,
            everything=task.everything,
            queue=task.queue,
            task=task.path,
            level=task.level if task.path else RUNS,
            deadline_ms=task.deadline_ms or deadline_ms,
            inside=None if gate is None else gate.inside,
            parked=slot.parked if gate is None else gate.parked,
        )

    async def _bury(self, given_up: GivenUp) -> None:
        """A task is given up: its branch fails with the reason, its run if it was a whole one."""
        services = self._services
        message = (
            f"given up: it has taken its worker down {given_up.deaths} times, the last ones while it ran alone"
            " (`orka dead list` shows it; `orka dead retry` tries again)"
        )
        error = Failure(kind=WORKER_DIED, message=message)
        parent = Path("")
        with suppress(TaskUndecodable):
            parent = decode_task(given_up.task).parent
        keys = services.registry.keys(given_up.run)
        await services.registry.one(
            keys.run,
            bury(
                keys,
                process=services.process,
                path=given_up.path,
                task_id=given_up.id,
                run_id=given_up.run,
                parent=parent,
                data=encode_json(BranchFinished(worker=services.process, error=error, rules=RULES)),
                reason=message,
                retention_ms=services.journal.retention_ms,
            ),
        )
        if not given_up.path:
            with suppress(RunAlive, RunNotFound):
                await end_idle(services, given_up.run, RunStatus.FAILED, error)

    async def _beat(self) -> None:
        """Signs of life, three per lease; with too many agents that ignore their cancellation the worker stops."""
        while True:
            await anyio.sleep(self._services.settings.lease / 3)
            try:
                await self._sign()
            except StoreError as exc:
                _log.warning("worker.unseen", error=str(exc))
            if self._services.calls.statistics().abandoned > _MOST_ABANDONED and not self._stopping:
                _log.error("worker.stuck", abandoned=self._services.calls.statistics().abandoned)
                await self.stop()

    async def _sign(self) -> None:
        facts = self.facts()
        if self._health is not None:
            await self._health.write(encode_json({**facts, "queues": list(self._options.queues)}))
        lease_ms = int(self._services.settings.lease * 1000)
        await self.roster.sign(self._services.process, facts, queues=self._options.queues, lease_ms=lease_ms)

    def facts(self) -> dict[str, str | int]:
        """What it says of itself."""
        counts = self.consumer.statistics()
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "holder": current_holder(),
            "concurrency": self.slots.total,
            "running": self.slots.used,
            "parked": counts.parked,
            "done": counts.done,
            "started_ms": self._started_ms,
            "seen_ms": now_ms(),
            "progress_ms": self._progress_ms,
            "version": VERSION,
            "state": "stopping" if self._stopping else "running",
            "abandoned": self._services.calls.statistics().abandoned,
        }
