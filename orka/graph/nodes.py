"""The closed set of node kinds, as frozen data. What a graph file means; how it runs is `orka.engine`'s business."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from orka.types import Json, NodeId

NO_OPTIONS: Mapping[str, Json] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When a failed attempt is repeated. The n-th delay is `min(max_delay, delay * factor**(n-1))`, +- jitter."""

    attempts: int = 1
    """Attempts in all, the first included."""
    delay: float = 0.5
    """Seconds before the second attempt."""
    factor: float = 2.0
    max_delay: float = 60.0
    """Seconds."""
    jitter: float = 0.1
    """Fraction of the delay that is drawn at random in both directions, 0 to 1."""
    on: tuple[str, ...] = ()
    """Class names of the errors that are retried; empty: every error."""


NO_RETRY = Retry()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What every kind of node may say about time and failure."""

    timeout: float | None = None
    """Seconds for one attempt."""
    retry: Retry = NO_RETRY
    on_error: Literal["continue", "stop"] = "continue"


DEFAULT_POLICY = Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """`count` turns per `seconds`, at even distances; `burst` of them at once after a pause."""

    count: int
    seconds: int = 1
    burst: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLimit:
    """What all processes respect together."""

    rate: Rate | None = None
    max_concurrency: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentNode:
    """A visit calls an agent from the registry."""

    id: NodeId
    type: str
    """Canonical type name (aliases already resolved)."""
    prompt: str | None = None
    """Template, rendered just before the call."""
    options: Mapping[str, Json] = field(default_factory=lambda: NO_OPTIONS)
    """Every other key, `params` flattened in (the top-level key wins), validated by the agent type's model."""
    policy: Policy = DEFAULT_POLICY
    max_concurrency: int | None = None
    """Calls of this node at once: in one process, and in the whole fleet where it is called on workers."""
    rate_limit: Rate | None = None
    """Of calls of this node in the whole fleet."""
    resource: str | None = None
    """A limit of `Limits.resources` that its calls share with others."""
    runs_on: str | None = None
    """Queue of the workers that execute it."""
    terminal: bool = False
    """`is_terminal`: this node's response is the value of the run."""
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterNode:
    """A visit picks a sequence by an earlier output and runs it; the rest of the frame goes on afterwards."""

    id: NodeId
    decision_key: str
    """Id of an earlier node, optionally dotted into its output."""
    routes: tuple[tuple[str | bool, tuple[NodeId, ...]], ...]
    """(map key, ids) in file order. A YAML boolean key stays a bool."""
    fallback: tuple[NodeId, ...] | None = None
    policy: Policy = DEFAULT_POLICY
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkNode:
    """A visit opens one concurrent frame per branch and goes on; a join waits for them."""

    id: NodeId
    branches: tuple[tuple[NodeId, ...], ...]
    mode: Literal["parallel", "sequential"] = "parallel"
    """`sequential` runs the branches one after another in declared order, later ones seeing earlier ones."""
    max_concurrency: int | None = None
    """Branches at once."""
    runs_on: str | None = None
    """Queue of the workers that execute the branches."""
    awaited: bool = False
    """True for a nested list of `targets`, and for a fork that no join of the file names: it is joined before the next
    member of its sequence."""
    policy: Policy = DEFAULT_POLICY
    """`timeout` bounds the whole group."""
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinNode:
    """A visit waits for a fork and brings its branches' outputs into this frame."""

    id: NodeId
    group: NodeId
    """Id of the fork."""
    mode: Literal["all", "any", "quorum"] = "all"
    min_success: int | None = None
    """Branches that must succeed (quorum)."""
    on_failure: Literal["continue", "fail"] = "continue"
    """`fail`: with mode `all`, one failed branch fails the join."""
    policy: Policy = DEFAULT_POLICY
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverNode:
    """A visit tries its children in order until one gives a valid result."""

    id: NodeId
    children: tuple[Node, ...]
    """Full nodes, each run in a frame of its own."""
    policy: Policy = DEFAULT_POLICY
    terminal: bool = False
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreStrategy:
    """One way to find a round's score, tried in order."""

    type: Literal["direct_key", "pattern", "agent_key"]
    key: str | None = None
    """direct_key: key of the inner results (dotted allowed); agent_key: field of the agent's output."""
    patterns: tuple[str, ...] = ()
    """Regular expressions; first group, or the whole match."""
    agents: tuple[NodeId, ...] = ()


