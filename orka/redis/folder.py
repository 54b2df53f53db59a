"""The private server's folder, `<ORKA_HOME>/redis`: its files, its permissions, and where its socket goes."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orka.errors import ServerError

SOCKET_LIMIT = 100
"""Bytes of a socket's path; sun_path takes 107 on Linux and 103 on macOS (unix(7)), the server cuts what is longer."""
_LOG_LIMIT = 1 << 20
_NO_DATA = 512
"""Bytes of an append-only file that a server without a key has written; a first one is 88."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFolder:
    """Paths only; `prepare_folder` makes the folder."""

    path: Path

    @property
    def gate(self) -> Path:
        """Lock: held while somebody joins, starts, stops or leaves."""
        return self.path / "gate.lock"

    @property
    def users(self) -> Path:
        """Lock: shared by everybody who uses the server."""
        return self.path / "users.lock"

    @property
    def alive(self) -> Path:
        """Lock: held by the server process itself, which inherits it."""
        return self.path / "server.lock"

    @property
    def linger(self) -> Path:
        """Lock: held by the one process that stops the server after a while; the file holds its pid and deadline."""
        return self.path / "linger.lock"

    @property
    def address(self) -> Path:
        """File: the path of the socket of the server started last."""
        return self.path / "socket"

    @property
    def pid(self) -> Path:
        """File: the pid of the server started last, written by the server."""
        return self.path / "server.pid"

    @property
    def data(self) -> Path:
        """Folder: the append-only files and their manifest, written by the server."""
        return self.path / "appendonlydir"

    @property
    def manifest(self) -> Path:
        """File: which append-only files make up the data. Without it the server begins with none, and writes over them."""
        return self.data / "appendonly.aof.manifest"

    @property
    def kept(self) -> Path:
        """File: there once a server has started on this folder."""
        return self.path / "kept"

    @property
    def log(self) -> Path:
        return self.path / "server.log"


def server_folder(home: Path) -> ServerFolder:
    """The folder below `home` (symbolic links resolved, so that two names of one folder mean one server)."""
    try:
        return ServerFolder(path=home.expanduser().resolve() / "redis")
    except (OSError, RuntimeError) as exc:  # a loop of links; no home folder
        raise ServerError(f"ORKA_HOME={str(home)!r} cannot be resolved: {exc}") from exc


def prepare_folder(home: Path) -> ServerFolder:
    """Makes the folder, mode 0700. Raises `ServerError`: not a folder, not writable, somebody else's."""
    folder = server_folder(home)
    try:
        if not folder.path.parent.exists():
            folder.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.path.mkdir(mode=0o700, exist_ok=True)
        _own(folder.path, "set ORKA_HOME to a folder of your own")
        if not (ignore := folder.path / ".gitignore").exists():
            ignore.write_text("*\n")
    except (FileExistsError, NotADirectoryError) as exc:
        raise ServerError(f"{exc.filename or folder.path} is not a folder: set ORKA_HOME to another one") from exc
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise ServerError(
            f"the private server cannot use the folder {folder.path} ({reason.lower()}): "
            "set ORKA_HOME to a folder that you may write, or REDIS_URL to a running Redis"
        ) from exc
    return folder


def _own(path: Path, remedy: str) -> None:
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(0, "not a folder", str(path))
    if found.st_uid != os.geteuid():
        raise ServerError(f"{path} belongs to user {found.st_uid} and you are user {os.geteuid()}: {remedy}")
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)


def new_socket(folder: ServerFolder) -> Path:
    """A path for the next server's socket, new each time: a server that outlived its folder must not remove the
    socket of its successor when it ends. Too deep a folder gets one in a per-user folder of the temporary directory.
    The caller holds the server's lock; sockets of dead servers are removed."""
    name = f"{secrets.token_hex(3)}.sock"
    place, prefix = folder.path, "redis-"
    if len(os.fsencode(place / f"{prefix}{name}")) > SOCKET_LIMIT:
        prefix = hashlib.blake2b(os.fsencode(folder.path), digest_size=8).hexdigest() + "-"
        place = Path(tempfile.gettempdir()) / f"orka-{os.geteuid()}"
        if len(os.fsencode(place / f"{prefix}{name}")) > SOCKET_LIMIT:
            place = Path("/tmp") / place.name
        try:
            place.mkdir(mode=0o700, exist_ok=True)
            _own(place, "remove it, or set ORKA_HOME to a shorter path")
        except OSError as exc:
            raise ServerError(
                f"{folder.path} is too deep for a socket and {place} cannot be used ({exc.strerror}): "
                "set ORKA_HOME to a shorter path"
            ) from exc
    for stale in place.glob(f"{prefix}*.sock"):
        stale.unlink(missing_ok=True)
    return place / f"{prefix}{name}"


def require_data(folder: ServerFolder) -> None:
    """Raises `ServerError` where a server would begin without the data that was here. Changes nothing."""
    if folder.manifest.exists():
        return  # what that names and is not there, the server misses itself
    files = sorted(file.name for file in folder.data.glob("*") if file.suffix in {".aof", ".rdb"})
    if folder.kept.exists() and not files:
        lost = f"a server has kept its data in {folder.path}, and its folder {folder.data.name} is gone or empty"
    elif folder.kept.exists() or any((folder.data / name).stat().st_size > _NO_DATA for name in files):
        named = ", ".join(files[:3])
        lost = f"{folder.data} has data ({named}) and no {folder.manifest.name}, which says how it belongs together"
    else:
        return  # none yet, or the first start was cut off
    raise ServerError(
        f"{lost}: a server started now would be empty. Bring back what is missing, from a copy; or start afresh by removing"
        f" {folder.path}"
    )


def mark_kept(folder: ServerFolder) -> None:
    """A server has started: from now on its data are missed when they are gone."""
    with suppress(OSError):  # a full disk is told of by the server
        folder.kept.write_text(f"A server keeps its data here, in {folder.data.name}. It is missed when it is gone.\n")


def write_address(folder: ServerFolder, socket: Path) -> None:
    """Replaces the file at once: a reader sees the old path or the new one, whole."""
    draft = folder.address.with_suffix(".new")
    draft.write_bytes(os.fsencode(socket))
    draft.replace(folder.address)


def read_address(folder: ServerFolder) -> Path | None:
    try:
        text = folder.address.read_bytes().strip()
    except FileNotFoundError:
        return None
    return Path(os.fsdecode(text)) if text else None


def read_pid(folder: ServerFolder) -> int | None:
    """The pid in the server's file; it means a live process only while the server's lock is held."""
    try:
        return int(folder.pid.read_text())
    except (FileNotFoundError, ValueError):
        return None


def rotate_log(folder: ServerFolder) -> None:
    """Keeps the log below 1 MiB and its predecessor."""
    try:
        if folder.log.stat().st_size > _LOG_LIMIT:
            folder.log.replace(folder.log.with_suffix(".log.1"))
    except FileNotFoundError:
        pass


def log_tail(folder: ServerFolder, lines: int = 12) -> str:
    """The last lines of the server's log, empty if there is none."""
    try:
        with folder.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 8192))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
