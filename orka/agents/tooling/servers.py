"""`Servers`: the sessions of this process with MCP servers. Each is opened by the first visit that needs it, is shared by all
runs, and lives in a task of its own, because what the library opens must be closed by the task that opened it."""

from __future__ import annotations

import importlib
import math
from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Final, TypeVar, cast

import anyio
import anyio.abc
import anyio.to_thread
from pydantic import ValidationError

from orka.agents.tooling.base import KEY, Offer, ToolFault, usable_name
from orka.agents.tooling.contents import told, without_key
from orka.agents.tooling.spec import ServerSpec
from orka.agents.tooling.tail import Tail
from orka.errors import AgentError, ConfigError, OrkaError, sole_error
from orka.llm.base import Tool
from orka.logs import get_logger
from orka.types import Json

if TYPE_CHECKING:
    from mcp import Client

_IDLE: Final = 300.0
"""Seconds after which a session that nobody uses is closed."""
_MOST_TOOLS: Final = 500
"""Of one server."""
_GONE: Final = "ended while it was called: whether the call had an effect is not known"

_TERMINATED: Final = "Session terminated"
"""What the library says when an HTTP server answers a session's request with 404."""

_log = get_logger()
T = TypeVar("T")


class _Forgotten(ToolFault):
    """The server does not know the session any more, and has done nothing."""


class _Session:
    """One open session."""

    def __init__(self, client: Client, ended: anyio.Event) -> None:
        self.client = client
        self.ended = ended
        """Set when no more calls can be made."""
        self.tools: tuple[Tool, ...] = ()
        self.stale = True
        """The tools have to be listed again."""
        self.users = 0
        self.used_at = anyio.current_time()

    async def over(self, idle: float) -> None:
        """Returns when it has ended, or when nobody has used it for `idle` seconds."""
        while not self.ended.is_set():
            left = self.used_at + idle - anyio.current_time()
            if left <= 0 and not self.users:
                self.ended.set()
            else:
                with anyio.move_on_after(max(left, 1.0)):
                    await self.ended.wait()


class Servers:
    """Owned by the services of one process, in whose task group the sessions live."""

    def __init__(self, tasks: anyio.abc.TaskGroup, *, idle: float = _IDLE) -> None:
        self._tasks = tasks
        self._idle = idle
        self._sessions: dict[ServerSpec, _Session] = {}
        self._locks: dict[ServerSpec, anyio.Lock] = {}
        self._opening: set[anyio.CancelScope] = set()
        self._hosted = 0
        self._left = anyio.Event()
        self._closed = False

    @property
    def hosted(self) -> int:
        """Sessions at the moment, those being opened or closed included."""
        return self._hosted

    async def offers(self, spec: ServerSpec, *, prefix: str = "", only: list[str] | None = None) -> list[Offer]:
        """Its tools. `ConfigError` when the library or a variable is missing; `AgentError` (kind `ToolServerError`) when it
        cannot be started or asked, or lacks a tool that is named in `only`."""
        try:
            tools = await self._ask(spec, _listed)
        except ToolFault as exc:
            raise AgentError(str(exc), kind="ToolServerError") from exc
        names = {tool.name for tool in tools}
        if lacking := [name for name in only or () if name not in names]:
            raise AgentError(
                f"tool server {spec.label!r} has no tool {lacking[0]!r}; it has {', '.join(sorted(names)) or 'none'}",
                kind="ToolServerError",
            )
        return [self._offer(spec, tool, prefix) for tool in tools if only is None or tool.name in only]

    async def aclose(self) -> None:
        """Ends every session, and with it every process that was started; returns when they have gone."""
        self._closed = True
        for scope in self._opening:
            scope.cancel()
        for session in self._sessions.values():
            session.ended.set()
        with anyio.CancelScope(shield=True):
            while self._hosted:
                await self._left.wait()

    def _offer(self, spec: ServerSpec, tool: Tool, prefix: str) -> Offer:
        parameters, keyed = without_key(tool.parameters)

        async def call(arguments: Mapping[str, Json], key: str) -> str:
            given = {**arguments, KEY: key} if keyed else dict(arguments)
            result = await self._ask(spec, lambda session: session.client.call_tool(tool.name, given))
            text = told(result)
            if result.is_error:
                raise ToolFault(text or "it failed and does not say why")
            return text

        shown = Tool(name=usable_name(prefix + tool.name), description=tool.description, parameters=parameters)
        return Offer(tool=shown, call=call, origin=f"tool server {spec.label!r}")

    async def _ask(self, spec: ServerSpec, ask: Callable[[_Session], Awaitable[T]]) -> T:
        """One request; the session is opened when there is none, or it has ended. `ToolFault` when that fails or the server
        refuses. What was sent is never sent twice, unless the server says that it did not look at it."""
        session = await self._opened(spec)
        try:
            return await _used(session, spec, ask)
        except _Forgotten:
            return await _used(await self._opened(spec), spec, ask)

    async def _opened(self, spec: ServerSpec) -> _Session:
        async with self._locks.setdefault(spec, anyio.Lock()):
            session = self._sessions.get(spec)
            if session is None or session.ended.is_set():
                if self._closed:
                    raise ToolFault(f"tool server {spec.label!r} was closed with its process")
                session = await self._tasks.start(self._host, spec)
            return session

    async def _host(self, spec: ServerSpec, *, task_status: anyio.abc.TaskStatus[_Session]) -> None:
        tail, ended, scope = Tail(), anyio.Event(), anyio.CancelScope()
        scope.deadline = anyio.current_time() + spec.open_timeout
        session: _Session | None = None
        self._hosted += 1
        self._opening.add(scope)
        try:
            with scope:
                transport = await _library()
                async with transport.connected(
                    spec, tail, on_end=ended.set, on_change=lambda: _outdate(session)
                ) as client:
                    opened = _Session(client, ended)
                    await _listed(opened)
                    scope.deadline = math.inf
                    self._opening.discard(scope)
                    session = self._sessions[spec] = opened
                    task_status.started(session)
                    await session.over(self._idle)
        # Bulkhead: a server may break in any way at any time, and other sessions and runs must not end with it.
        except Exception as exc:
            if session is None:
                raise _failure(spec, exc, tail) from exc
            _log.warning("tool_server.broken", server=spec.label, error=str(_failure(spec, exc, tail)))
        finally:
            ended.set()
            self._opening.discard(scope)
            self._hosted -= 1
            left, self._left = self._left, anyio.Event()
            left.set()
        if session is None:
            why = (
                "was not opened: its process ends" if self._closed else f"told no tools within {spec.open_timeout:g} s"
            )
            raise ToolFault(f"tool server {spec.label!r} {why}{_said(tail)}")
        if self._sessions.get(spec) is session:
            del self._sessions[spec]


