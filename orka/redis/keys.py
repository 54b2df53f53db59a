"""Every key name that Orka uses, and how long each lives.

All keys of a run carry the hash tag of its partition, so that one script can touch them and one primary holds them:

* `{orka:N}:run:<id>` hash: status, lease, sequence number, graph, times. Lives until `retention` after the end.
* `{orka:N}:run:<id>:journal` stream: the run's entries. Lives as long as the run's hash.
* `{orka:N}:run:<id>:values` hash: values too large for an entry, by digest. Lives as long as the run's hash.
* `{orka:N}:graph:<digest>` hash: the graph's JSON and how many open runs use it. Lives as long as its runs.
* `{orka:N}:runs:open` and `{orka:N}:runs:ended` sorted sets of run ids by start and end; trimmed at each new run.
"""

from __future__ import annotations

from binascii import crc32
from dataclasses import dataclass

from orka.types import Digest, RunId


@dataclass(frozen=True, slots=True)
class RunKeys:
    """The keys of one run, all in one slot."""

    tag: str
    run: str
    journal: str
    values: str


def tag_of(partition: int) -> str:
    """The hash tag of a partition."""
    return f"{{orka:{partition}}}"


def run_keys(run_id: RunId, partitions: int) -> RunKeys:
    """The partition is CRC-32 of the id, modulo the number of partitions: runs spread over all primaries."""
    tag = tag_of(crc32(run_id.encode()) % partitions)
    run = f"{tag}:run:{run_id}"
    return RunKeys(tag, run, f"{run}:journal", f"{run}:values")


def graph_key(tag: str, digest: Digest) -> str:
    return f"{tag}:graph:{digest}"


def open_runs_key(tag: str) -> str:
    return f"{tag}:runs:open"


def ended_runs_key(tag: str) -> str:
    return f"{tag}:runs:ended"
