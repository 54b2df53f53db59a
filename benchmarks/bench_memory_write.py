"""Memories written: through `Memory`, beside the server's ceiling and RedisVL, and what one memory takes in the server.

Ceiling: the same HSETs, packed beforehand, replayed over one socket by a bare client into the same kind of index. Prints one
line of JSON. The rival is measured when the extra `bench` is installed.

    python benchmarks/bench_memory_write.py [--count 20000] [--corpus FILE] [--only PART ...]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from hiredis import pack_command
from texts import make_texts, read_corpus

from orka.embedding.local import LocalEmbedder
from orka.memory.hashes import replace_commands
from orka.memory.layout import Layout
from orka.memory.memory import Memory, open_memory
from orka.memory.record import MemoryRecord, new_record
from orka.redis.client import RedisHandle, open_redis
from orka.settings import Settings

PARTS = ("stack", "rival", "shards", "basic", "size")
BATCH = 500
OLD = (
    *("FT.CREATE", "old", "ON", "HASH", "PREFIX", "1", "orka_memory:", "SCHEMA"),
    *(
        "content",
        "TEXT",
        "WEIGHT",
        "5",
        "SORTABLE",
        "node_id",
        "TEXT",
        "trace_id",
        "TEXT",
        "orka_expire_time",
        "NUMERIC",
    ),
    *("content_vector", "VECTOR", "HNSW", "10", "TYPE", "FLOAT32", "DIM", "384", "DISTANCE_METRIC", "COSINE"),
    *("M", "16", "EF_CONSTRUCTION", "200"),
)
"""The index of OrKa 0.9 (workflow format, 12.7)."""


def make_records(texts: Sequence[str]) -> list[MemoryRecord]:
    """As an application writes them: filters, a little metadata."""
    return [
        new_record(
            text,
            namespace=f"team-{i % 50}",
            session=f"session-{i % 1000}",
            node_id=f"writer-{i % 20}",
            trace_id=f"run-{i % 500}",
            memory_type="long_term" if i % 3 else "short_term",
            importance=(i % 10) / 10,
            timestamp_ms=1_760_000_000_000 + i * 1000,
            metadata={"source": "bench", "number": i % 100},
        )
        for i, text in enumerate(texts)
    ]


@asynccontextmanager
async def opened(home: Path, backend: str, dimension: int = 256) -> AsyncGenerator[tuple[RedisHandle, Memory]]:
    """An empty server of its own, and its memories."""
    settings = Settings(home=home, server_linger=0, backend=backend)
    async with open_redis(settings) as redis:
        client: Any = redis.client
        await client.flushall()
        router = await redis.open_router()
        async with open_memory(redis, router, settings, LocalEmbedder(dimension)) as memory:
            yield redis, memory


async def replay(redis: RedisHandle, batches: Sequence[tuple[bytes, int]]) -> float:
    """Seconds for batches of packed commands, one after the other over one socket."""
    connection: Any = redis.connection()
    await connection.connect()
    began = time.perf_counter()
    for data, count in batches:
        await connection.send_packed_command(data, check_health=False)
        for _ in range(count):
            await connection.read_response()
    took = time.perf_counter() - began
    await connection.disconnect()
    return took


def packed(records: Sequence[MemoryRecord], rows: Sequence[bytes], field: str) -> list[tuple[bytes, int]]:
    """In batches of `BATCH`. New memories that do not expire are an HSET each."""
    found: list[tuple[bytes, int]] = []
    for at in range(0, len(records), BATCH):
        commands = [
            command
            for record, row in zip(records[at : at + BATCH], rows[at : at + BATCH], strict=True)
            for command in replace_commands(record, {field: row} if row else {})
        ]
        found.append((b"".join(pack_command(command) for command in commands), len(commands)))  # type: ignore[arg-type]
    return found


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def timed_write(memory: Memory, records: Sequence[MemoryRecord], vectors: Any = None) -> float:
    began = time.perf_counter()
    refused = [why for why in await memory.write_many(records, vectors=vectors) if why is not None]
    assert not refused, refused[0]
    return time.perf_counter() - began


async def measure_backend(folder: Path, backend: str, texts: Sequence[str], times: int) -> dict[str, Any]:
    """In turns: the ceilings, vectors given, text in. Each round begins with an empty server."""
    vectors = await LocalEmbedder().embed(texts)
    layout = Layout(embedder="wordllama-256", dimension=256)
    ceiling = packed(make_records(texts), layout.pack(vectors), layout.field)
    found: dict[str, list[float]] = {name: [] for name in ("ceiling_hset", "vectors_given", "text_in")}
    client_cpu: list[float] = []
    for _ in range(times):
        for name in found:
            records = make_records(texts)  # new ones: those of a round before would be replaced
            async with opened(folder / "home", backend) as (redis, memory):
                if name == "ceiling_hset":
                    took = await replay(redis, ceiling)
                else:
                    before = time.process_time()
                    took = await timed_write(memory, records, vectors if name == "vectors_given" else None)
                    if name == "text_in":
                        client_cpu.append((time.process_time() - before) / len(records) * 1e6)
            found[name].append(len(records) / took)
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    return {
        "memories": len(texts),
        **{
            f"{name}_per_s": [round(value) for value in (medians[name], min(rates), max(rates))]
            for name, rates in found.items()
        },
        "vectors_given_of_ceiling": round(medians["vectors_given"] / medians["ceiling_hset"], 3),
        "text_in_of_ceiling": round(medians["text_in"] / medians["ceiling_hset"], 3),
        "client_cpu_us": round(statistics.median(client_cpu), 1),
    }


async def measure_plain(folder: Path, texts: Sequence[str], times: int) -> dict[str, Any]:
    """Backend `redis`: without embedding, with vectors given, and with embedding."""
    found = await measure_backend(folder, "redis", texts, times)
    nothing = np.zeros((len(texts), 256), dtype=np.float32)
    rates: list[float] = []
    for _ in range(times):
        records = make_records(texts)
        async with opened(folder / "home", "redis") as (_, memory):
            rates.append(len(records) / await timed_write(memory, records, nothing))
    found["no_embedding_per_s"] = [round(value) for value in (statistics.median(rates), min(rates), max(rates))]
    return found


async def measure_rival(folder: Path, texts: Sequence[str], times: int) -> dict[str, Any]:
    """RedisVL's `AsyncSearchIndex.load` with vectors given, the same fields and the same kind of index."""
    try:
        from redisvl.index import AsyncSearchIndex
    except ImportError:
        return {"installed": False}
    records = make_records(texts)
    rows = Layout(embedder="x", dimension=256).pack(await LocalEmbedder().embed(texts))
    schema = {
        "index": {"name": "rival", "prefix": "rival", "storage_type": "hash"},
        "fields": [
            {"name": "content", "type": "text"},
            *(
                {"name": n, "type": "tag"}
                for n in ("namespace", "memory_type", "category", "session", "node_id", "trace_id", "facets")
            ),
            *({"name": n, "type": "numeric"} for n in ("timestamp", "importance_score", "orka_expire_time")),
            {
                "name": "v1",
                "type": "vector",
                "attrs": {
                    "algorithm": "hnsw",
                    "dims": 256,
                    "distance_metric": "cosine",
                    "datatype": "float16",
                    "m": 16,
                    "ef_construction": 64,
                },
            },
        ],
    }
    data = [
        {
            "content": r.content,
            "namespace": r.namespace,
            "memory_type": r.memory_type,
            "category": r.category,
            "session": r.session,
            "node_id": r.node_id,
            "trace_id": r.trace_id,
            "timestamp": r.timestamp_ms,
            "importance_score": r.importance,
            "metadata": json.dumps(r.metadata),
            "facets": "source=bench",
            "v1": row,
        }
        for r, row in zip(records, rows, strict=True)
    ]
    rates: list[float] = []
    for _ in range(times):
        async with opened(folder / "home", "redis") as (redis, _):
            index: Any = AsyncSearchIndex.from_dict(schema, redis_client=redis.client)
            await index.create(overwrite=True)
            began = time.perf_counter()
            await index.load(data, batch_size=BATCH)
            rates.append(len(data) / (time.perf_counter() - began))
    return {"load_per_s": [round(value) for value in (statistics.median(rates), min(rates), max(rates))]}


