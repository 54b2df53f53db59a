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
import signal
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from orka.clock import monotonic
from orka.errors import ServerError
from orka.logs import get_logger
from orka.redis import folder as files
from orka.redis import launch
from orka.redis.control import Silent, Unreachable, ask, ask_info
from orka.redis.folder import ServerFolder
from orka.redis.linger import dismiss_lingerer, leave_lingerer
from orka.redis.locks import is_held, lock_exclusive, lock_shared, require_locks, try_exclusive
from orka.settings import Settings

_log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How far the server is with reading its data; nothing else is answered meanwhile."""

    loaded_bytes: int
    total_bytes: int
    left_seconds: float
    """The server's own estimate; 0 when it has none."""


OnLoading = Callable[[Loading], None]


class ServerHandle:
    """A joined private server. `private_server` makes it."""

    def __init__(self, folder: ServerFolder, settings: Settings, on_loading: OnLoading | None) -> None:
        self._folder = folder
        self._settings = settings
        self._on_loading = on_loading
        self._turn = anyio.Lock()
        self._users = -1
        self.socket = folder.path
        """Where it listens; another one after `revive`."""
        self.pid = 0
        self.started = False
        """Whether joining started it."""

    async def join(self) -> None:
        """Takes part in the server, starting it where needed, and waits until its data is loaded."""
        try:
            gate = await lock_exclusive(self._folder.gate)
            try:
                if self._users < 0:
                    self._users = await lock_shared(self._folder.users)
                self.socket, self.started = await _ensure_running(self._folder, self._settings)
            finally:
                os.close(gate)
        except OSError as exc:
            raise ServerError(
                f"the private server cannot use the folder {self._folder.path} ({exc.strerror or exc}): set ORKA_HOME "
                "to a folder of your own on a local disk, or REDIS_URL to a running Redis"
            ) from exc
        self.pid = await _wait_until_loaded(self._folder, self.socket, self._settings.server_patience, self._on_loading)

    async def revive(self) -> Path:
        """The socket of a server that speaks, after a connection was refused: if it died, it is started again, by
        whichever of its users comes first. Raises `ServerError`."""
        async with self._turn:
            if self._users < 0:
                raise ServerError(f"the private server in {self._folder.path} is used after it was left")
            await self.join()
            return self.socket

    async def leave(self) -> None:
        """Ends the part in it; the last to leave stops it, now or after the linger time."""
        async with self._turn:  # a revival under way would take part again
            if (users := self._users) >= 0:
                self._users = -1
                await _leave(self._folder, users, self._settings)


@contextlib.asynccontextmanager
async def private_server(settings: Settings, *, on_loading: OnLoading | None = None) -> AsyncGenerator[ServerHandle]:
    """Joins (and if need be starts) the server of `settings.home` until the block is left.

    `on_loading` is called about four times a second while the server reads a large data set. Raises `ServerError`
    with the remedy. Cancelling while it starts leaves no server behind that nobody uses.
    """
    require_locks()
    folder = await anyio.to_thread.run_sync(files.prepare_folder, settings.home)
    handle = ServerHandle(folder, settings, on_loading)
    try:
        await handle.join()
        yield handle
    finally:
        with anyio.CancelScope(shield=True):
            await handle.leave()


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
            return await launch.start_server(folder, lock, settings), True
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


async def _wait_until_loaded(folder: ServerFolder, socket: Path, patience: float, on_loading: OnLoading | None) -> int:
    """The pid, once the data is loaded. Gives up when the server died or made no progress for `patience` seconds."""
    seen = -1
    give_up, next_word = monotonic() + patience, monotonic() + 1
    while True:
        try:
            info = await ask_info(socket, "server", "persistence", timeout=patience)
        except (Unreachable, Silent) as exc:
            if isinstance(exc, Unreachable) and not is_held(folder.alive):
                raise launch.died(folder, "died while it loaded its data") from exc
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
        if monotonic() > next_word:  # seen by default: a large memory takes a while, and nothing else happens meanwhile
            percent = round(100 * progress.loaded_bytes / max(1, progress.total_bytes))
            _log.warning("server.loading_awaited", percent=percent, left_seconds=progress.left_seconds)
            next_word = monotonic() + 2
        if on_loading is not None:
            on_loading(progress)
        await anyio.sleep(0.25)


async def _leave(folder: ServerFolder, users: int, settings: Settings) -> None:
    gate = -1
    try:
        # Somebody else's slow start may hold the gate; then that somebody is a user, and not we are the last.
        with anyio.move_on_after(settings.server_patience), contextlib.suppress(OSError):
            gate = await lock_exclusive(folder.gate)
    finally:
        os.close(users)
    if gate < 0:
        return
    alone = None
    try:
        alone = try_exclusive(folder.users)
        # Nothing runs when the start failed, or the server died.
        if alone is not None and is_held(folder.alive) and not _linger(folder, settings.server_linger):
            await end_server(folder, settings.server_patience)
    finally:
        if alone is not None:
            os.close(alone)
        os.close(gate)


def _linger(folder: ServerFolder, seconds: float) -> bool:
    """Whether the stop is left to a lingerer."""
    if seconds <= 0:
        return False
    try:
        pid = leave_lingerer(folder, seconds)
    except OSError as exc:
        _log.warning("server.linger_refused", folder=str(folder.path), reason=str(exc))
        return False
    if pid is not None:
        launch.adopt_child(pid)
    return True


async def end_server(folder: ServerFolder, patience: float) -> bool:
    """Under the gate: a clean stop, all data on disk. Whether the server has ended in time."""
    socket, pid = files.read_address(folder), files.read_pid(folder)
    if socket is not None:
        try:
            await ask(socket, "SHUTDOWN", timeout=patience)
        except Silent:
            patience = 0.1  # it has had its time
        except Unreachable:  # it is ending, or its socket is gone
            if pid is not None and is_held(folder.alive):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
    if not await wait_for_end(folder, patience):
        _log.warning("server.stop_refused", pid=pid, folder=str(folder.path))
        return False
    dismiss_lingerer(folder)
    _log.info("server.stopped", pid=pid, folder=str(folder.path))
    await launch.collect(pid)
    return True


async def wait_for_end(folder: ServerFolder, patience: float) -> bool:
    with anyio.move_on_after(patience):
        os.close(await lock_exclusive(folder.alive))
        return True
    return False
