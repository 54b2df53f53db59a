"""The only callers of `time`: wall time in milliseconds for records, monotonic seconds for durations."""

from __future__ import annotations

import time
from datetime import UTC, datetime

monotonic = time.perf_counter
"""Seconds from an arbitrary start, for measuring durations within one process."""


def now_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def local_stamp(at_ms: int) -> str:
    """`at_ms` (milliseconds since the epoch) in the machine's time zone as `20260102_030405`, for names of files."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().strftime("%Y%m%d_%H%M%S")


def iso(at_ms: int) -> str:
    """`at_ms` (milliseconds since the epoch) as ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
