"""Real worker and orchestrator processes on a server of their own, for tests that kill them."""

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servers import wait_until
from support.asked import Asked
from support.killing import is_gone, send

from orka.settings import Settings


@dataclass
class Process:
    """One process of the fleet."""

    pid: int
    log: Path
    jobs: list[dict[str, Any]] = field(default_factory=list)
    """Of an orchestrator."""
    out: Path | None = None
    killed: bool = False
    told: bool = False
    """It was sent SIGTERM."""

    @property
    def gone(self) -> bool:
        return is_gone(self.pid)

    @property
    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def send(self, number: signal.Signals) -> bool:
        return send(self.pid, number)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.killed = True
        self.send(signal.SIGKILL)
        wait_until(lambda: self.gone)

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """What has become of its jobs, by run id."""
        if self.out is None or not self.out.exists():
            return {}
        lines = [json.loads(line) for line in self.out.read_text().splitlines()]
        return {line["run_id"]: line for line in lines}


def start_maker() -> Asked:
    """The process that forks all others; see tests/support/process_maker.py."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ORKA_", "REDIS_"))}
    return Asked("support.process_maker", env=clean)


class Processes:
    """Workers and orchestrators of one test; `close` ends them."""

    def __init__(self, maker: Asked, folder: Path, settings: Settings, graph: str) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.graph = folder / "graph.yml"
        self.graph.write_text(graph)
        self.processes: list[Process] = []
        self._maker = maker
        self._environment = {"REDIS_URL": settings.redis_url or "", "ORKA_LEASE": str(settings.lease)}
        self._environment |= {"ORKA_REDIS_TIMEOUT": str(settings.redis_timeout), "ORKA_LOG_LEVEL": "info"}

    def worker(self, *arguments: str) -> Process:
        """`orka worker ARGUMENTS`; returns at once."""
        return self._start(self._log("worker"), worker=list(arguments))

    def orchestrator(self, jobs: Sequence[dict[str, Any]]) -> Process:
        """A process that carries out jobs, all at once, and ends."""
        log = self._log("orchestrator")
        out = log.with_suffix(".out")
        process = self._start(log, graph=str(self.graph), jobs=list(jobs), out=str(out))
        process.jobs, process.out = list(jobs), out
        return process

    def _log(self, kind: str) -> Path:
        return self.folder / f"{len(self.processes)}-{kind}.log"

    def _start(self, log: Path, **what: Any) -> Process:
        pid = self._maker.ask({"log": str(log), "environment": self._environment, **what})
        process = Process(pid, log)
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            if not process.gone:
                process.kill()


@contextmanager
def open_processes(maker: Asked, folder: Path, settings: Settings, graph: str) -> Iterator[Processes]:
    started = Processes(maker, folder, settings, graph)
    try:
        yield started
    finally:
        started.close()


def serves(worker: Process) -> bool:
    """It has said that it takes tasks."""
    return "worker.started" in worker.said
