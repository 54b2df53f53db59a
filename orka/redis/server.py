"""The private server: one Valkey with RediSearch per folder, shared by every Orka process that names the folder.

Four flock(2) locks in the folder decide everything; pids and files are never believed on their own.

* gate    one process at a time joins, starts, stops or leaves. Held for milliseconds, or until a new server speaks.
* users   shared by everybody who uses the server, for as long as they do. Asked for exclusively only under the gate
          and without waiting: who gets it knows that there are no users.
* server  held by the server process, which inherits it. Free means that no server process is left on this folder,
          so that no two ever write to the same files, whatever happened to sockets, pids and starters.
* linger  held by the one process that stops the server a while after its last user left (`orka.redis.linger`).

Join:  gate; users (shared); if the server speaks, it is ours, whoever started it. If nobody listens and the server's
       lock is free, start one with that lock; if the lock is taken, somebody's server is just coming up or going
       down: wait until it speaks or the lock is free. Release the gate; then wait while the data is loaded.
Leave: gate; give users up; if nobody else holds it, stop the server (`server_linger` 0) or leave a lingerer behind.
Kills: the kernel releases a killed process's locks. A server that nobody stopped waits for the next user or for
       `orka system stop`. A server that died is started again by the next who joins, even while others hold users.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from orka.clock import monotonic
from orka.errors import ServerError
from orka.logs import get_logger
from orka.redis import folder as files
from orka.redis.control import Silent, Unreachable, ask, ask_info
from orka.redis.folder import ServerFolder
from orka.redis.linger import leave_lingerer
from orka.redis.locks import is_held, lock_exclusive, lock_shared, try_exclusive
from orka.redis.wheels import find_wheels
from orka.settings import Settings

_log = get_logger()
_children: list[int] = []
"""Pids of servers started by this process and not yet reaped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How far the server is with reading its data; nothing else is answered meanwhile."""

    loaded_bytes: int
    total_bytes: int
    left_seconds: float
    """The server's own estimate; 0 when it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHandle:
    """A joined private server."""

    socket: Path
    pid: int
    started: bool
    """Whether this join started it."""


OnLoading = Callable[[Loading], None]


@contextlib.asynccontextmanager
async def private_server(settings: Settings, *, on_loading: OnLoading | None = None) -> AsyncGenerator[ServerHandle]:
    """Joins (and if need be starts) the server of `settings.home` until the block is left.

    `on_loading` is called about four times a second while the server reads a large data set. Raises `ServerError`
    with the remedy. Cancelling while it starts stops what was started, unless somebody else has joined.
    """
    folder = await anyio.to_thread.run_sync(files.prepare_folder, settings.home)
    users = -1
    try:
        gate = await lock_exclusive(folder.gate)
        try:
            users = await lock_shared(folder.users)
            socket, started = await _ensure_running(folder, settings)
        finally:
            os.close(gate)
        pid = await _wait_until_loaded(folder, socket, settings.server_patience, on_loading)
        yield ServerHandle(socket=socket, pid=pid, started=started)
    finally:
        if users >= 0:
            with anyio.CancelScope(shield=True):
                await _leave(folder, users, settings)


async def _ensure_running(folder: ServerFolder, settings: Settings) -> tuple[Path, bool]:
    """Under the gate: the socket of a server that speaks, if only to say that it is loading, and whether it is new."""
    give_up = monotonic() + settings.server_patience
    while True:
        socket = await _speaking(folder, settings.server_patience)
        if socket is not None:
            await _keep_strict(socket, settings)
            return socket, False
        lock = try_exclusive(folder.alive)
        if lock is not None:
            return await _start(folder, lock, settings), True
        if monotonic() > give_up:
            raise ServerError(
                f"a private server (pid {files.read_pid(folder)}) runs in {folder.path} but cannot be reached: "
                "end it with `orka system stop`",
                log_tail=files.log_tail(folder),
            )
        await anyio.sleep(0.01)


async def _speaking(folder: ServerFolder, patience: float) -> Path | None:
    """The socket, if a server answers on it. A server that accepts and stays silent is a `ServerError`."""
    socket = files.read_address(folder)
    if socket is None:
        return None
    try:
        await ask(socket, "PING", timeout=patience)
    except Unreachable:
        return None
    except Silent as exc:
        raise ServerError(
            f"the private server (pid {files.read_pid(folder)}) in {folder.path} has not answered for {patience:g} s: "
            "it hangs or is stopped; end it with `orka system stop`",
            log_tail=files.log_tail(folder),
        ) from exc
    return socket


async def _keep_strict(socket: Path, settings: Settings) -> None:
    """Sharing a server, the strictest fsync wins; it is never loosened while the server runs."""
    if settings.fsync == "always":
        await ask(socket, "CONFIG", "SET", "appendfsync", "always", timeout=settings.server_patience)


async def _start(folder: ServerFolder, lock: int, settings: Settings) -> Path:
    """Starts a server that inherits `lock` and waits for its first word. Kills it if that fails or is cancelled."""
    began = monotonic()
    try:
        wheels = await anyio.to_thread.run_sync(find_wheels)
        socket = files.new_socket(folder)
        files.write_address(folder, socket)
        files.rotate_log(folder)
        folder.pid.unlink(missing_ok=True)
        command = [str(wheels.server), *_options(folder, socket, settings), "--loadmodule", str(wheels.search)]
        pid = await anyio.to_thread.run_sync(_spawn, command, lock)
    except OSError as exc:
        raise ServerError(f"the private server cannot be started in {folder.path}: {exc}") from exc
    finally:
        os.close(lock)
    try:
        await _first_word(folder, socket, settings.server_patience)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await _kill_child(pid)
        raise
    _log.info("server.started", pid=pid, folder=str(folder.path), seconds=round(monotonic() - began, 3))
    return socket


