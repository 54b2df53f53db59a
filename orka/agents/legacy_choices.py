"""`binary` and `classification`: by a language model where the file names one, else by words and the embedding model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import AliasChoices, Field, model_validator

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools
from orka.agents.classify import ClassifyAgent, ClassifyOptions
from orka.agents.llm import AnswerOptions, model_agent_type
from orka.agents.llm_choices import NONE_OF_THEM, choosing_agent, said_verdict
from orka.embedding.base import Embedder
from orka.graph.nodes import AgentNode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_YES: Final = ("yes, that is true", "I agree, correct", "this is good and works")
_NO: Final = ("no, that is false", "I disagree, wrong", "this is bad and fails")


class BinaryOptions(AnswerOptions):
    """Keys of a `binary` node."""

    positive: list[str] = Field(
        default=[], description="Without a model: texts that mean yes. A text is compared with these by meaning."
    )
    negative: list[str] = Field(default=[], description="Without a model: texts that mean no.")

    @model_validator(mode="after")
    def _both_or_none(self) -> BinaryOptions:
        if bool(self.positive) != bool(self.negative):
            raise ValueError("give both `positive` and `negative`, or neither")
        if any(not text.strip() for text in (*self.positive, *self.negative)):
            raise ValueError("a text of `positive` or `negative` is empty")
        return self


class ChoiceOptions(AnswerOptions):
    """Keys of a `classification` node."""

    choices: list[str] | dict[str, str | list[str]] = Field(
        default=[],
        validation_alias=AliasChoices("options", "categories", "labels"),
        serialization_alias="options",
        description="What it chooses from: a list, or a mapping of each to a description or to several examples "
        "(`categories` and `labels` are other names). Without any, a model names the category itself, and without a model "
        "everything is `not-classified`.",
    )
    threshold: float | None = Field(
        default=None, ge=-1, le=1, description="Without a model: cosine similarity below which it is `not-classified`."
    )

    @model_validator(mode="after")
    def _usable(self) -> ChoiceOptions:
        if self.choices:
            ClassifyOptions(labels=self.choices)
        return self


class UnsortedAgent:
    """There is nothing to choose from. (OrKa 0.9 gave a constant here, too.)"""

    async def run(self, task: AgentInput, /) -> AgentOutput:
        return AgentOutput(response=NONE_OF_THEM)


class BinaryAgent:
    """Says yes where the text is nearer to what means yes. Embeds its examples once."""

    def __init__(self, options: BinaryOptions, embedder: Embedder) -> None:
        self._words = not options.positive
        self._yes = options.positive or list(_YES)
        self._no = options.negative or list(_NO)
        self._embedder = embedder
        self._vectors: NDArray[np.float32] | None = None

    async def run(self, task: AgentInput, /) -> AgentOutput:
        said = said_verdict(task.text) if self._words else None
        if said is not None:
            return AgentOutput(response=said, fields={"method": "words", "score": 1.0 if said else -1.0})
        vectors = self._vectors
        if vectors is None:  # two first calls at once embed the same texts twice: harmless
            vectors = self._vectors = await self._embedder.embed([*self._yes, *self._no])
        similarities = vectors @ (await self._embedder.embed([task.text]))[0]
        yes, no = similarities[: len(self._yes)], similarities[len(self._yes) :]
        # Rounded, so that the last bits of another machine's arithmetic cannot change the answer.
        score = round(float(yes.max()) - float(no.max()), 4) + 0.0
        return AgentOutput(response=score > 0, fields={"method": "meaning", "score": score})


def _asks_a_model(keys: AnswerOptions) -> bool:
    return (keys.model or keys.model_url or keys.provider) is not None


def _build_binary(node: AgentNode, tools: AgentTools) -> Agent:
    keys = BinaryOptions.model_validate(dict(node.options))
    if _asks_a_model(keys):
        return choosing_agent(keys, node, tools, None, provider=None)
    return BinaryAgent(keys, tools.embedder)


def _build_classification(node: AgentNode, tools: AgentTools) -> Agent:
    keys = ChoiceOptions.model_validate(dict(node.options))
    if _asks_a_model(keys):
        return choosing_agent(keys, node, tools, list(keys.choices), provider=None)
    if not keys.choices:
        return UnsortedAgent()
    threshold = -1.0 if keys.threshold is None else keys.threshold
    return ClassifyAgent(
        ClassifyOptions(labels=keys.choices, threshold=threshold, default=NONE_OF_THEM), tools.embedder
    )


BINARY: Final = model_agent_type(
    "binary",
    "BinaryAgent",
    BinaryOptions,
    _build_binary,
    "Says yes or no: by the model that it names, else by words and meaning.",
)
CLASSIFICATION: Final = model_agent_type(
    "classification",
    "ClassificationAgent",
    ChoiceOptions,
    _build_classification,
    "Chooses one of several options: by the model that it names, else by meaning.",
)
