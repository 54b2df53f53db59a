"""What the audit stream is told of one run: that it begins, how it ended, and of each visit that was executed, if wished."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

from orka.clock import now_ms
from orka.memory.audit import Audit, Happening
from orka.results import Failure, NodeResult, RunResult, Usage
from orka.types import Json, RunStatus

OnVisit: TypeAlias = Callable[[NodeResult, int], None]
"""Called with a visit that this process has finished (the journal did not answer it) and its step."""


class RunAudit:
    """Of a run, or a branch of one, in the process that executes it. What it is given is not changed, and not kept whole."""

    __slots__ = ("_audit", "_graph", "_process", "_run")

    def __init__(self, audit: Audit, *, run: str, graph: str, process: str) -> None:
        self._audit = audit
        self._run = run
        self._graph = graph
        self._process = process

    @property
    def on_visit(self) -> OnVisit | None:
        """None where visits are not told: a step pays one comparison then."""
        return self._visited if self._audit.level == "agents" else None

    def began(self, input: Json, session: str, *, resumed: bool) -> None:
        payload: dict[str, Json] = {"status": str(RunStatus.RUNNING), "session_id": session or self._run}
        self._tell(self._graph, "run.resumed" if resumed else "run.started", payload, {"input": input})

    def ended(self, result: RunResult) -> None:
        """`visits` are those of the whole run, by status."""
        payload: dict[str, Json] = {
            "status": str(result.status),
            "execution_time_ms": result.duration_ms,
            "visits": dict[str, Json](Counter(str(visit.status) for visit in result.results)),
        }
        if result.error_path:
            payload["error_path"] = result.error_path
        _add_usage(payload, result.usage)
        shown: dict[str, Json] = {} if result.output is None else {"response": result.output}
        _add_trouble(payload, shown, result.error, result.warnings)
        self._tell(self._graph, f"run.{result.status}", payload, shown)

    def ended_idle(self, status: RunStatus, error: Failure) -> None:
        """The run ended while nobody executed it."""
        payload: dict[str, Json] = {"status": str(status)}
        shown: dict[str, Json] = {}
        _add_trouble(payload, shown, error, ())
        self._tell(self._graph, f"run.{status}", payload, shown)

    def _visited(self, result: NodeResult, step: int) -> None:
        payload: dict[str, Json] = {
            "status": str(result.status),
            "execution_time_ms": result.duration_ms,
            "attempts": result.attempts,
        }
        if result.usage is not None:
            _add_usage(payload, result.usage)
        output = result.output
        shown: dict[str, Json] = {"response": output.get("response", output) if isinstance(output, dict) else output}
        _add_trouble(payload, shown, result.error, result.warnings)
        facts: dict[str, Json] = {"step": step, "path": result.path, "fork_group": result.group}
        self._tell(result.node_id, result.event_type, payload, shown, facts)

    def _tell(
        self,
        agent_id: str,
        event_type: str,
        payload: dict[str, Json],
        shown: dict[str, Json],
        facts: dict[str, Json] | None = None,
    ) -> None:
        payload["trace_id"] = self._run
        own: dict[str, Json] = {"run_id": self._run, "process": self._process, "log_type": "log"}
        self._audit.add(
            Happening(agent_id, event_type, payload, shown, own if facts is None else facts | own, now_ms())
        )


def _add_trouble(
    payload: dict[str, Json], shown: dict[str, Json], error: Failure | None, warnings: tuple[str, ...]
) -> None:
    if error is not None:
        payload["error_type"] = error.kind
        shown["error"] = error.message
    if warnings:
        shown["warnings"] = list(warnings)


def _add_usage(payload: dict[str, Json], usage: Usage) -> None:
    """Where there is any."""
    if usage.tokens or usage.cost_usd:
        payload["token_usage"] = {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.tokens,
        }
        payload["cost_usd"] = usage.cost_usd
