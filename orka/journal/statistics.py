"""What a journal says of itself, and what is sent beside it."""

from __future__ import annotations

from typing import NamedTuple


class JournalStatistics(NamedTuple):
    """Counters since the journal was opened, and what waits now."""

    accepted: int
    written: int
    retried: int
    """Batches that were sent again."""
    lost: int
    """Runs stopped because their journal could not be written or their lease was taken."""
    waiting: int
    oldest_ms: int
    round_trips: int
    kept: int
    """Ends of runs and branches that Redis may not have on disk yet."""
    restored: int
    """Those that were written again, because it had lost them."""
    overtaken: int
    """Those that were not, because somebody else had gone on by then, or more was lost than is kept."""


class EventStatistics(NamedTuple):
    """Of what is sent for those who look on and may be lost, since the services were opened: pieces of tokens, of at most
    2,000 characters each; events of runs."""

    accepted: int
    written: int
    retried: int
    """Batches that were sent again."""
    lost: int
    """Dropped, because Redis took them too slowly or not at all."""
    waiting: int
    oldest_ms: int
    round_trips: int
