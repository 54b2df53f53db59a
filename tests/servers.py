"""Servers for tests: the session's private server, and plain ones on 127.0.0.1 with any options."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orka.redis.server import private_server
from orka.redis.status import stop_private_server
from orka.redis.wheels import find_wheels
from orka.settings import Settings


@contextlib.contextmanager
def open_session_server(settings: Settings) -> Iterator[None]:
    """Holds a private server open in a thread with an event loop of its own: each test has another loop."""
    ready, leave = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    async def hold() -> None:
        async with private_server(settings):
            ready.set()
            await asyncio.to_thread(leave.wait)

    def run() -> None:
        try:
            asyncio.run(hold())
        except BaseException as exc:
            failures.append(exc)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="session-server")
    thread.start()
    ready.wait()
    if failures:
        raise failures[0]
    try:
        yield
    finally:
        leave.set()
        thread.join()


@dataclass(frozen=True)
class Started:
    """A plain server under way."""

    port: int
    socket: Path
    process: subprocess.Popen[bytes]
    password: str | None = None

    @property
    def url(self) -> str:
        return f"redis://{f':{self.password}@' if self.password else ''}127.0.0.1:{self.port}/0"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Servers:
    """A context manager; `start` gives a server that answers, the end kills them all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Started] = []

    def __enter__(self) -> "Servers":
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._started:
            server.kill()

    def start(self, *options: str, password: str | None = None, search: bool = False) -> Started:
        """Valkey on 127.0.0.1 and on a unix socket, nothing kept on disk. `options` as on its command line."""
        wheels = find_wheels()
        port = free_port()
        folder = self._folder / f"redis-{port}"
        folder.mkdir()
        path = folder / "redis.sock"
        command = [str(wheels.server), "--bind", "127.0.0.1", "--port", str(port), "--unixsocket", str(path)]
        command += ["--dir", str(folder), "--save", "", "--logfile", str(folder / "server.log")]
        command += ["--loadmodule", str(wheels.search)] if search else []
        command += ["--requirepass", password] if password else []
        process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started = Started(port=port, socket=path, process=process, password=password)
        self._started.append(started)
        wait_until(lambda: process.poll() is not None or _answers(port))
        if process.returncode is not None:
            raise AssertionError((folder / "server.log").read_text())
        return started


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago, with its +10000 neighbour for a cluster's bus."""
    while True:
        with socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            if port < 55000:
                with contextlib.suppress(OSError):
                    bus.bind(("127.0.0.1", port + 10000))
                    return port


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as client:
        client.sendall(b"PING\r\n")
        return client.recv(5)[:1] in (b"+", b"-")
    return False


def wait_until(condition: object, seconds: float = 10.0, pause: float = 0.01) -> None:
    """Waits for `condition()` to be true; fails after the deadline."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        threading.Event().wait(pause)


async def until(condition: object, seconds: float = 10.0, pause: float = 0.01) -> None:
    """`wait_until` that leaves the event loop free."""
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(pause)


class User:
    """A process of `tests/server_user.py`."""

    def __init__(self, settings: Settings) -> None:
        command = [sys.executable, str(Path(__file__).with_name("server_user.py"))]
        command += [str(settings.home), str(settings.server_linger), settings.fsync]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def ready(self) -> tuple[int, bool, Path]:
        """Waits until it has joined: the server's pid, whether this process started it, the socket."""
        line = self._line()
        assert line.startswith("ready"), line + self.process.communicate()[1]
        _, pid, started, path = line.split(maxsplit=3)
        return int(pid), started == "True", Path(path)

    def ask(self, words: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        return self._line()

    def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("leave\n")
        self.process.stdin.flush()
        output, errors = self.process.communicate(timeout=20)
        assert (output.strip(), self.process.returncode) == ("left", 0), errors

    def kill(self) -> None:
        """SIGKILL: nothing of its own is tidied up."""
        self.process.kill()
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


class Users:
    """A context manager: users of private servers; its end kills them and then the servers of all folders seen."""

    def __init__(self) -> None:
        self._users: list[User] = []
        self._homes: dict[Path, Settings] = {}

    def __enter__(self) -> "Users":
        return self

    def __exit__(self, *_: object) -> None:
        for user in self._users:
            if user.process.returncode is None:
                user.kill()
        for settings in self._homes.values():
            asyncio.run(stop_private_server(settings, force=True))

    def start(self, settings: Settings) -> User:
        user = User(settings)
        self._users.append(user)
        self._homes[settings.home] = settings
        return user


def server_processes(home: Path) -> list[int]:
    """Pids of the server processes whose command line names a folder (Linux)."""
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_bytes()
            if b"valkey-server" in line and str(home).encode() in line + os.readlink(process / "cwd").encode():
                found.append(int(process.name))
    return found


_CLUSTERED = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")


async def start_cluster(servers: "Servers", *, search: bool = False) -> list["Started"]:
    """Three primaries, each with a third of the slots, that know each other. Each with a search module of its own, or
    none."""
    nodes = [servers.start(*_CLUSTERED, password="hunter2", search=search) for _ in range(3)]
    for number, node in enumerate(nodes):
        first, last = 5462 * number, min(5462 * (number + 1), 16384) - 1
        await _command(node, "CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        await _command(node, "CLUSTER", "MEET", "127.0.0.1", str(nodes[0].port))

    await _acquainted(nodes)
    return nodes


async def join_cluster(servers: "Servers", nodes: Sequence["Started"], *, search: bool = False) -> "Started":
    """One more primary, without a slot."""
    new = servers.start(*_CLUSTERED, password="hunter2", search=search)
    await _command(new, "CLUSTER", "MEET", "127.0.0.1", str(nodes[0].port))
    await _acquainted([*nodes, new])
    return new


async def _acquainted(nodes: Sequence["Started"]) -> None:
    async with asyncio.timeout(8):
        while not all([await _knows(node, len(nodes)) for node in nodes]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _knows(node: "Started", count: int) -> bool:
    info = await _command(node, "CLUSTER", "INFO")
    return b"cluster_state:ok" in info and b"cluster_known_nodes:%d\r\n" % count in info


async def _command(node: Started, *words: str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(node.socket))
    try:
        packed = b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in words)
        writer.write(b"AUTH hunter2\r\n*%d\r\n" % len(words) + packed)
        assert await reader.readline() == b"+OK\r\n"
        line = await reader.readline()
        return await reader.readexactly(int(line[1:])) if line.startswith(b"$") else line
    finally:
        writer.close()
