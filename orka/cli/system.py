"""`orka system status` and `orka system stop`: the server that runs are kept in."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from orka.cli.backends import Backend, settings_for
from orka.cli.exits import Exit
from orka.cli.interrupt import run_until_stopped
from orka.cli.output import print_json, safe_text
from orka.clock import monotonic
from orka.errors import OrkaError
from orka.llm.probe import ModelServer, probe_models
from orka.redis.client import RedisHandle, open_redis
from orka.redis.facts import converse
from orka.redis.status import ServerStatus, server_status, stop_private_server
from orka.redis.url import parse_url
from orka.settings import Settings
from orka.types import Json
from orka.version import VERSION

_OLD_PORT = 6380
"""Where earlier versions of Orka had their Redis."""


@dataclass(slots=True, kw_only=True)
class Findings:
    """What could be learned of a server. Nothing is started to learn it."""

    url: str
    connected: bool = False
    ping_ms: float | None = None
    version: str = ""
    search_module: bool = False
    indexes: tuple[str, ...] = ()
    error: str | None = None


def status(*, backend: Backend = None, json: Annotated[bool, Parameter(help="Print one JSON object.")] = False) -> int:
    """Tell which server is used and whether it answers. Starts none: the first run does that."""

    async def main() -> int:
        settings = settings_for(backend)
        private = await server_status(settings) if settings.redis_url is None else None
        findings, model = await _look(settings, private), await probe_models(settings)
        if json:
            print_json({**_as_json(findings, private, settings), "llm": _model_as_json(model)})
        else:
            _print(findings, private, settings)
            _print_model(model)
        return Exit.OK if findings.connected else Exit.UNREACHABLE

    return run_until_stopped(main)


def stop(*, force: Annotated[bool, Parameter(help="Also while processes use it.")] = False) -> int:
    """Stop the private server of this folder. Its data stays; the next run starts it again."""

    async def main() -> int:
        settings = Settings.from_environment()
        stopped = await stop_private_server(settings, force=force)
        print("stopped" if stopped else f"no private server runs in {settings.home}")
        return Exit.OK

    return run_until_stopped(main)


async def _look(settings: Settings, private: ServerStatus | None) -> Findings:
    if private is not None and not private.running:
        return Findings(url=f"private server in {private.folder}", error="not running; a run starts it")
    try:
        async with open_redis(settings) as redis:
            return await _ask(redis)
    except OrkaError as error:
        return Findings(url=_address(settings, private), error=str(error))


def _address(settings: Settings, private: ServerStatus | None) -> str:
    """Of the server that does not answer; the variable's name where its value is no address."""
    try:
        return str(private.socket) if private is not None else parse_url(settings.redis_url or "").label
    except OrkaError:
        return "REDIS_URL"


async def _ask(redis: RedisHandle) -> Findings:
    connection = redis.connection()
    try:
        await connection.connect()
        began = monotonic()
        await converse(connection, "PING")
        ping_ms = round((monotonic() - began) * 1000, 2)
        indexes: list[bytes] = await converse(connection, "FT._LIST") if redis.facts.search else []
    finally:
        await connection.disconnect()
    return Findings(
        url=redis.target.label,
        connected=True,
        ping_ms=ping_ms,
        version=f"{redis.facts.kind} {redis.facts.version}",
        search_module=redis.facts.search,
        indexes=tuple(sorted(name.decode() for name in indexes)),
    )


def _capability(findings: Findings, settings: Settings) -> str:
    """What memories can do here, in one line."""
    if settings.memory_backend == "redis":
        return "redis: every process searches its own copy, exactly; no search module is needed"
    if findings.search_module:
        return "redisstack: the server's index finds them by meaning, words, filters and time"
    return "none: redisstack is asked for and the server has no search module; set ORKA_MEMORY_BACKEND=redis or use Redis 8"


def _as_json(findings: Findings, private: ServerStatus | None, settings: Settings) -> dict[str, Json]:
    server: dict[str, Json] | None = None
    if private is not None:
        server = {
            "folder": str(private.folder),
            "running": private.running,
            "pid": private.pid,
            "users": list(private.users),
            "uptime_seconds": private.uptime_seconds,
            "memory_bytes": private.memory_bytes,
            "disk_bytes": private.disk_bytes,
            "keys": private.keys,
        }
    return {
        "version": VERSION,
        "backend": "redisstack" if findings.search_module else "redis",
        "memory": {
            "backend": settings.memory_backend,
            "usable": settings.memory_backend == "redis" or findings.search_module,
            "embedding_model": settings.embedding_model,
        },
        "redis": {
            "url": findings.url,
            "connected": findings.connected,
            "ping_ms": findings.ping_ms,
            "version": findings.version,
            "search_module": findings.search_module,
            "indexes": list(findings.indexes),
            "error": findings.error,
        },
        "private_server": server,
    }


def _model_as_json(model: ModelServer) -> dict[str, Json]:
    return {"url": model.url, "reachable": model.reachable, "models": list(model.models), "error": model.error}


def _print_model(model: ModelServer) -> None:
    """Nothing where no address is configured: graphs may name their own, or ask no model."""
    if model.url is not None:
        more = f" and {len(model.models) - 3} more" if len(model.models) > 3 else ""
        said = model.error or (", ".join(model.models[:3]) + more if model.models else "answers")
        print(safe_text(f"model     {model.url}: {said}"))


def _print(findings: Findings, private: ServerStatus | None, settings: Settings) -> None:
    lines = [f"orka      {VERSION}", f"server    {findings.url}"]
    if findings.connected:
        lines.append(f"answers   in {findings.ping_ms} ms, {findings.version}")
        lines.append(f"search    {'yes' if findings.search_module else 'no (memories without an index)'}")
        lines.append(f"memories  {_capability(findings, settings)}")
        lines.append(f"vectors   {settings.embedding_model}")
    else:
        lines.append(f"answers   no: {findings.error}")
    if private is not None and private.running:
        memory, disk = private.memory_bytes / 1e6, private.disk_bytes / 1e6
        lines.append(
            f"process   pid {private.pid}, up {private.uptime_seconds} s, used by {len(private.users)} processes"
        )
        lines.append(f"data      {private.keys:,} keys, {memory:,.1f} MB in memory, {disk:,.1f} MB in {private.folder}")
    if private is not None and not findings.connected and _old_server():
        lines.append(
            f"hint      a Redis listens on port {_OLD_PORT}: REDIS_URL=redis://localhost:{_OLD_PORT}/0 uses it"
        )
    print(safe_text("\n".join(lines)))


def _old_server() -> bool:
    try:
        with socket.create_connection(("127.0.0.1", _OLD_PORT), timeout=0.2):
            return True
    except OSError:
        return False
