"""Stops the private server some seconds after its last user left. The last user starts this file as a program.

The program runs in a session of its own, with the standard library alone, and holds the `linger` lock for as long as it
lives, so that there is at most one per folder. It sleeps until the deadline in its lock file, which a later last user
moves on, takes the gate, and stops the server if there is still no user. It inherits all files open: also when the
folder has been removed meanwhile, they are those of the server that was left.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import fcntl

    from orka.redis.folder import ServerFolder
else:
    try:
        import fcntl
    except ImportError:  # Windows: `orka.redis.locks` says what that means
        fcntl = None

_STOP_LIMIT = 120
"""Seconds after which a server that does not stop is given up."""


def leave_lingerer(folder: ServerFolder, seconds: float) -> int | None:
    """Under the gate and without users: makes sure that the server is stopped in `seconds`, unless it has users then.

    Gives the pid of a program that was started for it; None when one is there already and only its deadline was moved.
    Raises OSError when no program can be started.
    """
    deadline = time.monotonic() + seconds
    fd = os.open(folder.linger, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, sooner = _read(fd)
            if sooner <= deadline or not pid:
                _write(fd, pid, max(sooner, deadline))
                return None
            os.kill(pid, signal.SIGTERM)
            fcntl.flock(fd, fcntl.LOCK_EX)  # it sleeps, or waits for the gate that we hold: it dies at once
        _write(fd, 0, deadline)  # the program reads it as soon as it runs
        pid = _spawn(folder, fd)
        _write(fd, pid, deadline)
        return pid
    finally:
        os.close(fd)


def dismiss_lingerer(folder: ServerFolder) -> None:
    """Under the gate: ends the lingerer of a server that is stopped now, if there is one."""
    try:
        fd = os.open(folder.linger, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if pid := _read(fd)[0]:
            os.kill(pid, signal.SIGTERM)
    finally:
        os.close(fd)


def _spawn(folder: ServerFolder, linger: int) -> int:
    """Opens the locks anew: a lock belongs to the open file, and the program must not share the caller's."""
    opened: list[int] = []
    try:
        opened.append(os.open(folder.path, os.O_RDONLY | os.O_CLOEXEC))
        opened += [os.open(path, os.O_RDWR | os.O_CLOEXEC) for path in (folder.gate, folder.users, folder.alive)]
        server = [os.fsdecode(_file(opened[0], name)) for name in ("socket", "server.pid")]
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, *server, str(linger), *(str(fd) for fd in opened)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            pass_fds=(linger, *opened),
            start_new_session=True,
        )
    finally:
        for fd in opened:
            os.close(fd)
    child.returncode = 0  # it is meant to outlive this object, which would warn about that
    return child.pid


def _write(fd: int, pid: int, deadline: float) -> None:
    text = f"{pid} {deadline}\n".encode()
    os.pwrite(fd, text, 0)
    os.ftruncate(fd, len(text))


def _read(fd: int) -> tuple[int, float]:
    """Pid (0 where its starter was killed before it could note it) and deadline, in seconds of the monotonic clock,
    which the processes of a machine share."""
    pid, deadline = os.pread(fd, 100, 0).split()
    return int(pid), float(deadline)


def _file(folder: int, name: str) -> bytes:
    try:
        fd = os.open(name, os.O_RDONLY, dir_fd=folder)
    except FileNotFoundError:
        return b""
    with os.fdopen(fd, "rb") as file:
        return file.read().strip()


def _shut_down(address: bytes, pid: bytes) -> None:
    """SHUTDOWN over the socket, SIGTERM where nobody answers there: both stop cleanly, all data on disk."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(address)
            client.sendall(b"SHUTDOWN\r\n")
            client.recv(100)
    except OSError:
        if pid.isdigit():
            os.kill(int(pid), signal.SIGTERM)


def main(address: bytes, pid: bytes, linger: int, folder: int, gate: int, users: int, alive: int) -> None:
    """Where the server listened and its pid; descriptors of the lock file, the folder, and its other locks."""
    while True:
        while (left := _read(linger)[1] - time.monotonic()) > 0:
            threading.Event().wait(left)
        fcntl.flock(gate, fcntl.LOCK_EX)
        if _read(linger)[1] <= time.monotonic():
            break
        fcntl.flock(gate, fcntl.LOCK_UN)
    if _free(users) and not _free(alive):
        signal.alarm(_STOP_LIMIT)
        _shut_down(_file(folder, "socket") or address, _file(folder, "server.pid") or pid)
        fcntl.flock(alive, fcntl.LOCK_EX)
    os.close(linger)  # before the gate: who comes next sees at once that nobody lingers


def _free(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    main(os.fsencode(sys.argv[1]), sys.argv[2].encode(), *map(int, sys.argv[3:]))
