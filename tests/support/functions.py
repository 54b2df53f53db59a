"""Functions that graphs of the tests name."""

import asyncio

import anyio

from orka.agents.base import AgentInput, AgentOutput
from orka.types import Json, NodeId


def upper(task: AgentInput) -> Json:
    return {"response": task.text.upper(), "attempt": task.attempt}


async def choose(task: AgentInput) -> AgentOutput:
    """Routes to the ids in its prompt."""
    return AgentOutput(response="chosen", next=tuple(NodeId(name) for name in task.text.split()))


async def cancel_itself(_task: AgentInput) -> Json:
    raise asyncio.CancelledError


async def fail_in_a_group(_task: AgentInput) -> Json:
    async def fail() -> None:
        raise ValueError("inside the group")

    async with anyio.create_task_group() as group:
        group.start_soon(fail)
    return None


def not_json(_task: AgentInput) -> set[int]:
    return {1}


def keys(task: AgentInput) -> Json:
    return [task.idempotency_key, task.attempt]
