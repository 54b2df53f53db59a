"""What there is: counts of memories by kind, and the removal of those that have expired."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from orka.clock import now_ms
from orka.memory.hashes import Hashes
from orka.memory.record import MemoryRecord, decode_record
from orka.memory.store import MemoryStore, OnProgress

_FIELDS = (
    "namespace",
    "memory_type",
    "category",
    "orka_expire_time",
    "timestamp",
    "importance_score",
    "metadata",
    "labels",
)
"""All but the content, which is not read for a count."""


@dataclass(slots=True, kw_only=True)
class Census:
    """Of all memories at one time, each counted once."""

    total: int = 0
    expired: int = 0
    """Still there, although their time is over: Redis deletes them when it comes by."""
    expiring: int = 0
    """Alive, and with an end."""
    by_type: Counter[str] = field(default_factory=Counter[str])
    by_category: Counter[str] = field(default_factory=Counter[str])
    by_namespace: Counter[str] = field(default_factory=Counter[str])
    oldest_ms: int = 0
    newest_ms: int = 0

    def add(self, record: MemoryRecord, at_ms: int) -> None:
        self.total += 1
        if record.expired(at_ms):
            self.expired += 1
            return
        self.expiring += record.expire_ms > 0
        self.by_type[record.memory_type] += 1
        self.by_category[record.category] += 1
        self.by_namespace[record.namespace] += 1
        self.newest_ms = max(self.newest_ms, record.timestamp_ms)
        self.oldest_ms = min(self.oldest_ms or record.timestamp_ms, record.timestamp_ms)


async def count_memories(hashes: Hashes, on_progress: OnProgress | None = None) -> Census:
    """Walks through all memories."""
    census, seen, at_ms = Census(), set[str](), now_ms()
    async for rows in hashes.scan(_FIELDS):
        for key, fields in rows:
            record = decode_record(key, {b"content": b"", **fields})
            if record is not None and key not in seen:
                seen.add(key)
                census.add(record, at_ms)
        if on_progress is not None:
            on_progress(census.total, 0)
    return census


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """What a clean-up has done."""

    checked: int
    expired: int
    deleted: int


async def delete_expired(
    store: MemoryStore, hashes: Hashes, *, dry_run: bool = False, on_progress: OnProgress | None = None
) -> Cleaned:
    """Deletes memories whose time is over and that Redis has not deleted by itself: those without a TTL on their key,
    which other programs may have written."""
    checked = expired = deleted = 0
    async for rows in hashes.scan(("orka_expire_time",)):
        at_ms = now_ms()
        checked += len(rows)
        late: list[str] = []
        for key, fields in rows:
            record = decode_record(key, {b"content": b"", **fields})
            if record is not None and record.expired(at_ms):
                late.append(key)
        expired += len(late)
        if late and not dry_run:
            deleted += await store.delete(late)
        if on_progress is not None:
            on_progress(checked, 0)
    return Cleaned(checked=checked, expired=expired, deleted=deleted)
