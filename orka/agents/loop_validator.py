"""`loop_validator`: a model says yes or no to the criteria by which a loop goes on. Workflow-format 11.4."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType
from orka.agents.judging import STRICTNESS, input_text, questions, rationale_of, read_reply, schema_of, shown
from orka.agents.model import Model, ModelKeys
from orka.errors import AgentError
from orka.graph.nodes import AgentNode
from orka.results import Failure
from orka.scoring import CONTEXTS
from orka.scoring.reading import Criteria, complete
from orka.template.history import format_loop_metadata
from orka.types import Json

APPROVED_FROM = 0.7
"""Share of the criteria that approves."""
_PLACE = "{content}"


class LoopValidatorOptions(ModelKeys):
    """Keys of a `loop_validator` node."""

    temperature: float | None = Field(default=0.1, ge=0, le=2, description="Randomness.")
    evaluation_target: str | None = Field(
        default=None, description="Id of the agent whose output is judged; without it, everything that it can see."
    )
    scoring_preset: Literal["strict", "moderate", "lenient"] = Field(
        default="moderate", description="How severe the model is asked to be."
    )
    scoring_context: str = Field(
        default="loop_convergence",
        description="A name with `graph` or `path` in it: the criteria of paths; any other: those of loops.",
    )
    mode: Literal["loop", "path"] | None = Field(
        default=None, description="The criteria, said outright: wins over `scoring_context`."
    )
    custom_prompt: str | None = Field(
        default=None, description="In place of the usual question; `{content}` is where what is judged stands."
    )

    @field_validator("scoring_preset", "mode", mode="before")
    @classmethod
    def _bare(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @property
    def criteria(self) -> Criteria:
        mode = self.mode or ("path" if re.search("graph|path", self.scoring_context, re.IGNORECASE) else "loop")
        return CONTEXTS["graphscout" if mode == "path" else "loop_convergence"].criteria


class LoopValidatorAgent:
    """One question per call; the score is the plain share of the criteria that are met."""

    def __init__(self, options: LoopValidatorOptions, model: Model) -> None:
        self._options = options
        self._model = model
        self._criteria = options.criteria

    async def run(self, task: AgentInput, /) -> AgentOutput:
        criteria = self._criteria
        reply = await self._model.ask(task, self._prompt(task), schema=schema_of(criteria), on_token=task.emit)
        reading = await read_reply(reply, criteria)
        judged = complete(reading.evaluations, criteria)
        every = {f"{dimension}.{name}": met for dimension, inside in judged.items() for name, met in inside.items()}
        passed = [path for path, met in every.items() if met]
        failed = [path for path, met in every.items() if not met]
        score = round(len(passed) / len(every), 4)
        assessment = "APPROVED" if score >= APPROVED_FROM else "REJECTED"
        fields: dict[str, Json] = {
            "boolean_evaluations": {dimension: dict[str, Json](inside) for dimension, inside in judged.items()},
            "validation_score": score,
            "passed_criteria": list[Json](passed),
            "failed_criteria": list[Json](failed),
            "overall_assessment": assessment,
            "rationale": rationale_of(reply),
            "_metrics": reply.metrics,
        }
        if not reading.found:
            fields |= {"parse_error": True, "message": "the answer judges none of the criteria: none counts as met"}
        return AgentOutput(response=verdict(assessment, score, failed), fields=fields, usage=reply.usage)

    def _prompt(self, task: AgentInput) -> str:
        options, content = self._options, self._content(task)
        asked = f"{STRICTNESS[options.scoring_preset]}\n\n{questions(self._criteria)}"
        if options.custom_prompt is not None:
            return f"{fill(options.custom_prompt, content)}\n\n{asked}"
        loop = task.loop
        lines = ["Judge the work below by each of the criteria that follow it."]
        if loop is not None and loop.past:
            lines.append(f"Earlier rounds:\n{shown(format_loop_metadata(loop.past))}")
        elif loop is not None:
            lines.append("This is the first round: there is no earlier one to compare it with.")
        if loop is not None:
            lines.append(f"Round {loop.number}; the loop ends at a score of {loop.threshold:g}.")
        return "\n\n".join((*lines, f"The task:\n{input_text(task)}", f"The work:\n{content}", asked))

    def _content(self, task: AgentInput) -> str:
        target = self._options.evaluation_target
        if target is None:
            return shown({name: task.outputs[name] for name in task.outputs})
        if target not in task.outputs:
            raise AgentError(f"there is nothing to judge: {target!r} (evaluation_target) has given no output before")
        return shown(task.outputs[target])


def fill(prompt: str, content: str) -> str:
    """`prompt` with what is judged in its place, or behind it. Braces were doubled in prompts of OrKa 0.9, which formatted
    them; single ones stay."""
    parts = prompt.split(_PLACE)
    if "{{" in prompt:
        parts = [part.replace("{{", "{").replace("}}", "}") for part in parts]
    return f"{parts[0]}\n\n{content}" if len(parts) == 1 else content.join(parts)


def verdict(assessment: str, score: float, failed: list[str]) -> str:
    """The response: for people, for later prompts, and for loops that look for a number."""
    return f"{assessment}, score: {score:g}. " + (f"Not met: {', '.join(failed)}." if failed else "Everything is met.")


def _failed(failure: Failure, _at_ms: int) -> Mapping[str, Json]:
    return {
        "response": f"[LoopValidatorNode error: {failure.message}]",
        "boolean_evaluations": {},
        "validation_score": 0.0,
        "passed_criteria": [],
        "failed_criteria": [],
        "overall_assessment": "ERROR",
    }


def _build(node: AgentNode, tools: AgentTools) -> Agent:
    options = LoopValidatorOptions.model_validate(dict(node.options))
    return LoopValidatorAgent(options, Model(options, node, tools))


TYPE = AgentType(
    name="loop_validator",
    event_type="LoopValidatorNode",
    options=LoopValidatorOptions,
    build=_build,
    on_failure=_failed,
    trusted=True,
    summary="Has a model judge a loop's round, or a path, by yes-or-no criteria.",
)
