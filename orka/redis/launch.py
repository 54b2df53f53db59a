"""Starting the server's process on its folder, and what is left to do when it has ended.

The caller holds the gate and the server's lock (see `orka.redis.server`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import anyio
import anyio.to_thread

from orka.clock import monotonic
from orka.errors import ServerError
from orka.logs import get_logger
from orka.redis import folder as files
from orka.redis.control import Silent, Unreachable, ask
from orka.redis.folder import ServerFolder
from orka.redis.locks import is_held
from orka.redis.wheels import Wheels, find_wheels
from orka.settings import Settings

_log = get_logger()
_children: list[int] = []
"""Pids of processes started here that outlive their starter and are not yet reaped."""


async def start_server(folder: ServerFolder, lock: int, settings: Settings) -> Path:
    """Starts a server that inherits `lock` (closed here) and waits for its first word: the path of its socket.

    Raises `ServerError`. Failing or cancelled it leaves no process behind.
    """
    began = monotonic()
    try:
        wheels, socket = await anyio.to_thread.run_sync(_prepare, folder)
        # Not in a thread: a cancellation there would lose the pid of a process that nobody else knows.
        pid = _spawn([str(wheels.server), *_options(folder, socket, wheels, settings)], lock)
    except OSError as exc:
        raise ServerError(
            f"the private server cannot be started in {folder.path} ({exc}): "
            "see to that, or set ORKA_HOME to another folder"
        ) from exc
    finally:
        os.close(lock)
    try:
        await _first_word(folder, socket, settings.server_patience)
        await anyio.to_thread.run_sync(files.mark_kept, folder)
    except BaseException:  # bulkhead: whatever ends the wait, the half-started process goes too, and the error goes on
        with anyio.CancelScope(shield=True):
            await _kill(pid)
        raise
    _log.info("server.started", pid=pid, folder=str(folder.path), seconds=round(monotonic() - began, 3))
    return socket


def adopt_child(pid: int) -> None:
    """Notes a process that outlives its starter, to be reaped should it end before."""
    reap()
    _children.append(pid)


def reap() -> None:
    """Collects children that have ended meanwhile. Never waits."""
    for pid in list(_children):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        _children.remove(pid)


async def collect(pid: int | None) -> None:
    """Reaps a child that has given up its lock and is about to end. Nothing for anybody else's process."""
    if pid in _children:
        _children.remove(pid)
        with contextlib.suppress(ChildProcessError):
            await anyio.to_thread.run_sync(os.waitpid, pid, 0)


def died(folder: ServerFolder, what: str) -> ServerError:
    """The error for a server that ended by itself, with the end of its log."""
    message = f"the private server in {folder.path} {what}"
    with contextlib.suppress(OSError):
        disk = os.statvfs(folder.path)
        if disk.f_bavail * disk.f_frsize < 1 << 20:
            message += ": the disk is full; free some space or set ORKA_HOME to a folder on another disk"
    tail = files.log_tail(folder)
    if "Bad file format reading the append only file" in tail:
        message += f": its data file is damaged; move {folder.path} away to start without data"
    return ServerError(message, log_tail=tail)


def _prepare(folder: ServerFolder) -> tuple[Wheels, Path]:
    files.require_data(folder)
    wheels = find_wheels()
    socket = files.new_socket(folder)
    files.write_address(folder, socket)
    files.rotate_log(folder)
    folder.pid.unlink(missing_ok=True)
    return wheels, socket


def _options(folder: ServerFolder, socket: Path, wheels: Wheels, settings: Settings) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "600",
        "dir": str(folder.path),
        "pidfile": str(folder.pid),
        "logfile": str(folder.log),
        "appendonly": "yes",
        # A memory's hash in one piece, its vector included, is a fifth smaller; larger hashes stay quick to look into.
        "hash-max-listpack-value": "4096",
        "hash-max-listpack-entries": "32",
        "appendfsync": settings.fsync,
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loadmodule": str(wheels.search),
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _spawn(command: list[str], lock: int) -> int:
    """The server in a session of its own: a Ctrl-C in the terminal does not reach it."""
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock,),
        start_new_session=True,
    )
    child.returncode = 0  # it is meant to outlive this object, which would warn about that
    adopt_child(child.pid)
    return child.pid


async def _kill(pid: int) -> None:
    """SIGKILL is safe here: nobody has written anything yet."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    await collect(pid)


async def _first_word(folder: ServerFolder, socket: Path, patience: float) -> None:
    """Until the new server answers anything. Its lock becoming free means that it died."""
    give_up = monotonic() + patience
    pause = 0.002
    while True:
        with contextlib.suppress(Unreachable, Silent):
            await ask(socket, "PING", timeout=patience)
            return
        if not is_held(folder.alive):
            raise died(folder, "did not start")
        if monotonic() > give_up:
            raise ServerError(
                f"the private server in {folder.path} did not answer within {patience:g} s",
                log_tail=files.log_tail(folder),
            )
        await anyio.sleep(pause)
        pause = min(pause * 1.5, 0.02)
