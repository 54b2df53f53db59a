"""Which model is meant: every spelling of an address, and the environment where the file says nothing."""

import pytest

from orka.errors import ConfigError, LLMError
from orka.llm.address import endpoint_at, guess_provider, provider_name
from orka.llm.target import Target, Wanted, choose_target
from orka.settings import Settings


@pytest.mark.parametrize(
    ("provider", "url", "dialect", "base"),
    [
        ("lm_studio", "http://localhost:1234", "openai", "http://localhost:1234/v1"),
        ("lm_studio", "http://localhost:1234/", "openai", "http://localhost:1234/v1"),
        ("lm_studio", "http://localhost:1234/v1", "openai", "http://localhost:1234/v1"),
        ("lm_studio", "http://localhost:1234/v1/", "openai", "http://localhost:1234/v1"),
        ("lm_studio", "http://localhost:1234/v1/chat/completions", "openai", "http://localhost:1234/v1"),
        ("lm_studio", "http://h/proxy", "openai", "http://h/proxy/v1"),
        ("openai_compatible", "http://h:8000/v1/chat/completions", "openai", "http://h:8000/v1"),
        ("openai_compatible", "http://h:8000", "openai", "http://h:8000/v1"),
        ("openai_compatible", "https://h/v1beta/openai", "openai", "https://h/v1beta/openai"),
        ("openai_compatible", "https://h/x/chat/completions?api-version=1", "openai", "https://h/x?api-version=1"),
        ("openai_compatible", "localhost:8080", "openai", "http://localhost:8080/v1"),
        ("ollama", "http://localhost:11434/api/generate", "ollama", "http://localhost:11434/api/generate"),
        ("ollama", "http://localhost:11434", "ollama", "http://localhost:11434"),
        ("ollama", "http://localhost:11434/v1", "openai", "http://localhost:11434/v1"),
        ("anthropic", "https://api.anthropic.com/v1/messages", "anthropic", "https://api.anthropic.com"),
        ("anthropic", "https://api.anthropic.com/v1", "anthropic", "https://api.anthropic.com"),
    ],
)
def test_every_spelling_of_an_address(provider: str, url: str, dialect: str, base: str) -> None:
    found = endpoint_at(provider, url, None)
    assert (found.provider, found.url) == (dialect, base)


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://user:secret@h/v1", "http://h/#x", "http://h:99999"])
def test_what_is_no_address_is_refused_without_quoting_secrets(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        endpoint_at("openai_compatible", url, None)
    assert "secret" not in str(caught.value)


def test_names_of_providers() -> None:
    assert provider_name(" LM-Studio ") == "lm_studio"
    assert provider_name("lmstudio") == "lm_studio"
    with pytest.raises(ValueError, match="one of anthropic"):
        provider_name("gemini")
    assert guess_provider("http://h:11434/api/generate") == "ollama"
    assert guess_provider("https://api.anthropic.com") == "anthropic"
    assert guess_provider("http://h:1/v1") == "openai_compatible"


def chosen(wanted: Wanted, settings: Settings) -> Target:
    return choose_target(wanted, settings, owner="a")


def test_nothing_said_is_what_the_environment_says() -> None:
    found = chosen(Wanted(), Settings(llm_url="http://h:1", llm_model="m", llm_key="k", openai_key="o"))
    assert (found.endpoint.url, found.endpoint.key, found.model) == ("http://h:1/v1", "k", "m")
    found = chosen(Wanted(), Settings(openai_key="o", anthropic_key="x"))
    assert (found.provider, found.endpoint.key, found.model) == ("openai", "o", "gpt-4o-mini")
    found = chosen(Wanted(model="claude-opus-4"), Settings(openai_key="o", anthropic_key="x"))
    assert (found.provider, found.endpoint.key, found.model) == ("anthropic", "x", "claude-opus-4")


def test_no_model_says_what_to_set() -> None:
    with pytest.raises(LLMError, match=r"agent 'a': no model is configured. Set ORKA_LLM_URL and ORKA_LLM_MODEL"):
        chosen(Wanted(), Settings())
    with pytest.raises(LLMError, match="names no model: give `model`, or set ORKA_LLM_MODEL"):
        chosen(Wanted(url="http://h:1"), Settings())
    assert choose_target(Wanted(), Settings(), owner="a", keyless=True).model == "scripted"


def test_a_key_goes_to_its_own_host_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(openai_key="o", anthropic_key="x", llm_key="l", llm_url="http://llm:1")
    for url in ("http://elsewhere:1/v1", "http://api.openai.com/v1", "https://api.openai.com.evil.example/v1"):
        assert chosen(Wanted(provider="openai", url=url), settings).endpoint.key is None
    assert chosen(Wanted(provider="openai", url="https://api.openai.com/v1"), settings).endpoint.key == "o"
    assert chosen(Wanted(provider="openai"), settings).endpoint.key == "o"
    assert chosen(Wanted(url="https://api.openai.com/v1"), settings).endpoint.key == "o"
    assert chosen(Wanted(provider="anthropic", url="http://127.0.0.1:1"), settings).endpoint.key is None
    monkeypatch.setenv("OWN_KEY", "own")
    assert chosen(Wanted(url="http://elsewhere:1", model="m", key_env="OWN_KEY"), settings).endpoint.key == "own"
    with pytest.raises(LLMError, match="'NO_SUCH_KEY' \\(`api_key_env`\\) is not set"):
        chosen(Wanted(url="http://elsewhere:1", model="m", key_env="NO_SUCH_KEY"), settings)


def test_base_url_of_openai_gets_its_key_and_model() -> None:
    settings = Settings(openai_url="http://proxy:1/v1", openai_key="o", openai_model="base")
    found = chosen(Wanted(provider="openai"), settings)
    assert (found.endpoint.url, found.endpoint.key, found.model) == ("http://proxy:1/v1", "o", "base")
    assert found.endpoint.native
    assert not chosen(Wanted(provider="openai", url="http://elsewhere:1"), settings).endpoint.native


def test_keys_are_not_shown() -> None:
    assert "secret" not in repr(endpoint_at("openai", "http://h:1", "secret"))
