"""Memories to a JSONL file and back: streamed, and resumable where it stopped.

The first line says what the file is; every other line is one memory, its vector left out: it is made again from the content, so
that a file can be read by a store of another model.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import anyio
import msgspec

from orka.errors import ConfigError, OrkaError, RecordRefused
from orka.memory.memory import Memory, OnProgress
from orka.memory.record import MemoryRecord, new_record

FORMAT: Final = "orka-memories"
VERSION: Final = 1
_LINES: Final = 500
"""Memories written to the store, or lines to the file, at once."""
_PART: Final = 16 * 1024 * 1024
"""Bytes of lines to have at once, about."""
MOST_LINE: Final = 64 * 1024 * 1024
"""Bytes in a line."""

HEADER: Final = f'{{"format":"{FORMAT}"'.encode()
"""How the first line begins, as `export` writes it."""
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
    file: Path | BinaryIO,
    *,
    wanted: Wanted = lambda _: True,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> Exported:
    """Appends every memory that is `wanted` and that the file does not have. Without `resume` the file must not exist,
    unless it is none that keeps anything (a pipe, a device). An open file is written as it is, and cannot be resumed."""
    if not isinstance(file, Path):
        written = await _append(memory, file, set(), wanted, on_progress)
        return Exported(written=written, known=0)
    try:
        known = await anyio.to_thread.run_sync(_known_keys, file) if resume else set[str]()
        before = len(known)
        with await anyio.to_thread.run_sync(_opened_for_lines, file, resume) as opened:
            written = await _append(memory, opened, known, wanted, on_progress)
            await anyio.to_thread.run_sync(_settle, opened)
    except FileExistsError as exc:
        raise ConfigError(f"{file} exists: name another file, or go on with it with --resume", path=str(file)) from exc
    except OSError as exc:
        raise ConfigError(f"{file} cannot be written: {exc.strerror or exc}", path=str(file)) from exc
    return Exported(written=written, known=before)


async def _append(
    memory: Memory, file: BinaryIO, known: set[str], wanted: Wanted, on_progress: OnProgress | None
) -> int:
    """Gives how many were written."""

    async def write(data: bytes) -> None:
        await anyio.to_thread.run_sync(file.write, data)

    written = 0
    if not await anyio.to_thread.run_sync(_holds_something, file):
        header = {"format": FORMAT, "version": VERSION, "embedder": memory.layout.embedder}
        await write(_encoder.encode(header) + b"\n")
    async with aclosing(memory.scan()) as batches:
        async for batch in batches:
            fresh = [record for record in batch if record.key not in known and wanted(record)]
            known.update(record.key for record in fresh)
            if fresh:
                await write(b"".join(_encoder.encode(record) + b"\n" for record in fresh))
                written += len(fresh)
            if on_progress is not None:
                on_progress(written, 0)
    await anyio.to_thread.run_sync(file.flush)
    return written


def _opened_for_lines(path: Path, resume: bool) -> BinaryIO:
    if resume:
        return path.open("ab")
    return path.open("wb" if path.exists() and not (path.is_file() or path.is_dir()) else "xb")


def _holds_something(file: BinaryIO) -> bool:
    return file.seekable() and file.tell() > 0


def _settle(file: BinaryIO) -> None:
    """On disk, where it is on one. Blocking."""
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        os.fsync(file.fileno())


def _known_keys(path: Path) -> set[str]:
    """Keys of the memories in a file, whose last line is taken off when it is not whole. Blocking."""
    keys: set[str] = set()
    if not path.exists():
        return keys
    if not path.is_file():
        raise ConfigError(f"{path} is no file that can be gone on with: leave --resume out", path=str(path))
    whole, number = 0, 0
    with path.open("rb+") as file:
        while line := file.readline(MOST_LINE):
            number += 1
            ends = line.endswith(b"\n")
            if number == 1 and (ends or not HEADER.startswith(line[: len(HEADER)])):
                _check_header(line, path)  # nothing is taken off a file of somebody else's
            if not ends and len(line) < MOST_LINE:
                break
            if number > 1:
                keys.add(_key_in(line, path, number))
            whole += len(line)
        file.truncate(whole)
    return keys


def _key_in(line: bytes, path: Path, number: int) -> str:
    try:
        return str(_decoded(line).get("key"))
    except RecordRefused as exc:
        message = f"{path}:{number}: {exc}: take the line out, or export to another file"
        raise ConfigError(message, path=str(path), line=number) from exc


async def import_memories(
    memory: Memory,
    file: Path | BinaryIO,
    *,
    skip: int = 0,
    done: Imported | None = None,
    on_progress: OnProgress | None = None,
) -> Imported:
    """Writes every memory of a file under its own key, behind the first `skip` lines; doing it twice changes nothing.
    `done` is kept up to date: when this is cancelled, go on behind `done.line`."""
    done = done or Imported(faults=[])
    if not isinstance(file, Path):
        await _take_in(memory, file, Path(file.name), skip, done, on_progress)
        return done
    try:
        opened = await anyio.to_thread.run_sync(file.open, "rb")
    except OSError as exc:
        raise ConfigError(f"{file} cannot be read: {exc.strerror}", path=str(file)) from exc
    with opened:
        await _take_in(memory, cast("BinaryIO", opened), file, skip, done, on_progress)
    return done


async def _take_in(
    memory: Memory, file: BinaryIO, path: Path, skip: int, done: Imported, on_progress: OnProgress | None
) -> None:
    read, size, first = 0, os.fstat(file.fileno()).st_size, 1
    while lines := await _next_lines(file, path):
        read += sum(map(len, lines))
        if first == 1:
            _check_header(lines[0], path)
        await _store(memory, first, lines, skip, done)
        first += len(lines)
        if on_progress is not None:
            on_progress(read, size)


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


def _refuse(done: Imported, number: int, why: OrkaError) -> None:
    done.refused += 1
    if len(done.faults) < _MOST_FAULTS:
        done.faults.append((number, str(why)))


async def _next_lines(file: BinaryIO, path: Path) -> list[bytes]:
    """Some lines, none at the end. What writes into a pipe may take its time: cancelling does not wait for it."""
    try:
        return await anyio.to_thread.run_sync(_read_lines, file, abandon_on_cancel=True)
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror or exc}", path=str(path)) from exc


def _read_lines(file: BinaryIO) -> list[bytes]:
    lines: list[bytes] = []
    size = 0
    while len(lines) < _LINES and size < _PART and (line := file.readline(MOST_LINE)):
        lines.append(line)
        size += len(line)
        while len(line) == MOST_LINE and not line.endswith(b"\n"):  # the rest of a line that is too long is no line
            line = file.readline(MOST_LINE)
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
    if len(line) == MOST_LINE:
        raise RecordRefused(f"longer than {MOST_LINE:,} bytes")
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
