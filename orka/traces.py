"""Trace files: where they go, how they are written, and what they say of the machine. A trace that cannot be written is a
warning, never a failed run."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Final, TypeAlias

import anyio.to_thread
import msgspec

from orka.clock import iso, local_stamp, now_ms
from orka.engine.trace import TraceFacts, canonical, make_trace
from orka.errors import ConfigError
from orka.graph.codec import decode_graph
from orka.graph.graph import Graph
from orka.ids import new_nonce
from orka.journal.entries import RunStarted, decode_body
from orka.logs import get_logger
from orka.results import RunResult
from orka.services import Services
from orka.settings import Settings
from orka.stored import no_beginning, read_end, read_visits
from orka.types import Json, RunId, RunStatus

Trace: TypeAlias = "bool | str | os.PathLike[str] | None"
"""Whether a run leaves a trace file: True, in the folder of traces; a file, or a folder that is there; False: none; None:
as `ORKA_LOG_DIR` says, which names the folder."""

_FOLDER: Final = Path("logs")
"""Of traces, when one is asked for and `ORKA_LOG_DIR` is not set."""
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_-]")
_LAST: Final = 8
"""Characters of a run id in a file's name: its end, for ids of one minute begin alike."""
_log = get_logger()


async def leave_trace(
    result: RunResult, *, graph: Graph, input: Json, session: str, settings: Settings, wish: Trace
) -> RunResult:
    """Writes the trace of a run that has ended, if one is wished, and gives the result with the file's name."""
    if wish is False or (wish is None and settings.log_dir is None):
        return result
    facts = TraceFacts(
        graph=graph,
        at_ms=now_ms(),
        input=input,
        session=session,
        backend=settings.memory_backend,
        whole=not settings.trace_blobs,
        keep_previous=settings.keep_previous_outputs or _keeps_previous(graph),
    )
    try:
        file = await anyio.to_thread.run_sync(_write, result, facts, settings, wish)
    # Bulkhead: whatever becomes of the trace, the run has its result.
    except Exception as exc:
        _log.warning("trace.lost", run_id=result.run_id, error=f"{type(exc).__name__}: {exc}")
        return result
    _log.info("trace.written", run_id=result.run_id, file=str(file))
    return replace(result, trace=str(file))


async def read_trace(services: Services, run_id: RunId, *, whole: bool | None = None) -> dict[str, Json]:
    """The trace of a completed run, made from its journal. `ConfigError` for any other: its visits are told by its journal
    alone. `whole`: without the blob store; None: as the settings say."""
    ended = await read_end(services, run_id)
    info = await services.registry.info(run_id)
    if info.status is not RunStatus.COMPLETED:
        raise ConfigError(
            f"run {run_id} is {info.status}, and a trace is made of completed runs: `orka runs show {run_id}` tells its visits"
        )
    result = replace(ended, results=await read_visits(services, run_id))
    started = await _beginning(services, run_id)
    graph = decode_graph(await services.registry.graph(run_id, info.digest), source=f"run {run_id}")
    settings = services.settings
    facts = TraceFacts(
        graph=graph,
        at_ms=now_ms(),
        input=await services.registry.load(run_id, started.input),
        session=started.session,
        backend=settings.memory_backend,
        whole=not settings.trace_blobs if whole is None else whole,
        keep_previous=settings.keep_previous_outputs or _keeps_previous(graph),
    )
    return await anyio.to_thread.run_sync(_make, result, facts, settings)


async def write_trace(trace: Mapping[str, Json], file: Path) -> None:
    """Writes or replaces the file at once. `ConfigError` when that cannot be done."""
    try:
        await anyio.to_thread.run_sync(_store, file, trace)
    except OSError as exc:
        raise ConfigError(f"{file}: cannot be written: {exc.strerror or exc}", path=str(file)) from exc


def file_for(run_id: str, at_ms: int, settings: Settings, wish: Trace) -> Path:
    """The file of a trace that is made at `at_ms`. Looks whether a name is that of a folder."""
    name = f"orka_trace_{local_stamp(at_ms)}_{_UNFIT.sub('_', run_id)[-_LAST:]}.json"
    if isinstance(wish, (str, os.PathLike)):
        given = Path(wish)
        return given / name if str(wish).endswith(os.sep) or given.is_dir() else given
    return (settings.log_dir or _FOLDER) / name