async def measure_size(folder: Path, texts: Sequence[str]) -> dict[str, Any]:
    """Bytes of the server for one memory, all told: those of the old layout and of ours, over an empty server."""
    records = make_records(texts)

    async def used(redis: RedisHandle) -> int:
        client: Any = redis.client
        return int((await client.info("memory"))["used_memory"])

    async with opened(folder / "old", "redis") as (redis, _):
        client: Any = redis.client
        await client.execute_command(*OLD)
        before = await used(redis)
        draw = np.random.default_rng(1)
        for at in range(0, len(records), BATCH):
            pipe = client.pipeline(transaction=False)
            for record in records[at : at + BATCH]:
                metadata = {**record.metadata, "namespace": record.namespace, "session": record.session}
                fields = {
                    "content": record.content,
                    "node_id": record.node_id,
                    "trace_id": record.trace_id,
                    "timestamp": record.timestamp_ms,
                    "importance_score": record.importance,
                    "memory_type": record.memory_type,
                    "metadata": json.dumps({**metadata, "category": record.category}),
                    "content_vector": draw.standard_normal(384, dtype=np.float32).tobytes(),
                }
                pipe.hset(record.key, mapping=fields)
            await pipe.execute()
        old = (await used(redis) - before) / len(records)
    new: dict[int, float] = {}
    for dimension in (256, 128):
        async with opened(folder / f"new{dimension}", "redisstack", dimension) as (redis, memory):
            before = await used(redis)
            await timed_write(memory, make_records(texts))
            new[dimension] = (await used(redis) - before) / len(texts)
    return {
        "memories": len(records),
        "old_bytes": round(old),
        "new_bytes": round(new[256]),
        "less_percent": round((1 - new[256] / old) * 100, 1),
        "new_bytes_128": round(new[128]),
        "less_percent_128": round((1 - new[128] / old) * 100, 1),
    }


