"""`template`: the rendered prompt is the response. No model, no side effect."""

from __future__ import annotations

from pydantic import BaseModel

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType
from orka.graph.nodes import AgentNode


class TemplateOptions(BaseModel):
    """No keys of its own: the prompt says it all."""


class TemplateAgent:
    """Gives the prompt back; without one, the text of the run's input."""

    async def run(self, task: AgentInput, /) -> AgentOutput:
        return AgentOutput(response=task.text)


def _build(_node: AgentNode, _tools: AgentTools) -> Agent:
    return TemplateAgent()


TYPE = AgentType(
    name="template",
    event_type="TemplateAgent",
    options=TemplateOptions,
    build=_build,
    pure=True,
    plain=True,
    trusted=True,
    summary="Renders its prompt; the text is the response.",
)