def _keeps_previous(graph: Graph) -> bool:
    debug = graph.options.get("debug")
    return isinstance(debug, dict) and debug.get("keep_previous_outputs") is True


async def _beginning(services: Services, run_id: RunId) -> RunStarted:
    async for _, kind, path, data in services.registry.entries(run_id):
        body = decode_body(kind, data, run_id=run_id, path=path)
        if isinstance(body, RunStarted):
            return body
        break
    raise no_beginning(run_id)


def _write(result: RunResult, facts: TraceFacts, settings: Settings, wish: Trace) -> Path:
    file = file_for(result.run_id, facts.at_ms, settings, wish)
    _store(file, _make(result, facts, settings))
    return file


def _make(result: RunResult, facts: TraceFacts, settings: Settings) -> dict[str, Json]:
    return make_trace(result, replace(facts, environment=_environment(settings, facts.at_ms)))


def _store(file: Path, trace: Mapping[str, Json]) -> None:
    """Beside the file first: whoever reads it sees all of it or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{new_nonce()}")
    try:
        with beside.open("wb") as out:
            out.writelines(chunks_of(trace))
        beside.replace(file)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def chunks_of(trace: Mapping[str, Json]) -> Iterator[bytes]:
    """The trace as JSON, an event or a blob a line. In pieces: one call for all of it would hold up the other threads."""
    opening = b"{\n"
    for name, value in trace.items():
        yield opening + _encoded(name) + b": "
        opening = b",\n"
        if isinstance(value, list) and value:
            yield from _lines(b"[", (_encoded(item) for item in value), b"]")
        elif isinstance(value, dict) and name == "blob_store":
            yield from _lines(b"{", (_encoded(key) + b": " + _encoded(item) for key, item in value.items()), b"}")
        else:
            yield _encoded(value)
    yield b"\n}\n"


def _lines(opening: bytes, items: Iterator[bytes], closing: bytes) -> Iterator[bytes]:
    before = b"\n"
    yield opening
    for item in items:
        yield before + item
        before = b",\n"
    yield b"\n" + closing


def _encoded(value: Json) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError):
        return canonical(value)


def _environment(settings: Settings, at_ms: int) -> dict[str, Json]:
    """`runtime_environment`: what files and the interpreter tell, without starting a process."""
    return {
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python_version": platform.python_version(),
        "orka_version": metadata_version("orka"),
        "timestamp": iso(at_ms),
        "git_sha": git_sha(Path.cwd()),
        "docker_image": settings.docker_image,
        "gpu_type": _gpu(),
        "pricing_version": metadata_version("genai-prices"),
    }


def metadata_version(distribution: str) -> str | None:
    """Of an installed distribution; None when it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def git_sha(folder: Path) -> str | None:
    """First 12 characters of the commit that is checked out in `folder` or above it; None where there is none."""
    for place in (folder, *folder.parents):
        try:
            git = place / ".git"
            if git.is_file():  # a worktree
                git = place / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
            if not git.is_dir():
                continue
            head = (git / "HEAD").read_text(encoding="utf-8").strip()
            name = head.removeprefix("ref:").strip()
            return (_commit(git, name) if head.startswith("ref:") else head)[:12] or None
        except (OSError, UnicodeDecodeError):
            return None
    return None


def _commit(git: Path, name: str) -> str:
    common = git / "commondir"
    for base in (git, git / common.read_text(encoding="utf-8").strip()) if common.is_file() else (git,):
        if (base / name).is_file():
            return (base / name).read_text(encoding="utf-8").strip()
        if (base / "packed-refs").is_file():
            for line in (base / "packed-refs").read_text(encoding="utf-8").splitlines():
                if line.endswith(f" {name}"):
                    return line.partition(" ")[0]
    return ""


def _gpu() -> str | None:
    """The model that the NVIDIA driver tells of the first one; None where there is no such driver."""
    try:
        for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
            for line in file.read_text(encoding="utf-8").splitlines():
                if line.startswith("Model:"):
                    return line.partition(":")[2].strip()
    except OSError:
        return None
    return None
