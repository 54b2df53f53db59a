"""For testing graphs and agents without a model, a server or a network."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace
from pydantic import ValidationError

from orka.agents.base import AgentInput, AgentOutput, AgentTools, LoopView
from orka.agents.registry import Registry, default_registry
from orka.agents.values import as_output, output_value
from orka.errors import ConfigError
from orka.graph.nodes import NO_OPTIONS, AgentNode
from orka.llm.base import LLMAccess
from orka.llm.scripted import Asked, ScriptedLLM, tool_calls
from orka.search.base import Hit, SearchAccess
from orka.search.scripted import ScriptedSearch, Searched
from orka.types import Json, NodeId, Path, RunId

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Asked",
    "HashEmbedder",
    "Hit",
    "ScriptedLLM",
    "ScriptedSearch",
    "Searched",
    "example_task",
    "run_agent",
    "tool_calls",
]

_WORD = re.compile(r"\w+")


class HashEmbedder:
    """An `Embedder` that knows no language: every word counts in one place of the vector, found by its hash.

    The same text gives the same vector on every machine; texts that share words are near, all others are almost
    orthogonal.
    """

    def __init__(self, dimension: int = 256) -> None:
        if dimension < 1:
            raise ValueError(f"dimension={dimension!r} must be at least 1")
        self._dimension = dimension

    @property
    def name(self) -> str:
        return f"hash-{self._dimension}"

    @property
    def dimension(self) -> int:
        return self._dimension

    async def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Shape (len(texts), dimension), rows of length 1, zeros for a text without a word."""
        import numpy as np

        rows = np.zeros((len(texts), self._dimension), dtype=np.float32)
        for index, text in enumerate(texts):
            for word in _WORD.findall(text.lower()):
                number = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "big")
                rows[index, number // 2 % self._dimension] += 1.0 if number % 2 else -1.0
            length = float(np.linalg.norm(rows[index]))
            if length:
                rows[index] /= length
        return rows


def example_task(
    prompt: str | None = None,
    *,
    input: Json = "",
    options: Mapping[str, Json] = NO_OPTIONS,
    outputs: Mapping[str, Json] = NO_OPTIONS,
    variables: Mapping[str, Json] = NO_OPTIONS,
    loop: LoopView | None = None,
    attempt: int = 1,
) -> AgentInput:
    """What an agent would be given for its first visit as node `example` of the run `test`, on 1 January 2026."""
    return AgentInput(
        run_id=RunId("test"),
        path=Path("example"),
        node_id=NodeId("example"),
        attempt=attempt,
        input=input,
        prompt=prompt,
        outputs=outputs,
        options=options,
        variables=variables,
        loop=loop,
        now_ms=1_767_225_600_000,
    )


async def run_agent(
    type_name: str,
    task: AgentInput | str,
    *,
    tools: AgentTools | None = None,
    registry: Registry | None = None,
    llm: LLMAccess | None = None,
    search: SearchAccess | None = None,
) -> AgentOutput:
    """Builds one agent of a type as a graph would and runs it once on `task` (a text is its rendered prompt).

    `tools` default to a `HashEmbedder`, the models of `llm`, the engines of `search` and no permitted function. `ConfigError`
    for an unknown type or options that the type refuses; `AgentError` when the output is not JSON; what the agent raises
    comes through as it is.
    """
    given = example_task(task) if isinstance(task, str) else task
    entry = (registry or default_registry()).find(type_name)
    if entry is None:
        raise ConfigError(f"agent type {type_name!r} is not known")
    try:
        settled = entry.options.model_validate(dict(given.options)).model_dump(mode="json", by_alias=True)
    except ValidationError as exc:
        raise ConfigError(f"options of agent type {type_name!r}: {exc}") from exc
    given = replace(given, options={**given.options, **settled})  # as loading a file gives them
    node = AgentNode(id=given.node_id, type=entry.name, prompt=given.prompt, options=given.options)
    given_tools = tools or AgentTools(embedder=HashEmbedder(), llm=llm, search=search, scripted=llm is not None)
    output = await entry.build(node, given_tools).run(given)
    checked = as_output(output_value(output))
    return replace(output, response=checked.response, fields=checked.fields)
