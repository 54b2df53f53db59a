"""Every knob of the machine and its environment variable. The only reader of the environment.

A YAML file describes a graph; `Settings` describes where and how it runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orka.errors import SettingsError
from orka.secrets import remember, remember_login, remember_variables

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})
_DAY = 86400.0
_HOURS = 876_000.0
"""A hundred years."""
_DECAY = "ORKA_MEMORY_DECAY_"
_OPENAI = "api.openai.com"
_VALUE = 512 * 1024 * 1024
"""Bytes of the longest string that Redis stores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Frozen; `Settings.from_environment()` reads the variables named below."""

    redis_url: str | None = field(default=None, repr=False)
    """`REDIS_URL`: single node, `rediss://`, `unix://`, or several nodes of a cluster. Unset: the private server."""
    home: Path = Path(".orka")
    """`ORKA_HOME`: data folder of the private server."""
    server_linger: float = 300.0
    """`ORKA_SERVER_LINGER`: seconds the private server stays after its last user left."""
    server_patience: float = 20.0
    """`ORKA_SERVER_PATIENCE`: seconds without a word or progress after which the private server counts as hung."""
    redis_timeout: float = 10.0
    """`ORKA_REDIS_TIMEOUT`: seconds to wait for a connection to Redis and for one answer (blocking reads excepted)."""
    fsync: str = "everysec"
    """`ORKA_FSYNC`: the private server's `appendfsync`, `everysec` or `always`."""
    lease: float = 10.0
    """`ORKA_LEASE`: seconds a run stays with a process that gives no sign of life."""
    retention: float = 7 * 86400.0
    """`ORKA_RETENTION_DAYS`: how long an ended run stays readable; seconds here, days there."""
    journal_patience: float = 30.0
    """`ORKA_JOURNAL_PATIENCE`: seconds a run goes on while its journal cannot be written."""
    value_limit: int = 64 * 1024
    """`ORKA_VALUE_LIMIT`: bytes of JSON above which a value is stored once and referred to."""
    value_hard_limit: int = 64 * 1024 * 1024
    """`ORKA_VALUE_HARD_LIMIT`: bytes of JSON above which a value is an error."""
    partitions: int = 16
    """`ORKA_PARTITIONS`: hash tags that runs spread over; the same for every process that shares a Redis."""
    allow_eviction: bool = False
    """`ORKA_ALLOW_EVICTION`: run on a server whose `maxmemory-policy` may drop journals."""
    backend: str = "redisstack"
    """`ORKA_MEMORY_BACKEND`: how memories are searched, `redisstack` (search module) or `redis` (none needed)."""
    force_basic_redis: bool = False
    """`ORKA_FORCE_BASIC_REDIS`: `redis`, whatever `ORKA_MEMORY_BACKEND` says."""
    decay_enabled: bool | None = None
    """`ORKA_MEMORY_DECAY_ENABLED`: whether memories expire. Unset: as the graph and its presets say."""
    decay_short_term_hours: float | None = None
    """`ORKA_MEMORY_DECAY_SHORT_TERM_HOURS`: life of a short-term memory without importance."""
    decay_long_term_hours: float | None = None
    """`ORKA_MEMORY_DECAY_LONG_TERM_HOURS`: life of a long-term memory without importance."""
    decay_check_interval_minutes: float | None = None
    """`ORKA_MEMORY_DECAY_CHECK_INTERVAL_MINUTES`: accepted as by OrKa 0.9; Redis deletes what has expired by itself."""
    embedding_model: str = "wordllama-256"
    """`ORKA_EMBEDDING_MODEL`: `wordllama-256`, `-128` or `-64` (local, offline), or the name of an endpoint's model."""
    embedding_url: str | None = None
    """`ORKA_EMBEDDING_URL`: OpenAI-compatible endpoint, as in `https://api.openai.com/v1`. Unset: the local model."""
    embedding_key: str | None = field(default=None, repr=False)
    """`ORKA_EMBEDDING_KEY`: the endpoint's API key. Unset: `OPENAI_API_KEY` for OpenAI itself, none for any other host."""
    embedding_dimension: int | None = None
    """`ORKA_EMBEDDING_DIMENSION`: numbers of a vector, which the endpoint is asked for. Unset: as the model gives."""
    embedding_cache: float | None = None
    """`ORKA_EMBEDDING_CACHE`: how long vectors stay in Redis; seconds here, days there. Unset: 30 days for an endpoint."""
    search_backend: str | None = None
    """`ORKA_SEARCH_BACKEND`: `duckduckgo`, `searxng` or `folder`. Unset: SearXNG where its address is set, else DuckDuckGo."""
    searxng_url: str | None = None
    """`ORKA_SEARXNG_URL`: a SearXNG instance that search agents ask, as in `http://localhost:8888`."""
    search_folders: tuple[Path, ...] | None = None
    """`ORKA_SEARCH_FOLDERS`: folders that graphs may read, separated as in `PATH`. Unset: the working directory."""
    llm_url: str | None = None
    """`ORKA_LLM_URL`: server of agents that name none, with or without `/v1`."""
    llm_model: str | None = None
    """`ORKA_LLM_MODEL`: model of agents that name none."""
    llm_key: str | None = field(default=None, repr=False)
    """`ORKA_LLM_KEY`: API key of that server."""
    openai_url: str | None = None
    """`OPENAI_BASE_URL`: address of provider `openai` (another name: `OPENAI_API_BASE`). Unset: OpenAI's own."""
    openai_key: str | None = field(default=None, repr=False)
    """`OPENAI_API_KEY`: for provider `openai`."""
    openai_model: str | None = None
    """`BASE_OPENAI_MODEL`: model of agents with provider `openai` that name none."""
    anthropic_key: str | None = field(default=None, repr=False)
    """`ANTHROPIC_API_KEY`: for provider `anthropic`."""
    llm_timeout: float = 120.0
    """`ORKA_TIMEOUT_SECONDS`: seconds for an answer of a model, for agents without a `timeout`."""
    llm_concurrency: int = 256
    """`ORKA_MAX_CONCURRENT_REQUESTS`: questions under way at once, per process and endpoint."""
    local_cost_policy: str = "calculate"
    """`ORKA_LOCAL_COST_POLICY`: cost of models on one's own machine: `calculate`, `null_fail` (unknown), `zero_legacy`."""
    region: str = "US"
    """`ORKA_REGION`: of the electricity price: `US`, `EU`, `UK`, `JP`, `KR`, `CN`, `CA` or `AU`."""
    electricity_rate: float | None = None
    """`ORKA_ELECTRICITY_RATE_USD_KWH`: US dollars for a kWh. Unset: a rough price of the region."""
    hardware_cost: float = 2000.0
    """`ORKA_HARDWARE_COST_USD`: of one's own machine, spread over three years."""
    gpu_watts: float = 200.0
    """`ORKA_GPU_TDP_WATTS`: of its graphics processor."""
    cpu_watts: float = 65.0
    """`ORKA_CPU_TDP_WATTS`: of its processor."""
    log_level: str = "warning"
    """`ORKA_LOG_LEVEL`: `debug`, `info`, `warning`, `error` or `critical`."""
    log_format: str = "console"
    """`ORKA_LOG_FORMAT`: `console` or `json`."""
    audit: str = "runs"
    """`ORKA_AUDIT`: what is told in the stream of events: `off`, `runs` (beginnings and ends), `agents` (every visit, too)."""
    log_dir: Path | None = None
    """`ORKA_LOG_DIR`: folder in which every run leaves a trace file. Unset: only those that are asked for, in `logs`."""
    trace_blobs: bool = True
    """`ORKA_TRACE_BLOBS`: trace files keep long payloads apart, each once; false: where they belong."""
    keep_previous_outputs: bool = False
    """`ORKA_DEBUG_KEEP_PREVIOUS_OUTPUTS`: events of trace files have the outputs that were there before them."""
    docker_image: str | None = None
    """`DOCKER_IMAGE`: what trace files call the image that Orka runs in."""

    def __post_init__(self) -> None:
        remember(self.embedding_key, self.llm_key, self.openai_key, self.anthropic_key)
        remember_login(self.redis_url)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Reads `os.environ` (or the mapping given). A bad value raises `SettingsError` naming the variable."""
        env = os.environ if environment is None else environment
        remember_variables(env)
        dimension = _some(env, "ORKA_EMBEDDING_DIMENSION", least=1, most=32_768)
        days = _some(env, "ORKA_EMBEDDING_CACHE", least=0, most=36_500)
        return cls(
            redis_url=env.get("REDIS_URL") or None,
            home=Path(env.get("ORKA_HOME") or ".orka"),
            server_linger=_number(env, "ORKA_SERVER_LINGER", 300.0, least=0, most=30 * _DAY),
            server_patience=_number(env, "ORKA_SERVER_PATIENCE", 20.0, least=0.1, most=_DAY),
            redis_timeout=_number(env, "ORKA_REDIS_TIMEOUT", 10.0, least=0.1, most=_DAY),
            fsync=_choice(env, "ORKA_FSYNC", "everysec", ("everysec", "always")),
            lease=_number(env, "ORKA_LEASE", 10.0, least=0.2, most=_DAY),
            retention=_number(env, "ORKA_RETENTION_DAYS", 7.0, least=0, most=36_500) * _DAY,
            journal_patience=_number(env, "ORKA_JOURNAL_PATIENCE", 30.0, least=0, most=_DAY),
            value_limit=int(_number(env, "ORKA_VALUE_LIMIT", 64 * 1024, least=256, most=_VALUE)),
            value_hard_limit=int(_number(env, "ORKA_VALUE_HARD_LIMIT", 64 * 1024 * 1024, least=1024, most=_VALUE)),
            partitions=int(_number(env, "ORKA_PARTITIONS", 16, least=1, most=1024)),
            allow_eviction=_flag(env, "ORKA_ALLOW_EVICTION"),
            backend=_choice(env, "ORKA_MEMORY_BACKEND", "redisstack", ("redisstack", "redis")),
            force_basic_redis=_flag(env, "ORKA_FORCE_BASIC_REDIS"),
            decay_enabled=_flag(env, _DECAY + "ENABLED") if env.get(_DECAY + "ENABLED", "").strip() else None,
            decay_short_term_hours=_some(env, _DECAY + "SHORT_TERM_HOURS", least=0.001, most=_HOURS),
            decay_long_term_hours=_some(env, _DECAY + "LONG_TERM_HOURS", least=0.001, most=_HOURS),
            decay_check_interval_minutes=_some(env, _DECAY + "CHECK_INTERVAL_MINUTES", least=0.01, most=43_200),
            embedding_model=env.get("ORKA_EMBEDDING_MODEL", "").strip() or "wordllama-256",
            embedding_url=_endpoint(env, "ORKA_EMBEDDING_URL"),
            embedding_key=_embedding_key(env),
            embedding_dimension=None if dimension is None else int(dimension),
            embedding_cache=None if days is None else days * _DAY,
            **_search(env),
            **_of_models(env),
            **_of_logs(env),
        )

    @property
    def memory_backend(self) -> str:
        """`redisstack` or `redis`, `force_basic_redis` considered."""
        return "redis" if self.force_basic_redis else self.backend


def _of_models(env: Mapping[str, str]) -> dict[str, Any]:
    """Fields about language models and what they cost."""
    return {
        "llm_url": env.get("ORKA_LLM_URL", "").strip() or None,
        "llm_model": env.get("ORKA_LLM_MODEL", "").strip() or None,
        "llm_key": _key(env, "ORKA_LLM_KEY"),
        "openai_url": (env.get("OPENAI_BASE_URL", "").strip() or env.get("OPENAI_API_BASE", "").strip()) or None,
        "openai_key": _key(env, "OPENAI_API_KEY"),
        "openai_model": env.get("BASE_OPENAI_MODEL", "").strip() or None,
        "anthropic_key": _key(env, "ANTHROPIC_API_KEY"),
        "llm_timeout": _number(env, "ORKA_TIMEOUT_SECONDS", 120.0, least=0.1, most=_DAY),
        "llm_concurrency": int(_number(env, "ORKA_MAX_CONCURRENT_REQUESTS", 256, least=1, most=100_000)),
        "local_cost_policy": _choice(
            env, "ORKA_LOCAL_COST_POLICY", "calculate", ("calculate", "null_fail", "zero_legacy")
        ),
        "region": env.get("ORKA_REGION", "").strip().upper() or "US",
        "electricity_rate": _some(env, "ORKA_ELECTRICITY_RATE_USD_KWH", least=0, most=100),
        "hardware_cost": _number(env, "ORKA_HARDWARE_COST_USD", 2000.0, least=0, most=1e9),
        "gpu_watts": _number(env, "ORKA_GPU_TDP_WATTS", 200.0, least=0, most=1e6),
        "cpu_watts": _number(env, "ORKA_CPU_TDP_WATTS", 65.0, least=0, most=1e6),
    }


def _of_logs(env: Mapping[str, str]) -> dict[str, Any]:
    """Fields about logs and traces."""
    return {
        "log_level": _choice(env, "ORKA_LOG_LEVEL", "warning", ("debug", "info", "warning", "error", "critical")),
        "log_format": _choice(env, "ORKA_LOG_FORMAT", "console", ("console", "json")),
        "audit": _choice(env, "ORKA_AUDIT", "runs", ("off", "runs", "agents")),
        "log_dir": Path(env["ORKA_LOG_DIR"].strip()) if env.get("ORKA_LOG_DIR", "").strip() else None,
        "trace_blobs": _flag(env, "ORKA_TRACE_BLOBS") if env.get("ORKA_TRACE_BLOBS", "").strip() else True,
        "keep_previous_outputs": _flag(env, "ORKA_DEBUG_KEEP_PREVIOUS_OUTPUTS"),
        "docker_image": env.get("DOCKER_IMAGE", "").strip() or None,
    }


def endpoint_fault(url: str) -> str | None:
    """Why `url` cannot be the base address of an HTTP API; never quotes what may be a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as exc:
        return f"is no address: {exc}"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "must begin with http:// or https:// and name a host"
    if "@" in parts.netloc:
        return "must not hold a user name or password: give the key apart from it"
    if parts.fragment or not url.isprintable() or " " in url:
        return "must not hold a # or white space"
    return None


