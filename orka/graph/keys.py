"""The base of the models in `models.py`, and those of limits that many processes share."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from orka.graph.values import Amount, Burst, Positive, RateText, Seconds


class Keys(BaseModel):
    """Base of every mapping of a file. Keys it does not know are kept, and reported by `fields.check_keys`."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)


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
