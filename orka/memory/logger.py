"""`MemoryLogger`: the documented API of memories, as coroutines. `orka.memory_logger.create_memory_logger` makes one.

With `async with` writes are buffered and stored in the background. Without, connections open at the first call in each event loop
and every write is stored before it returns; `close` closes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from orka.clock import now_ms
from orka.embedding.base import Embedder
from orka.errors import OrkaError, RecordRefused
from orka.graph.diagnostics import shorten
from orka.memory.census import count_memories, delete_expired
from orka.memory.decay import DecayRules, Wishes, classify
from orka.memory.events import MOST_EVENTS, save_json
from orka.memory.memory import MemoryStatistics
from orka.memory.opening import Opened, Openings
from orka.memory.query import Filters, MemoryQuery
from orka.memory.record import MemoryRecord, key_for, new_record
from orka.memory.shape import ARGUMENTS, cleaned_shape, describe, describe_record, split_metadata, stats_shape
from orka.memory.storing import Pending
from orka.memory.vectors import content_vector_of
from orka.memory.verbs import RedisVerbs
from orka.memory.writer import BATCH, Until
from orka.settings import Settings
from orka.types import Json

if TYPE_CHECKING:
    pass


class MemoryLogger(RedisVerbs):
    """Memories and workflow events in one Redis. Safe to use from several tasks and event loops."""

    def __init__(
        self, settings: Settings, *, stream_key: str, rules: DecayRules, write: Until, embedder: Embedder | None = None
    ) -> None:
        """Nothing is opened yet. `embedder` in place of the one that the settings name."""
        super().__init__(Openings(settings, stream_key, embedder))
        self.settings = settings
        self.rules = rules
        """By which `log_memory` judges what is given neither type nor expiry."""
        self._write: Until = write

    @property
    def redis(self) -> RedisVerbs:
        """The verbs alone. A client of redis-py's is in `opened`."""
        return self

    async def __aenter__(self) -> MemoryLogger:
        await self._openings.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stores what was accepted; `WriteLost` when that fails."""
        await self._openings.leave()

    async def close(self) -> None:
        """Closes what this event loop has opened without `async with`. It may be used again."""
        await self._openings.close()

    async def opened(self) -> Opened:
        """What this event loop has open, opened if need be."""
        return await self._openings.current()

    async def ensure_index(self) -> bool:
        """The index is there, made if need be. `BackendMissing`, `IndexMismatch`."""
        await self.opened()
        return True

    # Writing

    async def log_memory(
        self,
        content: str,
        node_id: str = "",
        trace_id: str = "",
        metadata: Mapping[str, Json] | None = None,
        importance_score: float | None = None,
        memory_type: str | None = None,
        expiry_hours: float | None = None,
        content_vector: Sequence[float] | None = None,
        *,
        namespace: str | None = None,
        session: str | None = None,
        category: str | None = None,
        key: str | None = None,
        dedupe: bool = False,
        write: Until | None = None,
    ) -> str:
        """Writes one memory and gives its key. `namespace`, `session` and `category` may stand in the metadata instead.

        `key` names it within its namespace: a second write of that name replaces the first; `dedupe` makes the content
        its name. `expiry_hours` from now; without it, as the decay rules say. `content_vector` in place of the one of the
        content. `write` says when this returns. `RecordRefused`, `WriteLost`.
        """
        record = self.record(
            content,
            node_id=node_id,
            trace_id=trace_id,
            metadata=metadata,
            wishes=Wishes(memory_type=memory_type, importance=importance_score, expiry_hours=expiry_hours),
            fields={"namespace": namespace, "session": session, "category": category},
            name=key,
            dedupe=dedupe,
        )
        opened = await self.opened()
        vector = content_vector_of(content_vector, opened.memory.embedder.dimension)
        await opened.memory.write(record, until=write or self._write, vector=vector)
        return record.key

    def record(
        self,
        content: str,
        *,
        node_id: str = "",
        trace_id: str = "",
        metadata: Mapping[str, Json] | None = None,
        wishes: Wishes | None = None,
        fields: Mapping[str, str | None] | None = None,
        name: str | None = None,
        dedupe: bool = False,
    ) -> MemoryRecord:
        """What `log_memory` would write, for `write_many`. Nothing is sent."""
        rest, lifted = split_metadata(metadata or {})
        lifted |= {field: value for field, value in (fields or {}).items() if value is not None}
        at_ms = now_ms()
        judged = classify(self.rules, str(content), {**rest, **lifted}, at_ms=at_ms, wishes=wishes or Wishes())
        namespace = lifted.get("namespace", "default")
        own = None
        if name is not None:
            own = key_for("name", str(namespace), str(name))
        elif dedupe:
            own = key_for("content", str(namespace), str(content))
        return new_record(
            content,
            key=own,
            node_id=node_id,
            trace_id=trace_id,
            metadata=rest,
            importance=judged.importance,
            memory_type=judged.memory_type,
            expire_ms=judged.expire_ms,
            timestamp_ms=at_ms,
            **lifted,
        )

    async def write_many(
        self, records: Sequence[MemoryRecord | str | Mapping[str, Any]], *, write: Until = "stored"
    ) -> list[OrkaError | None]:
        """Writes records, texts, or mappings of the arguments of `log_memory`; gives for each None or why it was not
        written. With `accepted` it returns as soon as all are in the buffer."""
        memory = (await self.opened()).memory
        made: list[Pending] = []
        errors: dict[int, OrkaError] = {}
        for i, given in enumerate(records):
            try:
                made.append(self._made(given, memory.embedder.dimension))
            except RecordRefused as exc:
                errors[i] = exc
            if (i + 1) % BATCH == 0:  # others have their turn
                await asyncio.sleep(0)
        vectors = [pending.vector for pending in made]
        found = iter(await memory.write_many([pending.record for pending in made], until=write, vectors=vectors))
        return [errors[i] if i in errors else next(found) for i in range(len(records))]

    def _made(self, given: MemoryRecord | str | Mapping[str, Any], dimension: int) -> Pending:
        if isinstance(given, MemoryRecord):
            return Pending(given, None)
        if isinstance(given, str):
            return Pending(self.record(given), None)
        try:
            values = dict(given)
            if unknown := [name for name in values if name not in ARGUMENTS]:
                raise RecordRefused(f"a memory has no {unknown[0]!r}: it may have {', '.join(ARGUMENTS)}")
            vector = content_vector_of(values.pop("content_vector", None), dimension)
            wishes = Wishes(
                memory_type=values.pop("memory_type", None),
                importance=values.pop("importance_score", None),
                expiry_hours=values.pop("expiry_hours", None),
            )
            fields = {name: values.pop(name, None) for name in ("namespace", "session", "category")}
            name = values.pop("key", None)
            return Pending(self.record(**values, wishes=wishes, fields=fields, name=name), vector)
        except (TypeError, ValueError, AttributeError) as exc:  # names and values of the caller's
            raise RecordRefused(f"a memory cannot be made of {shorten(repr(given))}: {exc}") from exc

    async def flush(self) -> None:
        """Returns when everything accepted so far is stored. `WriteLost`."""
        await (await self.opened()).memory.flush()

    async def statistics(self) -> MemoryStatistics:
        return (await self.opened()).memory.statistics()

    # Searching

    async def search(self, query: MemoryQuery) -> list[dict[str, Json]]:
        """Any query; the memories as `search_memories` gives them."""
        hits = await (await self.opened()).memory.search(query)
        at_ms = now_ms()
        return [describe(hit, at_ms) for hit in hits]

    async def search_memories(
        self,
        query: str = "",
        num_results: int = 10,
        trace_id: str | None = None,
        node_id: str | None = None,
        memory_type: str | None = None,
        min_importance: float | None = None,
        log_type: str = "memory",
        namespace: str | None = None,
        query_vector: Sequence[float] | None = None,
        *,
        similarity_threshold: float | None = None,
    ) -> list[dict[str, Json]]:
        """The memories most like `query`, best first; without one, the newest. `log_type` is `memory` or `all`: events are
        in a stream of their own (`tail`)."""
        filters = Filters(
            trace_id=trace_id or None,
            node_id=node_id or None,
            memory_type=memory_type or None,
            namespace=namespace or None,
            least_importance=min_importance,
        )
        if log_type not in ("memory", "all"):
            return []
        return await self.search(
            MemoryQuery(
                text=query,
                vector=cast(
                    "tuple[float, ...] | None", query_vector
                ),  # any sequence or array is checked where it is used
                limit=num_results,
                filters=filters,
                least_similarity=similarity_threshold,
            )
        )

    async def get_all_memories(self, trace_id: str | None = None) -> list[dict[str, Json]]:
        """All of them (of one trace), newest first. For many, walk through `opened().memory.scan()` instead."""
        found: dict[str, MemoryRecord] = {}
        at_ms = now_ms()
        async for batch in (await self.opened()).memory.scan():
            for record in batch:
                if not record.expired(at_ms) and trace_id in (None, record.trace_id):
                    found[record.key] = record
        newest = sorted(found.values(), key=lambda record: -record.timestamp_ms)
        return [describe_record(record, at_ms) for record in newest]

    async def get_recent_stored_memories(self, count: int = 5) -> list[dict[str, Json]]:
        """The newest of the category `stored`."""
        return await self.search(MemoryQuery(limit=count, filters=Filters(category="stored")))

    # Housekeeping

    async def delete_memory(self, key: str) -> bool:
        """True when it was there. `key` as `log_memory` gave it."""
        return await (await self.opened()).memory.delete([key]) > 0

    async def clear_all_memories(self) -> int:
        """Deletes every memory; gives their number. Events and runs stay."""
        memory, deleted = (await self.opened()).memory, 0
        async for batch in memory.scan():
            deleted += await memory.delete([record.key for record in batch])
        return deleted

    async def cleanup_expired_memories(self, dry_run: bool = False) -> dict[str, Json]:
        """Deletes what is still there after its time; Redis does so by itself for nearly all."""
        memory = (await self.opened()).memory
        await memory.settled()
        return cleaned_shape(await delete_expired(memory.store, memory.hashes, dry_run=dry_run), dry_run)

    async def get_memory_stats(self) -> dict[str, Json]:
        """Counts, by walking through all memories."""
        opened = await self.opened()
        await opened.memory.settled()
        census = await count_memories(opened.memory.hashes)
        return stats_shape(census, await opened.events.length(), self.settings.memory_backend, self.rules.enabled)

    async def get_performance_metrics(self) -> dict[str, Json]:
        """What the writer and the reader of this process have done."""
        statistics = (await self.opened()).memory.statistics()
        writer = statistics.writer
        return {
            "backend": self.settings.memory_backend,
            "writer": None if writer is None else cast("dict[str, Json]", writer._asdict()),
            "reader": cast("dict[str, Json]", statistics.reader._asdict()),
        }

    # Events

    async def log(
        self,
        agent_id: str,
        event_type: str,
        payload: Json,
        step: int | str | None = None,
        run_id: str | None = None,
        fork_group: str | None = None,
        parent: str | None = None,
        previous_outputs: Json = None,
        agent_decay_config: Json = None,
        log_type: str = "log",
    ) -> str:
        """Appends an event to the bounded stream; gives its id. Events are never in the index of memories."""
        del agent_decay_config  # OrKa 0.9 let events expire one by one; the stream is bounded as a whole
        facts: dict[str, Json] = {
            "step": step,
            "run_id": run_id,
            "fork_group": fork_group,
            "parent": parent,
            "previous_outputs": previous_outputs,
            "log_type": log_type,
        }
        return await (await self.opened()).events.append(agent_id, event_type, payload, facts)

    async def tail(self, count: int = 10) -> list[dict[str, Json]]:
        """The last events, oldest first."""
        return await (await self.opened()).events.tail(count)

    async def save_to_file(self, file_path: str | Path) -> int:
        """Writes all events of the stream, a JSON list, over what is there; gives their number."""
        events = await self.tail(MOST_EVENTS * 2)
        await save_json(Path(file_path), events)
        return len(events)

    async def save_enhanced_trace(self, file_path: str | Path, enhanced_trace_data: Json) -> None:
        """Writes a trace of the caller's as JSON over what is there."""
        await save_json(Path(file_path), enhanced_trace_data)
