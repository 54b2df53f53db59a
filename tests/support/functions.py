"""Functions that graphs of the tests name."""

import asyncio
import sys

import anyio

from orka.agents.base import AgentInput, AgentOutput
from orka.results import Usage
from orka.types import Json, NodeId


def upper(task: AgentInput) -> Json:
    return {"response": task.text.upper(), "attempt": task.attempt}


def guarded(_task: AgentInput) -> Json:
    """What a validating agent of OrKa 0.9 gave."""
    return {"response": "fine", "memory_object": {"claim": "tea is green", "analysis_type": "facts", "confidence": 0.9}}


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


def misleading(task: AgentInput) -> AgentOutput:
    """What types forbid and Python lets through, as its prompt says."""
    match task.text:
        case "next is a text":
            return AgentOutput(response="x", next="end")  # type: ignore[arg-type]
        case "next has numbers":
            return AgentOutput(response="x", next=[1])  # type: ignore[arg-type]
        case "cost is not a number":
            return AgentOutput(response="x", usage=Usage(cost_usd=float("nan")))
        case "tokens are a text":
            return AgentOutput(response="x", usage=Usage(prompt_tokens="many"))  # type: ignore[arg-type]
        case "usage is a dict":
            return AgentOutput(response="x", usage={"prompt_tokens": 1})  # type: ignore[arg-type]
        case _:
            return AgentOutput(response="x", fields={1: "y"})  # type: ignore[dict-item]


def unreadable(_task: AgentInput) -> Json:
    raise FileNotFoundError("caf\udce9")


class Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def speechless(_task: AgentInput) -> Json:
    raise Speechless


def leave(_task: AgentInput) -> Json:
    sys.exit(3)


async def leave_at_once(_task: AgentInput) -> Json:
    sys.exit("gone")


async def interrupt(_task: AgentInput) -> Json:
    raise KeyboardInterrupt


async def stop_generating(_task: AgentInput) -> Json:
    raise GeneratorExit


def not_json(_task: AgentInput) -> set[int]:
    return {1}


def keys(task: AgentInput) -> Json:
    return [task.idempotency_key, task.attempt]


def loop_of(task: AgentInput) -> str:
    """The loop around it, as text."""
    return str(task.loop)