async def _used(session: _Session, spec: ServerSpec, ask: Callable[[_Session], Awaitable[T]]) -> T:
    from mcp import MCPError
    from mcp_types import CONNECTION_CLOSED, INVALID_REQUEST

    session.users += 1
    try:
        return await ask(session)
    except MCPError as exc:
        if exc.code == INVALID_REQUEST and exc.message == _TERMINATED:
            session.ended.set()
            raise _Forgotten(f"tool server {spec.label!r} has forgotten its session") from exc
        if exc.code == CONNECTION_CLOSED:
            session.ended.set()
            raise ToolFault(f"tool server {spec.label!r} {_GONE}") from exc
        raise ToolFault(exc.message) from exc
    except (anyio.ClosedResourceError, anyio.BrokenResourceError) as exc:
        session.ended.set()
        raise ToolFault(f"tool server {spec.label!r} {_GONE}") from exc
    except (ValidationError, RuntimeError) as exc:  # not of the protocol, or not of the schema that the tool promises
        raise ToolFault(f"tool server {spec.label!r} gave what is no result: {str(exc).splitlines()[0]}") from exc
    finally:
        session.users -= 1
        session.used_at = anyio.current_time()


async def _listed(session: _Session) -> tuple[Tool, ...]:
    """Page by page, and again after the server has said that they are others now."""
    if session.stale:
        session.stale = False
        tools: list[Tool] = []
        cursor: str | None = None
        while len(tools) < _MOST_TOOLS:
            page = await session.client.list_tools(cursor=cursor)
            tools += (
                Tool(name=one.name, description=one.description or "", parameters=one.input_schema)
                for one in page.tools
            )
            cursor = page.next_cursor
            if not cursor:
                break
        session.tools = tuple(tools[:_MOST_TOOLS])
    return session.tools


def _outdate(session: _Session | None) -> None:
    if session is not None:
        session.stale = True


async def _library() -> ModuleType:
    try:
        return await anyio.to_thread.run_sync(importlib.import_module, "orka.agents.tooling.transport")
    except ModuleNotFoundError as exc:
        raise ConfigError("tools of MCP servers need the library `mcp`: pip install 'orka[mcp]'") from exc


def _failure(spec: ServerSpec, error: Exception, tail: Tail) -> Exception:
    inner: BaseException = error
    if isinstance(error, ExceptionGroup):
        inner = sole_error(cast("ExceptionGroup[Exception]", error))
    if isinstance(inner, OrkaError | ToolFault):
        return cast("Exception", inner)
    if isinstance(inner, FileNotFoundError | PermissionError | NotADirectoryError):
        return ToolFault(f"tool server {spec.label!r} cannot be started: {inner.strerror}: {inner.filename!r}")
    said = str(inner) or type(inner).__name__
    return ToolFault(f"tool server {spec.label!r} cannot be asked: {said}{_said(tail)}")


def _said(tail: Tail) -> str:
    return f"; it said: {tail.text}" if tail.text else ""