def _options(folder: ServerFolder, socket: Path, settings: Settings) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "600",
        "dir": str(folder.path),
        "pidfile": str(folder.pid),
        "logfile": str(folder.log),
        "appendonly": "yes",
        "appendfsync": settings.fsync,
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        # While loading it answers only between pieces of this size; vectors make a megabyte last long.
        "loading-process-events-interval-bytes": "262144",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _spawn(command: list[str], lock: int) -> int:
    """The server in a session of its own: a Ctrl-C in the terminal does not reach it."""
    _reap()
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock,),
        start_new_session=True,
    )
    child.returncode = 0  # it is meant to outlive this object, which would warn about that
    _children.append(child.pid)
    return child.pid


def _reap() -> None:
    """Collects servers of ours that somebody else has stopped."""
    for pid in list(_children):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        _children.remove(pid)


async def _kill_child(pid: int) -> None:
    """SIGKILL is safe here: nobody has written anything yet."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 9)
    await _collect(pid)


async def _collect(pid: int | None) -> None:
    if pid in _children:
        _children.remove(pid)
        with contextlib.suppress(ChildProcessError):
            await anyio.to_thread.run_sync(os.waitpid, pid, 0)


async def _first_word(folder: ServerFolder, socket: Path, patience: float) -> None:
    """Until the new server answers anything. Its lock becoming free means that it died."""
    give_up = monotonic() + patience
    pause = 0.002
    while True:
        with contextlib.suppress(Unreachable, Silent):
            await ask(socket, "PING", timeout=patience)
            return
        if not is_held(folder.alive):
            raise _died(folder, "did not start")
        if monotonic() > give_up:
            raise ServerError(
                f"the private server in {folder.path} did not answer within {patience:g} s",
                log_tail=files.log_tail(folder),
            )
        await anyio.sleep(pause)
        pause = min(pause * 1.5, 0.02)


def _died(folder: ServerFolder, what: str) -> ServerError:
    message = f"the private server in {folder.path} {what}"
    with contextlib.suppress(OSError):
        disk = os.statvfs(folder.path)
        if disk.f_bavail * disk.f_frsize < 1 << 20:
            message += ": the disk is full; free some space or set ORKA_HOME to another disk"
    return ServerError(message, log_tail=files.log_tail(folder))


async def _wait_until_loaded(folder: ServerFolder, socket: Path, patience: float, on_loading: OnLoading | None) -> int:
    """The pid, once the data is loaded. Gives up when the server died or made no progress for `patience` seconds."""
    seen = -1
    give_up = monotonic() + patience
    while True:
        try:
            info = await ask_info(socket, "server", "persistence", timeout=patience)
        except (Unreachable, Silent) as exc:
            if isinstance(exc, Unreachable) and not is_held(folder.alive):
                raise _died(folder, "died while it loaded its data") from exc
            raise ServerError(
                f"the private server in {folder.path} stopped answering", log_tail=files.log_tail(folder)
            ) from exc
        if info.get("loading") == "0":
            return int(info["process_id"])
        progress = Loading(
            loaded_bytes=int(info.get("loading_loaded_bytes", 0)),
            total_bytes=int(info.get("loading_total_bytes", 0)),
            left_seconds=float(info.get("loading_eta_seconds", 0)),
        )
        if progress.loaded_bytes != seen:
            seen, give_up = progress.loaded_bytes, monotonic() + patience
        elif monotonic() > give_up:
            raise ServerError(
                f"the private server in {folder.path} made no progress loading its data for {patience:g} s",
                log_tail=files.log_tail(folder),
            )
        _log.info("server.loading_awaited", loaded=progress.loaded_bytes, total=progress.total_bytes)
        if on_loading is not None:
            on_loading(progress)
        await anyio.sleep(0.25)


async def _leave(folder: ServerFolder, users: int, settings: Settings) -> None:
    gate = -1
    try:
        # Somebody else's slow start may hold the gate; then that somebody is a user, and will be the last to leave.
        with anyio.move_on_after(settings.server_patience):
            gate = await lock_exclusive(folder.gate)
    finally:
        os.close(users)
    if gate < 0:
        return
    alone = None
    try:
        alone = try_exclusive(folder.users)
        if alone is None:
            return
        if settings.server_linger == 0 or not await anyio.to_thread.run_sync(_linger, folder, settings.server_linger):
            await _stop(folder, settings.server_patience)
    finally:
        if alone is not None:
            os.close(alone)
        os.close(gate)


def _linger(folder: ServerFolder, seconds: float) -> bool:
    _reap()
    try:
        pid = leave_lingerer(folder, seconds)
    except OSError as exc:
        _log.warning("server.linger_refused", folder=str(folder.path), reason=str(exc))
        return False
    if pid is not None:
        _children.append(pid)
    return True


async def _stop(folder: ServerFolder, patience: float) -> None:
    """Under the gate and without users: a clean stop, all data on disk. Logs when it takes longer than `patience`."""
    socket = files.read_address(folder)
    pid = files.read_pid(folder)
    if socket is not None:
        with contextlib.suppress(Unreachable, Silent):
            await ask(socket, "SHUTDOWN", timeout=patience)
    with anyio.move_on_after(patience) as waiting:
        os.close(await lock_exclusive(folder.alive))
    if waiting.cancelled_caught:
        _log.warning("server.stop_awaited_in_vain", pid=pid, folder=str(folder.path))
        return
    _log.info("server.stopped", pid=pid, folder=str(folder.path))
    await _collect(pid)
