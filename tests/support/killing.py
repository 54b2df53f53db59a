"""Processes that run `effects.GRAPH`, to be killed or stopped at any moment, and what must hold afterwards."""

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.asked import Asked
from support.effects import GRAPH, executions
from support.journals import Entry, entries_of

from orka.ids import new_run_id
from orka.settings import Settings

TESTS = Path(__file__).resolve().parents[1]


class Nursery:
    """Starts processes that run `GRAPH`; see tests/support/nursery.py."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.graph = folder / "killed.yml"
        self.graph.write_text(GRAPH)
        self._asked = Asked("support.nursery", str(self.graph), str(settings.home))

    def start(self, run: "Run") -> int:
        """The pid of a process that runs or, if it was started before, resumes."""
        job = {"resume": run.kills > 0, "run_id": run.run_id, "input": run.input}
        return self._asked.ask(job)

    def close(self) -> None:
        self._asked.close()


@dataclass
class Run:
    """One run, how often its process was killed, and what was there when that happened the last time."""

    file: Path
    run_id: str = field(default_factory=new_run_id)
    kills: int = 0
    entries: list[Entry] = field(default_factory=list)
    executed: dict[str, int] = field(default_factory=dict)

    @property
    def input(self) -> dict[str, Any]:
        return {"name": "you", "file": str(self.file)}

    @property
    def finished(self) -> set[str]:
        return {path for kind, path, _ in self.entries if kind == "node.finished"}

    @property
    def started(self) -> set[str]:
        return {path for kind, path, _ in self.entries if kind == "node.started"}

    async def observe(self, client: Any) -> None:
        """Looks at what is there and compares it with the last time."""
        finished, executed, entries = self.finished, self.executed, self.entries
        self.entries = await entries_of(client, self.run_id)
        self.executed = dict(executions(self.file))
        if self.executed:
            keys = {line.split(" ")[1] for line in self.file.read_text().splitlines()}
            assert keys == {f"{self.run_id}:{path}" for path in self.executed}
        assert self.entries[: len(entries)] == entries  # nothing lost, nothing changed
        for path, times in self.executed.items():
            assert path in self.started, f"{path} ran before its entry was stored"
            more = times - executed.get(path, 0)
            assert more <= (0 if path in finished else 1), f"{path} was executed {more} times more"


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def send(pid: int, number: signal.Signals) -> bool:
    """Whether there still was such a process."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
