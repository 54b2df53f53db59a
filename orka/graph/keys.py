"""The base of the models in `models.py`, and those of limits that many processes share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from orka.graph.values import Burst, Positive, RateText


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


class QueueKeys(Keys):
    """One queue of `queues`."""

    max_concurrency: Positive
    """Tasks of this queue under way at once in the whole fleet. One that only waits for its own branches does not count."""
