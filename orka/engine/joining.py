"""When a join has seen enough, and what it makes of its branches. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orka.results import Failure
from orka.types import Json, NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A join's decision."""

    satisfied: bool
    settled: tuple[int, ...]
    """Branches that had ended, in the order in which they did, up to the one that decided."""
    winners: tuple[int, ...]
    """Branches whose outputs enter the frame, in declared order. With mode `all`: every branch."""


def decide(
    mode: Literal["all", "any", "quorum"],
    wanted: int | None,
    on_failure: Literal["continue", "fail"],
    total: int,
    settled: Sequence[tuple[int, bool]],
) -> Verdict | None:
    """None: wait for more. `settled` is (branch, succeeded) in the order in which they ended; `wanted` is `min_success`."""
    if mode == "all":
        if len(settled) < total:
            return None
        satisfied = on_failure == "continue" or all(ok for _, ok in settled)
        return Verdict(satisfied=satisfied, settled=tuple(i for i, _ in settled), winners=tuple(range(total)))
    need = 1 if mode == "any" else (wanted or 1)
    won: list[int] = []
    for place, (index, ok) in enumerate(settled):
        if ok:
            won.append(index)
        if len(won) >= need:
            taken = tuple(i for i, _ in settled[: place + 1])
            return Verdict(satisfied=True, settled=taken, winners=tuple(sorted(won)))
        if len(won) + (total - place - 1) < need:
            taken = tuple(i for i, _ in settled[: place + 1])
            return Verdict(satisfied=False, settled=taken, winners=tuple(sorted(won)))
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """What a join sees of one branch."""

    members: tuple[NodeId, ...]
    outputs: Mapping[str, Json]
    """Of its members that ran."""
    failed: tuple[NodeId, ...]
    """Members whose visit failed."""
    error: Failure | None = None
    """Why the branch stopped, if it did."""
    ended: bool = True
    """False when it was cancelled because the join had seen enough."""


def failed_output(failure: Failure) -> dict[str, Json]:
    """What templates see of a visit that failed."""
    return {"error": failure.message, "error_type": failure.kind, "status": "error"}


def seen_output(output: Json, error: Failure | None, *, bare: bool) -> Json:
    """What templates see of a visit: its output, beside the error if it failed; of a `bare` one its response alone."""
    if bare and isinstance(output, dict) and "response" in output:
        return output["response"]
    if error is not None:
        return {**(output if isinstance(output, dict) else {}), **failed_output(error)}
    return output


def merge(branches: Sequence[Branch], winners: Sequence[int]) -> dict[str, Json]:
    """The output of a join: `status`, `merged`, `failed`, `cancelled` (if any), and every merged member spread beside."""
    merged: dict[str, Json] = {}
    failed: list[Json] = []
    cancelled: list[Json] = []
    taken = frozenset(winners)
    for index, branch in enumerate(branches):
        for member in branch.members:
            if member in branch.failed:
                failed.append(member)
            if index not in taken:
                if not branch.ended:
                    cancelled.append(member)
            elif member in branch.outputs:
                merged[member] = branch.outputs[member]
            elif branch.error is not None:
                if member not in failed:
                    failed.append(member)
                merged[member] = failed_output(branch.error)
    output: dict[str, Json] = {**merged, "status": "done", "merged": merged, "failed": failed}
    if cancelled:
        output["cancelled"] = cancelled
    return output
