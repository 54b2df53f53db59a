"""Looking at the private server from outside and ending it: `orka system status` and `orka system stop`."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import anyio

from orka.errors import ServerError
from orka.redis import folder as files
from orka.redis import launch
from orka.redis.control import Silent, Unreachable, ask_info
from orka.redis.folder import ServerFolder
from orka.redis.locks import is_held, lock_exclusive, require_locks, try_exclusive
from orka.redis.server import end_server, wait_for_end
from orka.settings import Settings

_KILL_PATIENCE = 10.0
"""Seconds given to each signal at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """What can be seen of the private server without joining it. Numbers are 0 while it does not answer."""

    folder: Path
    running: bool
    """Whether a server process lives on the folder."""
    answers: bool
    pid: int | None
    socket: Path | None
    users: tuple[int, ...]
    """Pids of the processes that use it, a process twice if it does so twice; known on Linux only."""
    in_use: bool
    version: str
    uptime_seconds: int
    loading: bool
    memory_bytes: int
    """Resident."""
    keys: int
    """In database 0."""
    disk_bytes: int
    """Of the append-only files."""


async def server_status(settings: Settings) -> ServerStatus:
    """Starts nothing and waits for nothing but one answer (`settings.server_patience` at most)."""
    require_locks()
    folder = files.server_folder(settings.home)
    running = is_held(folder.alive)
    socket = files.read_address(folder) if running else None
    info: dict[str, str] = {}
    if socket is not None:
        with contextlib.suppress(Unreachable, Silent):
            info = await ask_info(socket, timeout=settings.server_patience)
    keys = dict(pair.split("=") for pair in info.get("db0", "").split(",") if "=" in pair)
    return ServerStatus(
        folder=folder.path,
        running=running,
        answers=bool(info),
        pid=files.read_pid(folder) if running else None,
        socket=socket,
        users=_users(folder),
        in_use=is_held(folder.users),
        version=info.get("valkey_version") or info.get("redis_version", ""),
        uptime_seconds=int(info.get("uptime_in_seconds", "0")),
        loading=info.get("loading", "0") != "0",
        memory_bytes=int(info.get("used_memory_rss", "0")),
        keys=int(keys.get("keys", "0")),
        disk_bytes=sum(file.stat().st_size for file in folder.path.glob("appendonlydir/*")),
    )


async def stop_private_server(settings: Settings, *, force: bool = False) -> bool:
    """Ends the server of `settings.home`: whether there was one.

    Cleanly where it answers; a server that hangs gets SIGTERM, then SIGKILL (which loses what `settings.fsync` allows).
    Raises `ServerError` when processes use it, unless `force`: they then start it again when they need it.
    """
    require_locks()
    folder = files.server_folder(settings.home)
    if not is_held(folder.alive):
        return False
    gate = await _gate(folder, settings.server_patience)
    alone = None
    try:
        alone = try_exclusive(folder.users)
        if alone is None and not force:
            pids = ", ".join(str(pid) for pid in dict.fromkeys(_users(folder))) or "unknown"
            raise ServerError(f"the private server in {folder.path} is in use (by process {pids}): end that first")
        if not is_held(folder.alive):
            return False
        if not await end_server(folder, settings.server_patience):
            await _kill(folder, settings.server_patience)
        return True
    finally:
        if alone is not None:
            os.close(alone)
        os.close(gate)


async def _gate(folder: ServerFolder, patience: float) -> int:
    """Who joins a server that hangs holds the gate for the whole of its patience."""
    try:
        with anyio.fail_after(2 * patience + 1):
            return await lock_exclusive(folder.gate)
    except TimeoutError as exc:
        message = f"another process has been starting or stopping the server in {folder.path} for too long"
        raise ServerError(message) from exc


async def _kill(folder: ServerFolder, patience: float) -> None:
    pid = files.read_pid(folder)
    if pid is None:
        raise ServerError(f"the private server in {folder.path} does not answer, and its file server.pid is gone")
    patience = min(patience, _KILL_PATIENCE)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)
        if await wait_for_end(folder, patience):
            await launch.collect(pid)
            return
    raise ServerError(f"the private server (pid {pid}) in {folder.path} does not end even when killed")


def _users(folder: ServerFolder) -> tuple[int, ...]:
    """Who holds the users' lock, from /proc/locks (proc_locks(5)); empty where there is no such file."""
    try:
        inode = str(folder.users.stat().st_ino)
        rows = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return ()
    found: list[int] = []
    for row in rows:
        words = row.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[3] == "READ" and words[5].rpartition(":")[2] == inode:
            found.append(int(words[4]))
    return tuple(sorted(found))
