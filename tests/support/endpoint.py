"""An embeddings endpoint on 127.0.0.1 for tests: real HTTP, vectors that follow from the words, and faults on demand."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from .listening import listening

DIMENSION = 16


def vector_of(text: str, dimension: int = DIMENSION) -> list[float]:
    """Not of length 1: three in the place that the text's hash names, four in the next."""
    place = hashlib.blake2b(text.encode(), digest_size=2).digest()[0] % dimension
    row = [0.0] * dimension
    row[place], row[(place + 1) % dimension] = 3.0, 4.0
    return row


def answer(texts: list[str], dimension: int = DIMENSION) -> dict[str, Any]:
    rows = [
        {"object": "embedding", "index": i, "embedding": vector_of(text, dimension)} for i, text in enumerate(texts)
    ]
    return {"object": "list", "data": rows, "model": "test"}


@dataclass
class Reply:
    """What is sent instead of vectors; `body` of a mapping is JSON."""

    status: int = 200
    body: bytes | dict[str, Any] = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False
    """Breaks the connection in the middle of the body."""


Script = Callable[[dict[str, Any]], Reply | None]


class Endpoint:
    """`replies` are given one by one, `rule` decides afterwards; None is the true answer."""

    def __init__(self) -> None:
        self.replies: deque[Reply | None] = deque()
        self.rule: Script = lambda asked: None
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                await self._request(line, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _request(self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers: dict[str, str] = {}
        while (header := (await reader.readline()).decode().strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        asked = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))))
        self.paths.append(line.split()[1].decode())
        self.headers.append(headers)
        self.asked.append(asked)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            reply = self.replies.popleft() if self.replies else self.rule(asked)
            reply = reply or Reply(body=answer(asked["input"], asked.get("dimensions", DIMENSION)))
            await asyncio.sleep(reply.delay)
        finally:
            self.at_once -= 1
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        lines = [f"HTTP/1.1 {reply.status} Whatever", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + (body[: len(body) // 2] if reply.cut else body))
        await writer.drain()
        if reply.cut:
            raise ConnectionError


@asynccontextmanager
async def started() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    async with listening(endpoint.serve) as endpoint.port:
        yield endpoint
