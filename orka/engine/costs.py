"""What a run's models were asked and what that cost, told from its results. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from orka.results import NodeResult
from orka.types import Json, NodeId, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A visit that asked a model, however often it had to."""

    node_id: NodeId
    model: str
    provider: str
    prompt_tokens: int
    completion_tokens: int
    tokens: int
    """At least the two together."""
    cost_usd: float
    latency_ms: float
    failed: bool


class Sum(msgspec.Struct):
    """Of some calls."""

    calls: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    latency_ms: float = 0.0
    failed: int = 0

    def add(self, call: Call) -> None:
        self.calls += 1
        self.tokens += call.tokens
        self.prompt_tokens += call.prompt_tokens
        self.completion_tokens += call.completion_tokens
        self.cost_usd += call.cost_usd
        self.latency_ms += call.latency_ms
        self.failed += call.failed

    def shown(self) -> dict[str, Json]:
        """As trace files have it: the mean of the latencies (milliseconds) for their sum, dollars to a billionth."""
        return {
            "calls": self.calls,
            "tokens": self.tokens,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_usd": round(self.cost_usd, 9),
            "avg_latency_ms": round(self.latency_ms / self.calls, 3) if self.calls else 0.0,
            "failed_calls": self.failed,
        }


def find_calls(results: Sequence[NodeResult]) -> list[Call]:
    """The visits that tell of a model: by their usage, or by `_metrics` that name one. Inner visits count, what only holds
    them (a loop, a join) does not."""
    return [call for result in results if (call := _call_of(result)) is not None]


def total(calls: Sequence[Call]) -> Sum:
    whole = Sum()
    for call in calls:
        whole.add(call)
    return whole


def sums_by(calls: Sequence[Call], name: Callable[[Call], str]) -> dict[str, Sum]:
    """By what `name` gives for each, in order of the first call."""
    sums: dict[str, Sum] = {}
    for call in calls:
        sums.setdefault(name(call) or "unknown", Sum()).add(call)
    return sums


def cost_analysis(calls: Sequence[Call]) -> dict[str, Json]:
    """Of a trace file."""
    by_agent = sums_by(calls, lambda call: call.node_id)
    whole = total(calls).shown()
    summary: dict[str, Json] = {
        "total_agents": len(by_agent),
        "total_calls": whole["calls"],
        "failed_calls": whole["failed_calls"],
        "total_tokens": whole["tokens"],
        "prompt_tokens": whole["prompt_tokens"],
        "completion_tokens": whole["completion_tokens"],
        "total_cost_usd": whole["cost_usd"],
        "avg_latency_ms": whole["avg_latency_ms"],
    }
    return {
        "summary": summary,
        "agents": {name: found.shown() for name, found in by_agent.items()},
        "by_model": {name: found.shown() for name, found in sums_by(calls, lambda call: call.model).items()},
        "by_provider": {name: found.shown() for name, found in sums_by(calls, lambda call: call.provider).items()},
    }


def _call_of(result: NodeResult) -> Call | None:
    output = result.output
    metrics = output.get("_metrics") if isinstance(output, dict) else None
    metrics = metrics if isinstance(metrics, dict) else {}
    usage = result.usage
    if usage is None and not metrics.get("model"):
        return None
    prompt = usage.prompt_tokens if usage is not None else _count(metrics, "prompt_tokens")
    completion = usage.completion_tokens if usage is not None else _count(metrics, "completion_tokens")
    return Call(
        node_id=result.node_id,
        model=_text(metrics.get("model")),
        provider=_text(metrics.get("provider")),
        prompt_tokens=prompt,
        completion_tokens=completion,
        tokens=max(prompt + completion, _count(metrics, "tokens")),
        cost_usd=usage.cost_usd if usage is not None else _amount(metrics, "cost_usd"),
        latency_ms=_amount(metrics, "latency_ms") or result.duration_ms,
        failed=result.status is Status.ERROR or metrics.get("error") is True,
    )


def _amount(metrics: Mapping[str, Json], key: str) -> float:
    value = metrics.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


def _count(metrics: Mapping[str, Json], key: str) -> int:
    return int(_amount(metrics, key))


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""
