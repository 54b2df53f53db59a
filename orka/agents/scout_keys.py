"""The keys of a `graph-scout` node."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, Field, field_validator

from orka.agents.scouting.safety import Guard
from orka.agents.scouting.scoring import DEFAULT_WEIGHTS, Bar


class ScoutOptions(BaseModel):
    """Keys of a `graph-scout` node."""

    k_beam: int = Field(default=3, ge=1, le=50, description="Paths that are kept of all that were scored.")
    max_depth: int = Field(
        default=2, ge=1, le=10, description="Agents of a path, beside the one that writes the answer."
    )
    commit_margin: float = Field(default=0.15, ge=0, le=1, description="Lead in score that the best path needs.")
    score_weights: dict[str, float] = Field(
        default=dict(DEFAULT_WEIGHTS),
        description="Weights of `llm`, `heuristics`, `prior`, `cost`, `latency`, `compliance` and `brain`.",
    )
    cost_budget_tokens: float = Field(default=800, ge=0, description="Tokens that a path may take.")
    latency_budget_ms: float = Field(default=1200, ge=0, description="Milliseconds that a path may take.")
    require_terminal: bool = Field(
        default=True, description="A path ends with an agent that writes the answer, if there is one."
    )
    safety_profile: Guard = Field(default="default", description="How strictly questions and agents are judged.")
    safety_threshold: float = Field(
        default=0.2, ge=0, le=1, description="Part of the safety score that may be missing."
    )
    max_preview_tokens: int = Field(default=192, ge=0, le=10_000, description="Of each agent's prompt, looked at.")
    optimal_path_length: list[int] = Field(
        default=[2, 3], min_length=2, max_length=2, description="Lengths, from and to, that the prior likes best."
    )
    reroute: bool | None = Field(
        default=None,
        description="Run what was chosen. Without it: unless a path executor reads the decision, or a plan validator stands "
        "in the same list.",
    )
    llm_evaluation_enabled: bool = Field(default=False, description="A model judges the paths.")
    fallback_to_heuristics: bool = Field(default=True, description="When the model cannot be asked, words judge them.")
    evaluation_batch: int = Field(
        default=50, ge=1, le=50, description="Paths that one call judges; further calls run at the same time."
    )
    evaluation_concurrency: int = Field(default=5, ge=1, le=50, description="Such calls at once.")
    evaluation_model_name: str | None = Field(
        default=None,
        validation_alias=AliasChoices("evaluation_model_name", "model", "llm_model"),
        description="Name of the model.",
    )
    evaluation_model: str | None = Field(default=None, description="Accepted: what kind of agent the model is.")
    validation_model: str | None = Field(default=None, description="Accepted: one call judges and validates.")
    validation_model_name: str | None = Field(default=None, description="Accepted, as `validation_model`.")
    provider: str | None = Field(
        default=None,
        validation_alias=AliasChoices("provider", "llm_provider"),
        description="Of the model, as for `llm`.",
    )
    model_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("model_url", "llm_url", "base_url", "url"),
        description="Address of the model's server.",
    )
    api_key_env: str | None = Field(
        default=None, description="Environment variable that holds the key for this server."
    )
    temperature: float | None = Field(default=None, ge=0, le=2, description="Randomness of the model.")
    scoring_mode: Literal["numeric", "boolean"] = Field(
        default="numeric", description="A weighted sum, or the share of criteria that hold."
    )
    scoring_preset: Literal["strict", "moderate", "lenient"] = Field(
        default="moderate", description="Weights of the criteria (boolean)."
    )
    strict_mode: bool = Field(default=False, description="Too few important criteria refuse a path (boolean).")
    require_critical: bool = Field(default=True, description="A critical criterion refuses a path (boolean).")
    important_threshold: float = Field(
        default=0.8, ge=0, le=1, description="Share of important criteria that `strict_mode` asks for."
    )
    include_nice_to_have: bool = Field(default=True, description="Criteria that are merely nice count (boolean).")
    min_success_rate: float = Field(default=0.7, ge=0, le=1, description="Of skills and of inputs at hand (boolean).")
    min_domain_overlap: float = Field(default=0.3, ge=0, le=1, description="Of a path with the question (boolean).")
    max_acceptable_cost: float = Field(default=0.1, ge=0, description="US dollars of a path (boolean).")
    max_acceptable_latency: float = Field(default=10_000, ge=0, description="Milliseconds of a path (boolean).")
    brain_assisted: bool = Field(
        default=False, description="Paths that the brain has learned for such tasks count more."
    )
    brain_boost_weight: float = Field(default=0.15, ge=0, le=1, description="What a learned path adds to the score.")

    @field_validator("optimal_path_length", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        """Old files write it as a tuple in text: `(2, 3)`."""
        if isinstance(value, str):
            return [int(part) for part in value.strip("()[] ").split(",")]
        return value

    @property
    def bar(self) -> Bar:
        return Bar(
            strict=self.strict_mode,
            require_critical=self.require_critical,
            important=self.important_threshold,
            nice=self.include_nice_to_have,
            success=self.min_success_rate,
            overlap=self.min_domain_overlap,
            cost_usd=self.max_acceptable_cost,
            latency_ms=self.max_acceptable_latency,
        )
