"""Values of foreign JSON (payloads of agents, skills of OrKa 0.9) as the types that are wanted, or a default. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from orka.types import Json

Facts = Mapping[str, Json]
"""A JSON object whose keys nobody has checked."""

MOST_TEXT = 4000
"""Characters of one text that is kept."""
MOST_ITEMS = 100
"""Entries of one list that are kept."""


def text_of(value: Json, default: str = "", *, most: int = MOST_TEXT) -> str:
    """A text, a number or a boolean as text, cut to `most` characters; anything else is the default."""
    if isinstance(value, str):
        return value.strip()[:most] or default
    if value is None or isinstance(value, list | dict):
        return default
    return str(value)


def number_of(value: Json, default: float, *, least: float = 0.0, most: float = 1.0) -> float:
    """Also from a text, as templates print numbers. Held between `least` and `most`."""
    if isinstance(value, bool):
        return default
    try:
        number = float(value) if isinstance(value, int | float | str) else default
    except (ValueError, OverflowError):
        return default
    return default if math.isnan(number) else min(most, max(least, number))


def flag_of(value: Json, default: bool) -> bool:
    """Also from a text (`false`, `no`, `failed`, `0`)."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value != 0
    if isinstance(value, str) and value.strip():
        return value.strip().lower() not in {"false", "no", "0", "off", "none", "null", "failed", "failure"}
    return default


def texts_of(value: Json, *, most: int = MOST_ITEMS) -> tuple[str, ...]:
    """A list of texts; one text is a list separated by commas."""
    if isinstance(value, str):
        parts: list[Json] = [*value.split(",")]
    else:
        parts = value if isinstance(value, list) else []
    found = (text_of(part) or _named(part) for part in parts[:most])
    return tuple(part for part in found if part)


def facts_of(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def ms_of(value: Json, default: int) -> int:
    """An ISO 8601 time (UTC where it names no zone) in milliseconds since the epoch."""
    if not isinstance(value, str) or not value:
        return default
    try:
        at = datetime.fromisoformat(value)
        return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return default


def _named(value: Json) -> str:
    """Of an entry that is a mapping, what it is called."""
    if not isinstance(value, dict):
        return ""
    return next((text_of(value[key]) for key in ("id", "name", "agent_id", "text") if value.get(key)), "")
