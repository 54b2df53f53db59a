"""Secrets in texts and values: what is masked, what is left alone, and how long it takes."""

from time import perf_counter
from typing import Any

import pytest

from orka import secrets
from orka.secrets import (
    is_secret_name,
    is_stand_in,
    redact,
    redact_fact,
    redact_text,
    remember,
    remember_login,
    remember_variables,
)

KEY = "sk-proj-abcDEF0123456789abcdef"


@pytest.fixture(autouse=True)
def forget() -> Any:
    kept = dict(secrets._known)  # pyright: ignore[reportPrivateUsage]
    secrets._known.clear()  # pyright: ignore[reportPrivateUsage]
    yield
    secrets._known.clear()  # pyright: ignore[reportPrivateUsage]
    secrets._known.update(kept)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Incorrect API key provided: {KEY}.", "Incorrect API key provided: ***."),
        (f'{{"Authorization": "Bearer {KEY}"}}', '{"Authorization": "Bearer ***"}'),
        ("authorization: Basic dXNlcjpwYXNz, next", "authorization: Basic ***, next"),
        ("Authorization=abcdef123", "Authorization=***"),
        ("sent bearer abc.def-1234", "sent bearer ***"),
        ("redis://:hunter2@host:6379/0", "redis://:***@host:6379/0"),
        ("see rediss://me:p%40ss@h1,h2/0 now", "see rediss://me:***@h1,h2/0 now"),
        ("https://token123@host/v1", "https://***@host/v1"),
        ("http://u:p@ss@host/v1", "http://u:***@host/v1"),
        ("https://host/v1?api_key=abcd1234&x=1", "https://host/v1?api_key=***&x=1"),
        ("https://host/v1?key=abcd1234", "https://host/v1?key=***"),
        ("OPENAI_API_KEY=abcd1234 set", "OPENAI_API_KEY=*** set"),
        ('{"api_key":"abcd1234"}', '{"api_key":"***"}'),
        (r'{"error": "{\"api_key\": \"abcd1234\"}"}', r'{"error": "{\"api_key\": \"***\"}"}'),
        (r'"{\"Authorization\": \"Bearer abcd1234\"}"', r'"{\"Authorization\": \"Bearer ***\"}"'),
        ("x-api-key: abcd1234", "x-api-key: ***"),
        ("password: correcthorse", "password: ***"),
        ("ghp_" + "a1" * 12 + " and AKIA" + "ABCD" * 4, "*** and ***"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeK", "***"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", "***"),
        ("***", "***"),
        ("password: ***", "password: ***"),
    ],
)
def test_a_secret_is_masked(text: str, shown: str) -> None:
    assert redact_text(text) == shown
    assert redact_text(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "a basic understanding of bearer bonds",
        "max_tokens: 4096, total_tokens=12345678",
        "the key: turn it twice",
        "write to me@example.com or see https://example.com/a@b?key=1",
        "task-oriented-dialogue-systems-2024 and sk-learn-style-estimators",
        "api_key_env: OPENAI_API_KEY",
        "the token of appreciation",
        "",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact_text(text) is text or redact_text(text) == text


def test_secrets_of_this_process_are_found_in_any_form() -> None:
    remember("plain-words-only", "short", None, "")
    remember_login("redis://:from-an-address@host")
    remember_login("https://alone-it-stands@host")
    remember_login("redis://localhost:6379")
    remember_login(None)
    assert redact_text("Xplain-words-onlyX") == "X***X"
    assert redact_text("got from-an-address and alone-it-stands") == "got *** and ***"
    assert redact_text("redis://localhost:6379") == "redis://localhost:6379"
    assert redact_text("short") == "short"


def test_variables_are_remembered_by_their_names() -> None:
    remember_variables(
        {
            "MY_SERVICE_KEY": "one-two-three",
            "github_token": "four-five",
            "REDIS_URL": "redis://u:six-seven@h",
            "HOME": "/home/me",
        }
    )
    assert redact_text("one-two-three four-five six-seven /home/me") == "*** *** *** /home/me"


def test_no_more_than_a_bounded_number_is_remembered() -> None:
    remember(*(f"secret-number-{n}" for n in range(1000)))
    assert redact_text("secret-number-999") == "***"
    assert (
        redact_text("secret number 1: secret-number-10, the oldest") == "secret number 1: secret-number-10, the oldest"
    )


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "apiKey",
        "API-Key",
        "X-API-Key",
        "authorization",
        "openai_api_key",
        "password",
        "clientSecret",
        "token",
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["api_key_env", "max_tokens", "tokens", "token_usage", "key", "memory_key", "keys", "author"]
)
def test_names_of_other_things(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "value", ["not-needed", "EMPTY", "lm-studio", "<your key>", "abc", "", "your-key-here", "${KEY}"]
)
def test_what_stands_in_for_a_secret(value: str) -> None:
    assert is_stand_in(value)


def test_values_are_masked_under_their_names_and_within_texts() -> None:
    value: Any = {
        "api_key": "anything at all",
        "headers": {"Authorization": "Bearer x1234567"},
        "list": [f"my {KEY}", 1, None],
        "usage": {"max_tokens": 5, "token": 7},
        f"under {KEY}": "fine",
    }
    assert redact(value) == {
        "api_key": "***",
        "headers": {"Authorization": "***"},
        "list": ["my ***", 1, None],
        "usage": {"max_tokens": 5, "token": 7},
        "under ***": "fine",
    }


def test_a_value_without_secrets_is_not_copied() -> None:
    value: Any = {"a": [1, {"b": "text"}], "c": None}
    assert redact(value) is value


def test_facts_that_are_no_json_are_shown_as_text_only_when_they_hold_a_secret() -> None:
    error, plain = ValueError(f"key {KEY}"), ValueError("x")
    assert redact_fact("error", error) == "ValueError('key ***')"
    assert redact_fact("error", plain) is plain
    assert redact_fact("password", "whatever it is") == "***"


@pytest.mark.parametrize(
    "piece", ["a_", "key ", "://a", "password", "Bearer ", "sk-a", "api_key=", "eyJa.", "-----BEGIN "]
)
def test_long_texts_take_time_in_proportion(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    began = perf_counter()
    redact_text(text)
    assert perf_counter() - began < 3
