"""How memories, and counts of them, look to workflows and to callers of the documented API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from orka.clock import now_ms
from orka.errors import RecordRefused
from orka.memory.census import Census, Cleaned
from orka.memory.layout import INDEX
from orka.memory.record import MemoryHit, MemoryRecord
from orka.types import Json

ARGUMENTS: Final = (
    *(
        "content",
        "node_id",
        "trace_id",
        "metadata",
        "importance_score",
        "memory_type",
        "expiry_hours",
        "content_vector",
    ),
    *("namespace", "session", "category", "key", "dedupe"),
)
"""Of `log_memory`, for one of many memories."""
_LIFTED: Final = {"namespace": "namespace", "session": "session", "category": "category"}
"""Names in the metadata of the documented API that a record has fields for."""
_DROPPED: Final = frozenset({"log_type"})
"""The same of every memory."""


def describe(hit: MemoryHit, at_ms: int) -> dict[str, Json]:
    """A found memory as workflows see it. Times in milliseconds, the rest of its life in seconds."""
    return describe_record(hit.record, at_ms) | {
        "similarity_score": None if hit.similarity is None else round(hit.similarity, 6),
        "text_score": None if hit.text_score is None else round(hit.text_score, 6),
        "score": round(hit.score, 6),
    }


def describe_record(record: MemoryRecord, at_ms: int) -> dict[str, Json]:
    left_ms = record.expire_ms - at_ms
    return {
        "key": record.key,
        "content": record.content,
        "node_id": record.node_id,
        "trace_id": record.trace_id,
        "importance_score": record.importance,
        "memory_type": record.memory_type,
        "timestamp": record.timestamp_ms,
        "metadata": whole_metadata(record),
        "has_expiry": record.expire_ms > 0,
        "ttl_seconds": max(0, left_ms // 1000) if record.expire_ms else -1,
        "ttl_formatted": format_span(max(0, left_ms) / 1000) if record.expire_ms else "never",
        "expires_at": record.expire_ms or None,
        "expires_at_formatted": format_time(record.expire_ms) if record.expire_ms else "never",
    }


def whole_metadata(record: MemoryRecord) -> dict[str, Json]:
    """With what the record has fields for."""
    return {
        **record.metadata,
        "namespace": record.namespace,
        "session": record.session,
        "category": record.category,
        "log_type": "memory",
    }


def split_metadata(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """(what stays metadata, what becomes fields of the record). `RecordRefused` for what is no mapping."""
    if not isinstance(metadata, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  callers are not all typed
        raise RecordRefused(f"metadata of a memory is a mapping, and this is a {type(metadata).__name__}")
    fields = {field: metadata[name] for name, field in _LIFTED.items() if isinstance(metadata.get(name), str)}
    rest = {name: value for name, value in metadata.items() if name not in fields and name not in _DROPPED}
    return rest, fields


def format_span(seconds: float) -> str:
    """`45s`, `12m 5s`, `3h 20m`, `9d 4h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600}h"


def format_time(at_ms: int) -> str:
    """UTC, to the second; empty beyond the year 9999."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return ""


def stats_shape(census: Census, events: int, backend: str, decay_enabled: bool) -> dict[str, Json]:
    """Counts under the names that OrKa 0.9 gave them, and some more."""
    return {
        "total_entries": census.total,
        "active_entries": census.total - census.expired,
        "expired_entries": census.expired,
        "expiring_entries": census.expiring,
        "stored_memories": census.by_category["stored"],
        "orchestration_logs": events,
        "entries_by_memory_type": dict(sorted(census.by_type.items())),
        "entries_by_category": dict(sorted(census.by_category.items())),
        "entries_by_namespace": dict(sorted(census.by_namespace.items())),
        "oldest_ms": census.oldest_ms or None,
        "newest_ms": census.newest_ms or None,
        "backend": backend,
        "index_name": INDEX if backend == "redisstack" else None,
        "vector_search_enabled": True,
        "decay_enabled": decay_enabled,
        "timestamp": now_ms(),
    }


def cleaned_shape(cleaned: Cleaned, dry_run: bool) -> dict[str, Json]:
    """Under the names of OrKa 0.9."""
    return {
        "cleaned": cleaned.deleted,
        "deleted_count": cleaned.deleted,
        "total_checked": cleaned.checked,
        "expired_found": cleaned.expired,
        "dry_run": dry_run,
        "cleanup_type": "expired",
        "errors": [],
    }
