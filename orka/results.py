"""What a visit to a node leaves behind: `NodeResult`, its error and its usage. Made once, never rebuilt."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from orka.types import Json, NodeId, Path, RunId, RunStatus, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a visit consumed. Zero where the agent does not say."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens - other.prompt_tokens,
            completion_tokens=self.completion_tokens - other.completion_tokens,
            cost_usd=self.cost_usd - other.cost_usd,
        )

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cost_usd=self.cost_usd + other.cost_usd,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error as data."""

    kind: str
    """Class name of the error, ours or the agent's."""
    message: str


class NodeResult(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one visit. A struct, not a dataclass: every step makes one, and a frozen dataclass of this size
    takes ten times as long to make."""

    path: Path
    node_id: NodeId
    event_type: str
    """Class name that log entries show for this kind of node (`RouterNode`, `TemplateAgent`)."""
    status: Status
    output: Json = None
    """What templates see as `previous_outputs.<id>`; None when nothing was produced."""
    error: Failure | None = None
    attempts: int = 1
    """0 for a visit that was cut off: how far it came is not told."""
    started_ms: int = 0
    duration_ms: float = 0.0
    usage: Usage | None = None
    prompt: str | None = None
    """The rendered prompt. Not journaled: replay renders it again from the same outputs."""
    group: Path | None = None
    """Path of the fork that this visit is a branch member of."""
    inner: bool = False
    """Inside a loop, a map or a failover: part of that node's entry in the log, not an entry of its own."""
    terminal: bool = False
    """The file marks the node with `is_terminal`."""
    bare: bool = False
    """Templates and logs see its response itself in place of the whole output: see `AgentType.bare`."""
    warnings: tuple[str, ...] = ()
    """What a template read that was undefined, one sentence each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The outcome of one run."""

    run_id: RunId
    status: RunStatus
    output: Json
    """The run's answer: what `run()` returns."""
    results: tuple[NodeResult, ...]
    """Every visit, in declared order, those inside loops, maps and failovers included."""
    usage: Usage
    duration_ms: float
    error: Failure | None = None
    error_path: Path | None = None
    """The visit whose failure ended the run."""
    warnings: tuple[str, ...] = ()
    """About the run as a whole, one sentence each: that its budget ended it early."""
    trace: str | None = None
    """The trace file that was written, if one was asked for."""

    @property
    def failed(self) -> tuple[NodeResult, ...]:
        """Visits that ended in an error, those that the run went on after included."""
        return tuple(result for result in self.results if result.status is Status.ERROR)
