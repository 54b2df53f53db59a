"""The keys of a graph file, as pydantic models: the one source of validation, key reference and JSON Schema.

The docstrings are what users read there. Only files are parsed with these; the runtime uses `nodes.py`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from orka.graph.keys import BudgetKeys, ControlKeys, Keys, LimitKeys, QueueKeys, RetryKeys
from orka.graph.values import (
    Attempts,
    Ignored,
    Label,
    Names,
    Number,
    Positive,
    Rounds,
    Seconds,
    SomeNames,
    Texts,
    Variable,
)


class RouterKeys(ControlKeys):
    """Picks the agents that run next by an earlier output. The rest of the list runs afterwards."""

    decision_key: str
    """Id of the earlier node whose output decides; `id.field` reaches into it."""
    routing_map: dict[str, Names]
    """Value -> id or list of ids. The key `default` is used when nothing else fits."""
    fallback_route: Names = None
    """Ids to run when no key of `routing_map` fits; wins over `default`."""


class ForkKeys(ControlKeys):
    """Starts branches. A `join` waits for them."""

    targets: list[Any] = Field(min_length=1)
    """One item per branch: an id, or a list of ids that run in order. A list inside such a list is a fork of its own,
    awaited before the next member."""
    mode: Literal["parallel", "sequential"] = "parallel"
    """`sequential`: one branch after another in declared order, later ones seeing the outputs of earlier ones."""
    group: Ignored = None
    """Accepted and ignored: a join names the fork's `id`."""


class JoinKeys(ControlKeys):
    """Waits for a fork and collects its branches' outputs."""

    group: Names = None
    """Id of the fork. May be left out when there is exactly one."""
    mode: Literal["all", "any", "quorum"] = "all"
    """`any`: the first branch that succeeds is enough and the others are cancelled; `quorum`: `min_success` are."""
    min_success: Positive | None = None
    """Branches that must succeed, with `mode: quorum`."""
    on_failure: Literal["continue", "fail"] = "continue"
    """`fail`: one failed branch fails the join (with `mode: all`)."""
    max_retries: Ignored = None
    """Accepted and ignored: a join waits, it does not poll."""


class FailoverKeys(ControlKeys):
    """Tries its children in order until one gives a valid result."""

    children: list[Any] = Field(min_length=1)
    """Agents in the form of `agents:`, or ids of agents defined there."""


class PathExecutorKeys(ControlKeys):
    """Runs the agents that an earlier output proposes, one after another."""

    path_source: str = "validated_path"
    """Where the proposal is: the id of an earlier node, or a dotted path into its output. A list of ids, the decision of a
    `graph-scout`, text that holds one of these, or a loop inside which one was made."""
    on_agent_failure: Literal["continue", "abort"] = "continue"
    """`abort`: the first agent that fails ends the path."""
    input_source: str | None = None
    """Dotted path to what the agents see as `input` in place of the run's."""


class ScoringKeys(Keys):
    """Boolean scoring of a loop: yes-or-no judgements among a round's results (`boolean_evaluations`) make its score."""

    preset: str | None = None
    """`strict`, `moderate` or `lenient`: how the criteria are weighed. Without it there is no boolean scoring."""
    context: str = "loop_convergence"
    """Set of criteria: `loop_convergence`, `quality`, `validation` or `graphscout`."""
    custom_weights: dict[str, Number] | None = None
    """`dimension.criterion` -> weight in place of the preset's; all weights are then brought to the sum 1."""
    mode: Ignored = None
    """Accepted and ignored."""


class StrategyKeys(Keys):
    """One way to find a round's score."""

    type: Literal["direct_key", "pattern", "agent_key"]
    """`direct_key`: a key of the round's results; `pattern`: a regular expression on the agents' texts; `agent_key`:
    the expressions on one field of named agents."""
    key: str | None = None
    """direct_key: the key; agent_key: the field, `response` unless given."""
    patterns: Texts = []
    """Regular expressions; the first group counts, else the whole match."""
    agents: Texts = []
    """agent_key: ids of the agents."""
    transform: Ignored = None
    """Accepted and ignored."""


class ScoreExtractionKeys(Keys):
    """Where a loop finds its score."""

    strategies: list[StrategyKeys] = []
    """Tried in order (see [score strategy](#score-strategy))."""
    agreement_fallback: bool = False
    """When nothing is found, use how similar the responses are: the mean cosine of their vectors, two by two."""


class CognitionKeys(Keys):
    """What a loop learns from the texts of a round."""

    enabled: bool = True
    """`false` switches it off."""
    extract_patterns: dict[str, Texts] = {}
    """Category (`insights`, `improvements`, `mistakes`) -> regular expressions; group 1 is kept."""
    max_length_per_category: Positive = 300
    """Characters kept per category."""
    agent_priorities: Ignored = None
    """Accepted and ignored."""


