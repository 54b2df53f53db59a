"""An agent type that a process has only when this module is imported."""

from orka.agents.base import AgentInput
from orka.agents.registry import agent
from orka.types import Json


@agent("spare")
async def spare(task: AgentInput) -> Json:
    return f"spare for {task.path}"
