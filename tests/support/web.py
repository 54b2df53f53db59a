"""A web server on 127.0.0.1 that answers GET requests as a test says: real HTTP, and faults on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from .listening import listening


@dataclass
class Page:
    """One answer."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before it."""
    cut: bool = False
    """Breaks the connection in the middle of the body."""


@dataclass
class Web:
    """`answer` is given the path and the query of each request, which are kept in `asked`."""

    answer: Callable[[str, dict[str, str]], Page] = field(default=lambda path, query: Page(status=404))
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while line := await reader.readline():
                headers: dict[str, str] = {}
                while (header := (await reader.readline()).decode().strip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                target = urlsplit(line.split()[1].decode())
                query = dict(parse_qsl(target.query))
                self.asked.append((target.path, query))
                self.headers.append(headers)
                page = self.answer(target.path, query)
                await asyncio.sleep(page.delay)
                lines = [f"HTTP/1.1 {page.status} Whatever", f"Content-Length: {len(page.body)}"]
                lines += [f"{name}: {value}" for name, value in page.headers.items()]
                body = page.body[: len(page.body) // 2] if page.cut else page.body
                writer.write("\r\n".join([*lines, "", ""]).encode() + body)
                await writer.drain()
                if page.cut:
                    return
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def open_web() -> AsyncIterator[Web]:
    web = Web()
    async with listening(web.serve) as web.port:
        yield web