class LoopKeys(ControlKeys):
    """Runs an inner workflow in rounds until its score reaches a threshold."""

    internal_workflow: dict[str, Any]
    """The body: `orchestrator:` with its own `agents` list, and `agents:`. Agents of the outer file may be named."""
    max_loops: Rounds = 5
    """Rounds at most."""
    score_threshold: Number = 0.8
    """Score, 0 to 1, that ends the loop."""
    score_extraction_config: ScoreExtractionKeys | None = None
    """Where the score is found (see [score extraction](#score-extraction)); without it, the usual wordings."""
    score_extraction_pattern: str | None = None
    """Short form: one regular expression."""
    score_extraction_key: str | None = None
    """Short form: one key of the round's results."""
    high_priority_agents: Texts = []
    """Ids whose responses are searched for a score first."""
    past_loops_metadata: dict[str, Any] = {}
    """Field -> template of what is kept of every round."""
    cognitive_extraction: CognitionKeys | None = None
    """What is learned from a round (see [cognitive extraction](#cognitive-extraction))."""
    fallback_score: Number | None = None
    """Score of a round in which none is found."""
    timeout_score: Number | None = None
    """Score of a round that ran out of time."""
    scoring: ScoringKeys | str | None = None
    """Boolean scoring (see [scoring](#scoring)), or just the preset's name."""
    persist_across_runs: bool = False
    """Rounds see those of earlier runs, the last 20, by the loop's `id`; they are stored when the loop ends."""


class MapKeys(ControlKeys):
    """Runs a sequence of agents for every item of a list."""

    items: str | list[Any]
    """Expression that gives the list, with or without `{{ }}`, or the list itself."""
    as_: Variable = Field(default="item", alias="as")
    """Name of the variable that holds the item in templates; `index` counts from 0."""
    agents: SomeNames
    """Ids that run in order for every item."""
    on_failure: Literal["continue", "fail"] = "continue"
    """`fail`: one failed item fails the map."""


class ScopeKeys(Keys):
    """Keys of `orchestrator:` in the file and in loop bodies."""

    id: Label | None = None
    """Name of the graph."""
    agents: list[Any]
    """Ids to run, in order; `depends_on` may move them. An agent may also stand here in full."""
    timeout: Seconds | None = None
    """For agents that give no `timeout` of their own."""
    retry: Attempts | RetryKeys | None = None
    """For agents that give no `retry` of their own."""
    on_error: Literal["continue", "stop"] | None = None
    """For agents that give no `on_error` of their own."""
    strategy: Any = None
    """A label; every value means the order of the list."""
    queue: Ignored = None
    """Informational; ignored."""
    name: Ignored = None
    """For readers; ignored."""
    description: Ignored = None
    """For readers; ignored."""
    version: Ignored = None
    """For readers; ignored."""
    memory_preset: Any = None
    """Preset of memory agents that name none."""
    memory_config: Any = None
    """Decay and vector settings of the memory."""
    memory: Any = None
    """Another spelling of `memory_config`."""
    search: Any = None
    """Where search agents look that do not say so: a backend's name, or a mapping (see [search](search.md))."""
    structured_output_defaults: Any = None
    """Structured-output settings of model agents that give none."""
    debug: Any = None
    """`keep_previous_outputs: true` keeps earlier outputs in every log entry."""


class OrchestratorKeys(ScopeKeys):
    """Keys of the file's `orchestrator:`."""

    max_steps: Positive = 10_000
    """Steps of a run at most, and of each item of a map for itself; ends routing cycles."""
    deadline: Seconds | None = None
    """Seconds that a run may take in all."""
    durability: Literal["group", "strict"] = "group"
    """`strict`: every step is stored before the next begins."""
    strict_templates: bool = False
    """Undefined names in templates are errors."""
    distributed: bool = False
    """`true`: branches of forks and maps go to the shared queues, which `orka worker` serves."""
    limits: dict[str, LimitKeys] = {}
    """Name -> limit that agents share by `resource` (see [limit](#limit))."""
    queues: dict[str, QueueKeys] = {}
    """Name of a queue -> how much of it is under way at once (see [queue](#queue))."""
    budget: BudgetKeys | None = None
    """What a run may use up (see [budget](#budget))."""
    stream: bool = False
    """`true`: pieces of answers are events of every run, also where nobody asked for them when it began."""
    mode: Any = None
    """Streaming workflows only."""
    executor: Any = None
    """Streaming workflows only."""
    satellites: Any = None
    """Streaming workflows only."""
    executor_invariants: Any = None
    """Streaming workflows only."""
    prompt_budgets: Any = None
    """Streaming workflows only."""
    refresh: Any = None
    """Streaming workflows only."""


class FileKeys(Keys):
    """Top level of a file."""

    orchestrator: dict[str, Any]
    """The graph's own keys (see [orchestrator](#orchestrator))."""
    agents: list[Any] = []
    """Every agent and control node, each a mapping with `id` and `type`."""
    meta: Ignored = None
    """Free-form (version, author, ...); ignored."""
    test_inputs: Ignored = None
    """Sample inputs; ignored."""
    name: Ignored = None
    """For readers; ignored."""
    description: Ignored = None
    """For readers; ignored."""
    version: Ignored = None
    """For readers; ignored."""
    llm: Ignored = None
    """Accepted and ignored."""


KINDS: dict[str, type[ControlKeys]] = {
    "router": RouterKeys,
    "fork": ForkKeys,
    "join": JoinKeys,
    "failover": FailoverKeys,
    "loop": LoopKeys,
    "map": MapKeys,
    "path_executor": PathExecutorKeys,
}
"""The closed set of control nodes, by `type`."""
