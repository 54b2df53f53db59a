"""For tests of journals: graphs from text, entries as written, a server that forgets, servers that die and come back."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from servers import wait_until

from orka.agents.registry import Registry
from orka.redis.client import open_redis
from orka.redis.keys import RunKeys, run_keys
from orka.redis.wheels import find_wheels
from orka.settings import Settings
from orka.types import RunId

Entry = tuple[str, str, dict[str, Any]]


def graph_file(folder: Path, agents: str, text: str, top: str = "") -> Path:
    """A graph whose sequence is `agents` and whose nodes are the lines of `text`."""
    path = folder / "graph.yml"
    path.write_text(
        f"orchestrator: {{id: tested, agents: [{agents}]{', ' if top else ''}{top}}}\n"
        f"agents:\n{textwrap.indent(textwrap.dedent(text).strip(), '  ')}\n",
        encoding="utf-8",
    )
    return path


def registry_of(*, pure: bool = False, **functions: Callable[..., Any]) -> Registry:
    """The built-in agent types and one more for every function."""
    registry = Registry()
    for name, function in functions.items():
        registry.agent(name, pure=pure)(function)
    return registry


def keys_of(run_id: str) -> RunKeys:
    return run_keys(RunId(run_id), Settings().partitions)


async def entries_of(client: Any, run_id: str) -> list[Entry]:
    """(kind, path, data) of every entry in the stream."""
    raw = await client.xrange(keys_of(run_id).journal)
    return [
        (fields[b"kind"].decode(), fields[b"path"].decode(), msgspec.json.decode(fields[b"data"])) for _, fields in raw
    ]


async def kinds_of(client: Any, run_id: str) -> list[str]:
    """`kind path` of every entry in the stream."""
    return [f"{kind} {path}".strip() for kind, path, _ in await entries_of(client, run_id)]


async def field_of(client: Any, run_id: str, name: str) -> str | None:
    raw = await client.hget(keys_of(run_id).run, name)
    return raw.decode() if raw is not None else None


async def forget(client: Any, run_id: str, count: int) -> None:
    """The server goes back in time: it never had the last `count` entries."""
    keys = keys_of(run_id)
    last = [entry_id for entry_id, _ in await client.xrevrange(keys.journal, count=count)]
    assert len(last) == count
    async with client.pipeline(transaction=True) as pipe:
        pipe.xdel(keys.journal, *last)
        pipe.hincrby(keys.run, "seq", -count)
        await pipe.execute()


async def cut_connections(client: Any) -> int:
    """Cuts every connection to the server but this one."""
    return await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


async def entries_reach(client: Any, run_id: str, count: int, seconds: float = 10.0) -> None:
    """Waits until the run's stream has `count` entries."""
    async with asyncio.timeout(seconds):
        while await client.xlen(keys_of(run_id).journal) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Gate:
    """An agent that waits until it is opened; `reached` says that it waits, `calls` how often it began."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self.calls = 0

    async def __call__(self, task: Any) -> str:
        self.calls += 1
        self.reached.set()
        await self.opened.wait()
        return "through"

    def registry(self, **others: Callable[..., Any]) -> Registry:
        async def gate(task: Any) -> str:
            return await self(task)

        return registry_of(gate=gate, **others)


class OwnServer:
    """A Valkey process of the test's own that keeps an append-only file, so that it can die and come back."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.socket = folder / "redis.sock"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> Settings:
        return Settings(redis_url=f"unix://{self.socket}", redis_timeout=5)

    def start(self) -> None:
        """Returns when it answers, with its data loaded."""
        self.folder.mkdir(exist_ok=True)
        command = [
            str(find_wheels().server),
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--dir",
            str(self.folder),
        ]
        command += ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        command += ["--logfile", str(self.folder / "server.log"), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(str(self.socket))
            client.sendall(b"GET x\r\n")
            return client.recv(5) == b"$-1\r\n"
        return False

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def end(self, number: signal.Signals) -> None:
        """Sends a signal that ends it, and waits for that."""
        self.send(number)
        assert self._process is not None
        self._process.wait(10)

    def lose_bytes(self, count: int) -> None:
        """While it is dead: the last bytes of its append-only file never reached the disk."""
        with self._file.open("r+b") as data:
            data.truncate(max(0, self.written - count))

    def crash(self, size: int) -> None:
        """It is killed, and comes back with what it had written when its append-only file had `size` bytes."""
        self.end(signal.SIGKILL)
        self.lose_bytes(self.written - size)
        self.start()

    @property
    def written(self) -> int:
        """Bytes of its append-only file."""
        return self._file.stat().st_size

    @property
    def _file(self) -> Path:
        return max((self.folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def own_server(folder: Path, *options: str) -> Iterator[OwnServer]:
    server = OwnServer(folder, *options)
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextlib.asynccontextmanager
async def swallowing_proxy(path: Path, target: Path) -> AsyncIterator[Callable[[], None]]:
    """A socket in front of another one. Calling what it gives makes the connections that are there pass nothing on any
    more, without closing them; later ones work."""
    passing: list[asyncio.Event] = []
    tasks: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallow: asyncio.Event) -> None:
        try:
            while data := await reader.read(65536):
                if not swallow.is_set():
                    writer.write(data)
                    await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        swallow = asyncio.Event()
        passing.append(swallow)
        to_reader, to_writer = await asyncio.open_unix_connection(target)
        for job in (carry(reader, to_writer, swallow), carry(to_reader, writer, swallow)):
            task = asyncio.create_task(job)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def swallow_all() -> None:
        for swallow in passing:
            swallow.set()

    server = await asyncio.start_unix_server(accept, path)
    try:
        yield swallow_all
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


@contextlib.asynccontextmanager
async def client_of(settings: Settings) -> AsyncIterator[Any]:
    async with open_redis(settings) as redis:
        yield redis.client
