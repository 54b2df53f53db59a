"""The steps that `max_steps` bounds. It ends routing cycles, so that what it bounds is what can be one: the run, and each item
of a map for itself, however many items there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orka.errors import StepsExceeded

if TYPE_CHECKING:
    from orka.engine.context import Frame


@dataclass(slots=True)
class Steps:
    """Of one item of a map, with all that it opens, maps inside it excepted. The run counts its own."""

    steps: int = 0


def count_step(frame: Frame) -> None:
    """Before a visit. `StepsExceeded` when that is one too many for the item that the frame is in, else for the run."""
    run, counter = frame.run, frame.counter
    counter.steps += 1
    limit = run.program.graph.limits.max_steps
    if counter.steps > limit:
        where = f" in one item of a map, at {frame.path!r}" if frame.item is not None else ""
        raise StepsExceeded(
            f"run {run.run_id} took more than {limit:,} steps{where}; if that is not a routing cycle,"
            " raise `max_steps` under `orchestrator:`",
            run_id=run.run_id,
        )
