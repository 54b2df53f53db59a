"""The agent of the random graphs: deterministic, it fails as often as its node says, and every call is written down.

Its answer depends on everything that it is shown, so that a visit which sees the wrong outputs gives itself away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import anyio
from pydantic import BaseModel

from orka.agents.base import AgentInput, AgentOutput
from orka.agents.registry import Registry
from orka.errors import AgentError
from orka.types import NodeId

ALWAYS = 99
"""`fails` of a probe that never succeeds."""
_VOLATILE = {"timestamp", "past_loops", "formatted_prompt", "error", "input", "internal_reasoning", "errors"}
"""Keys that hold times, texts of errors, or what is compared elsewhere."""


class ProbeOptions(BaseModel):
    reads: list[str] = []
    """Ids whose outputs the answer depends on."""
    fails: int = 0
    """Attempts that fail before one succeeds."""
    base: float | None = None
    """Gives `score`: this plus a tenth per round of the enclosing loop, whose number is the prompt's last word."""
    size: int = 0
    """Gives `items`: a list of so many texts."""
    route: str | None = None
    """Gives `route`."""
    delay: float = 0.0
    pure: bool = True
    proposes: list[str] | None = None
    """Gives `target`: a path for an executor."""
    goes: list[str] = []
    """Ids that it chooses to run next."""
    once: bool = False
    """They are taken out of what waits."""


@dataclass(frozen=True)
class Call:
    path: str
    attempt: int
    key: str
    now_ms: int
    prompt: str | None
    pure: bool


CALLS: list[Call] = []
"""Every call since the list was cleared."""
CURED: set[str] = set()
"""Ids of nodes that do not fail any more."""


def clean(value: Any) -> Any:
    """An output without what differs between two equal runs."""
    if isinstance(value, dict):
        return {key: clean(item) for key, item in value.items() if key not in _VOLATILE}
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, str) and value.startswith("All children failed"):
        return "All children failed"
    return value


def behave(node_id: str, options: Mapping[str, Any], attempt: int, prompt: str | None, seen: Mapping[str, Any]) -> Any:
    """What a probe gives, or the error it raises. Used by the agent and by the reference."""
    if attempt <= options.get("fails", 0) and node_id not in CURED:
        raise AgentError(f"{node_id} fails", kind="ProbeError")
    shown = [clean(seen[name]) if name in seen else None for name in options.get("reads", [])]
    digest = blake2b(json.dumps([shown, prompt], sort_keys=True).encode(), digest_size=4).hexdigest()
    output: dict[str, Any] = {"response": f"{node_id}:{digest}"}
    if options.get("base") is not None:
        output["score"] = round(options["base"] + int((prompt or "1").split()[-1]) / 10, 3)
    if options.get("size"):
        output["items"] = [f"{node_id}-{number}" for number in range(options["size"])]
    if options.get("route") is not None:
        output["route"] = options["route"]
    if options.get("proposes") is not None:
        output |= {"decision": "commit_path", "target": options["proposes"]}
    return output


async def _probe(task: AgentInput) -> AgentOutput:
    options = dict(task.options)
    CALLS.append(
        Call(task.path, task.attempt, task.idempotency_key, task.now_ms, task.prompt, bool(options.get("pure", True)))
    )
    if options.get("delay"):
        await anyio.sleep(options["delay"])
    given = behave(task.node_id, options, task.attempt, task.prompt, task.outputs)
    goes = tuple(NodeId(name) for name in options.get("goes") or ())
    return AgentOutput(
        response=given.pop("response"), fields=given, next=goes or None, once=bool(options.get("once", False))
    )


def registry() -> Registry:
    """The built-in types and `probe`."""
    made = Registry()
    made.agent("probe", options=ProbeOptions)(_probe)
    return made
