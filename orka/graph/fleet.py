"""Limits that all processes share, and what a run may use up: from the keys of a file to data."""

from __future__ import annotations

from collections.abc import Mapping

from orka.graph.diagnostics import Findings
from orka.graph.fields import check_keys, entry_at
from orka.graph.keys import Keys, LimitKeys, QueueKeys, RateKeys
from orka.graph.models import OrchestratorKeys
from orka.graph.nodes import NO_LIMITS, Budget, Rate, SharedLimit
from orka.graph.tree import MapTree
from orka.graph.values import PERIODS, RATE
from orka.ids import QUEUE


def rate_of(keys: str | RateKeys | None) -> Rate | None:
    """Of validated keys."""
    if keys is None:
        return None
    text, burst = (keys, 1) if isinstance(keys, str) else (keys.rate, keys.burst)
    found = RATE.fullmatch(text)
    assert found is not None, "RateText lets nothing else through"
    return Rate(count=int(found[1]), seconds=PERIODS[found[2]], burst=burst)


def read_limits(
    head: MapTree, keys: OrchestratorKeys | None, findings: Findings
) -> tuple[Mapping[str, SharedLimit], Mapping[str, SharedLimit]]:
    """`limits` and `queues` of `orchestrator:`, whose keys are settled (None: they have faults)."""
    _check_names(head, "limits", LimitKeys, findings)
    _check_names(head, "queues", QueueKeys, findings)
    if keys is None:
        return NO_LIMITS, NO_LIMITS
    resources: dict[str, SharedLimit] = {}
    for name, limit in keys.limits.items():
        if limit.rate_limit is None and limit.max_concurrency is None:
            table = head.value("limits")
            at = entry_at(table, name) if isinstance(table, MapTree) else head.at
            findings.error(
                f"limit {name!r} limits nothing", at, hint="give it 'rate_limit' or 'max_concurrency'", key="limits"
            )
        resources[name] = SharedLimit(rate=rate_of(limit.rate_limit), max_concurrency=limit.max_concurrency)
    queues = {name: SharedLimit(max_concurrency=queue.max_concurrency) for name, queue in keys.queues.items()}
    return resources, queues


def read_budget(head: MapTree, keys: OrchestratorKeys | None, findings: Findings) -> Budget | None:
    """`budget` of `orchestrator:`, whose keys are settled (None: they have faults)."""
    given = None if keys is None else keys.budget
    if given is None:
        return None
    if given.usd is None and given.tokens is None and given.seconds is None:
        hint = "give it 'usd', 'tokens' or 'seconds'"
        findings.error("'budget' limits nothing", entry_at(head, "budget"), hint=hint, key="budget")
    return Budget(usd=given.usd, tokens=given.tokens, seconds=given.seconds, on_exceed=given.on_exceed)


def names_under(head: MapTree, key: str) -> tuple[str, ...]:
    """The keys of a mapping in `head`, whatever their values."""
    table = head.value(key)
    return tuple(entry.key.text for entry in table.entries) if isinstance(table, MapTree) else ()


def _check_names(head: MapTree, key: str, model: type[Keys], findings: Findings) -> None:
    table = head.value(key)
    for entry in table.entries if isinstance(table, MapTree) else ():
        name = entry.key.text
        if QUEUE.fullmatch(name) is None:
            findings.error(
                f"{name[:60]!r} is no name for an entry of {key!r}",
                entry.key.at,
                hint="use up to 64 letters, digits, '_', '-' and points",
                key=key,
            )
        if isinstance(entry.value, MapTree):
            check_keys(entry.value, (model,), findings, owner=f"{name[:60]!r} of {key!r}")