def _endpoint(env: Mapping[str, str], name: str) -> str | None:
    url = env.get(name, "").strip()
    if not url:
        return None
    if fault := endpoint_fault(url):
        shown = "" if "@" in url else f"={url!r}"
        raise SettingsError(f"{name}{shown} {fault}", path=name)
    return url


def _embedding_key(env: Mapping[str, str]) -> str | None:
    """`OPENAI_API_KEY` is for OpenAI alone: sent anywhere else it would be given away, and without TLS to everybody."""
    name = "ORKA_EMBEDDING_KEY"
    key = env.get(name, "").strip()
    if not key:
        parts = urlsplit(env.get("ORKA_EMBEDDING_URL", "").strip())
        host = parts.hostname or ""
        if parts.scheme == "https" and (host == _OPENAI or host.endswith("." + _OPENAI)):
            name = "OPENAI_API_KEY"
            key = env.get(name, "").strip()
    return _sendable(key, name)


def load_env_file(path: Path = Path(".env")) -> None:
    """Sets the variables of a `.env` file that the environment does not have. None there: nothing happens. Blocking."""
    if not path.is_file():
        return
    from dotenv import dotenv_values

    try:
        found = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path} cannot be read: {exc}", path=str(path)) from exc
    for name, value in found.items():
        if value is not None:
            os.environ.setdefault(name, value)


