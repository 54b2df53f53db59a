"""`orka memory search`, `list`, `show`, `delete`, `stats`, `cleanup` and `watch`: looking at memories and tidying up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Annotated, Literal, cast

from cyclopts import Parameter

from orka.cli.arguments import STANDARD_INPUT, as_written
from orka.cli.backends import Backend, settings_for
from orka.cli.exits import Exit
from orka.cli.input import read_input
from orka.cli.interrupt import run_until_stopped
from orka.cli.output import print_json, print_table, render_json, safe_line, safe_text, span, warn
from orka.cli.progress import progress
from orka.cli.runs import AsJson
from orka.clock import iso, now_ms
from orka.errors import ConfigError
from orka.memory.census import count_memories, delete_expired
from orka.memory.decay import environment_layer, merge
from orka.memory.events import EventLog
from orka.memory.memory import Memory
from orka.memory.opening import open_memories
from orka.memory.query import Filters, MemoryQuery
from orka.memory.record import PREFIX, MemoryHit
from orka.memory.shape import cleaned_shape, describe, describe_record, stats_shape
from orka.redis.client import RedisHandle
from orka.redis.keys import memory_events_key
from orka.types import Json

Namespace = Annotated[list[str] | None, Parameter(help="Of this namespace only; may be given more than once.")]
Category = Annotated[str | None, Parameter(help="Of this category only.")]
MemoryType = Annotated[str | None, Parameter(name="--type", help="Of this type only: short_term, long_term, ...")]
Limit = Annotated[int, Parameter(help="At most so many.")]
Keys = Annotated[list[str], Parameter(name="KEY", help="Of memories, as the other commands print them.")]


_LOOK = 1000
"""Memories that `watch` takes in at once."""


def search(
    text: Annotated[str, Parameter(name="TEXT", help="What to look for.")],
    /,
    *,
    limit: Limit = 10,
    offset: Annotated[int, Parameter(help="Pass over so many hits.")] = 0,
    mode: Annotated[
        Literal["hybrid", "vector", "text"], Parameter(help="By meaning, by words, or by both.")
    ] = "hybrid",
    least: Annotated[float | None, Parameter(help="Cosine below which a hit by meaning is none.")] = None,
    namespace: Namespace = None,
    category: Category = None,
    memory_type: MemoryType = None,
    backend: Backend = None,
    json: AsJson = False,
) -> int:
    """Find memories by meaning and by words."""
    if least is not None and not -1 <= least <= 1:
        raise ConfigError(f"--least {least:g} must be from -1 to 1: it is a cosine")
    query = MemoryQuery(
        text=cast("str", read_input(text, as_json=False)) if text == STANDARD_INPUT else text,
        limit=limit,
        offset=offset,
        mode=mode,
        least_similarity=least,
        filters=filters_of(namespace, category, memory_type),
    )

    async def work(_: RedisHandle, memory: Memory) -> int:
        hits = await memory.search(query)
        if json:
            print_json([describe(hit, now_ms()) for hit in hits])
        elif hits:
            _print_hits(hits, scores=True)
        else:
            warn("nothing was found")
        return Exit.OK

    return with_memories(work, backend)


def list_memories(
    *,
    limit: Limit = 20,
    offset: Annotated[int, Parameter(help="Pass over so many.")] = 0,
    namespace: Namespace = None,
    category: Category = None,
    memory_type: MemoryType = None,
    backend: Backend = None,
    json: AsJson = False,
) -> int:
    """List memories, the newest first."""
    query = MemoryQuery(limit=limit, offset=offset, filters=filters_of(namespace, category, memory_type))

    async def work(_: RedisHandle, memory: Memory) -> int:
        hits = await memory.search(query)
        if json:
            print_json([describe(hit, now_ms()) for hit in hits])
        elif hits:
            _print_hits(hits, scores=False)
        else:
            warn("there are no such memories")
        return Exit.OK

    return with_memories(work, backend)


def show(keys: Keys, /, *, backend: Backend = None, json: AsJson = False) -> int:
    """Show memories whole."""

    async def work(_: RedisHandle, memory: Memory) -> int:
        found = await memory.read([_whole(key) for key in keys])
        shown = [describe_record(record, now_ms()) for record in found if record is not None]
        if json:
            print_json(shown)
        else:
            for one in shown:
                _print_memory(one)
        return _missing(keys, [record is not None for record in found])

    return with_memories(work, backend)


def delete(keys: Keys, /, *, backend: Backend = None, json: AsJson = False) -> int:
    """Delete memories."""

    async def work(_: RedisHandle, memory: Memory) -> int:
        given = {_whole(key): key for key in keys}
        there = dict(zip(given, await memory.read(list(given)), strict=True))
        deleted = [key for key, record in there.items() if record is not None]
        await memory.delete(deleted)
        if json:
            print_json({"deleted": deleted})
        else:
            for key in deleted:
                print(f"deleted {safe_text(as_written(given[key]))}")
        return _missing(list(given.values()), [record is not None for record in there.values()])

    return with_memories(work, backend)


def stats(*, backend: Backend = None, json: AsJson = False) -> int:
    """Count memories by kind."""

    async def work(redis: RedisHandle, memory: Memory) -> int:
        settings = settings_for(backend)
        with progress("counting") as on_progress:
            census = await count_memories(memory.hashes, on_progress)
        events = await EventLog(redis.client, memory_events_key()).length()
        found = stats_shape(census, events, memory.backend, merge(environment_layer(settings)).enabled)
        if json:
            print_json({"stats": found})
        else:
            _print_stats(found)
        return Exit.OK

    return with_memories(work, backend)


def cleanup(
    *,
    dry_run: Annotated[bool, Parameter(help="Only count.")] = False,
    backend: Backend = None,
    json: AsJson = False,
) -> int:
    """Delete memories that have expired and that Redis has not deleted by itself."""

    async def work(_: RedisHandle, memory: Memory) -> int:
        with progress("looking") as on_progress:
            cleaned = await delete_expired(memory.store, memory.hashes, dry_run=dry_run, on_progress=on_progress)
        if json:
            print_json({"cleanup_result": cleaned_shape(cleaned, dry_run)})
        else:
            print(f"{cleaned.checked:,} looked at, {cleaned.expired:,} expired, {cleaned.deleted:,} deleted")
        return Exit.OK

    return with_memories(work, backend)


def watch(
    *,
    interval: Annotated[float, Parameter(help="Seconds between two looks.")] = 5.0,
    run_id: Annotated[str | None, Parameter(help="Memories of this run only.")] = None,
    backend: Backend = None,
    json: AsJson = False,
) -> int:
    """Print memories as they are written, until Ctrl-C."""
    if not 0.1 <= interval <= 3600:
        raise ConfigError(f"--interval {interval:g} must be from 0.1 to 3600 seconds")

    async def work(_: RedisHandle, memory: Memory) -> int:
        since = now_ms()
        seen: set[tuple[str, int]] = set()
        while True:
            looked = now_ms()
            filters = Filters(since_ms=since, trace_id=run_id and as_written(run_id))
            found = await memory.search(MemoryQuery(limit=_LOOK, filters=filters))
            hits = [hit for hit in found if _version(hit) not in seen]
            if len(found) == _LOOK and _version(found[-1]) not in seen:
                warn(f"more than {_LOOK:,} memories since the last look: the older ones are not shown")
            for hit in reversed(hits):
                if json:
                    print(render_json(describe(hit, now_ms()), indent=None), flush=True)
                else:
                    record = hit.record
                    facts = f"{iso(record.timestamp_ms)[11:19]}  {record.namespace}  {record.memory_type}"
                    print(f"{safe_line(facts, 60)}  {safe_line(record.content, 100)}", flush=True)
            seen = {_version(hit) for hit in found}
            since = max(since, looked - 10_000)  # clocks of writers may be behind
            await asyncio.sleep(interval)

    return with_memories(work, backend)


def _version(hit: MemoryHit) -> tuple[str, int]:
    """A memory that was written again is another one to whoever watches."""
    return hit.record.key, hit.record.timestamp_ms


def filters_of(namespace: list[str] | None, category: str | None, memory_type: str | None) -> Filters:
    """`-` is a name like any other here."""
    return Filters(
        namespace=tuple(map(as_written, namespace)) if namespace else None,
        category=None if category is None else as_written(category),
        memory_type=None if memory_type is None else as_written(memory_type),
    )


def with_memories(work: Callable[[RedisHandle, Memory], Awaitable[int]], backend: str | None) -> int:
    settings = settings_for(backend)

    async def main() -> int:
        async with AsyncExitStack() as stack:
            with progress("indexing") as on_progress:
                opening = open_memories(settings, buffered=False, on_progress=on_progress)
                redis, memory = await stack.enter_async_context(opening)
            return await work(redis, memory)

    return run_until_stopped(main)


def _whole(key: str) -> str:
    """Keys may be given without what they all begin with. Bytes that are no text name nothing."""
    key = as_written(key).encode("utf-8", "replace").decode()
    return key if key.startswith(PREFIX) else PREFIX + key


def _missing(keys: list[str], there: list[bool]) -> int:
    for key, was in zip(keys, there, strict=True):
        if not was:
            warn(f"error: no memory has the key {as_written(key)!r} (it may have expired)")
    return Exit.OK if all(there) else Exit.NOT_FOUND


def _print_hits(hits: list[MemoryHit], *, scores: bool) -> None:
    titles = ["KEY", "WRITTEN", "NAMESPACE", "TYPE", *(["SCORE", "SIMILARITY"] if scores else []), "CONTENT"]
    rows: list[list[str]] = []
    for hit in hits:
        record = hit.record
        row = [
            record.key.removeprefix(PREFIX),
            iso(record.timestamp_ms)[:19],
            safe_line(record.namespace, 24),
            safe_line(record.memory_type, 12),
        ]
        if scores:
            row += [f"{hit.score:.3f}", "" if hit.similarity is None else f"{hit.similarity:.3f}"]
        rows.append([*row, safe_line(record.content, 80)])
    print_table(titles, rows)


def _print_memory(one: dict[str, Json]) -> None:
    for name in ("key", "node_id", "trace_id", "memory_type", "importance_score"):
        print(f"{name:<17} {safe_text(str(one[name]))}")
    print(f"{'written':<17} {iso(cast('int', one['timestamp']))}")
    print(f"{'expires':<17} {one['expires_at_formatted']} ({one['ttl_formatted']})")
    print(f"{'metadata':<17} {safe_text(render_json(one['metadata'], indent=None))}")
    print(f"{safe_text(cast('str', one['content']))}\n")


def _print_stats(found: dict[str, Json]) -> None:
    print(f"backend     {found['backend']}" + (f" (index {found['index_name']})" if found["index_name"] else ""))
    print(f"memories    {found['active_entries']:,}")
    print(f"  expiring  {found['expiring_entries']:,}, and {found['expired_entries']:,} expired")
    newest = cast("int | None", found["newest_ms"])
    if newest is not None:
        print(f"  newest    {span(now_ms() - newest)} ago")
    for title, key in (("type", "memory_type"), ("category", "category"), ("namespace", "namespace")):
        for name, count in cast("dict[str, int]", found[f"entries_by_{key}"]).items():
            print(f"  {title} {safe_line(name, 60)}: {count:,}")
    print(f"events      {found['orchestration_logs']:,}")
