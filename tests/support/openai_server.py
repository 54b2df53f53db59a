"""A language model's server on 127.0.0.1 for tests: real HTTP with scripted answers and faults, in the protocols of
OpenAI, Ollama and Anthropic. In a process of its own: `python -m tests.support.openai_server --delay 0.05` prints its
address and serves until it is ended."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from .openai_script import Asked, Book, Call, Reply, Rule, Script, echo, reply_of
from .openai_wire import dialect_of, error_body, read_prompt, streamed, whole

__all__ = ["Asked", "Call", "Reply", "Rule", "Script", "Server", "started"]

KEPT = 10_000
STAMP = b"<stamp>"


class Server(Book):
    """Answers by its book and remembers the last 10,000 requests."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: deque[Asked] = deque(maxlen=KEPT)
        self.connections: set[Connection] = set()
        self.accepted = 0
        """Connections so far."""
        self.at_once = 0
        self.most_at_once = 0
        self.port = 0
        self._changed = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def prompts(self) -> list[str]:
        return [asked.prompt for asked in self.asked]

    @property
    def last(self) -> Asked:
        return self.asked[-1]

    def reset(self) -> None:
        """Forgets replies, rules and requests."""
        super().reset()
        self.asked.clear()
        self.most_at_once = self.at_once

    async def until(self, true: Callable[[], object]) -> None:
        """Returns once `true()` is, asked again whenever a connection or a request comes or ends."""
        while not true():
            await self._changed.wait()

    def changed(self) -> None:
        woken, self._changed = self._changed, asyncio.Event()
        woken.set()


class Connection(asyncio.Protocol):
    """One client. A protocol instead of streams: a client that goes away is noticed while an answer waits."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = bytearray()
        self._answering: asyncio.Task[None] | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._server.connections.add(self)
        self._server.accepted += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._server.changed()
        if self._answering is not None:
            self._answering.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def _next(self) -> None:
        """Starts on the next request when it is there whole and the one before it is answered."""
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if self._answering is not None or not end:
            return
        line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        body = bytes(rest[:length])
        self._buffer = rest[length:]
        method, path, _ = line.split(" ", 2)
        self._answering = asyncio.ensure_future(self._request(method, path, headers, body))

    async def _request(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        server = self._server
        dialect = dialect_of(method, path)
        try:
            parsed = json.loads(body) if body else {}
        except ValueError:
            parsed = None
        if dialect is None or not isinstance(parsed, dict):
            status, error = (
                (404, f"no such path: {method} {path}") if dialect is None else (400, "the body is not JSON")
            )
            reply, asked = Reply(status=status, error=error), None
        else:
            asked = Asked(method=method, path=path, headers=headers, body=parsed, dialect=dialect)
            asked.at = asyncio.get_running_loop().time()
            read_prompt(asked)
            server.asked.append(asked)
            reply = Reply() if dialect in ("models", "tags") and not server.replies else server.choose(asked)
        server.at_once += 1
        server.most_at_once = max(server.most_at_once, server.at_once)
        server.changed()
        try:
            await self._answer(reply, asked)
        except asyncio.CancelledError:
            if asked is not None:
                asked.gone = True
            raise
        finally:
            server.at_once -= 1
            self._answering = None
            server.changed()
        self._next()

    async def _answer(self, reply: Reply, asked: Asked | None) -> None:
        if reply.delay:
            await asyncio.sleep(reply.delay)
        if reply.closed:
            self.transport.close()
        elif asked is not None and asked.stream and reply.status == 200 and reply.body is None:
            await self._stream(reply, asked)
        else:
            good = asked is not None and reply.status == 200
            body = reply.body
            if body is None:
                value = whole(reply, asked) if good and asked is not None else error_body(reply, asked)
                body = json.dumps(value, ensure_ascii=False).encode()
            head = _head(reply, "application/json", f"Content-Length: {len(body)}")
            self.transport.write(head + (body[: len(body) // 2] if reply.cut else body))
            if reply.cut:
                self.transport.close()

    async def _stream(self, reply: Reply, asked: Asked) -> None:
        kind = "application/x-ndjson" if asked.dialect in ("ollama", "generate") else "text/event-stream"
        self.transport.write(_head(reply, kind, "Transfer-Encoding: chunked"))
        sent = replace(reply, text=f"{STAMP.decode()} {reply.text}") if reply.stamp else reply
        pieces = list(streamed(sent, asked))
        for number, piece in enumerate(pieces):
            if reply.cut and number == len(pieces) // 2:
                self.transport.close()
                return
            if number and reply.pause:
                await asyncio.sleep(reply.pause)
            if STAMP in piece:
                piece = piece.replace(STAMP, str(time.monotonic_ns()).encode())
            self.transport.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.transport.write(b"0\r\n\r\n")


def _head(reply: Reply, kind: str, length: str) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} Scripted", f"Content-Type: {kind}", length]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@asynccontextmanager
async def started(port: int = 0) -> AsyncIterator[Server]:
    """A server that ends with the block, with all its connections."""
    server = Server()
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Connection(server), "127.0.0.1", port, backlog=1024)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for connection in list(server.connections):
            connection.transport.abort()
        await listener.wait_closed()
        await server.until(lambda: not server.connections and not server.at_once)


async def _serve(options: argparse.Namespace) -> None:
    async with started(options.port) as server:

        def scripted(asked: Asked) -> Reply:
            reply = reply_of(options.text or echo, asked)
            return replace(reply, delay=options.delay, pause=options.pause, stamp=options.stamp)

        server.default = scripted
        print(server.url, flush=True)
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await ended.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="openai_server")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before the first byte of an answer")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between the pieces of a stream")
    parser.add_argument("--text", default="", help="the answer; without it, the last message as a JSON object")
    parser.add_argument("--stamp", action="store_true", help="streams begin with the monotonic clock in nanoseconds")
    asyncio.run(_serve(parser.parse_args()))
