"""`classify`: the label whose description is nearest to the text, by the embedding model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, model_validator

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType
from orka.embedding.base import Embedder
from orka.graph.nodes import AgentNode
from orka.types import Json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ClassifyOptions(BaseModel):
    """Keys of a `classify` node."""

    labels: list[str] | dict[str, str | list[str]] = Field(
        min_length=1,
        description="The labels: a list, or a mapping of each to a description or to several examples, of which the "
        "nearest counts.",
    )
    threshold: float | None = Field(
        default=None, ge=-1, le=1, description="Cosine similarity below which `default` is the answer."
    )
    default: str | None = Field(
        default=None, description="Answer for an empty text or below the threshold; without it, the best label."
    )

    @model_validator(mode="after")
    def _labels_say_something(self) -> ClassifyOptions:
        names = list(self.labels)
        if any(not name.strip() for name in names):
            raise ValueError("a label is empty")
        if len(set(names)) < len(names):
            raise ValueError("a label is given twice")
        if isinstance(self.labels, dict):
            for name, text in self.labels.items():
                if not text or any(not line.strip() for line in ([text] if isinstance(text, str) else text)):
                    raise ValueError(f"label {name!r} has an empty description")
        return self


class ClassifyAgent:
    """Embeds its labels once, then one text a call."""

    def __init__(self, options: ClassifyOptions, embedder: Embedder) -> None:
        self._options = options
        self._embedder = embedder
        self._texts = _descriptions(options.labels)
        self._vectors: NDArray[np.float32] | None = None

    async def run(self, task: AgentInput, /) -> AgentOutput:
        vectors = self._vectors
        if vectors is None:  # two first calls at once embed the same texts twice: harmless, and cheaper than a lock
            texts = [text for lines in self._texts.values() for text in lines]
            vectors = self._vectors = await self._embedder.embed(texts)
        similarities: list[float] = (vectors @ (await self._embedder.embed([task.text]))[0]).tolist()
        scores: dict[str, Json] = {}
        best, top, start = "", -2.0, 0
        for label, lines in self._texts.items():
            # Compared as rounded, so that the last bits of another machine's arithmetic cannot change the answer.
            score = round(max(similarities[start : start + len(lines)]), 4) + 0.0
            start += len(lines)
            scores[label] = score
            if score > top:
                best, top = label, score
        return AgentOutput(response=self._answer(best, top, any(similarities)), fields={"score": top, "scores": scores})

    def _answer(self, best: str, score: float, has_text: bool) -> str:
        options = self._options
        if options.default is None:
            return best
        near = has_text and (options.threshold is None or score >= options.threshold)
        return best if near else options.default


def _descriptions(labels: list[str] | dict[str, str | list[str]]) -> Mapping[str, list[str]]:
    if isinstance(labels, list):
        return {label: [label.replace("_", " ").replace("-", " ")] for label in labels}
    return {label: [text] if isinstance(text, str) else text for label, text in labels.items()}


def _build(node: AgentNode, tools: AgentTools) -> Agent:
    return ClassifyAgent(ClassifyOptions.model_validate(dict(node.options)), tools.embedder)


TYPE = AgentType(
    name="classify",
    event_type="ClassifyAgent",
    options=ClassifyOptions,
    build=_build,
    pure=True,
    plain=True,
    trusted=True,
    summary="Picks the label nearest to its prompt or input, by the local embedding model.",
)
