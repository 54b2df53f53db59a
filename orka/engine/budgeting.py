"""Where a run's budget ends it: before a visit that the journal does not know."""

from __future__ import annotations

from orka.clock import monotonic, now_ms
from orka.engine.branches import OpenFork
from orka.engine.context import Frame, began_at
from orka.engine.outcome import Outcome
from orka.engine.program import Step
from orka.engine.spending import UNAFFORDABLE, first_unaffordable, unaffordable
from orka.errors import BudgetExceeded
from orka.graph.nodes import FailoverNode, JoinNode, LoopNode
from orka.journal.replay import Visit
from orka.results import Failure
from orka.types import Path, Status


def check_budget(frame: Frame, step: Step, path: Path, seen: Visit | None) -> Failure | None:
    """Why this visit is skipped, as journaled when it was; None: it is not. `BudgetExceeded` where that ends the run.

    A join takes in what has been paid for, and loops and failovers may have begun without an entry of their own: these
    are visited, and what is inside them is not.
    """
    if seen is not None and seen.opened is not None:
        return None
    finished = None if seen is None else seen.finished
    if finished is not None:
        error = finished.error
        skipped = finished.status is Status.SKIPPED and error is not None and error.kind == UNAFFORDABLE
        return error if skipped and not isinstance(step.node, JoinNode | LoopNode | FailoverNode) else None
    run = frame.run
    if run.recalling or isinstance(step.node, JoinNode | LoopNode | FailoverNode):
        return None
    used_up = run.spending.exceeded(now_ms())
    if used_up is None:
        return None
    budget = run.spending.budget
    if budget is not None and budget.on_exceed == "stop":
        return unaffordable(used_up)
    raise BudgetExceeded(
        f"run {run.run_id} has used up its budget ({used_up}) before {path!r}; raise `budget` under `orchestrator:`",
        run_id=run.run_id,
        path=path,
    )


async def skip_visit(frame: Frame, step: Step, path: Path, seen: Visit | None, failure: Failure) -> None:
    outcome = Outcome(status=Status.SKIPPED, error=failure, attempts=0)
    await frame.settle(step, path, outcome, seen=seen, at_ms=began_at(seen), began=monotonic())


def short_of_budget(fork: OpenFork, indexes: tuple[int, ...]) -> Failure | None:
    """Why a branch did not come to its end, if that was the budget: what waits for it has not failed then."""
    settled = [fork.settled[index] for index in indexes if index in fork.settled]
    return next(filter(None, (first_unaffordable(branch.context.results) for branch in settled)), None)
