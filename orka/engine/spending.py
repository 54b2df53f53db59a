"""`Spending`: what a run has used up, and whether its budget lets it go on. Pure.

Everything counts once, by the path of the visit that used it, as the journal has it: a resumed run has spent what the
first one had. A budget is looked at before a visit is begun, never for one that the journal answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from orka.errors import BudgetExceeded
from orka.graph.nodes import Budget
from orka.results import Failure, NodeResult, Usage
from orka.types import Path, Status

UNAFFORDABLE: Final = BudgetExceeded.__name__
"""Kind of the error of a visit that was skipped because the budget was used up."""


class Spending:
    """Of one run, as far as this process knows it: with what the run's owner had seen when it sent this part of it."""

    def __init__(
        self,
        budget: Budget | None = None,
        *,
        began_ms: int = 0,
        before: Usage | None = None,
        usages: Mapping[Path, Usage] | None = None,
    ) -> None:
        """`began_ms`: when the seconds of the budget began to count. `before`: what was spent elsewhere. `usages`: of
        visits that the journal has."""
        self.budget = budget
        self.began_ms = began_ms
        self.total = before or Usage()
        self._usages: dict[Path, Usage] = {}
        for path, usage in (usages or {}).items():
            self.note(path, usage)

    def note(self, path: Path, usage: Usage) -> None:
        """What one visit has used up, however often it is told."""
        known = self._usages.get(path)
        if known != usage:
            self.total = self.total + usage if known is None else self.total - known + usage
            self._usages[path] = usage

    def known_outside(self, path: Path) -> Usage | None:
        """What was spent, without what the journal has of the branch or visit `path`: whoever executes that knows it. None
        where it does not matter."""
        if self.budget is None:
            return None
        inside = f"{path}/"
        total = self.total
        for own, usage in self._usages.items():
            if own == path or own.startswith(inside):
                total = total - usage
        return total

    def exceeded(self, now_ms: int) -> str | None:
        """What is used up, in words; None while there is something left."""
        budget = self.budget
        if budget is None:
            return None
        spent = self.total
        if budget.tokens is not None and spent.tokens >= budget.tokens:
            return f"{spent.tokens:,} of {budget.tokens:,} tokens"
        if budget.usd is not None and spent.cost_usd >= budget.usd:
            return f"${spent.cost_usd:.4f} of ${budget.usd:g}"
        seconds = (now_ms - self.began_ms) / 1000
        if budget.seconds is not None and seconds >= budget.seconds:
            return f"{seconds:.1f} of {budget.seconds:g} seconds"
        return None


def unaffordable(used_up: str) -> Failure:
    """The reason of a visit that is skipped."""
    return Failure(kind=UNAFFORDABLE, message=f"not begun: the run's budget is used up ({used_up})")


def is_unaffordable(result: NodeResult) -> bool:
    return result.status is Status.SKIPPED and result.error is not None and result.error.kind == UNAFFORDABLE


def first_unaffordable(results: Iterable[NodeResult]) -> Failure | None:
    """Why some of these visits were skipped, if one was."""
    return next((result.error for result in results if is_unaffordable(result)), None)


def warnings_of(spending: Spending, results: Iterable[NodeResult], now_ms: int) -> tuple[str, ...]:
    """What a run that has completed should say of its budget."""
    if (failure := first_unaffordable(results)) is not None:
        why = failure.message.partition("(")[2].rstrip(")")
        return (f"the run's budget was used up ({why}): what followed was not begun, the answer is what there was",)
    used_up = spending.exceeded(now_ms)
    return () if used_up is None else (f"the run's budget is used up ({used_up})",)
