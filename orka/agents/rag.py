"""`rag`: answers a question from memories: finds those that fit, and has a model answer from them, with its sources named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from pydantic import Field

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType, MemoryAccess
from orka.agents.llm import failed_answer
from orka.agents.model import Model, ModelKeys
from orka.errors import AgentError, ConfigError
from orka.graph.nodes import AgentNode
from orka.llm.recovery import without_thoughts
from orka.memory.query import Filters, MemoryQuery, Scalar
from orka.memory.record import MemoryHit
from orka.results import Failure
from orka.types import Json

_SYSTEM: Final = (
    "Answer the question from the numbered sources alone. Behind each statement name its source in square brackets, as "
    "in [2]. When the sources do not hold the answer, say that they do not."
)
_NOTHING: Final = "Nothing that is stored fits this question."
_MOST_SOURCE: Final = 4_000
"""Characters of one source that the model is shown."""


class RagOptions(ModelKeys):
    """Keys of a `rag` node."""

    namespace: str = Field(default="default", description="Memories of other namespaces are not seen.")
    top_k: int = Field(default=5, ge=1, le=100, description="Memories that the model is shown at most.")
    score_threshold: float = Field(
        default=0.25, ge=-1, le=1, description="Cosine below which a memory found by meaning is none."
    )
    query: str | None = Field(
        default=None, description="Template of what is searched for; without it, the prompt or the run's input."
    )
    metadata_filter: dict[str, Scalar | list[Scalar]] | None = Field(
        default=None, description="Scalars that the metadata must have; of a list, one."
    )
    system: str | None = Field(
        default=None, description="Template of what the model is told in place of how to use its sources."
    )
    nothing: str | None = Field(
        default=_NOTHING, description="Answer when nothing is found; `null` asks the model all the same."
    )


class RagAgent:
    """One search and one question."""

    def __init__(self, model: Model, access: MemoryAccess) -> None:
        self._model = model
        self._access = access

    async def run(self, task: AgentInput, /) -> AgentOutput:
        options = RagOptions.model_validate(dict(task.options))  # its texts are rendered now
        question = task.text.strip()
        text = (options.query or question).strip()
        if not text:
            raise AgentError("there is no question: the prompt and the run's input are empty", kind="NothingToAsk")
        memory = await self._access.opened()
        hits = await memory.search(
            MemoryQuery(
                text=text,
                limit=options.top_k,
                filters=Filters(
                    namespace=options.namespace, metadata=cast("dict[str, Scalar]", options.metadata_filter or {})
                ),
                mode="hybrid",
                least_similarity=options.score_threshold,
            )
        )
        sources: list[Json] = [_source(number, hit) for number, hit in enumerate(hits, 1)]
        facts: dict[str, Json] = {"sources": sources, "num_sources": len(sources), "query": text}
        if not hits and options.nothing is not None:
            return AgentOutput(response=options.nothing, fields={"answer": options.nothing, **facts})
        reply = await self._model.ask(
            task, prompt_of(question, hits), system=options.system or _SYSTEM, on_token=task.emit
        )
        answer = without_thoughts(reply.text) or reply.text
        return AgentOutput(
            response=answer, fields={"answer": answer, **facts, "_metrics": reply.metrics}, usage=reply.usage
        )


def prompt_of(question: str, hits: Sequence[MemoryHit]) -> str:
    """The sources, numbered from 1, and the question."""
    parts = [f"[{number}]{_about(hit)}\n{_shortened(hit.record.content)}" for number, hit in enumerate(hits, 1)]
    return "\n\n".join([f"Sources:{'' if parts else ' none'}", *parts, f"Question: {question}"])


def _about(hit: MemoryHit) -> str:
    facts = [value for key in ("file", "heading", "source") if isinstance(value := hit.record.metadata.get(key), str)]
    return f" {', '.join(fact for fact in facts if fact)}".rstrip()


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_SOURCE else f"{text[: _MOST_SOURCE - 1]}…"


def _source(number: int, hit: MemoryHit) -> dict[str, Json]:
    metadata: Mapping[str, Any] = hit.record.metadata
    return {
        "number": number,
        "key": hit.record.key,
        "content": hit.record.content,
        "score": round(hit.score, 4),
        "similarity": None if hit.similarity is None else round(hit.similarity, 4),
        "metadata": dict(metadata),
    }


def _failed(failure: Failure, at_ms: int) -> Mapping[str, Json]:
    said = failed_answer("RAGNode")(failure, at_ms)
    return {**said, "answer": said["response"], "sources": [], "num_sources": 0}


def _build(node: AgentNode, tools: AgentTools) -> Agent:
    if tools.memory is None:
        raise ConfigError(f"agent {node.id!r} is of type 'rag', and this process has opened no memory")
    return RagAgent(Model(RagOptions.model_validate(dict(node.options)), node, tools), tools.memory)


TYPE: Final = AgentType(
    name="rag",
    event_type="RAGNode",
    options=RagOptions,
    build=_build,
    on_failure=_failed,
    plain=True,
    trusted=True,
    templates=frozenset({"namespace", "query", "metadata_filter", "system"}),
    summary="Answers a question from memories, by a model that is shown those that fit.",
)
