"""`failing`: raises, always or only at first. For trying retries and failovers out."""

from __future__ import annotations

import anyio
from pydantic import BaseModel, Field

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType
from orka.errors import AgentError
from orka.graph.nodes import AgentNode


class FailingOptions(BaseModel):
    """Keys of a `failing` node."""

    message: str = Field(default="this node always fails", description="Message of the error.")
    kind: str = Field(
        default="AgentError", min_length=1, description="Class name of the error, as `retry.on` reads it."
    )
    times: int | None = Field(
        default=None, ge=0, description="Attempts that fail before it succeeds; without it, every one."
    )
    delay: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="Seconds to wait first.")


class FailingAgent:
    """Counts by the attempt number that it is given, so a crash between attempts changes nothing."""

    def __init__(self, options: FailingOptions) -> None:
        self._options = options

    async def run(self, task: AgentInput, /) -> AgentOutput:
        options = self._options
        if options.delay:
            await anyio.sleep(options.delay)
        if options.times is None or task.attempt <= options.times:
            raise AgentError(options.message, kind=options.kind, run_id=task.run_id, path=task.path)
        return AgentOutput(response=task.text, fields={"attempt": task.attempt})


def _build(node: AgentNode, _tools: AgentTools) -> Agent:
    return FailingAgent(FailingOptions.model_validate(dict(node.options)))


TYPE = AgentType(
    name="failing",
    event_type="FailingNode",
    options=FailingOptions,
    build=_build,
    pure=True,
    plain=True,
    trusted=True,
    summary="Raises an error: always, or only the first attempts.",
)
