"""Where a model is asked: from the spellings of files to an `Endpoint`. Pure. Workflow-format 9.1."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from orka.errors import ConfigError
from orka.llm.base import Endpoint
from orka.settings import endpoint_fault

OPENAI: Final = "openai"
OLLAMA: Final = "ollama"
ANTHROPIC: Final = "anthropic"
_DIALECTS: Final = {
    "openai": OPENAI,
    "openai_compatible": OPENAI,
    "lm_studio": OPENAI,
    "lmstudio": OPENAI,
    "vllm": OPENAI,
    "llama_cpp": OPENAI,
    "llamacpp": OPENAI,
    "ollama": OLLAMA,
    "anthropic": ANTHROPIC,
}
PROVIDERS: Final = tuple(sorted(set(_DIALECTS) - {"lmstudio", "llamacpp"}))
"""Values of `provider`, one spelling each."""
GENERATE: Final = "/api/generate"
CHAT: Final = "/api/chat"
_CALLS: Final = ("/chat/completions", "/completions", "/responses", "/models")
_MESSAGES: Final = ("/v1/messages", "/messages", "/v1")
_VERSION: Final = re.compile(r"v\d+(?:(?:alpha|beta)\d*)?", re.IGNORECASE)


def provider_name(written: str) -> str:
    """One of `PROVIDERS`. `ValueError` for anything else."""
    word = re.sub(r"[\s.-]+", "_", written.strip().lower())
    if word not in _DIALECTS:
        raise ValueError(f"{written!r} is no provider: one of {', '.join(PROVIDERS)}")
    return {"lmstudio": "lm_studio", "llamacpp": "llama_cpp"}.get(word, word)


def dialect_of(provider: str) -> str:
    """The protocol that a provider of `PROVIDERS` speaks."""
    return _DIALECTS[provider]


def guess_provider(url: str) -> str:
    """Of an address that comes without one."""
    parts = urlsplit(url)
    path, host = parts.path.rstrip("/"), parts.hostname or ""
    if path.endswith((GENERATE, CHAT)):
        return "ollama"
    if host.endswith("anthropic.com") or path.endswith("/v1/messages"):
        return "anthropic"
    return "openai" if host.endswith(".openai.com") else "openai_compatible"


def endpoint_at(provider: str, url: str, key: str | None) -> Endpoint:
    """The endpoint of an address as files write it: the base, with or without a version, or the whole address of the
    call. `ConfigError` for what is no address."""
    written = url.strip()
    if "://" not in written:
        written = f"http://{written}"
    if fault := endpoint_fault(written):
        shown = "" if "@" in written else f" {url!r}"
        raise ConfigError(f"model_url{shown} {fault}")
    parts = urlsplit(written)
    path = parts.path.rstrip("/")
    dialect = dialect_of(provider)
    if dialect == OLLAMA and _is_openai_path(path):
        dialect = OPENAI  # Ollama speaks it there
    if dialect == OPENAI:
        path = _openai_base(path, provider)
    elif dialect == ANTHROPIC:
        path = _without(path, _MESSAGES)
    return Endpoint(provider=dialect, url=urlunsplit(_with_path(parts, path)), key=key)


def _is_openai_path(path: str) -> bool:
    return path.endswith("/chat/completions") or _VERSION.fullmatch(path.rpartition("/")[2]) is not None


def _openai_base(path: str, provider: str) -> str:
    """Without the call; with a version where the address has none. A path of one's own stays as it is, except for LM
    Studio, whose addresses are bases."""
    base = _without(path, _CALLS)
    if base != path:
        return base
    last = base.rpartition("/")[2]
    if not base or (provider == "lm_studio" and _VERSION.fullmatch(last) is None):
        return f"{base}/v1"
    return base


def _without(path: str, endings: tuple[str, ...]) -> str:
    for ending in endings:
        if path.endswith(ending):
            return path.removesuffix(ending)
    return path


def _with_path(parts: SplitResult, path: str) -> SplitResult:
    return parts._replace(path=path)


def without_query(url: str) -> str:
    """For messages: a query may hold a key."""
    return urlunsplit(urlsplit(url)._replace(query=""))
