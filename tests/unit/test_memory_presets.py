"""The six memory presets: their values, written down a second time here, and how an agent's own settings win over them."""

from __future__ import annotations

import pytest

from orka.errors import ConfigError
from orka.memory.decay import DecayRules, classify, merge, parse_decay
from orka.memory.presets import (
    MEMORY_PRESETS,
    category_filter,
    get_memory_preset,
    get_operation_defaults,
    list_memory_presets,
    merge_preset_with_config,
    validate_preset_config,
)
from orka.types import Json

# preset: hours short, long; minutes; base importance; limit; threshold; weights of vector, text, time; context; ef; category
TABLE = {
    "sensory": (0.25, 1, 5, 0.1, 3, 0.95, 0, 1, 0.8, None, 5, None),
    "working": (2, 8, 15, 0.3, 5, 0.70, 0.6, 0.4, 0.4, 0.5, 8, None),
    "episodic": (24, 168, 60, 0.5, 8, 0.60, 0.7, 0.3, 0.3, 0.4, 10, None),
    "semantic": (72, 2160, 240, 0.7, 10, 0.65, 0.7, 0.3, 0.1, None, 15, "stored"),
    "procedural": (168, 4320, 480, 0.6, 6, 0.70, 0.6, 0.4, 0.1, 0.3, 12, "stored"),
    "meta": (48, 8760, 720, 0.8, 4, 0.80, 0.8, 0.2, 0.2, 0.2, 20, "stored"),
}


@pytest.mark.parametrize("name", TABLE)
def test_preset_has_the_documented_values(name: str) -> None:
    rules = merge(parse_decay(get_memory_preset(name)["decay"]))
    read = get_operation_defaults(name, "read")
    found = (rules.short_term_hours, rules.long_term_hours, rules.check_interval_minutes, rules.base_score)
    assert rules.enabled
    weights = (read["vector_weight"], read["text_weight"], read["temporal_weight"])
    context = read.get("context_weight")
    found += (read["limit"], read["similarity_threshold"], *weights, context, read["ef_runtime"])
    assert (*found, read.get("memory_category_filter")) == TABLE[name]
    assert read["enable_context_search"] is (context is not None)
    assert read["enable_hybrid_search"] is read["enable_vector_search"] is (name != "sensory")
    assert read["enable_temporal_ranking"] is (name != "semantic")
    assert read["fallback_to_text"] is True
    assert get_operation_defaults(name, "write")["vector"] is (name != "sensory")


def test_details_of_single_presets() -> None:
    assert get_operation_defaults("episodic", "read")["temporal_decay_hours"] == 24
    assert get_operation_defaults("episodic", "read")["context_window_size"] == 5
    assert get_operation_defaults("episodic", "write")["vector_params"] == {"M": 16, "ef_construction": 200}
    assert get_operation_defaults("meta", "write")["vector_params"] == {"M": 32, "ef_construction": 400}


def test_presets_are_listed_with_what_they_are_for() -> None:
    listed = list_memory_presets()
    assert list(listed) == ["sensory", "working", "episodic", "semantic", "procedural", "meta"] == list(MEMORY_PRESETS)
    assert listed["working"] == "What is being worked on: hours, what fits the context first."


@pytest.mark.parametrize("name", TABLE)
def test_every_preset_is_valid(name: str) -> None:
    assert validate_preset_config(get_memory_preset(name))
    assert validate_preset_config(get_memory_preset(name, "read"))
    assert validate_preset_config(get_memory_preset(name, "write"))


def test_operation_puts_its_defaults_beside_decay() -> None:
    preset = get_memory_preset("Episodic ", "write")
    assert set(preset) == {"decay", "vector", "vector_params"}
    assert set(get_memory_preset("episodic")) == {"description", "decay", "read", "write"}


def test_what_is_given_is_a_copy() -> None:
    preset = get_memory_preset("meta", "write")
    assert isinstance(preset["decay"], dict)
    preset["decay"]["enabled"] = False
    assert merge(parse_decay(get_memory_preset("meta")["decay"])).enabled


