"""`orka memory export`, `import` and `reindex`: what lasts, with a progress bar and a way to go on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shlex import quote
from typing import Annotated, BinaryIO

from cyclopts import Parameter
from msgspec.structs import asdict, replace

from orka.cli.arguments import STANDARD_INPUT
from orka.cli.backends import settings_for
from orka.cli.exits import Exit
from orka.cli.input import open_input
from orka.cli.interrupt import run_until_stopped
from orka.cli.memory import Backend, Category, MemoryType, Namespace, filters_of, with_memories
from orka.cli.output import print_json, warn
from orka.cli.progress import progress
from orka.cli.runs import AsJson
from orka.cli.source import shown_name
from orka.clock import now_ms
from orka.embedding.choice import open_embedder
from orka.errors import ConfigError
from orka.memory.layout import Precision, layout_for
from orka.memory.memory import Memory
from orka.memory.reindex import OnStage, Stage
from orka.memory.reindex import reindex as rebuild
from orka.memory.transfer import Imported, export_memories, import_memories
from orka.redis.client import RedisHandle, open_redis

File = Annotated[Path, Parameter(name="FILE", help="JSON lines.")]


def export(
    file: File,
    /,
    *,
    resume: Annotated[bool, Parameter(help="Add what the file does not have yet.")] = False,
    namespace: Namespace = None,
    category: Category = None,
    memory_type: MemoryType = None,
    backend: Backend = None,
    json: AsJson = False,
) -> int:
    """Write memories to a file, one JSON object a line; `-` is standard output. Vectors are made again when it is imported."""
    filters = filters_of(namespace, category, memory_type)
    piped = str(file) == STANDARD_INPUT
    if piped and (resume or json):
        raise ConfigError("standard output holds the memories: leave --resume and --json out, or name a file")

    async def work(_: RedisHandle, memory: Memory) -> int:
        try:
            with progress("exporting") as on_progress:
                done = await export_memories(
                    memory,
                    sys.stdout.buffer if piped else file,
                    wanted=lambda record: filters.match(record, now_ms()),
                    resume=resume,
                    on_progress=on_progress,
                )
        except asyncio.CancelledError:
            if not piped:
                warn("stopped: go on with the same command and --resume")
            raise
        if json:
            print_json({"written": done.written, "known": done.known})
        else:
            known = f", {done.known:,} known" if resume else ""
            warn(f"{done.written:,} memories written to {'standard output' if piped else file}{known}")
        return Exit.OK

    return with_memories(work, backend)


def import_(
    file: File,
    /,
    *,
    skip: Annotated[int, Parameter(help="Go on behind this line.")] = 0,
    backend: Backend = None,
    json: AsJson = False,
) -> int:
    """Store the memories of a file under their own keys; `-` is standard input. Doing it twice changes nothing."""
    if skip < 0:
        raise ConfigError(f"--skip {skip} must be at least 0")
    source: Path | BinaryIO = open_input() if str(file) == STANDARD_INPUT else file
    name = shown_name(file)
    done = Imported(faults=[])

    async def work(_: RedisHandle, memory: Memory) -> int:
        try:
            with progress("importing") as on_progress:
                await import_memories(memory, source, skip=skip, done=done, on_progress=on_progress)
        except BaseException:
            if done.line:
                line = max(done.line, skip)
                words = ["orka memory import", *(["--backend", backend] if backend else []), "--skip", str(line)]
                shown = "-" if source is not file else quote(str(file))
                warn(f"stopped behind line {line}: go on with `{' '.join([*words, shown])}`")
            raise
        for number, why in done.faults:
            warn(f"{name}:{number}: error: {why}")
        if json:
            print_json({"stored": done.stored, "refused": done.refused, "lines": done.line})
        else:
            warn(f"{done.stored:,} memories stored, {done.refused:,} refused")
        return Exit.FAILED if done.refused else Exit.OK

    return with_memories(work, backend)


def reindex(
    *,
    precision: Annotated[Precision | None, Parameter(help="Of the numbers in a vector.")] = None,
    m: Annotated[int | None, Parameter(help="Links of each vector to others, 2 to 512.")] = None,
    ef_construction: Annotated[int | None, Parameter(help="Width of the search for them, 1 to 4096.")] = None,
    ef_runtime: Annotated[int | None, Parameter(help="Width of a search that asks for none, 1 to 4096.")] = None,
    backend: Backend = None,
    json: AsJson = False,
) -> int:
    """Index memories anew, for the model that the settings name, while the old index serves. Embeds what has no vector:
    memories of OrKa 0.9, and of another model. What is not given stays as it is. For the backend `redis` no index is made."""
    settings = settings_for(backend)
    indexed = settings.memory_backend == "redisstack"
    for name, value, least, most in (
        ("--m", m, 2, 512),
        ("--ef-construction", ef_construction, 1, 4096),
        ("--ef-runtime", ef_runtime, 1, 4096),
    ):
        if value is not None and not indexed:
            raise ConfigError(f"{name} {value} is about an index, and the backend 'redis' has none: leave it out")
        if value is not None and not least <= value <= most:
            raise ConfigError(f"{name} {value} must be from {least} to {most}")
    given = {"precision": precision, "m": m, "ef_construction": ef_construction, "ef_runtime": ef_runtime}
    changes = {name: value for name, value in given.items() if value is not None}

    async def main() -> int:
        async with open_redis(settings) as redis:
            router = await redis.open_router()
            async with open_embedder(settings, router) as embedder:
                form = await layout_for(redis.client, embedder.name, embedder.dimension)
                try:
                    with _stages() as on_stage:
                        wanted = replace(form, **changes)
                        done = await rebuild(redis, router, wanted, embedder, indexed=indexed, on_stage=on_stage)
                except asyncio.CancelledError:
                    warn("stopped: the index that was there serves on; go on with `orka memory reindex`")
                    raise
        if json:
            print_json({**asdict(done), "layout": asdict(done.layout)})
        else:
            layout = done.layout
            form = f"{layout.embedder}, {layout.dimension} {layout.precision}"
            without = (
                f"{done.refused:,} that the model refuses (`memory.not_embedded` in the log), " if done.refused else ""
            )
            warn(
                f"{done.memories:,} memories, {done.embedded:,} embedded, {without}{done.converted:,} of OrKa 0.9; "
                + (f"{layout.index}: {form}, M {layout.m}" if indexed else form)
            )
        return Exit.OK

    return run_until_stopped(main)


@contextmanager
def _stages() -> Generator[OnStage]:
    """A progress bar for each stage."""
    shown: Stage | None = None
    with ExitStack() as stack:

        def tell(stage: Stage, done: int, total: int) -> None:
            nonlocal shown, on_progress
            if stage != shown:
                stack.close()
                shown, on_progress = stage, stack.enter_context(progress(stage))
            on_progress(done, total)

        on_progress = stack.enter_context(progress("reindexing"))
        yield tell
