"""Decay rules: importance, memory type and expiry of a write, and which source wins. Expected values are written down."""

from __future__ import annotations

from typing import Any

import pytest

from orka.errors import ConfigError, RecordRefused
from orka.memory.decay import (
    Classified,
    DecayLayer,
    DecayRules,
    Wishes,
    classify,
    environment_layer,
    known_type,
    merge,
    parse_decay,
)
from orka.settings import Settings

AT = 1_000_000_000_000
HOUR = 3_600_000
OFF = DecayRules()
ON = DecayRules(enabled=True)
LOG: dict[str, object] = {"category": "log"}


def importance(content: str, metadata: dict[str, object], rules: DecayRules = OFF, **wishes: Any) -> float:
    return classify(rules, content, metadata, at_ms=AT, wishes=Wishes(**wishes)).importance


@pytest.mark.parametrize(
    ("length", "metadata", "expected"),
    [
        (1, LOG, 0.5),
        (100, LOG, 0.5),
        (101, LOG, 0.6),
        (500, LOG, 0.6),
        (501, LOG, 0.7),
        (1, {}, 0.8),
        (1, {"category": "stored"}, 0.8),
        (1, {"category": "stored", "query": "q"}, 0.9),
        (1, {"category": "stored", "query": ""}, 0.8),
        (101, {"category": "stored"}, 0.9),
        (501, {"category": "stored", "query": "q"}, 1.0),
        (1, {"category": ["stored"], "query": 0}, 0.5),
    ],
)
def test_importance_counts_length_category_and_query(length: int, metadata: dict[str, object], expected: float) -> None:
    assert importance("x" * length, metadata) == expected


def test_rules_of_importance_take_effect() -> None:
    rules = merge(
        parse_decay(
            {
                "importance_rules": {
                    "base_score": 0.1,
                    "event_type_boosts": {"write": 0.25, "debug": -0.3},
                    "agent_type_boosts": {"memory": 0.05},
                }
            }
        )
    )
    assert importance("x", LOG, rules) == 0.4
    assert importance("x", LOG, rules, event_type="debug") == 0.0
    assert importance("x", LOG, rules, agent_type="brain") == 0.35
    assert importance("x", {"query": "q"}, rules, event_type="debug") == 0.25


def test_given_importance_is_kept_within_bounds() -> None:
    assert importance("x" * 900, {}, importance=0.25) == 0.25
    assert importance("x", {}, importance=7) == 1.0
    assert importance("x", {}, importance=-1) == 0.0
    with pytest.raises(RecordRefused, match="importance=nan is not a number from 0 to 1"):
        importance("x", {}, importance=float("nan"))


def kept(metadata: dict[str, object], rules: DecayRules = OFF, **wishes: Any) -> str:
    return classify(rules, "x", metadata, at_ms=AT, wishes=Wishes(**wishes)).memory_type


def test_stored_and_important_memories_are_kept_long() -> None:
    assert kept({}) == "long_term"
    assert kept({"category": "stored"}, importance=0.7) == "long_term"
    assert kept({"category": "stored"}, importance=0.69) == "short_term"
    assert kept(LOG, importance=1.0) == "short_term"


def test_rules_decide_the_type_before_importance_does() -> None:
    rules = merge(parse_decay({"memory_type_rules": {"long_term_events": ["success"], "short_term_events": "write"}}))
    assert kept({}, rules) == "short_term"
    assert kept(LOG, rules, event_type="success") == "long_term"
    assert kept({}, rules, event_type="other") == "long_term"
    assert kept(LOG, DecayRules(default_long_term=True)) == "long_term"
    assert kept(LOG, DecayRules(default_long_term=True, short_term_events=frozenset({"write"}))) == "short_term"


def test_explicit_type_is_honoured() -> None:
    assert kept({}, memory_type="short_term") == "short_term"
    assert kept(LOG, memory_type="Long-Term") == "long_term"
    assert kept({}, memory_type="auto") == "long_term"
    assert kept({}, memory_type=" ") == "long_term"
    assert kept({}, memory_type="recipe") == "recipe"
    assert known_type("short") == "short_term"


def expiry_hours(rules: DecayRules, metadata: dict[str, object], **wishes: Any) -> float | None:
    found = classify(rules, "x", metadata, at_ms=AT, wishes=Wishes(**wishes)).expire_ms
    return (found - AT) / HOUR if found else None


def test_important_memories_live_longer() -> None:
    assert expiry_hours(ON, {}) == pytest.approx(24 * 1.8)
    assert expiry_hours(ON, LOG) == pytest.approx(1 * 1.5)
    assert expiry_hours(ON, LOG, importance=0) == 1
    assert expiry_hours(ON, {}, importance=1) == 48
    rules = DecayRules(enabled=True, short_term_hours=0.25, long_term_hours=100)
    assert expiry_hours(rules, LOG, importance=1) == 0.5
    assert expiry_hours(rules, LOG, importance=1, memory_type="long_term") == 200
    assert expiry_hours(rules, {}, importance=1, memory_type="recipe") == 200


def test_without_decay_nothing_expires_but_what_says_so() -> None:
    assert classify(OFF, "x", {}, at_ms=AT) == Classified(importance=0.8, memory_type="long_term", expire_ms=0)
    assert expiry_hours(OFF, {}, expiry_hours=2) == 2
    assert expiry_hours(ON, {}, expiry_hours=2, importance=1) == 2
    for bad in (0, -1, float("inf"), float("nan"), 1e300):
        with pytest.raises(RecordRefused, match=r"expiry_hours=.* must be above 0 and at most 876,000"):
            expiry_hours(OFF, {}, expiry_hours=bad)


