"""`BaseAgent`: the class that agents written for OrKa 0.9 inherit from. They run as they are once they are registered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from orka.agents.base import AgentInput
from orka.errors import AgentError
from orka.types import Json


class BaseAgent:
    """Subclasses implement `async def _run_impl(self, ctx)`; `register_agent_type(name, cls)` makes them a type of graph files.

    `ctx` is a dict with `input`, `previous_outputs`, `formatted_prompt`, `run_id`, `trace_id`, `step_input` (the input
    again) and the variables of a map or loop. What `_run_impl` gives is the result: a dict with `response` as a whole, a
    dict with `result` by that, anything else as the response. Timeouts and limits are the graph's business now.
    """

    def __init__(
        self,
        agent_id: str,
        registry: object = None,
        prompt: str | None = None,
        queue: str | None = None,
        timeout: float | None = None,
        max_concurrency: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.agent_id = agent_id
        self.registry = registry
        self.prompt = prompt
        self.queue = queue
        self.timeout = timeout
        self.max_concurrency = max_concurrency
        self.params: dict[str, Any] = kwargs
        """The other keys of the node."""

    async def run(self, task: AgentInput | Mapping[str, Any], /) -> object:
        """Called by the runtime with an `AgentInput`; a mapping is a `ctx` at hand."""
        ctx = context_of(task) if isinstance(task, AgentInput) else dict(task)
        return _result_of(await self._run_impl(ctx))

    async def _run_impl(self, ctx: dict[str, Any]) -> object:
        raise NotImplementedError(f"{type(self).__name__} needs `async def _run_impl(self, ctx)`")


def context_of(task: AgentInput) -> dict[str, Any]:
    """What OrKa 0.9 gave to agents, as far as agents can have used it."""
    return {
        **task.variables,
        "input": task.input,
        "step_input": task.input,
        "previous_outputs": dict(task.outputs),
        "formatted_prompt": task.text,
        "prompt": task.prompt,
        "run_id": task.run_id,
        "trace_id": task.run_id,
    }


def _result_of(value: object) -> object:
    """An envelope of 0.9 (`result`, `status`, ...) is opened; one that says that it failed, fails."""
    if not isinstance(value, Mapping):
        return value
    envelope = cast("dict[str, Json]", value)
    if "response" in envelope or not {"result", "status"} <= envelope.keys():
        return envelope
    if envelope["status"] == "error":
        raise AgentError(str(envelope.get("error") or "the agent says that it failed"), kind="AgentError")
    return envelope["result"]
