"""The six memory presets: what a memory agent reads and writes with where its file says nothing. Data and pure functions.

They are named after kinds of human memory. Hours and importance go into the decay rules, the rest are defaults of the `config`
of a memory agent, under the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Final, cast

from orka.errors import ConfigError
from orka.graph.diagnostics import shorten, suggest
from orka.memory.decay import MOST_HOURS, STORED, parse_decay
from orka.types import Json

OPERATIONS: Final = ("read", "write")

_FILTERS: Final = ("memory_category_filter", "memory_type_filter")
_SYNONYMS: Final = {"top_k": "limit"}
"""Other spelling -> key of a preset that it stands for."""


def _decay(short: float, long: float, minutes: int, base: float) -> dict[str, Json]:
    return {
        "enabled": True,
        "default_short_term_hours": short,
        "default_long_term_hours": long,
        "check_interval_minutes": minutes,
        "importance_rules": {"base_score": base},
    }


def _read(limit: int, threshold: float, weights: tuple[float, float, float], ef: int, **more: Json) -> dict[str, Json]:
    """`weights` of meaning, words and recency."""
    vector, text, temporal = weights
    return {
        "limit": limit,
        "similarity_threshold": threshold,
        "enable_vector_search": True,
        "enable_hybrid_search": True,
        "vector_weight": vector,
        "text_weight": text,
        "enable_temporal_ranking": True,
        "temporal_weight": temporal,
        "enable_context_search": False,
        "ef_runtime": ef,
        "fallback_to_text": True,
        **more,
    }


def _context(weight: float, **more: Json) -> dict[str, Json]:
    return {"enable_context_search": True, "context_weight": weight, **more}


MEMORY_PRESETS: Final[Mapping[str, Mapping[str, Json]]] = {
    "sensory": {
        "description": "What just passed by: minutes to an hour, found by its words.",
        "decay": _decay(0.25, 1.0, 5, 0.1),
        "read": _read(3, 0.95, (0.0, 1.0, 0.8), 5, enable_vector_search=False, enable_hybrid_search=False),
        "write": {"vector": False},
    },
    "working": {
        "description": "What is being worked on: hours, what fits the context first.",
        "decay": _decay(2.0, 8.0, 15, 0.3),
        "read": _read(5, 0.7, (0.6, 0.4, 0.4), 8, **_context(0.5)),
        "write": {"vector": True},
    },
    "episodic": {
        "description": "What happened: experiences and conversations, a day to a week.",
        "decay": _decay(24.0, 168.0, 60, 0.5),
        "read": _read(8, 0.6, (0.7, 0.3, 0.3), 10, temporal_decay_hours=24.0, **_context(0.4, context_window_size=5)),
        "write": {"vector": True, "vector_params": {"M": 16, "ef_construction": 200}},
    },
    "semantic": {
        "description": "What is known: facts, days to three months, whatever their age.",
        "decay": _decay(72.0, 2160.0, 240, 0.7),
        "read": _read(10, 0.65, (0.7, 0.3, 0.1), 15, enable_temporal_ranking=False, memory_category_filter=STORED),
        "write": {"vector": True},
    },
    "procedural": {
        "description": "How things are done: skills and steps, a week to half a year.",
        "decay": _decay(168.0, 4320.0, 480, 0.6),
        "read": _read(6, 0.7, (0.6, 0.4, 0.1), 12, memory_category_filter=STORED, **_context(0.3)),
        "write": {"vector": True},
    },
    "meta": {
        "description": "What is known about one's own thinking: two days to a year.",
        "decay": _decay(48.0, 8760.0, 720, 0.8),
        "read": _read(4, 0.8, (0.8, 0.2, 0.2), 20, memory_category_filter=STORED, **_context(0.2)),
        "write": {"vector": True, "vector_params": {"M": 32, "ef_construction": 400}},
    },
}
"""Name -> description, `decay`, and the defaults of `read` and of `write`. Not to be changed: the functions give copies."""


def list_memory_presets() -> dict[str, str]:
    """Name -> what it is for."""
    return {name: cast("str", preset["description"]) for name, preset in MEMORY_PRESETS.items()}


def get_memory_preset(name: str, operation: str | None = None) -> dict[str, Json]:
    """A copy: `decay` and the defaults of `operation` beside it, or of each operation under its name when none is asked
    for. `ConfigError` for an unknown preset or operation."""
    preset = _preset(name)
    if operation is None:
        return deepcopy(dict(preset))
    return {"decay": deepcopy(preset["decay"]), **get_operation_defaults(name, operation)}


def get_operation_defaults(name: str, operation: str) -> dict[str, Json]:
    """What the preset says of reading or writing, without `decay`. `ConfigError` as above."""
    preset = _preset(name)
    if operation not in OPERATIONS:
        raise ConfigError(f"operation {shorten(str(operation))} must be read or write")
    return deepcopy(cast("dict[str, Json]", preset[operation]))


def merge_preset_with_config(name: str, config: Mapping[str, Json], operation: str | None = None) -> dict[str, Json]:
    """The preset with everything that `config` says in its place; mappings are merged key by key. A key that has no value
    leaves the preset's, except for a filter, which it switches off. `ConfigError` as above."""
    preset = get_memory_preset(name, operation)
    for other, key in _SYNONYMS.items():
        if config.get(other) is not None and config.get(key) is None:
            preset.pop(key, None)
    merged = _merged(preset, config)
    if "memory_category_filter" in merged:
        merged["memory_category_filter"] = category_filter(merged["memory_category_filter"])
    return merged


