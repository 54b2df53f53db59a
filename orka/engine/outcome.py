"""What a visit came to: its `Outcome`, the `Detour` that it chose, and the entry that commits it. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from orka.engine.program import Step
from orka.journal.entries import NO_VALUE, RULES, NodeFinished, Value
from orka.results import Failure, NodeResult, Usage
from orka.types import Json, Status


class Detour(NamedTuple):
    """What a visit chose to run before the rest of its sequence."""

    ids: tuple[str, ...]
    once: bool
    """Those that wait in the sequence are taken out of it."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a visit came to, before it is committed."""

    output: Json = None
    stored: Value = NO_VALUE
    """`output` for the journal, where it cannot be computed again."""
    values: tuple[tuple[str, bytes], ...] = ()
    status: Status | None = None
    """None: success, or error when `error` is given."""
    error: Failure | None = None
    attempts: int = 1
    usage: Usage | None = None
    prompt: str | None = None
    next: tuple[str, ...] | None = None
    once: bool = False
    fork: str = ""
    settled: tuple[int, ...] | None = None
    late: tuple[int, ...] = ()
    child: int | None = None
    shown: Json = None
    """What templates see, where that is more than `output`."""
    warnings: tuple[str, ...] = ()
    emitted: int = 0
    """Characters that the last attempt emitted."""

    @property
    def detour(self) -> Detour | None:
        return Detour(self.next, self.once) if self.next else None


def commit_of(step: Step, result: NodeResult, outcome: Outcome, goes_on: bool) -> NodeFinished:
    """`goes_on`: the sequence does after a failure."""
    return NodeFinished(
        id=result.node_id,
        node=step.digest,
        at_ms=result.started_ms,
        ms=result.duration_ms,
        status=result.status,
        output=outcome.stored,
        error=outcome.error,
        attempts=outcome.attempts,
        usage=outcome.usage,
        next=outcome.next,
        once=outcome.once,
        fork=outcome.fork,
        settled=outcome.settled,
        late=outcome.late,
        child=outcome.child,
        consumed=goes_on and result.status is Status.ERROR,
        warnings=outcome.warnings,
        emitted=outcome.emitted,
        rules=RULES,
    )
