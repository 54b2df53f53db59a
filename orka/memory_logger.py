"""The documented import path of memories: `create_memory_logger`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from orka.embedding.base import Embedder
from orka.errors import SettingsError
from orka.memory.decay import environment_layer, merge, parse_decay
from orka.memory.logger import MemoryLogger
from orka.memory.presets import get_memory_preset, merge_preset_with_config
from orka.memory.writer import Until
from orka.redis.keys import memory_events_key
from orka.settings import Settings
from orka.types import Json

__all__ = ["MemoryLogger", "RedisMemoryLogger", "apply_memory_preset_to_config", "create_memory_logger"]

RedisMemoryLogger = MemoryLogger
"""Its name in OrKa 0.9."""

_BACKENDS = ("redisstack", "redis")


def create_memory_logger(
    backend: str | None = None,
    redis_url: str | None = None,
    stream_key: str | None = None,
    debug_keep_previous_outputs: bool = False,
    decay_config: Mapping[str, Json] | None = None,
    memory_preset: str | None = None,
    operation: str | None = None,
    *,
    write: Until = "accepted",
    embedder: Embedder | None = None,
    settings: Settings | None = None,
    **_: Any,
) -> MemoryLogger:
    """Memories of one Redis. Nothing is opened before the first call or `async with`.

    `backend` is `redisstack` (a search module) or `redis` (none needed), `redis_url` as `REDIS_URL`; what is not given comes
    from the environment. `decay_config` and `memory_preset` say how long memories live. `write` is what the methods that
    write wait for inside `async with`; outside of it every write is stored before it returns. `embedder` makes the vectors
    in place of the model that the settings name: a `FunctionEmbedder`, or your own. Options of OrKa 0.9 about the
    index (`vector_dim`, `enable_hnsw`, `index_name`, ...) are accepted and ignored: the index follows the embedding model.
    """
    del debug_keep_previous_outputs, operation
    chosen = settings or Settings.from_environment()
    if write not in get_args(Until):
        raise SettingsError(f"write={write!r} must be one of {', '.join(get_args(Until))}", path="write")
    if backend is not None:
        backend = backend.strip().lower()  # as the environment variable may be written
        if backend not in _BACKENDS:
            raise SettingsError(f"backend={backend!r} must be one of {', '.join(_BACKENDS)}", path="backend")
        chosen = replace(chosen, backend=backend, force_basic_redis=chosen.force_basic_redis and backend == "redis")
    if redis_url is not None:
        chosen = replace(chosen, redis_url=redis_url)
    layers = [parse_decay(decay_config, "decay_config")]
    if memory_preset is not None:
        layers.insert(0, parse_decay(get_memory_preset(memory_preset)["decay"], f"preset {memory_preset}"))
    return MemoryLogger(
        chosen,
        stream_key=stream_key or memory_events_key(),
        rules=merge(*layers[:-1], environment_layer(chosen), layers[-1]),
        write=write,
        embedder=embedder,
    )


def apply_memory_preset_to_config(
    config: Mapping[str, Json], memory_preset: str | None = None, operation: str | None = None
) -> dict[str, Json]:
    """`config` with the defaults of a preset where it says nothing itself. `ConfigError` for an unknown preset."""
    return dict(config) if memory_preset is None else merge_preset_with_config(memory_preset, config, operation)
