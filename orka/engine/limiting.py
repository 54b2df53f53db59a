"""What the calls of an agent, and the tasks of a queue, have to wait for: from a graph to named limits."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass

import anyio

from orka.agents.base import AgentInput
from orka.dispatch.gate import queue_limit
from orka.dispatch.limits import Limit, Limits
from orka.engine.away import Away
from orka.graph.graph import Graph
from orka.graph.nodes import AgentNode, Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLimits:
    """Of one agent. Always in the same order, so that no two calls wait for each other."""

    here: anyio.CapacityLimiter | None
    """`max_concurrency` where the whole run is in this process: costs nothing."""
    shared: tuple[Limit, ...]
    """Besides `here`."""
    in_fleet: tuple[Limit, ...]
    """Instead of both, where several processes execute the run."""

    def holding(
        self, limits: Limits | None, away: Away | None, task: AgentInput
    ) -> AbstractAsyncContextManager[object]:
        """Waits when entered, then holds everything for one call."""
        alone = away is None or not away.in_fleet
        wanted = self.shared if alone else self.in_fleet
        if not wanted:
            return self.here or nullcontext()
        assert limits is not None, "services have them"
        shared = limits.holding(wanted, task.run_id, task.path)
        return shared if not alone or self.here is None else _both(self.here, shared)


@asynccontextmanager
async def _both(
    first: AbstractAsyncContextManager[object], second: AbstractAsyncContextManager[object]
) -> AsyncGenerator[None]:
    async with first, second:
        yield


def limits_of(graph: Graph, node: AgentNode) -> StepLimits | None:
    """None for an agent without limits."""
    most, rate, resource = node.max_concurrency, node.rate_limit, _resource(graph, node)
    if most is None and rate is None and resource is None:
        return None
    name = f"agent:{graph.id}/{node.id}"
    others = () if resource is None else (resource,)
    turns = () if rate is None else (_limit(name, None, rate),)
    own = () if most is None and rate is None else (_limit(name, most, rate),)
    return StepLimits(
        here=None if most is None else anyio.CapacityLimiter(most), shared=turns + others, in_fleet=own + others
    )


def most_under_way(graph: Graph, queue: str) -> int:
    """Tasks of a queue at once, as the graph says; 0: any number."""
    limit = graph.limits.queues.get(queue)
    return limit.max_concurrency or 0 if limit is not None else 0


def all_limits(graph: Graph) -> dict[str, Limit]:
    """Every limit that a run of the graph may wait for, by name, whatever process executes it."""
    found = [queue_limit(queue, most_under_way(graph, queue)) for queue in graph.limits.queues]
    for node in graph.nodes():
        if isinstance(node, AgentNode) and (limits := limits_of(graph, node)) is not None:
            found += limits.in_fleet
    return {limit.name: limit for limit in found}


def _resource(graph: Graph, node: AgentNode) -> Limit | None:
    shared = graph.limits.resources.get(node.resource) if node.resource is not None else None
    return None if shared is None else _limit(f"resource:{node.resource}", shared.max_concurrency, shared.rate)


def _limit(name: str, most: int | None, rate: Rate | None) -> Limit:
    if rate is None:
        return Limit(name=name, most=most or 0)
    return Limit(name=name, most=most or 0, interval=round(rate.seconds * 1_000_000 / rate.count), burst=rate.burst)
