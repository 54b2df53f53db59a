"""Memories to a JSONL file and back: streamed, and resumable where it stopped.

The first line says what the file is; every other line is one memory, its vector left out: it is made again from the content, so
that a file can be read by a store of another model.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

import anyio
import msgspec

from orka.errors import ConfigError, OrkaError, RecordRefused
from orka.memory.memory import Memory, OnProgress
from orka.memory.record import MemoryRecord, new_record

FORMAT: Final = "orka-memories"
VERSION: Final = 1
_LINES: Final = 500
"""Memories written to the store, or lines to the file, at once."""
_MOST_LINE: Final = 64 * 1024 * 1024

_encoder = msgspec.json.Encoder()

Wanted = Callable[[MemoryRecord], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    written: int
    """In this call."""
    known: int
    """That the file had from before."""


@dataclass(slots=True, kw_only=True)
class Imported:
    """So far."""

    line: int = 0
    """The last one that is stored, with all before it: go on behind it."""
    stored: int = 0
    refused: int = 0
    faults: list[tuple[int, str]]
    """(line, why) of the first refused ones."""


_MOST_FAULTS: Final = 20


async def export_memories(
    memory: Memory,
    path: Path,
    *,
    wanted: Wanted = lambda _: True,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> Exported:
    """Appends every memory that is `wanted` and that the file does not have. Without `resume` the file must not exist."""
    try:
        known = await anyio.to_thread.run_sync(_known_keys, path) if resume else set[str]()
        before = len(known)
        written = await _append(memory, path, "ab" if resume else "xb", known, wanted, on_progress)
    except FileExistsError as exc:
        raise ConfigError(f"{path} exists: name another file, or go on with it with --resume", path=str(path)) from exc
    except OSError as exc:
        raise ConfigError(f"{path} cannot be written: {exc}", path=str(path)) from exc
    return Exported(written=written, known=before)


async def _append(
    memory: Memory,
    path: Path,
    mode: Literal["ab", "xb"],
    known: set[str],
    wanted: Wanted,
    on_progress: OnProgress | None,
) -> int:
    """Gives how many were written."""
    written = 0
    async with await anyio.open_file(path, mode) as file:
        if await file.tell() == 0:
            header = {"format": FORMAT, "version": VERSION, "embedder": memory.layout.embedder}
            await file.write(_encoder.encode(header) + b"\n")
        async with aclosing(memory.scan()) as batches:
            async for batch in batches:
                fresh = [record for record in batch if record.key not in known and wanted(record)]
                known.update(record.key for record in fresh)
                if fresh:
                    await file.write(b"".join(_encoder.encode(record) + b"\n" for record in fresh))
                    written += len(fresh)
                if on_progress is not None:
                    on_progress(written, 0)
        await file.flush()
        await anyio.to_thread.run_sync(os.fsync, file.wrapped.fileno())
    return written


def _known_keys(path: Path) -> set[str]:
    """Keys of the memories in a file, whose last line is taken off when it is not whole. Blocking."""
    keys: set[str] = set()
    if not path.exists():
        return keys
    whole = 0
    with path.open("rb+") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            if number == 1:
                _check_header(line, path)
            else:
                try:
                    keys.add(str(_decoded(line).get("key")))
                except RecordRefused as exc:
                    raise ConfigError(
                        f"{path}:{number}: {exc}: take the line out, or export to another file",
                        path=str(path),
                        line=number,
                    ) from exc
            whole += len(line)
        file.truncate(whole)
    return keys


async def import_memories(
    memory: Memory,
    path: Path,
    *,
    skip: int = 0,
    done: Imported | None = None,
    on_progress: OnProgress | None = None,
) -> Imported:
    """Writes every memory of a file under its own key, behind the first `skip` lines; doing it twice changes nothing.
    `done` is kept up to date: when this is cancelled, go on behind `done.line`."""
    done = done or Imported(faults=[])
    read, size = 0, await _size(path)
    async with aclosing(_parts(path)) as parts:
        async for first, lines in parts:
            read += sum(map(len, lines))
            if first == 1:
                _check_header(lines[0], path)
            await _store(memory, first, lines, skip, done)
            if on_progress is not None:
                on_progress(read, size)
    return done


async def _store(memory: Memory, first: int, lines: list[bytes], skip: int, done: Imported) -> None:
    """Some lines, of which `first` is the number of the first one."""
    records: list[tuple[int, MemoryRecord]] = []
    for number, line in enumerate(lines, first):
        if number == 1 or number <= skip or not line.strip():
            continue
        try:
            records.append((number, _record_of(line)))
        except RecordRefused as exc:
            _refuse(done, number, exc)
    found = await memory.write_many([record for _, record in records])
    for (number, _), refusal in zip(records, found, strict=True):
        if refusal is None:
            done.stored += 1
        elif isinstance(refusal, RecordRefused):
            _refuse(done, number, refusal)
        else:
            raise refusal
    done.line = first + len(lines) - 1


async def _size(path: Path) -> int:
    try:
        async with await anyio.open_file(path, "rb") as file:
            return await file.seek(0, os.SEEK_END)
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}", path=str(path)) from exc


def _refuse(done: Imported, number: int, why: OrkaError) -> None:
    done.refused += 1
    if len(done.faults) < _MOST_FAULTS:
        done.faults.append((number, str(why)))


async def _parts(path: Path) -> AsyncGenerator[tuple[int, list[bytes]]]:
    """(number of the first line, some lines)."""
    async with await anyio.open_file(path, "rb") as file:
        number = 1
        while True:
            lines: list[bytes] = await anyio.to_thread.run_sync(_read_lines, cast("Any", file.wrapped))
            if not lines:
                return
            yield number, lines
            number += len(lines)


def _read_lines(file: Any) -> list[bytes]:
    lines: list[bytes] = []
    while len(lines) < _LINES and (line := file.readline(_MOST_LINE)):
        lines.append(line)
    return lines


def _check_header(line: bytes, path: Path) -> None:
    try:
        header: object = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        header = None
    if not isinstance(header, dict) or cast("dict[str, Any]", header).get("format") != FORMAT:
        raise ConfigError(
            f"{path} is no file of memories: its first line is not that of `orka memory export`", path=str(path), line=1
        )
    version = cast("dict[str, Any]", header).get("version")
    if version != VERSION:
        raise ConfigError(
            f"{path} is of version {version}, and this Orka reads version {VERSION}: use a newer one", path=str(path)
        )


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        found: object = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise RecordRefused(f"not JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise RecordRefused("not a mapping")
    return cast("dict[str, Any]", found)


def _record_of(line: bytes) -> MemoryRecord:
    found = _decoded(line)
    if "content" not in found:
        raise RecordRefused("not a memory: it has no content")
    try:
        return new_record(**found)
    except TypeError as exc:  # a field that this version does not know
        raise RecordRefused(f"not a memory: {exc}") from exc