def test_settings_of_the_agent_win() -> None:
    config: dict[str, Json] = {
        "limit": 50,
        "enable_context_search": False,
        "similarity_threshold": 0.0,
        "decay": {"default_long_term_hours": 7, "importance_rules": {"event_type_boosts": {"write": 0.1}}},
        "own": {"kept": True},
    }
    merged = merge_preset_with_config("working", config, "read")
    assert merged["limit"] == 50
    assert merged["enable_context_search"] is False
    assert merged["similarity_threshold"] == 0.0
    assert merged["vector_weight"] == 0.6
    assert merged["own"] == {"kept": True}
    rules = merge(parse_decay(merged["decay"]))
    assert (rules.short_term_hours, rules.long_term_hours, rules.base_score) == (2, 7, 0.3)
    assert rules.event_type_boosts == {"write": 0.1}


@pytest.mark.parametrize("key", ["long_term_hours", "default_long_term_hours"])
def test_hours_of_the_agent_win_under_both_of_their_names(key: str) -> None:
    rules = merge(parse_decay(merge_preset_with_config("meta", {"decay": {key: 3}})["decay"]))
    assert rules.long_term_hours == 3


def test_keys_without_a_value_leave_the_preset_but_for_filters() -> None:
    merged = merge_preset_with_config("semantic", {"limit": None, "memory_category_filter": None, "x": None}, "read")
    assert merged["limit"] == 10
    assert merged["memory_category_filter"] is None
    assert merged["x"] is None


def test_synonym_of_limit_wins_too() -> None:
    assert "limit" not in merge_preset_with_config("semantic", {"top_k": 3}, "read")
    assert merge_preset_with_config("semantic", {"top_k": 3, "limit": 4}, "read")["limit"] == 4


def test_store_is_stored_in_a_category_filter() -> None:
    assert (
        merge_preset_with_config("working", {"memory_category_filter": "store"})["memory_category_filter"] == "stored"
    )
    assert category_filter(["store", "log"]) == ["stored", "log"]
    assert category_filter(None) is None


def test_preset_decides_the_life_of_a_write() -> None:
    rules = merge(parse_decay(get_memory_preset("sensory")["decay"]))
    found = classify(rules, "a spark", {}, at_ms=0)
    assert (found.importance, found.memory_type) == (0.4, "short_term")
    assert found.expire_ms == 1_260_000  # a quarter of an hour times 1.4
    assert rules == DecayRules(
        enabled=True, short_term_hours=0.25, long_term_hours=1, check_interval_minutes=5, base_score=0.1
    )


def test_unknown_preset_names_the_nearest_and_all() -> None:
    with pytest.raises(ConfigError) as caught:
        get_memory_preset("episodik")
    assert str(caught.value) == (
        "there is no memory preset 'episodik' (did you mean 'episodic'?): there are sensory, working, episodic, semantic, "
        "procedural, meta"
    )
    with pytest.raises(ConfigError, match="there is no memory preset '7': there are sensory"):
        get_memory_preset(7)  # type: ignore[arg-type]


def test_unknown_operation_is_refused() -> None:
    with pytest.raises(ConfigError, match="operation 'delete' must be read or write"):
        get_memory_preset("meta", "delete")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"limit": 0}, "limit=0 must be a whole number from 1"),
        ({"limit": True}, "limit=True must be a whole number from 1"),
        ({"top_k": "many"}, "top_k='many' must be a whole number from 1"),
        ({"vector_weight": 1.5}, "vector_weight=1.5 must be a number from 0 to 1"),
        ({"similarity_threshold": float("nan")}, "similarity_threshold=nan must be a number from 0 to 1"),
        ({"temporal_decay_hours": 0}, "temporal_decay_hours=0 must be a number above 0 and at most 876,000"),
        ({"vector": "yes"}, "vector='yes' must be true or false"),
        ({"read": {"ef_runtime": 1.5}}, "ef_runtime=1.5 must be a whole number from 1"),
        ({"decay": {"short_term_hours": -1}}, "decay.short_term_hours=-1 must be a number above 0 and at most 876,000"),
    ],
)
def test_bad_setting_is_named(config: dict[str, Json], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_preset_config(config)
    assert str(caught.value) == message