def test_shortest_expiry_is_not_never() -> None:
    found = classify(OFF, "x", {}, at_ms=AT, wishes=Wishes(expiry_hours=1e-12))
    assert found.expire_ms == AT + 1


def test_stronger_layers_win_key_by_key() -> None:
    preset = parse_decay({"enabled": True, "default_short_term_hours": 2, "default_long_term_hours": 8})
    orchestrator = parse_decay({"default_long_term_hours": 9, "check_interval_minutes": 5})
    environment = environment_layer(
        Settings.from_environment({"ORKA_MEMORY_DECAY_LONG_TERM_HOURS": "10", "ORKA_MEMORY_DECAY_ENABLED": "off"})
    )
    agent = parse_decay({"enabled": True, "short_term_hours": 0.5})
    rules = merge(preset, orchestrator, environment, agent)
    assert rules == DecayRules(enabled=True, short_term_hours=0.5, long_term_hours=10, check_interval_minutes=5)
    assert merge(preset, orchestrator, environment).enabled is False
    assert (
        merge()
        == OFF
        == DecayRules(enabled=False, short_term_hours=1, long_term_hours=24, check_interval_minutes=30, base_score=0.5)
    )


def test_environment_that_says_nothing_changes_nothing() -> None:
    assert environment_layer(Settings.from_environment({})) == DecayLayer()


def test_boosts_are_merged_by_name_and_lists_replaced() -> None:
    weak = parse_decay(
        {
            "importance_rules": {"event_type_boosts": {"write": 0.1, "success": 0.2}},
            "memory_type_rules": {"long_term_events": ["write", "success"], "short_term_events": ["debug"]},
        }
    )
    strong = parse_decay(
        {
            "importance_rules": {"event_type_boosts": {"write": 0.3}},
            "memory_type_rules": {"short_term_events": ["write"]},
        }
    )
    rules = merge(weak, strong)
    assert rules.event_type_boosts == {"write": 0.3, "success": 0.2}
    assert rules.short_term_events == {"write"}
    assert rules.long_term_events == {"success"}
    assert merge(strong, weak).long_term_events == {"write", "success"}
    assert merge(strong, weak).short_term_events == {"debug"}


def test_plain_names_of_hours_win_over_the_default_ones() -> None:
    layer = parse_decay({"default_short_term_hours": 2, "short_term_hours": 3, "default_long_term_hours": 4})
    assert (layer.short_term_hours, layer.long_term_hours) == (3, 4)


def test_short_forms_and_numbers_as_text_are_taken() -> None:
    assert parse_decay(None) == DecayLayer()
    assert parse_decay(False) == DecayLayer(enabled=False)
    assert parse_decay({"enabled": "yes", "short_term_hours": "0.5"}) == DecayLayer(enabled=True, short_term_hours=0.5)
    assert parse_decay({"enabled": None, "importance_rules": None}) == DecayLayer()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("on", "decay is a str and must be a mapping with keys out of enabled, short_term_hours, long_term_hours, "),
        (
            {"short_term_hour": 2},
            "decay has no key 'short_term_hour' (did you mean 'short_term_hours'?): it knows enabled, short_term_hours, ",
        ),
        ({"short_term_hours": 0}, "decay.short_term_hours=0 must be a number above 0 and at most 876,000"),
        ({"long_term_hours": "soon"}, "decay.long_term_hours='soon' must be a number above 0 and at most 876,000"),
        ({"long_term_hours": True}, "decay.long_term_hours=True must be a number above 0 and at most 876,000"),
        ({"long_term_hours": float("nan")}, "decay.long_term_hours=nan must be a number above 0 and at most 876,000"),
        ({"long_term_hours": 10**400}, "decay.long_term_hours=1000"),
        ({"default_long_term_hours": -1}, "decay.default_long_term_hours=-1 must be a number above 0 and"),
        ({"check_interval_minutes": 0}, "decay.check_interval_minutes=0 must be a number above 0 and at most 43,200"),
        ({"enabled": "perhaps"}, "decay.enabled='perhaps' must be true or false"),
        ({"default_long_term": 3}, "decay.default_long_term=3 must be true or false"),
        ({"importance_rules": {"base_score": 2}}, "decay.importance_rules.base_score=2 must be a number from 0 to 1"),
        (
            {"importance_rules": [1]},
            "decay.importance_rules is a list and must be a mapping with keys out of base_score",
        ),
        (
            {"importance_rules": {"event_type_boosts": {"write": "much"}}},
            "decay.importance_rules.event_type_boosts.write='much' must be a number from -1 to 1",
        ),
        (
            {"importance_rules": {"agent_type_boosts": ["memory"]}},
            "decay.importance_rules.agent_type_boosts=['memory'] must be a mapping of names to numbers",
        ),
        (
            {"memory_type_rules": {"long_term_events": [1]}},
            "decay.memory_type_rules.long_term_events=[1] must be a list of event names, such as [write]",
        ),
        (
            {"memory_type_rules": {"long_term_events": ["a"], "short_term_events": ["a"]}},
            "decay.memory_type_rules: 'a' is among the long_term_events and the short_term_events",
        ),
    ],
)
def test_bad_value_is_named_with_its_key_and_what_it_accepts(value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_decay(value)
    assert str(caught.value).startswith(message)


def test_error_names_the_place_it_was_given() -> None:
    with pytest.raises(ConfigError, match=r"^orchestrator\.memory\.decay\.enabled=7 must be true or false$"):
        parse_decay({"enabled": 7}, "orchestrator.memory.decay")
