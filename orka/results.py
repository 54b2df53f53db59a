"""What a visit to a node leaves behind: `NodeResult`, its error and its usage. Made once, never rebuilt."""

from __future__ import annotations

from dataclasses import dataclass, field

from orka.types import Json, NodeId, Path, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a visit consumed. Zero where the agent does not say."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0

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


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeResult:
    """The outcome of one visit."""

    path: Path
    node_id: NodeId
    event_type: str
    """Class name that log entries show for this kind of node (`RouterNode`, `TemplateAgent`)."""
    status: Status
    output: Json = None
    """What templates see as `previous_outputs.<id>`; None when nothing was produced."""
    error: Failure | None = None
    attempts: int = 1
    started_ms: int = 0
    duration_ms: float = 0.0
    usage: Usage | None = None
    prompt: str | None = None
    """The rendered prompt. Not journaled: replay renders it again from the same outputs."""
    group: str | None = None
    """Path of the fork or map that this visit is a branch member of."""
    warnings: tuple[str, ...] = field(default=())
    """What a template read that was undefined, one sentence each."""
