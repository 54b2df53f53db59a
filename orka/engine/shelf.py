"""`Shelf`: what many tasks of a worker share and fetch once: graphs made ready, and what the branches of a fork see."""

from __future__ import annotations

from orka.dispatch.task import NOTHING, BranchTask, Seen, decode_seen
from orka.engine.program import Program, Workshop, build_program
from orka.errors import LeaseLost
from orka.graph.codec import decode_graph
from orka.journal.registry import Registry
from orka.recent import Recent
from orka.types import Digest, Json, RunId

_GRAPHS, _FORKS = 64, 256
"""Kept of each kind."""


class Shelf:
    """Owned by a worker."""

    def __init__(self, registry: Registry, workshop: Workshop) -> None:
        self._registry = registry
        self._workshop = workshop
        self._programs: Recent[Digest, Program] = Recent(_GRAPHS)
        self._seen: Recent[tuple[str, str], tuple[Seen, Json]] = Recent(_FORKS)

    async def program(self, run_id: RunId, digest: Digest) -> Program:
        """A run's graph, from beside the run. `RunNotFound` when that is gone."""
        program = self._programs.get(digest)
        if program is None:
            graph = decode_graph(await self._registry.graph(run_id, digest), source=f"run {run_id}")
            program = build_program(graph, self._workshop)
            self._programs.put(digest, program)
        return program

    async def seen_by(self, task: BranchTask) -> tuple[Seen, Json]:
        """What the branches of the task's fork see, and the run's input. `LeaseLost` when the fork is closed."""
        key = (task.run, task.fork)
        known = self._seen.get(key)
        if known is None:
            seen = decode_seen(task.seen if task.seen != NOTHING else await self._stored(task))
            known = seen, await self._registry.load(task.run, seen.input)
            self._seen.put(key, known)
        return known

    async def _stored(self, task: BranchTask) -> bytes:
        [raw] = await self._registry.hash(self._registry.keys(task.run).scopes, task.fork)
        if raw is None:
            raise LeaseLost(f"fork {task.fork!r} is closed", run_id=task.run)
        return raw
