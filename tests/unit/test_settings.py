"""Settings from the environment: every number has bounds, and a value outside of them is named."""

from pathlib import Path

import pytest

from orka.errors import SettingsError
from orka.settings import Settings, load_env_file


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("ORKA_SERVER_LINGER", "0", "2,592,000"),
        ("ORKA_SERVER_PATIENCE", "0.1", "86,400"),
        ("ORKA_REDIS_TIMEOUT", "0.1", "86,400"),
        ("ORKA_LEASE", "0.2", "86,400"),
        ("ORKA_RETENTION_DAYS", "0", "36,500"),
        ("ORKA_JOURNAL_PATIENCE", "0", "86,400"),
        ("ORKA_VALUE_LIMIT", "256", "536,870,912"),
        ("ORKA_VALUE_HARD_LIMIT", "1,024", "536,870,912"),
        ("ORKA_PARTITIONS", "1", "1,024"),
        ("ORKA_MEMORY_DECAY_SHORT_TERM_HOURS", "0.001", "876,000"),
        ("ORKA_MEMORY_DECAY_LONG_TERM_HOURS", "0.001", "876,000"),
        ("ORKA_MEMORY_DECAY_CHECK_INTERVAL_MINUTES", "0.01", "43,200"),
        ("ORKA_EMBEDDING_DIMENSION", "1", "32,768"),
        ("ORKA_EMBEDDING_CACHE", "0", "36,500"),
    ],
)
def test_a_number_outside_its_bounds_is_refused(name: str, least: str, most: str) -> None:
    Settings.from_environment({name: most.replace(",", "")})
    for value in ("inf", "-inf", "nan", "1e300", "-1", str(int(most.replace(",", "")) + 1)):
        with pytest.raises(SettingsError) as caught:
            Settings.from_environment({name: value})
        assert str(caught.value) == f"{name}={value!r} must be from {least} to {most}"


def test_the_longest_retention_is_in_seconds() -> None:
    assert Settings.from_environment({"ORKA_RETENTION_DAYS": "36500"}).retention == 36_500 * 86_400


@pytest.mark.parametrize(
    ("backend", "forced", "expected"),
    [
        ("", "", "redisstack"),
        ("redis", "", "redis"),
        ("RedisStack", "true", "redis"),
        ("redisstack", "0", "redisstack"),
    ],
)
def test_forced_basic_redis_wins_over_the_backend(backend: str, forced: str, expected: str) -> None:
    settings = Settings.from_environment({"ORKA_MEMORY_BACKEND": backend, "ORKA_FORCE_BASIC_REDIS": forced})
    assert settings.memory_backend == expected


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"ORKA_MEMORY_BACKEND": "kafka"})
    assert str(caught.value) == "ORKA_MEMORY_BACKEND='kafka' must be one of redisstack, redis"


def test_audit_is_one_of_its_words() -> None:
    assert [Settings.from_environment({"ORKA_AUDIT": word}).audit for word in ("", "Agents", "off")] == [
        "runs",
        "agents",
        "off",
    ]
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"ORKA_AUDIT": "all"})
    assert str(caught.value) == "ORKA_AUDIT='all' must be one of off, runs, agents"


def test_decay_is_only_decided_where_the_variable_says_something() -> None:
    decided = [Settings.from_environment({"ORKA_MEMORY_DECAY_ENABLED": value}) for value in ("", "no", "true")]
    assert [settings.decay_enabled for settings in decided] == [None, False, True]


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://api.openai.com/v1", "sk-openai"),
        ("https://EU.api.openai.com/v1", "sk-openai"),
        ("http://api.openai.com/v1", None),
        ("https://api.openai.com.evil.example/v1", None),
        ("https://notapi.openai.com/v1", None),
        ("https://evil.example/api.openai.com", None),
        ("http://localhost:1234/v1", None),
        ("", None),
    ],
)
def test_openai_key_goes_to_openai_only(url: str, key: str | None) -> None:
    given = {"ORKA_EMBEDDING_URL": url, "OPENAI_API_KEY": "sk-openai"}
    assert Settings.from_environment(given).embedding_key == key
    assert Settings.from_environment({**given, "ORKA_EMBEDDING_KEY": " own "}).embedding_key == "own"


def test_keys_are_not_shown() -> None:
    settings = Settings.from_environment({"ORKA_EMBEDDING_KEY": "sk-secret"})
    assert settings.embedding_key == "sk-secret"
    assert "sk-secret" not in repr(settings)
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"ORKA_EMBEDDING_KEY": "sk-secret\nx"})
    assert str(caught.value) == "ORKA_EMBEDDING_KEY has a character that no HTTP header can carry: copy the key again"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:1234", "ORKA_EMBEDDING_URL='localhost:1234' must begin with http:// or https:// and name a host"),
        ("https://", "ORKA_EMBEDDING_URL='https://' must begin with http:// or https:// and name a host"),
        ("http://a:99999/v1", "ORKA_EMBEDDING_URL='http://a:99999/v1' is no address: Port out of range 0-65535"),
        ("http://a/#x", "ORKA_EMBEDDING_URL='http://a/#x' must not hold a # or white space"),
        (
            "https://me:secret@host/v1",
            "ORKA_EMBEDDING_URL must not hold a user name or password: give the key apart from it",
        ),
    ],
)
def test_bad_endpoint_is_refused_without_its_password(url: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"ORKA_EMBEDDING_URL": url})
    assert str(caught.value) == message


def test_cache_is_given_in_days_and_kept_in_seconds() -> None:
    given = [Settings.from_environment({"ORKA_EMBEDDING_CACHE": days}).embedding_cache for days in ("", "0", "2")]
    assert given == [None, 0, 172_800]


def test_env_file_fills_what_the_environment_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".env"
    file.write_text(
        '# keys\nexport ORKA_LLM_MODEL="own model"\nORKA_LLM_URL=http://h:1\nEMPTY\nORKA_LEASE=3 # seconds\n'
    )
    monkeypatch.setenv("ORKA_LLM_URL", "http://first:1")
    monkeypatch.setenv("ORKA_LLM_MODEL", "x")
    monkeypatch.delenv("ORKA_LLM_MODEL")
    monkeypatch.setenv("ORKA_LEASE", "x")
    monkeypatch.delenv("ORKA_LEASE")
    load_env_file(file)
    settings = Settings.from_environment()
    assert (settings.llm_model, settings.llm_url, settings.lease) == ("own model", "http://first:1", 3.0)
    load_env_file(tmp_path / "none")


def test_env_file_that_is_no_text_says_so(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_env_file(tmp_path / ".env")
