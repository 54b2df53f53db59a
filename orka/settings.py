"""Every knob of the machine and its environment variable. The only reader of the environment.

A YAML file describes a graph; `Settings` describes where and how it runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orka.errors import SettingsError

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})
_DAY = 86400.0
_VALUE = 512 * 1024 * 1024
"""Bytes of the longest string that Redis stores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Frozen; `Settings.from_environment()` reads the variables named below."""

    redis_url: str | None = None
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
    log_level: str = "warning"
    """`ORKA_LOG_LEVEL`: `debug`, `info`, `warning`, `error` or `critical`."""
    log_format: str = "console"
    """`ORKA_LOG_FORMAT`: `console` or `json`."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Reads `os.environ` (or the mapping given). A bad value raises `SettingsError` naming the variable."""
        env = os.environ if environment is None else environment
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
            log_level=_choice(env, "ORKA_LOG_LEVEL", "warning", ("debug", "info", "warning", "error", "critical")),
            log_format=_choice(env, "ORKA_LOG_FORMAT", "console", ("console", "json")),
        )


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
