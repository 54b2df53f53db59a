"""Decay: how important a written memory is, whether it is kept long, and when it expires. Pure.

Several sources have a say, weakest first: what is built in, a preset, `orchestrator.memory.decay`, the environment, the agent's
own `decay`. Each is a `DecayLayer`; `merge` makes the `DecayRules` of them by which `classify` judges a write.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, cast

import msgspec

from orka.errors import ConfigError, RecordRefused
from orka.graph.diagnostics import shorten, suggest
from orka.memory.record import as_number
from orka.settings import Settings

SHORT_TERM: Final = "short_term"
LONG_TERM: Final = "long_term"
STORED: Final = "stored"
"""The category of a memory that names none."""
LONG_TERM_FROM: Final = 0.7
"""Importance from which a stored memory is kept long."""
LONG_TEXT, MIDDLING_TEXT = 500, 100
"""Characters above which a content is worth 0.2 or 0.1 more."""
MOST_HOURS: Final = 876_000.0
"""A hundred years."""
MOST_MINUTES: Final = 43_200.0
"""Thirty days."""
_HOUR_MS: Final = 3_600_000
_TYPES: Final = {"short": SHORT_TERM, "shortterm": SHORT_TERM, "long": LONG_TERM, "longterm": LONG_TERM}
_TRUE, _FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DecayLayer:
    """What one source says; None is what it leaves to weaker ones."""

    enabled: bool | None = None
    short_term_hours: float | None = None
    long_term_hours: float | None = None
    check_interval_minutes: float | None = None
    default_long_term: bool | None = None
    base_score: float | None = None
    event_type_boosts: Mapping[str, float] = field(default_factory=dict[str, float])
    """Added to those of weaker layers, name by name."""
    agent_type_boosts: Mapping[str, float] = field(default_factory=dict[str, float])
    long_term_events: frozenset[str] | None = None
    short_term_events: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecayRules:
    """What holds; the defaults are what is built in."""

    enabled: bool = False
    """Otherwise nothing expires, but for what is given an expiry of its own."""
    short_term_hours: float = 1.0
    long_term_hours: float = 24.0
    check_interval_minutes: float = 30.0
    """Read for old files, and checked: Redis deletes what has expired by itself."""
    default_long_term: bool = False
    """Keep long whatever no other rule decides."""
    base_score: float = 0.5
    """Importance of a short text of no special kind, 0 to 1."""
    event_type_boosts: Mapping[str, float] = field(default_factory=dict[str, float])
    agent_type_boosts: Mapping[str, float] = field(default_factory=dict[str, float])
    long_term_events: frozenset[str] = frozenset()
    short_term_events: frozenset[str] = frozenset()


class Classified(msgspec.Struct, frozen=True, kw_only=True):
    """What `classify` found. (A struct because every write makes one.)"""

    importance: float
    """0 to 1."""
    memory_type: str
    expire_ms: int
    """Milliseconds since the epoch; 0: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the writer of a memory decides itself, in place of the rules."""

    memory_type: str | None = None
    """`short_term`, `long_term` or a word of one's own, which expires as the rules say. None, empty, `auto`: the rules'."""
    importance: float | None = None
    """0 to 1; what is outside is moved to the nearer end."""
    expiry_hours: float | None = None
    """Exactly these, whatever the importance, and also when decay is off."""
    event_type: str = "write"
    agent_type: str = "memory"


NO_WISHES: Final = Wishes()


def merge(*layers: DecayLayer) -> DecayRules:
    """Weakest first, above what is built in. Boosts are merged by name; lists of events replace each other, and an event
    that a stronger layer keeps short is no longer among those that a weaker one keeps long."""
    values: dict[str, Any] = {}
    for layer in layers:
        for mine, others in (_TYPE_KEYS, _TYPE_KEYS[::-1]):
            values[others] = values.get(others, frozenset()) - (getattr(layer, mine) or frozenset())
        for one in fields(layer):
            value = getattr(layer, one.name)
            if isinstance(value, Mapping):
                values[one.name] = {**values.get(one.name, {}), **value}
            elif value is not None:
                values[one.name] = value
    return DecayRules(**values)


def environment_layer(settings: Settings) -> DecayLayer:
    """The `ORKA_MEMORY_DECAY_*` variables."""
    return DecayLayer(
        enabled=settings.decay_enabled,
        short_term_hours=settings.decay_short_term_hours,
        long_term_hours=settings.decay_long_term_hours,
        check_interval_minutes=settings.decay_check_interval_minutes,
    )


def classify(
    rules: DecayRules, content: str, metadata: Mapping[str, object], *, at_ms: int, wishes: Wishes = NO_WISHES
) -> Classified:
    """How a write at `at_ms` is kept. `RecordRefused` for an importance or an expiry that is no usable number."""
    if wishes.importance is None:
        importance = _importance(rules, content, metadata, wishes)
    elif math.isfinite(given := as_number(wishes.importance)):
        importance = min(1.0, max(0.0, given))
    else:
        raise RecordRefused(f"importance={_shown(wishes.importance)} is not a number from 0 to 1")
    judged = _memory_type(rules, metadata, importance, wishes.event_type)
    wanted = known_type(wishes.memory_type)
    kept = wanted if wanted in (SHORT_TERM, LONG_TERM) else judged
    hours = None
    if wishes.expiry_hours is not None:
        hours = as_number(wishes.expiry_hours)
        if not 0 < hours <= MOST_HOURS:
            raise RecordRefused(
                f"expiry_hours={_shown(wishes.expiry_hours)} must be above 0 and at most {MOST_HOURS:,.0f}"
            )
    elif rules.enabled:
        hours = (rules.long_term_hours if kept == LONG_TERM else rules.short_term_hours) * (1 + importance)
    expire_ms = 0 if hours is None else at_ms + max(1, round(hours * _HOUR_MS))
    return Classified(importance=importance, memory_type=wanted or judged, expire_ms=expire_ms)


def known_type(memory_type: str | None) -> str | None:
    """A memory type as it is stored, `Long-Term` as `long_term`; None for none and for `auto`. `RecordRefused` for what is no
    text."""
    if memory_type is None:
        return None
    if not isinstance(memory_type, str):  # pyright: ignore[reportUnnecessaryIsInstance]  callers are not all typed
        raise RecordRefused(
            f"memory_type of a memory is text, and {_shown(memory_type)} is a {type(memory_type).__name__}"
        )
    word = memory_type.strip()
    folded = word.casefold()
    plain = _TYPES.get(folded.replace("_", "").replace("-", "").replace(" ", ""), word)
    return None if folded in ("", "auto") else plain


def _importance(rules: DecayRules, content: str, metadata: Mapping[str, object], wishes: Wishes) -> float:
    score = rules.base_score
    if len(content) > LONG_TEXT:
        score += 0.2
    elif len(content) > MIDDLING_TEXT:
        score += 0.1
    if metadata.get("category", STORED) == STORED:
        score += 0.3
    if metadata.get("query"):
        score += 0.1
    score += rules.event_type_boosts.get(wishes.event_type, 0.0)
    score += rules.agent_type_boosts.get(wishes.agent_type, 0.0)
    # Sums of tenths miss their mark by a hair, and 0.7 decides.
    return min(1.0, max(0.0, round(score, 9)))


def _memory_type(rules: DecayRules, metadata: Mapping[str, object], importance: float, event_type: str) -> str:
    if event_type in rules.short_term_events:
        return SHORT_TERM
    if event_type in rules.long_term_events or rules.default_long_term:
        return LONG_TERM
    stored = metadata.get("category", STORED) == STORED
    return LONG_TERM if stored and importance >= LONG_TERM_FROM else SHORT_TERM


def parse_decay(value: object, where: str = "decay") -> DecayLayer:
    """A `decay` mapping of a file, a preset or a caller; true and false are short for `enabled`, None says nothing.
    `ConfigError` names the key below `where`, what it has and what it accepts."""
    if value is None:
        return DecayLayer()
    if isinstance(value, bool):
        return DecayLayer(enabled=value)
    table = _table(value, where, _KEYS)
    types = _table(table.get("memory_type_rules"), f"{where}.memory_type_rules", _TYPE_KEYS)
    scores = _table(table.get("importance_rules"), f"{where}.importance_rules", _SCORE_KEYS)
    long_events = _events(types, "long_term_events", where)
    short_events = _events(types, "short_term_events", where)
    if both := sorted((long_events or frozenset()) & (short_events or frozenset())):
        raise ConfigError(
            f"{where}.memory_type_rules: {both[0]!r} is among the long_term_events and the short_term_events"
        )
    return DecayLayer(
        enabled=_flag(table, "enabled", where),
        # The plain names win over the `default_` ones of the same layer, as they did in OrKa 0.9.
        short_term_hours=_first(
            _hours(table, "short_term_hours", where), _hours(table, "default_short_term_hours", where)
        ),
        long_term_hours=_first(
            _hours(table, "long_term_hours", where), _hours(table, "default_long_term_hours", where)
        ),
        check_interval_minutes=_number(table, "check_interval_minutes", where, most=MOST_MINUTES, above=True),
        default_long_term=_flag(table, "default_long_term", where),
        base_score=_number(scores, "base_score", f"{where}.importance_rules", least=0, most=1),
        event_type_boosts=_boosts(scores, "event_type_boosts", where),
        agent_type_boosts=_boosts(scores, "agent_type_boosts", where),
        long_term_events=long_events,
        short_term_events=short_events,
    )


_KEYS: Final = (
    "enabled",
    "short_term_hours",
    "long_term_hours",
    "default_short_term_hours",
    "default_long_term_hours",
    "check_interval_minutes",
    "default_long_term",
    "memory_type_rules",
    "importance_rules",
)
_TYPE_KEYS: Final = ("long_term_events", "short_term_events")
_SCORE_KEYS: Final = ("base_score", "event_type_boosts", "agent_type_boosts")


def _table(value: object, where: str, known: Collection[str]) -> Mapping[str, object]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{where} is a {type(value).__name__} and must be a mapping with keys out of {', '.join(known)}"
        )
    table = cast("Mapping[object, object]", value)
    for key in table:
        if key not in known:
            near = suggest(str(key), known)
            hint = f" ({near})" if near else ""
            raise ConfigError(f"{where} has no key {shorten(str(key))}{hint}: it knows {', '.join(known)}")
    return cast("Mapping[str, object]", table)


def _first(first: float | None, second: float | None) -> float | None:
    return second if first is None else first


def _hours(table: Mapping[str, object], key: str, where: str) -> float | None:
    return _number(table, key, where, most=MOST_HOURS, above=True)


def _number(
    table: Mapping[str, object], key: str, where: str, *, least: float = 0.0, most: float, above: bool = False
) -> float | None:
    """`above`: `least` itself is too little."""
    value = table.get(key)
    if value is None:
        return None
    number = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            pass
    if not least <= number <= most or (above and number == least):
        bounds = f"above {least:,g} and at most {most:,.0f}" if above else f"from {least:,g} to {most:,g}"
        raise ConfigError(f"{where}.{key}={_shown(value)} must be a number {bounds}")
    return number


def _flag(table: Mapping[str, object], key: str, where: str) -> bool | None:
    value = table.get(key)
    if value is None or isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ConfigError(f"{where}.{key}={_shown(value)} must be true or false")


def _events(table: Mapping[str, object], key: str, where: str) -> frozenset[str] | None:
    value = table.get(key)
    if value is None:
        return None
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list | tuple | set | frozenset):
        listed = list(cast("Collection[object]", names))
        if all(isinstance(name, str) for name in listed):
            return frozenset(cast("list[str]", listed))
    raise ConfigError(f"{where}.memory_type_rules.{key}={_shown(value)} must be a list of event names, such as [write]")


def _boosts(table: Mapping[str, object], key: str, where: str) -> Mapping[str, float]:
    value = table.get(key)
    place = f"{where}.importance_rules.{key}"
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{place}={_shown(value)} must be a mapping of names to numbers, such as {{write: 0.2}}")
    boosts: dict[str, float] = {}
    for name in cast("Mapping[object, object]", value):
        number = _number(cast("Mapping[str, object]", value), cast("str", name), place, least=-1, most=1)
        if number is not None:
            boosts[str(name)] = number
    return boosts


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
