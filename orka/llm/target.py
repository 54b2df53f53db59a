"""Which model is meant: what a file says, and what the environment says where it does not. Pure, but for keys that are read
from the variables that a file names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from orka.errors import LLMError
from orka.llm.address import endpoint_at, guess_provider
from orka.llm.base import Endpoint
from orka.settings import Settings, secret

_DEFAULT_URLS: Final = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "ollama": "http://localhost:11434",
    "lm_studio": "http://localhost:1234",
    "vllm": "http://localhost:8000",
    "llama_cpp": "http://localhost:8080",
}
DEFAULT_MODELS: Final = {"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-5", "ollama": "llama3.2:latest"}
"""Where neither a file nor the environment names one."""
_OWN_HOSTS: Final = {"openai": "openai.com", "anthropic": "anthropic.com"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a file says."""

    provider: str | None = None
    """One of `orka.llm.address.PROVIDERS`."""
    model: str | None = None
    url: str | None = None
    key_env: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One model at one endpoint."""

    endpoint: Endpoint
    model: str
    provider: str
    """As the file or the environment calls it."""


def choose_target(wanted: Wanted, settings: Settings, *, owner: str, keyless: bool = False) -> Target:
    """The file's own address first, then `ORKA_LLM_URL`, then the provider whose key is at hand. `LLMError` when nothing
    names a model or a key is missing, unless `keyless`; `ConfigError` for an address that is none."""
    provider, url, key = wanted.provider, wanted.url, None
    if url is None and provider is None:
        provider, url, key = _from_settings(wanted, settings, owner, keyless)
    elif url is None and provider is not None:
        url = (settings.openai_url if provider == "openai" else None) or _DEFAULT_URLS.get(provider) or settings.llm_url
        if url is None and keyless:
            url = _DEFAULT_URLS["lm_studio"]
        if url is None:
            raise LLMError(
                f"agent {owner!r}: provider {provider!r} needs `model_url`, or ORKA_LLM_URL", provider=provider
            )
    assert url is not None
    provider = provider or guess_provider(url)
    endpoint = endpoint_at(provider, url, key or _key_for(wanted, provider, url, settings, owner, keyless))
    endpoint = replace(endpoint, native=_is_native(provider, url, settings))
    model = wanted.model or _default_model(provider, url, settings)
    if model is None and keyless:
        model = "scripted"
    if model is None:
        raise LLMError(f"agent {owner!r} names no model: give `model`, or set ORKA_LLM_MODEL", provider=endpoint.label)
    return Target(endpoint=endpoint, model=model, provider=provider)


def _from_settings(wanted: Wanted, settings: Settings, owner: str, keyless: bool) -> tuple[str, str, str | None]:
    if settings.llm_url is not None:
        return guess_provider(settings.llm_url), settings.llm_url, settings.llm_key
    claude = (wanted.model or "").startswith("claude")
    if settings.anthropic_key and (claude or not (settings.openai_key or settings.openai_url)):
        return "anthropic", _DEFAULT_URLS["anthropic"], settings.anthropic_key
    if settings.openai_key or settings.openai_url:
        return "openai", settings.openai_url or _DEFAULT_URLS["openai"], settings.openai_key
    if keyless:
        return "openai_compatible", _DEFAULT_URLS["lm_studio"], None
    raise LLMError(
        f"agent {owner!r}: no model is configured. Set ORKA_LLM_URL and ORKA_LLM_MODEL (any OpenAI-compatible server), or "
        "OPENAI_API_KEY, or ANTHROPIC_API_KEY; or give the agent `provider`, `model_url` and `model`; `orka run --dry-run` "
        "asks none"
    )


def _key_for(wanted: Wanted, provider: str, url: str, settings: Settings, owner: str, keyless: bool) -> str | None:
    """A key goes to whom it belongs: those of the environment to their provider's own host, or to the address that the
    environment names; any other host gets the key that the file names for it, or none."""
    if wanted.key_env is not None:
        key = secret(wanted.key_env)
        if key is None and not keyless:
            raise LLMError(
                f"agent {owner!r}: the environment variable {wanted.key_env!r} (`api_key_env`) is not set",
                provider=provider,
            )
        return key
    if settings.llm_url is not None and url == settings.llm_url:
        return settings.llm_key
    if _is_native(provider, url, settings):
        return settings.openai_key if provider == "openai" else settings.anthropic_key
    return None


def _is_native(provider: str, url: str, settings: Settings) -> bool:
    return provider in _OWN_HOSTS and (_is_own(provider, url) or (provider == "openai" and url == settings.openai_url))


def _is_own(provider: str, url: str) -> bool:
    parts = urlsplit(url)
    host, own = parts.hostname or "", _OWN_HOSTS[provider]
    return parts.scheme == "https" and (host == own or host.endswith(f".{own}"))


def _default_model(provider: str, url: str, settings: Settings) -> str | None:
    if url == settings.llm_url and settings.llm_model:
        return settings.llm_model
    if provider == "openai" and settings.openai_model:
        return settings.openai_model
    return DEFAULT_MODELS.get(provider) or settings.llm_model
