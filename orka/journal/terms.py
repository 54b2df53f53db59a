"""On what terms a log is written: how its run began here, under what it writes, how it ends. Data for `orka.journal.log`."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from orka.redis.scripts import Entry
from orka.types import Digest, Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """What the create script needs, kept until the run is surely on disk."""

    at_ms: int
    graph: bytes
    deadline_ms: int
    entry: Entry
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopening:
    """What the reopen script needs, kept until it is surely on disk."""

    seq: int
    """Sequence number of the `run.resumed` entry."""
    graph: bytes
    before: Digest
    """Of the graph that the run had until now."""
    data: bytes
    holder: str
    process: str
    """Names the inbox of the process."""
    deadline_ms: int | None = None
    """Of a changed graph, from now; 0: none. None: the run's own stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the run ends; sent with its last entries."""

    status: str
    retention_ms: int


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a process that executes one branch of somebody else's run writes under, in place of the run's lease."""

    path: Path
    """The branch."""
    token: str
    """`<process>/<task id>`."""
    parent: Path
    """The task that waits for the branch; empty: the run's owner."""
    stream: str = ""
    task: bytes = b""
    """Where it came from and what it asks: a server that has forgotten it is told again."""


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """The branch is done; sent with its last entries."""

    reply: bytes
    """Entries for the one who waits; empty: they have to be read in the journal."""