def secret(name: str) -> str | None:
    """An API key from the environment variable that a file names (`api_key_env`), read when it is needed."""
    key = _key(os.environ, name)
    remember(key)
    return key


def variable(name: str) -> str | None:
    """An environment variable that a file names for a tool server, read when it is needed; None when it is unset."""
    return os.environ.get(name)


def _key(env: Mapping[str, str], name: str) -> str | None:
    return _sendable(env.get(name, "").strip(), name)


def _sendable(key: str, name: str) -> str | None:
    if key and (not key.isascii() or not key.isprintable() or " " in key):
        raise SettingsError(f"{name} has a character that no HTTP header can carry: copy the key again", path=name)
    return key or None


def _search(env: Mapping[str, str]) -> dict[str, Any]:
    folders = env.get("ORKA_SEARCH_FOLDERS", "").split(os.pathsep)
    return {
        "search_backend": _choice(env, "ORKA_SEARCH_BACKEND", "", ("duckduckgo", "searxng", "folder")) or None,
        "searxng_url": _endpoint(env, "ORKA_SEARXNG_URL"),
        "search_folders": tuple(Path(folder) for folder in folders if folder.strip()) or None,
    }


def _some(env: Mapping[str, str], name: str, *, least: float, most: float) -> float | None:
    """Like `_number`; None when unset."""
    return _number(env, name, 0.0, least=least, most=most) if env.get(name, "").strip() else None


def _number(env: Mapping[str, str], name: str, default: float, *, least: float, most: float) -> float:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise SettingsError(f"{name}={text!r} is not a number", path=name) from None
    if not least <= value <= most:  # not-a-number is neither
        raise SettingsError(f"{name}={text!r} must be from {least:,g} to {most:,.0f}", path=name)
    return value


def _flag(env: Mapping[str, str], name: str) -> bool:
    text = env.get(name, "").strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise SettingsError(f"{name}={text!r} must be true or false", path=name)


def _choice(env: Mapping[str, str], name: str, default: str, options: tuple[str, ...]) -> str:
    text = env.get(name, "").strip().lower()
    if not text:
        return default
    if text not in options:
        raise SettingsError(f"{name}={text!r} must be one of {', '.join(options)}", path=name)
    return text
