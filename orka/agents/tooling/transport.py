"""Connections to MCP servers by the official library (extra `mcp`), which is imported with this module: half a second, and
so in a worker thread. Nothing here outlives its block; `orka.agents.tooling.servers` hosts it."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self, cast

import anyio
import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import Implementation, ToolListChangedNotification

from orka.agents.tooling.spec import ServerSpec
from orka.agents.tooling.tail import Tail
from orka.errors import ConfigError
from orka.secrets import remember
from orka.settings import variable
from orka.version import VERSION

_CONNECT: Final = 30.0
_READ: Final = 3600.0
"""Seconds that an HTTP server may be silent: calls have bounds of their own."""

# What the library logs about a broken server is in the errors that it raises; without this, Python would print it.
logging.getLogger("mcp").addHandler(logging.NullHandler())


class _Watched:
    """A stream of messages that tells when it has ended."""

    def __init__(self, inner: Any, on_end: Callable[[], None]) -> None:
        self._inner = inner
        self._on_end = on_end

    async def receive(self) -> Any:
        try:
            return await self._inner.receive()
        except anyio.EndOfStream:
            self._on_end()
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._inner.__anext__()
        except StopAsyncIteration:
            self._on_end()
            raise

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, trace)


@asynccontextmanager
async def connected(
    spec: ServerSpec, tail: Tail, *, on_end: Callable[[], None], on_change: Callable[[], None]
) -> AsyncGenerator[Client]:
    """A session that has shaken hands. `on_end`: the process has closed its output. `on_change`: its tools are others now.
    What it writes to standard error goes to `tail`. Leaving ends the process: its input is closed, then it is killed."""

    async def listen(message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            on_change()

    transport = _addressed(spec) if spec.command is None else _started(spec, tail, on_end)
    info = Implementation(name="orka", version=VERSION)
    async with Client(cast("Any", transport), client_info=info, message_handler=listen, cache=None) as client:
        yield client


@asynccontextmanager
async def _started(spec: ServerSpec, tail: Tail, on_end: Callable[[], None]) -> AsyncGenerator[tuple[Any, Any]]:
    command = sys.executable if spec.command == "python" else cast("str", spec.command)
    environment = dict(spec.env) | {name: _given(name, spec) for name in spec.env_from}
    parameters = StdioServerParameters(command=command, args=list(spec.args), env=environment, cwd=spec.cwd)
    async with tail.reading() as errors:
        try:
            async with stdio_client(parameters, errlog=errors) as (read, write):
                errors.close()  # else its end could not be told from a silence
                yield _Watched(read, on_end), write
        finally:
            errors.close()


@asynccontextmanager
async def _addressed(spec: ServerSpec) -> AsyncGenerator[tuple[Any, Any]]:
    headers = {header: _given(name, spec) for header, name in spec.headers_env}
    if spec.token_env is not None:
        headers["Authorization"] = f"Bearer {_given(spec.token_env, spec)}"
    timeout = httpx2.Timeout(_CONNECT, read=_READ)
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout) as http,
        streamable_http_client(cast("str", spec.url), http_client=http) as streams,
    ):
        yield streams


def _given(name: str, spec: ServerSpec) -> str:
    value = variable(name)
    if value is None:
        raise ConfigError(f"the environment variable {name!r}, which the tool server {spec.label!r} needs, is not set")
    remember(value)
    return value
