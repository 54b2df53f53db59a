"""Memories searched: latency, recall against exact search, a thousand at once beside the server's ceiling.

Ceiling: the very commands that the store sends for those queries, replayed by a bare client over two sockets. Recall is against
exact search over the FLOAT32 vectors of the same model. Prints one line of JSON.

    python benchmarks/bench_memory_search.py [--count 100000] [--corpus FILE] [--only PART ...]
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
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_memory_write import make_records, opened, timed_write
from hiredis import pack_command
from texts import make_queries, make_texts, read_corpus

from orka.clock import now_ms
from orka.embedding.local import LocalEmbedder
from orka.memory.memory import Memory
from orka.memory.plan import plan_look
from orka.memory.query import Filters, Look, MemoryQuery
from orka.redis.client import RedisHandle

PARTS = ("redisstack", "redis")
TWO = Filters(namespace="team-7", memory_type="long_term")
"""One in 75 memories."""
HALF = Filters(memory_type="long_term", since_ms=1_760_000_000_000 + 25_000_000)
"""About half of 100,000 memories."""


def spread(times: Sequence[float]) -> dict[str, float]:
    """Milliseconds."""
    ordered = sorted(times)
    return {
        "mean_ms": round(statistics.fmean(ordered) * 1e3, 2),
        "p50_ms": round(statistics.median(ordered) * 1e3, 2),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3, 2),
    }


async def one_by_one(memory: Memory, queries: Sequence[MemoryQuery]) -> dict[str, float]:
    for query in queries[:20]:
        await memory.search(query)
    times: list[float] = []
    for query in queries:
        began = time.perf_counter()
        await memory.search(query)
        times.append(time.perf_counter() - began)
    return spread(times)


async def recall(memory: Memory, texts: Sequence[str], questions: Sequence[str], **more: Any) -> float:
    """Of the ten nearest: how many of those that exact search finds, or others exactly as near."""
    embedder = LocalEmbedder()
    vectors, asked = await embedder.embed(texts), await embedder.embed(questions)
    found = 0.0
    for question, vector in zip(questions, asked, strict=True):
        near = vectors @ vector
        tenth = np.partition(near, -10)[-10]
        hits = await memory.search(MemoryQuery(text=question, limit=10, **more))
        given = await embedder.embed([hit.record.content for hit in hits])
        found += float((given @ vector >= tenth - 1e-6).sum()) / 10
    return round(found / len(questions), 4)


async def at_once(memory: Memory, queries: Sequence[MemoryQuery], rounds: int) -> list[float]:
    """Searches a second, all started together."""
    rates: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        found = await asyncio.gather(*(memory.search(query) for query in queries), return_exceptions=True)
        rates.append(len(queries) / (time.perf_counter() - began))
        failed = [one for one in found if isinstance(one, BaseException)]
        assert not failed, failed[0]
    return rates


async def replayed(redis: RedisHandle, packed: Sequence[bytes], rounds: int) -> list[float]:
    """The same commands a second, over two sockets, in pipelines of 32."""

    async def half(commands: Sequence[bytes]) -> None:
        connection: Any = redis.connection()
        await connection.connect()
        for at in range(0, len(commands), 32):
            part = commands[at : at + 32]
            await connection.send_packed_command(b"".join(part), check_health=False)
            for _ in part:
                await connection.read_response()
        await connection.disconnect()

    rates: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        await asyncio.gather(half(packed[::2]), half(packed[1::2]))
        rates.append(len(packed) / (time.perf_counter() - began))
    return rates


async def commands_for(memory: Memory, questions: Sequence[str]) -> list[bytes]:
    vectors = await LocalEmbedder().embed(questions)
    found: list[bytes] = []
    for vector in vectors:
        look = Look(count=10, filters=Filters(), at_ms=now_ms(), vector=vector)
        command = plan_look(look, memory.layout, memory.layout.index, "server", documents=1_000_000)
        found.append(pack_command(command))  # type: ignore[arg-type]
    return found


async def measure_backend(
    folder: Path, backend: str, texts: Sequence[str], questions: Sequence[str], rounds: int
) -> dict[str, Any]:
    async with opened(folder / "home", backend) as (redis, memory):
        await timed_write(memory, make_records(texts))
        began = time.perf_counter()
        await memory.search(MemoryQuery(text="first"))
        figures: dict[str, Any] = {"first_search_s": round(time.perf_counter() - began, 2)}
        kinds: dict[str, Callable[[str], MemoryQuery]] = {
            "knn": lambda text: MemoryQuery(text=text),
            "knn_two_filters": lambda text: MemoryQuery(text=text, filters=TWO),
            "knn_half": lambda text: MemoryQuery(text=text, filters=HALF),
            "words": lambda text: MemoryQuery(text=text, mode="text"),
            "hybrid_two_filters": lambda text: MemoryQuery(text=text, mode="hybrid", filters=TWO),
        }
        for name, make in kinds.items():
            figures[name] = await one_by_one(memory, [make(text) for text in questions])
        few = questions[: 100 if backend == "redis" else 300]
        figures["recall_at_10"] = await recall(memory, texts, few)
        if backend == "redisstack":
            figures["recall_at_10_by_ef"] = {
                str(ef): await recall(memory, texts, few, ef_runtime=ef) for ef in (10, 64, 128)
            }
        thousand = (list(questions) * (1000 // len(questions) + 1))[:1000]
        rates = await at_once(memory, [MemoryQuery(text=text) for text in thousand], rounds)
        figures["thousand_at_once_per_s"] = [round(rate) for rate in (statistics.median(rates), min(rates), max(rates))]
        if backend == "redisstack":
            ceiling = await replayed(redis, await commands_for(memory, thousand), rounds)
            figures["ceiling_per_s"] = [
                round(rate) for rate in (statistics.median(ceiling), min(ceiling), max(ceiling))
            ]
            figures["of_ceiling"] = round(statistics.median(rates) / statistics.median(ceiling), 3)
        return figures


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.corpus:
        lines = read_corpus(arguments.corpus, arguments.count + 1000)
        texts, questions = lines[:-1000], lines[-1000:]
    else:
        texts, questions = make_texts(arguments.count), make_queries(1000)
    with tempfile.TemporaryDirectory(prefix="orka-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        measures: dict[str, Callable[[], Awaitable[Any]]] = {
            backend: lambda backend=backend: measure_backend(folder, backend, texts, questions, arguments.rounds)
            for backend in PARTS
        }
        figures = {part: await measures[part]() for part in PARTS if part in arguments.only}
    return {
        "bench": "memory_search",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "texts": str(arguments.corpus or "generated"),
        "memories": len(texts),
        "searches_each": len(questions),
        "per_s": "median, least, most",
        **figures,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--corpus", type=Path, help="a text file, a text a line; the last thousand are the queries")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    print(json.dumps(asyncio.run(measure(parser.parse_args()))))


if __name__ == "__main__":
    main()
