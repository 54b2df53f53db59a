"""`echo`: gives back what it is given, after a delay if asked. For trying graphs out."""

from __future__ import annotations

import anyio
from pydantic import BaseModel, Field, JsonValue

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType
from orka.agents.values import as_output, copy_json
from orka.graph.nodes import AgentNode


class EchoOptions(BaseModel):
    """Keys of an `echo` node."""

    value: JsonValue = Field(
        default=None,
        description="What to give instead: a mapping with `response` is the whole result; `null` counts as not given.",
    )
    delay: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="Seconds to wait first.")


class EchoAgent:
    """Gives `value` if the file has one, else the prompt, else the run's input as it is."""

    def __init__(self, options: EchoOptions) -> None:
        self._delay = options.delay
        self._output = None if options.value is None else as_output(options.value)

    async def run(self, task: AgentInput, /) -> AgentOutput:
        if self._delay:
            await anyio.sleep(self._delay)
        if self._output is not None:
            return AgentOutput(
                response=copy_json(self._output.response),
                fields={name: copy_json(value) for name, value in self._output.fields.items()},
            )
        return AgentOutput(response=task.input if task.prompt is None else task.prompt)


def _build(node: AgentNode, _tools: AgentTools) -> Agent:
    return EchoAgent(EchoOptions.model_validate(dict(node.options)))


TYPE = AgentType(
    name="echo",
    event_type="EchoAgent",
    options=EchoOptions,
    build=_build,
    pure=True,
    plain=True,
    trusted=True,
    summary="Gives back its prompt, its input or a fixed value.",
)
