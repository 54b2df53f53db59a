"""The base of the models in `models.py`, the keys that every node has, and those of limits that many processes share."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from orka.graph.values import (
    Amount,
    Attempts,
    Burst,
    Factor,
    Fraction,
    Ignored,
    Names,
    Pause,
    Positive,
    Queue,
    RateText,
    Seconds,
    Texts,
)


class Keys(BaseModel):
    """Base of every mapping of a file. Keys it does not know are kept, and reported by `fields.check_keys`."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)


class RetryKeys(Keys):
    """When a failed attempt of an agent is repeated. What a control node comes to follows from the agents inside it:
    that is where a `retry` belongs, and on the control node itself it is reported and has no effect."""

    attempts: Attempts = 3
    """Attempts in all, the first included."""
    delay: Pause | None = None
    """Seconds before the second attempt. Default 0.5."""
    backoff: Pause | None = None
    """Another name of `delay`."""
    factor: Factor = 2.0
    """Each further delay is this many times the one before."""
    max_delay: Pause = 60.0
    """Seconds; no delay is longer."""
    jitter: Fraction = 0.1
    """Fraction of the delay that is drawn at random in both directions."""
    on: Texts = []
    """Class names of the errors that are retried, one or a list; none: every error."""


class RateKeys(Keys):
    """Turns at even distances, in the whole fleet: with `60/min`, one a second."""

    rate: RateText
    """Turns per `s` (or `sec`), `min`, `h` (or `hour`) or `day`: `60/min`."""
    burst: Burst = 1
    """Turns that may follow each other at once after a pause."""


class LimitKeys(Keys):
    """One limit of `limits`: what all agents that name it by `resource` share, in every graph and process. What the latest
    file says counts for its own agents."""

    rate_limit: RateText | RateKeys | None = None
    """Calls per time: `60/min`, or a mapping (see [rate limit](#rate-limit))."""
    max_concurrency: Positive | None = None
    """Calls at once."""


class BudgetKeys(Keys):
    """What a run may use up. It is looked at before each visit: what has begun goes on to its end, so that agents which work
    at the same time may go beyond it together."""

    usd: Amount | None = None
    """US dollars, as the agents tell their cost."""
    tokens: Positive | None = None
    """Tokens of prompts and answers."""
    seconds: Seconds | None = None
    """Seconds since the run began."""
    on_exceed: Literal["fail", "stop"] = "fail"
    """`fail`: the run fails, and can be resumed with a larger budget. `stop`: it completes with the answer that it has."""


class QueueKeys(Keys):
    """One queue of `queues`."""

    max_concurrency: Positive
    """Tasks of this queue under way at once in the whole fleet. One that only waits for its own branches does not count."""


class NodeKeys(Keys):
    """Keys that every entry of `agents:` may have."""

    id: str
    """Unique name: letters, digits, `_`, `-` and spaces."""
    type: str
    """What the node is: `router`, `fork`, `join`, `failover`, `loop`, `map`, or an agent type."""
    params: dict[str, Any] | None = None
    """Further keys of the node. They count as if they stood beside it; a key given in both places is taken from the
    node itself."""
    depends_on: Names = None
    """Ids that run earlier when they are in the same list, one or several."""
    timeout: Seconds | None = None
    """Seconds for one attempt (of a fork: for all its branches; of a loop: for one round)."""
    retry: Attempts | RetryKeys | None = None
    """Attempts in all, or a mapping (see [retry](#retry)). Agents only: control nodes are not repeated."""
    on_error: Literal["continue", "stop"] | None = None
    """`stop`: when this node fails, what it runs in ends: its branch, item, round or failover child; in the file's own
    list, the run. `continue` (default): the error is recorded, and the next node runs."""
    is_terminal: bool = False
    """This node's response is the value of the run."""
    max_concurrency: Positive | None = None
    """At once: branches of a fork, items of a map, calls of an agent (in one process; in the whole fleet where workers or a
    distributed run call it)."""
    runs_on: Queue | None = None
    """Queue of the workers that execute this agent, or the branches of this fork or map: `orka worker --queue NAME`."""
    description: Ignored = None
    """For readers; ignored."""
    name: Ignored = None
    """For readers; ignored."""
    queue: Ignored = None
    """Informational; ignored (see `runs_on`)."""
    capabilities: Any = None
    """List of tags that describe the agent to agents which choose among others."""
    metadata: Any = None
    """Free-form."""


class AgentKeys(NodeKeys):
    """Keys of every agent, beside those of its type."""

    prompt: str | None = None
    """Template of the text that the agent is given, rendered just before each call."""
    rate_limit: RateText | RateKeys | None = None
    """Calls per time in the whole fleet: `60/min`, or a mapping (see [rate limit](#rate-limit))."""
    resource: Queue | None = None
    """Name of a limit under `limits` of the orchestrator, shared by all agents of all graphs that name it."""


class ControlKeys(NodeKeys):
    """Keys of every control node, beside those of its kind."""

    prompt: Ignored = None
    """Accepted and ignored: a control node asks no model."""
    input: Ignored = None
    """Accepted and ignored."""