INSIGHT_FLAGS: Final = re.IGNORECASE | re.DOTALL
"""Of the regular expressions of `Cognition`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cognition:
    """`cognitive_extraction`: what is learned from the texts of a round."""

    patterns: Mapping[str, tuple[str, ...]]
    """Regular expressions per category (insights, improvements, mistakes)."""
    max_length: int = 300
    """Characters kept per category."""


NO_WEIGHTS: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """Boolean scoring of a loop's rounds, by criteria that `orka.scoring` knows."""

    preset: str
    context: str = "loop_convergence"
    weights: Mapping[str, float] = field(default_factory=lambda: NO_WEIGHTS)
    """`dimension.criterion` -> weight in place of the preset's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A sequence and the nodes it may name; the body of a graph or of a loop."""

    sequence: tuple[NodeId, ...]
    """Stable order after `depends_on`."""
    nodes: Mapping[NodeId, Node]
    """Own definitions. A loop's body falls back to the definitions around it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopNode:
    """A visit runs its body in rounds until the score reaches the threshold."""

    id: NodeId
    body: Scope
    max_loops: int = 5
    score_threshold: float = 0.8
    strategies: tuple[ScoreStrategy, ...] = ()
    """Empty: the default patterns."""
    priority_agents: tuple[NodeId, ...] = ()
    """`high_priority_agents`: their responses are searched first."""
    past_loops_metadata: tuple[tuple[str, str], ...] = ()
    """(field, template) of the past-loop object, in file order; empty: the default six fields."""
    cognition: Cognition | None = None
    fallback_score: float | None = None
    """Score of a round in which none could be found."""
    timeout_score: float | None = None
    """Score of a round that ran out of time."""
    scoring: Scoring | None = None
    """Boolean judgements among the results are looked for before everything else."""
    agreement: bool = False
    """`agreement_fallback`: where no score is found, how similar the responses are."""
    persist: bool = False
    """`persist_across_runs`: past rounds of earlier runs are seen, and later ones see these."""
    options: Mapping[str, Json] = field(default_factory=lambda: NO_OPTIONS)
    """Keys that the interpreter does not use."""
    policy: Policy = DEFAULT_POLICY
    """`timeout` bounds one round."""
    terminal: bool = False
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MapNode:
    """A visit runs one branch per item of a list; its output is `{results, failed}` in the list's order."""

    id: NodeId
    items: str
    """Expression (without braces) that gives a list."""
    name: str
    """`as`: the variable that templates of the branch read; `index` counts from 0."""
    sequence: tuple[NodeId, ...]
    max_concurrency: int | None = None
    runs_on: str | None = None
    """Queue of the workers that execute the items."""
    on_failure: Literal["continue", "fail"] = "continue"
    policy: Policy = DEFAULT_POLICY
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PathNode:
    """A visit reads a list of ids out of an earlier output and runs them in order, in a frame of its own."""

    id: NodeId
    source: str
    """Dotted path into earlier outputs, to the proposal."""
    on_failure: Literal["continue", "abort"] = "continue"
    """`abort`: the first visit that fails ends the list."""
    input_source: str | None = None
    """Dotted path to what its agents see as the input."""
    policy: Policy = DEFAULT_POLICY
    """`timeout` bounds the whole list."""
    terminal: bool = False
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a run may use up before it begins no further visit."""

    usd: float | None = None
    tokens: int | None = None
    """Of prompts and answers."""
    seconds: float | None = None
    """From where `Limits.deadline` counts."""
    on_exceed: Literal["stop", "fail"] = "fail"


NO_LIMITS: Mapping[str, SharedLimit] = MappingProxyType({})
Node: TypeAlias = AgentNode | RouterNode | ForkNode | JoinNode | FailoverNode | LoopNode | MapNode | PathNode


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a whole run."""

    max_steps: int = 10_000
    deadline: float | None = None
    """Seconds from the run's start, or from the resumption under this graph in place of another; absolute from then on."""
    durability: Literal["group", "strict"] = "group"
    strict_templates: bool = False
    """Undefined names in templates are errors."""
    distributed: bool = False
    """Branches go to the shared queues, for workers of any process."""
    resources: Mapping[str, SharedLimit] = field(default_factory=lambda: NO_LIMITS)
    """By the name that agents give as `resource`."""
    queues: Mapping[str, SharedLimit] = field(default_factory=lambda: NO_LIMITS)
    """Tasks under way, by the queue they are sent to."""
    budget: Budget | None = None
    stream: bool = False
    """Pieces of answers are events of every run."""
