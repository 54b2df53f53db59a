"""Reading what runs left behind: the registry and the journals, for the command line and for applications."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

from orka.dispatch.dead import DeadLetters, Letter
from orka.dispatch.diagnosis import read_diagnosis
from orka.dispatch.findings import Diagnosis
from orka.dispatch.limits import Limit
from orka.dispatch.roster import Roster, WorkerInfo
from orka.engine.limiting import all_limits
from orka.errors import ConfigError, RunNotFound
from orka.graph.codec import decode_graph
from orka.journal.entries import BranchFinished, Kind, NodeFinished, NodeStarted, RunEnded, decode_body, decode_json
from orka.journal.events import RunEvent
from orka.journal.feed import read_feed
from orka.journal.registry import MOST_FOUND, Registry, RunInfo
from orka.redis.client import NodeRouter, open_redis
from orka.redis.pipeline import Pipe
from orka.results import Usage
from orka.settings import Settings
from orka.types import Json, Path, RunId, RunStatus

__all__ = ["RunEvent", "RunInfo", "RunReport", "Runs", "VisitInfo", "open_runs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitInfo:
    """One visit as far as the journal knows it."""

    path: Path
    node_id: str
    status: str
    """`success`, `error`, `skipped`; `started` for an attempt whose end is not journaled."""
    started_ms: int
    duration_ms: float | None
    attempts: int
    error: str | None
    warnings: tuple[str, ...]
    """What templates read that was undefined, and what was skipped, one sentence each."""
    usage: Usage | None
    output: Json
    """None for control nodes, whose output is computed, and for values stored beside the journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """A run and its visits in the order in which they were committed."""

    info: RunInfo
    visits: tuple[VisitInfo, ...]
    error: str | None
    """Why it failed or was cancelled, if it was."""
    error_path: Path | None
    usage: Usage
    """Of all visits together."""
    warnings: tuple[str, ...] = ()
    """About the run as a whole."""


class Runs:
    """Read-only. Made by `open_runs`, or by an open `Orchestrator`."""

    def __init__(self, registry: Registry, router: NodeRouter) -> None:
        self._registry = registry
        self._router = router

    async def list(self, *, status: RunStatus | None = None, limit: int = 50, stale: bool = False) -> list[RunInfo]:
        """Newest first. `stale`: only runs under way that nobody executes, and nobody will unless they are resumed."""
        return await self._registry.list(status=status, limit=limit, stale=stale)

    async def find(self, prefix: str) -> RunId:
        """The one run whose id begins with `prefix`; `RunNotFound` when there is none, or more than one."""
        found = await self._registry.find(prefix)
        if len(found) == 1 or prefix in found:
            return RunId(prefix) if prefix in found else found[0]
        if not found:
            return (await self._registry.info(RunId(prefix))).run_id
        shown = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
        count = f"{len(found)}{' or more' if len(found) >= MOST_FOUND else ''}"
        raise RunNotFound(f"{count} runs begin with {prefix!r}: {shown}; give more of the id")

    async def info(self, run_id: RunId) -> RunInfo:
        """`RunNotFound` when there is no such run."""
        return await self._registry.info(run_id)

    async def show(self, run_id: RunId) -> RunReport:
        """A run with its visits. Reads the whole journal."""
        info = await self._registry.info(run_id)
        visits: dict[Path, VisitInfo] = {}
        error: str | None = None
        error_path: Path | None = None
        usages: dict[str, Usage] = {}
        warnings: tuple[str, ...] = ()
        async for _, kind, path, data in self._registry.entries(run_id):
            body = decode_body(kind, data, run_id=run_id, path=path)
            if isinstance(body, NodeStarted):
                visits[Path(path)] = _started(Path(path), body)
            elif isinstance(body, NodeFinished):
                visits.pop(Path(path), None)
                if body.usage is not None:
                    usages[path] = body.usage
                visits[Path(path)] = _finished(Path(path), body)
            elif isinstance(body, BranchFinished) and body.error is not None:
                visits |= _ended_with(Path(path), body.error.message, visits)
            elif isinstance(body, RunEnded) and body.warnings:
                warnings = body.warnings
            elif kind in {Kind.RUN_FAILED, Kind.RUN_CANCELLED, Kind.RUN_RESUMED}:
                failure = getattr(body, "error", None)
                error = failure.message if failure is not None else None
                error_path = Path(getattr(body, "path", "")) or None
        return RunReport(
            info=info,
            visits=tuple(visits.values()),
            error=error,
            error_path=error_path,
            usage=sum(usages.values(), Usage()),
            warnings=warnings,
        )

    async def diagnose(self, run_id: RunId) -> Diagnosis:
        """Why it does not move: see `orka.dispatch.findings.find_reasons`. Reads the whole journal."""
        info = await self._registry.info(run_id)
        return await read_diagnosis(self._registry, info, await self._limits(info))

    async def _limits(self, info: RunInfo) -> Collection[Limit]:
        """Those of the graph that a run goes by; none where that cannot be read any more."""
        if info.status.ended:
            return ()
        with suppress(RunNotFound, ConfigError):
            raw = await self._registry.graph(info.run_id, info.digest)
            return all_limits(decode_graph(raw, source=f"run {info.run_id}")).values()
        return ()

    async def workers(self) -> list[WorkerInfo]:
        """The workers of this Redis, the latest sign of life first; those that vanished stay for a while."""
        return await Roster(self._registry).workers()

    async def dead(self) -> list[Letter]:
        """Tasks that were given up because they took their workers down, the latest first."""
        return await DeadLetters(self._registry).list()

    def events(self, run_id: RunId, *, after: str = "0", follow: bool = False) -> AsyncGenerator[RunEvent]:
        """The run's events strictly after a position; with `follow` also those to come, until the run ends, and the
        pieces of answers of a run that has them."""
        return read_feed(self._registry, self._router, run_id, after=after, follow=follow)


@asynccontextmanager
async def open_runs(settings: Settings | None = None) -> AsyncGenerator[Runs]:
    """The runs of one Redis (by default as the environment says)."""
    settings = settings or Settings.from_environment()
    async with open_redis(settings) as redis:
        router = await redis.open_router()
        pipe = Pipe(router)
        try:
            registry = Registry(pipe, partitions=settings.partitions)
            yield Runs(registry, router)
        finally:
            await pipe.aclose()


def _started(path: Path, body: NodeStarted) -> VisitInfo:
    return VisitInfo(
        path=path,
        node_id=body.id,
        status="started",
        started_ms=body.at_ms,
        duration_ms=None,
        attempts=body.attempt,
        error=None,
        warnings=(),
        usage=None,
        output=None,
    )


def _ended_with(branch: Path, error: str, visits: Mapping[Path, VisitInfo]) -> dict[Path, VisitInfo]:
    """The visits of a branch that were under way when it failed: of a task that was given up they have no end."""
    return {
        path: replace(visit, status="error", error=error)
        for path, visit in visits.items()
        if visit.status == "started" and (path == branch or path.startswith(f"{branch}/"))
    }


def _finished(path: Path, body: NodeFinished) -> VisitInfo:
    return VisitInfo(
        path=path,
        node_id=body.id,
        status=str(body.status),
        started_ms=body.at_ms,
        duration_ms=body.ms,
        attempts=body.attempts,
        error=body.error.message if body.error is not None else None,
        warnings=tuple(body.warnings),
        usage=body.usage,
        output=decode_json(body.output.json),
    )
