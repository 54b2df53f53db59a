"""Where the tools of a node come from, as data, and what the executing process must permit for them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, cast

from orka.types import Json

SERVER: Final = "mcp"
"""A permission `mcp:COMMAND` lets a graph start a server with that command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """An MCP server: a command that speaks over its standard streams, or an address. Equal ones share one session."""

    command: str | None = None
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    env_from: tuple[str, ...] = ()
    """Variables of this process that it gets, too."""
    cwd: str | None = None
    url: str | None = None
    token_env: str | None = None
    headers_env: tuple[tuple[str, str], ...] = ()
    """(header, variable that holds its value)"""
    open_timeout: float = 30.0
    """Seconds until it must have told its tools."""

    @property
    def label(self) -> str:
        """For messages."""
        if self.command is None:
            return self.url or ""
        return " ".join((self.command, *self.args))

    @property
    def short(self) -> str:
        """The script or the command by itself; the host of an address."""
        if self.command is None:
            return (self.url or "").split("://", 1)[-1].split("/", 1)[0]
        named = next((arg for arg in self.args if not arg.startswith("-")), self.command)
        return PurePath(named).name

    @property
    def permission(self) -> str | None:
        """What the process must permit; None for an address, which is asked as a model's is."""
        return None if self.command is None else f"{SERVER}:{self.command}"


def may_start(permission: str, allowed: bool | frozenset[str]) -> bool:
    """Whether a process that permits `allowed` permits this."""
    return allowed if isinstance(allowed, bool) else permission in allowed


def needs_of(options: Mapping[str, Json]) -> Iterator[str]:
    """What a worker must have or permit for the `tools` of a node's options: `function:MODULE`, `tool:NAME`,
    `mcp:COMMAND`."""
    entries = options.get("tools")
    for entry in cast("list[Json]", entries) if isinstance(entries, list) else ():
        if not isinstance(entry, dict):
            continue
        function, name, server = entry.get("function"), entry.get("tool"), entry.get("mcp")
        if isinstance(function, str):
            yield f"function:{function.partition(':')[0]}"
        elif isinstance(name, str):
            yield f"tool:{name}"
        elif isinstance(server, dict) and isinstance(command := server.get("command"), str):
            yield f"{SERVER}:{command}"
