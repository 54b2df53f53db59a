"""Advisory file locks (flock(2)) of the private server's folder, awaited without blocking the event loop.

A lock belongs to the open file: closing the file gives it up, a killed process gives up all of its own, and a file
handed to a child process keeps the lock for as long as the child lives. Files are opened close-on-exec.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import platform
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from orka.errors import ServerError

if TYPE_CHECKING:
    import fcntl
else:
    try:
        import fcntl
    except ImportError:  # Windows, where a Redis elsewhere serves all the same
        fcntl = None

_AVAILABLE = bool(fcntl)


def require_locks() -> None:
    """`ServerError` where there is no flock(2) to share the private server with."""
    if not _AVAILABLE:
        raise ServerError(
            f"unsupported platform: the private server runs on Linux and macOS, not on {platform.system()}; "
            "set REDIS_URL to a running Redis"
        )


def open_lock_file(path: Path) -> int:
    """Opens (and creates, readable by the owner only) a lock file. The caller closes the descriptor."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_exclusive(path: Path) -> int | None:
    """Takes the lock exclusively if nobody holds it: the locked descriptor, or None."""
    fd = open_lock_file(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_held(path: Path) -> bool:
    """Whether anybody, this process included, holds the lock in either mode."""
    if not path.exists():
        return False
    fd = try_exclusive(path)
    if fd is None:
        return True
    os.close(fd)
    return False


async def lock_exclusive(path: Path) -> int:
    """Waits until nobody else holds the lock. The caller closes the descriptor that it gets."""
    return await _lock(path, fcntl.LOCK_EX)


async def lock_shared(path: Path) -> int:
    """Waits until nobody holds the lock exclusively. The caller closes the descriptor that it gets."""
    return await _lock(path, fcntl.LOCK_SH)


async def _lock(path: Path, mode: int) -> int:
    fd = open_lock_file(path)
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        await _wait(fd, mode)
    except BaseException:
        os.close(fd)
        raise
    return fd


async def _wait(fd: int, mode: int) -> None:
    """Blocks a thread of its own in flock(2), which nothing can interrupt: whoever loses interest leaves the thread
    to close `fd` when it gets the lock. A daemon thread, so that a process can exit while it waits."""
    taken: concurrent.futures.Future[None] = concurrent.futures.Future()

    def wait() -> None:
        try:
            fcntl.flock(fd, mode)
        except OSError as exc:
            os.close(fd)
            if taken.set_running_or_notify_cancel():
                taken.set_exception(exc)
            return
        if taken.set_running_or_notify_cancel():
            taken.set_result(None)
        else:
            os.close(fd)

    threading.Thread(target=wait, name="orka-lock", daemon=True).start()
    try:
        await asyncio.wrap_future(taken)
    except asyncio.CancelledError:
        if not taken.cancel():  # the thread was quicker, or is giving the result this moment: the lock is ours to drop
            concurrent.futures.wait([taken])
            if taken.exception() is None:
                os.close(fd)
        raise
