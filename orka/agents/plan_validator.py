"""`plan_validator`: a model judges a proposed path by weighted criteria. Workflow-format 11.3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from pydantic import BaseModel, Field, create_model, field_validator

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType
from orka.agents.judging import STRICTNESS, input_text, questions, rationale_of, read_reply, schema_of, shown
from orka.agents.loop_validator import verdict
from orka.agents.model import Model, ModelKeys, Reply, beside
from orka.agents.structured import StructuredOutput
from orka.errors import AgentError
from orka.graph.nodes import AgentNode
from orka.results import Failure
from orka.scoring import CONTEXTS, BooleanScoreCalculator
from orka.scoring.reading import Evaluations, infer_convergence
from orka.template.history import format_loop_metadata
from orka.types import Json

PROPOSERS: Final = (
    "graph_scout",
    "graphscout_planner",
    "graphscout_router",
    "path_proposer",
    "plan_proposer",
    "dynamic_router",
)
"""Ids whose outputs hold the proposed path, the first that is there."""
_MARKS: Final = ("decision", "decision_type", "target", "path")
"""Keys by which a proposal of any other agent is known."""
_USUAL: Final = "graphscout"
_LOOPS: Final = "loop_convergence"


def _weights_model() -> type[BaseModel]:
    """A field per criterion of every context, so that a misspelt one is reported with its place."""
    paths = dict.fromkeys(path for context in CONTEXTS.values() for path in context.weights)
    fields: dict[str, Any] = {
        path.replace(".", "__"): (float | None, Field(default=None, alias=path, ge=0, allow_inf_nan=False))
        for path in paths
    }
    return create_model("CustomWeights", **fields)


if TYPE_CHECKING:  # it is made of the table of criteria, which no type checker can read

    class CustomWeights(BaseModel): ...

else:
    CustomWeights = _weights_model()


class PlanValidatorOptions(ModelKeys):
    """Keys of a `plan_validator` node."""

    temperature: float | None = Field(default=0.2, ge=0, le=2, description="Randomness.")
    scoring_preset: Literal["strict", "moderate", "lenient"] = Field(
        default="moderate", description="How the criteria are weighed, and how severe the model is asked to be."
    )
    scoring_context: Literal["graphscout", "quality", "loop_convergence", "validation"] | None = Field(
        default=None,
        description="The criteria; without it, those that the enclosing loop scores by, else `graphscout`.",
    )
    custom_weights: CustomWeights | None = Field(
        default=None, description="`dimension.criterion` -> weight in place of the preset's."
    )
    structured_output: StructuredOutput | None = Field(
        default=None, description="How JSON is asked for: `mode`, and `enabled: false` to ask in words alone."
    )

    @field_validator("scoring_preset", "scoring_context", mode="before")
    @classmethod
    def _bare(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("structured_output", mode="before")
    @classmethod
    def _switched(cls, value: object) -> object:
        return {"enabled": value} if isinstance(value, bool) else value


class PlanValidatorAgent:
    """One question per call, scored by the calculator of its preset."""

    def __init__(self, options: PlanValidatorOptions, model: Model) -> None:
        self._options = options
        self._model = model
        given = options.custom_weights
        self._weights: dict[str, float] = {} if given is None else given.model_dump(by_alias=True, exclude_none=True)
        self._forms = options.structured_output is None or options.structured_output.enabled is not False

    async def run(self, task: AgentInput, /) -> AgentOutput:
        calculator = self._calculator(task)
        schema = schema_of(calculator.criteria) if self._forms else None
        reply = await self._model.ask(task, self._prompt(task, calculator), schema=schema, on_token=task.emit)
        evaluations, found = await _judgements(reply, calculator)
        result = calculator.calculate(evaluations)
        failed, score = cast("list[str]", result["failed_criteria"]), cast(float, result["score"])
        assessment = cast(str, result["assessment"])
        fields: dict[str, Json] = {
            "validation_score": score,
            "overall_assessment": assessment,
            "boolean_evaluations": {dimension: dict[str, Json](inside) for dimension, inside in evaluations.items()},
            "breakdown": result["breakdown"],
            "passed_criteria": result["passed_criteria"],
            "failed_criteria": result["failed_criteria"],
            "dimension_scores": result["dimension_scores"],
            "rationale": rationale_of(reply),
            "scoring_preset": calculator.preset,
            "scoring_context": calculator.context,
            "_metrics": reply.metrics,
        }
        if not found:
            fields |= {"parse_error": True, "message": "the answer judges none of the criteria: none counts as met"}
        return AgentOutput(response=verdict(assessment, score, failed), fields=fields, usage=reply.usage)

    def _calculator(self, task: AgentInput) -> BooleanScoreCalculator:
        around = task.loop.scoring if task.loop is not None else ""
        context = self._options.scoring_context or around or _USUAL
        weights = {path: weight for path, weight in self._weights.items() if path in CONTEXTS[context].weights}
        return BooleanScoreCalculator(self._options.scoring_preset, context, weights)

    def _prompt(self, task: AgentInput, calculator: BooleanScoreCalculator) -> str:
        proposal = find_proposal(task.outputs)
        if proposal is None:
            raise AgentError("there is no proposed path to judge: no agent has given an output before")
        parts = [
            "Judge whether the proposed path of agents would answer the query well, by each of the criteria that follow.",
            f"The query:\n{input_text(task)}",
            f"The proposed path:\n{shown(proposal)}",
        ]
        if task.loop is not None and task.loop.past:
            parts.append(
                "Earlier rounds and what was said of them (judge what is proposed now, and whether it has learned):\n"
                + shown(format_loop_metadata(task.loop.past))
            )
        return "\n\n".join((*parts, STRICTNESS[calculator.preset], questions(calculator.criteria)))


def find_proposal(outputs: Mapping[str, Json]) -> Json:
    """The proposed path among earlier outputs: of a proposer by name, else of whoever decides something, else all of
    them. None when there are none."""
    for name in PROPOSERS:
        if outputs.get(name) is not None:
            return outputs[name]
    for name in outputs:
        output = outputs[name]
        places = [output, *(output.get(key) for key in ("response", "result"))] if isinstance(output, dict) else []
        if any(isinstance(place, dict) and any(mark in place for mark in _MARKS) for place in places):
            return output
    return {name: outputs[name] for name in outputs} or None


async def _judgements(reply: Reply, calculator: BooleanScoreCalculator) -> tuple[Evaluations, int]:
    """What the answer says of the criteria, and of how many. Of a loop's criteria, wordings tell when it names hardly
    any."""
    reading = await read_reply(reply, calculator.criteria)
    if calculator.context != _LOOPS or reading.found > 1:
        return reading.evaluations, reading.found
    inferred = await beside(reply.text, infer_convergence, reply.text)
    known = {name: met for inside in reading.evaluations.values() for name, met in inside.items()}
    merged = {**inferred, **known}
    found = reading.found or sum(merged.values())
    return {dimension: {n: merged[n] for n in names} for dimension, names in calculator.criteria.items()}, found


def _failed(failure: Failure, _at_ms: int) -> Mapping[str, Json]:
    return {
        "response": f"[PlanValidatorAgent error: {failure.message}]",
        "validation_score": 0.0,
        "overall_assessment": "REJECTED",
        "boolean_evaluations": {},
        "breakdown": {},
        "passed_criteria": [],
        "failed_criteria": [],
        "dimension_scores": {},
        "rationale": "",
    }


def _build(node: AgentNode, tools: AgentTools) -> Agent:
    options = PlanValidatorOptions.model_validate(dict(node.options))
    own = options.structured_output
    return PlanValidatorAgent(options, Model(options, node, tools, mode=(own and own.mode) or "auto"))


TYPE = AgentType(
    name="plan_validator",
    event_type="PlanValidatorAgent",
    options=PlanValidatorOptions,
    build=_build,
    on_failure=_failed,
    trusted=True,
    summary="Has a model judge a proposed path of agents by weighted yes-or-no criteria.",
)
