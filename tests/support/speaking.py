"""Agents that emit what they answer, and agents that cost something, for tests of tokens and budgets."""

from __future__ import annotations

import anyio
from pydantic import BaseModel

from orka.agents.base import AgentInput, AgentOutput
from orka.agents.registry import Registry
from orka.results import Usage


class SpeakerOptions(BaseModel):
    pause: float = 0.0
    """Seconds between two words."""
    fails: int = 0
    """Attempts that fail after their last word."""
    tokens: int = 0
    """That an answer costs, half of them for the prompt."""
    usd: float = 0.0
    score: float | None = None


CALLS: list[str] = []
"""Paths of all calls since the list was cleared, and whether they could emit."""


async def speak(task: AgentInput) -> AgentOutput:
    """Says its prompt word by word."""
    CALLS.append(f"{task.path} {'aloud' if task.emit else 'silent'}")
    options = SpeakerOptions.model_validate(dict(task.options))
    for word in task.text.split():
        if task.emit is not None:
            task.emit(f"{word} ")
        if options.pause:
            await anyio.sleep(options.pause)
    if task.attempt <= options.fails:
        raise ValueError("lost the thread")
    half = options.tokens // 2
    usage = Usage(prompt_tokens=half, completion_tokens=options.tokens - half, cost_usd=options.usd)
    return AgentOutput(
        response=task.text,
        fields={} if options.score is None else {"score": options.score},
        usage=usage if options.tokens or options.usd else None,
    )


def registry() -> Registry:
    """The built-in types, `speaker`, which touches the world, and `mutterer`, which does not."""
    made = Registry()
    made.agent("speaker", options=SpeakerOptions)(speak)
    made.agent("mutterer", options=SpeakerOptions, pure=True)(speak)
    return made
