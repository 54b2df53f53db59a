"""The words every floor shares: id types, JSON, and the closed sets of statuses. No logic lives here."""

from __future__ import annotations

from enum import StrEnum
from typing import NewType, TypeAlias

RunId = NewType("RunId", str)
"""Time-ordered id of one run of a graph."""
NodeId = NewType("NodeId", str)
"""The `id` that a graph file gives to a node."""
Path = NewType("Path", str)
"""Deterministic name of one visit to a node: `triage`, `research.1/search`, `debate[2]/critic`."""
Digest = NewType("Digest", str)
"""Hex digest of canonical JSON (of a graph or of a node)."""

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


class Status(StrEnum):
    """How a visit to a node ended."""

    SUCCESS = "success"
    ERROR = "error"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    """Cut off, begun or not: nothing of it is used."""


class RunStatus(StrEnum):
    """Where a run stands in the registry."""

    QUEUED = "queued"
    """Submitted; no worker has taken it yet."""
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self not in (RunStatus.QUEUED, RunStatus.RUNNING)
