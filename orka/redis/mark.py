"""`ServerMark`: tells whether a server is the process that it was, or one that came back and may have lost its last second."""

from __future__ import annotations

from typing import NamedTuple

from orka.redis.control import parse_info

HELD_BACK = 1.5
"""Seconds that nobody takes tasks of a server that came back: whoever has lost entries there puts them back first. All are
woken when it goes away, and try again at least once a second."""


class ServerMark(NamedTuple):
    """Of one server process."""

    run_id: str
    """New at every start; empty if the user may not ask."""
    uptime: int
    """Full seconds since its start."""


def parse_mark(reply: object) -> ServerMark:
    """From the reply to `INFO server`; an error reply tells nothing."""
    facts = parse_info(reply) if isinstance(reply, bytes) else {}
    return ServerMark(facts.get("run_id", ""), int(facts.get("uptime_in_seconds", 0)))
