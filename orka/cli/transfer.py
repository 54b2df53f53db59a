"""`orka memory export`, `import` and `reindex`: what lasts, with a progress bar and a way to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from orka.cli.exits import Exit
from orka.cli.memory import Backend, Category, MemoryType, Namespace, filters_of, with_memories
from orka.cli.output import print_json, warn
from orka.cli.progress import progress
from orka.cli.runs import AsJson
from orka.clock import now_ms
from orka.errors import ConfigError
from orka.memory.memory import Memory
from orka.memory.transfer import Imported, export_memories, import_memories
from orka.redis.client import RedisHandle

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
    """Write memories to a file, one JSON object a line. Vectors are made again when it is imported."""
    filters = filters_of(namespace, category, memory_type)

    async def work(_: RedisHandle, memory: Memory) -> int:
        with progress("exporting") as on_progress:
            done = await export_memories(
                memory,
                file,
                wanted=lambda record: filters.match(record, now_ms()),
                resume=resume,
                on_progress=on_progress,
            )
        if json:
            print_json({"written": done.written, "known": done.known})
        else:
            warn(f"{done.written:,} memories written to {file}" + (f", {done.known:,} known" if resume else ""))
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
    """Store the memories of a file under their own keys. Doing it twice changes nothing."""
    done = Imported(faults=[])

    async def work(_: RedisHandle, memory: Memory) -> int:
        if not file.is_file():
            raise ConfigError(f"{file} is no file", path=str(file))
        try:
            with progress("importing") as on_progress:
                await import_memories(memory, file, skip=skip, done=done, on_progress=on_progress)
        except BaseException:
            if done.line > skip:
                warn(f"stopped behind line {done.line}: go on with `orka memory import {file} --skip {done.line}`")
            raise
        for number, why in done.faults:
            warn(f"{file}:{number}: error: {why}")
        if json:
            print_json({"stored": done.stored, "refused": done.refused, "lines": done.line})
        else:
            warn(f"{done.stored:,} memories stored, {done.refused:,} refused")
        return Exit.FAILED if done.refused else Exit.OK

    return with_memories(work, backend)