async def fill_shard(folder: Path, batches: Sequence[tuple[bytes, int]], start: asyncio.Barrier) -> tuple[float, float]:
    """Seconds, and those of the server's CPU."""
    async with opened(folder, "redisstack") as (redis, _):
        assert redis.server is not None
        await start.wait()
        before = cpu_of(redis.server.pid)
        return await replay(redis, batches), cpu_of(redis.server.pid) - before


async def measure_shards(folder: Path, texts: Sequence[str]) -> dict[str, Any]:
    """One, two and three servers on this machine, filled at once with packed commands by this process: the sum."""
    records, found = make_records(texts), {}
    layout = Layout(embedder="wordllama-256", dimension=256)
    rows = layout.pack(await LocalEmbedder().embed(texts))
    for shards in (1, 2, 3):
        part = len(records) // shards
        places = [slice(number * part, (number + 1) * part) for number in range(shards)]
        filled = [packed(records[place], rows[place], layout.field) for place in places]
        start, before = asyncio.Barrier(shards), time.process_time()
        done = await asyncio.gather(
            *(fill_shard(folder / f"home{number}", batches, start) for number, batches in enumerate(filled))
        )
        found[str(shards)] = {
            "per_s": round(part * shards / max(took for took, _ in done)),
            "server_cpu_us": round(statistics.median(cpu for _, cpu in done) / part * 1e6, 1),
            "client_cpu_us": round((time.process_time() - before) / (part * shards) * 1e6, 1),
        }
    return found


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    texts = read_corpus(arguments.corpus, arguments.count) if arguments.corpus else make_texts(arguments.count)
    with tempfile.TemporaryDirectory(prefix="orka-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        measures: dict[str, Callable[[], Awaitable[Any]]] = {
            "stack": lambda: measure_backend(folder, "redisstack", texts, arguments.rounds),
            "rival": lambda: measure_rival(folder, texts, arguments.rounds),
            "shards": lambda: measure_shards(folder, texts),
            "basic": lambda: measure_plain(folder, texts, arguments.rounds),
            "size": lambda: measure_size(folder, texts),
        }
        figures = {part: await measures[part]() for part in PARTS if part in arguments.only}
    return {
        "bench": "memory_write",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "texts": str(arguments.corpus or "generated"),
        "per_s": "median, least, most",
        **figures,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--corpus", type=Path, help="a text file, a text a line")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    print(json.dumps(asyncio.run(measure(parser.parse_args()))))


if __name__ == "__main__":
    main()