def category_filter(value: Json) -> Json:
    """As it is compared: `store`, in a text or a list, is an old way to write `stored`."""
    if isinstance(value, list):
        return [category_filter(one) for one in value]
    return STORED if value == "store" else value


def validate_preset_config(config: Mapping[str, Json]) -> bool:
    """True for settings that a preset or a memory agent can have; else `ConfigError` says which key is wrong and what it
    accepts. Keys that presets do not have are left to whoever reads them."""
    parse_decay(config.get("decay"))
    for keys, accepted, fits in _KINDS:
        for key in keys:
            value = config.get(key)
            if value is not None and not fits(value):
                raise ConfigError(
                    f"{key}={shorten(value) if isinstance(value, str) else repr(value)} must be {accepted}"
                )
    for operation in OPERATIONS:
        if isinstance(inner := config.get(operation), dict):
            validate_preset_config(inner)
    return True


def _whole(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _number(value: Json, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


_KINDS: Final[tuple[tuple[tuple[str, ...], str, Callable[[Json], bool]], ...]] = (
    (("limit", "top_k", "ef_runtime", "context_window_size"), "a whole number from 1", _whole),
    (
        ("similarity_threshold", "vector_weight", "text_weight", "temporal_weight", "context_weight"),
        "a number from 0 to 1",
        lambda value: _number(value, 1),
    ),
    (
        ("temporal_decay_hours",),
        f"a number above 0 and at most {MOST_HOURS:,.0f}",
        lambda value: _number(value, MOST_HOURS) and value != 0,
    ),
    (
        (
            "vector",
            "enable_vector_search",
            "enable_hybrid_search",
            "enable_temporal_ranking",
            "enable_context_search",
            "fallback_to_text",
        ),
        "true or false",
        lambda value: isinstance(value, bool),
    ),
)


def _preset(name: object) -> Mapping[str, Json]:
    found = MEMORY_PRESETS.get(name.strip().lower()) if isinstance(name, str) else None
    if found is None:
        near = suggest(str(name), MEMORY_PRESETS)
        raise ConfigError(
            f"there is no memory preset {shorten(str(name))}{f' ({near})' if near else ''}: there are "
            f"{', '.join(MEMORY_PRESETS)}"
        )
    return found


def _merged(weaker: Mapping[str, Json], stronger: Mapping[str, Json]) -> dict[str, Json]:
    merged = dict(weaker)
    for key, value in stronger.items():
        below = merged.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            merged[key] = _merged(below, value)
        elif value is not None or key in _FILTERS or key not in merged:
            merged[key] = deepcopy(value)
    return merged
