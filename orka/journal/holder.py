"""Who holds a lease, so that a dead owner on the same host is recognised at once.

A holder is `<host>/<boot>/<pid namespace>/<pid>/<start>`: only a process that shares the first three can tell from
`/proc` that the pid is gone or belongs to a later process (proc(5), field 22 of `stat`).
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import anyio

from orka.ids import new_nonce


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """Start time of a process in clock ticks since boot; empty when there is no such process or no /proc."""
    stat = _read(f"/proc/{pid}/stat")
    # The command's name is in parentheses and may hold spaces and parentheses itself.
    fields = stat.rpartition(")")[2].split()
    if len(fields) <= 19 or fields[0] in {"Z", "X"}:  # a zombie waits for its parent, but does nothing more
        return ""
    return fields[19]


@cache
def _host() -> str:
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = "-"
    boot = _read("/proc/sys/kernel/random/boot_id") or "-"
    return f"{socket.gethostname()}/{boot}/{namespace}"


def current_holder() -> str:
    """This process."""
    return _holder_of(os.getpid())


@cache
def _holder_of(pid: int) -> str:
    """By pid, because a forked child inherits the cache."""
    return f"{_host()}/{pid}/{_start_of(pid) or '-'}"


def new_process() -> str:
    """A name for what this process opens now: its inbox, and its place in consumer groups. Readable, and never used
    again."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()) or "host"
    return f"{host}-{os.getpid()}-{new_nonce()[:8]}"


def is_dead(holder: str) -> bool:
    """True only when it is certain: same host, boot and pid namespace, and the process is gone."""
    pid, start = _pid_here(holder), holder.rpartition("/")[2]
    return pid is not None and start != "-" and _start_of(pid) != start


def _pid_here(holder: str) -> int | None:
    """Of a holder that shares host, boot and pid namespace with this process."""
    host, _, pid = holder.rpartition("/")[0].rpartition("/")
    return int(pid) if host == _host() and pid.isdigit() else None


async def until_dead(holder: str) -> None:
    """Returns when `is_dead` has become true; never where the end of its process cannot be waited for (another machine,
    a system without pidfd_open(2))."""
    watch = -1
    if sys.platform == "linux" and (pid := _pid_here(holder)) is not None:
        with suppress(OSError):  # refused, or unknown to the kernel; one that is gone already is found below
            watch = os.pidfd_open(pid)
    try:
        if is_dead(holder):  # asked behind the opening: a later process of that pid is not waited for
            return
        if watch < 0:
            await anyio.sleep_forever()
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(watch, ended.set)
        try:
            await ended.wait()
        finally:
            asyncio.get_running_loop().remove_reader(watch)
    finally:
        if watch >= 0:
            os.close(watch)


def describe(holder: str) -> str:
    """For people: `pid 4711 on build-3`."""
    parts = holder.split("/")
    return f"pid {parts[-2]} on {parts[0]}" if len(parts) >= 5 else holder
