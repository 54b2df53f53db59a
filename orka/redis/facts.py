"""What a Redis server says about itself, asked once when it is opened. What it refuses to tell is left empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from redis.exceptions import ResponseError

from orka.errors import BackendMissing, StoreError
from orka.redis import pipeline
from orka.redis.control import parse_info


class Connection(pipeline.Connection, Protocol):
    """redis-py's connection, as much of it as is used here and may be used by the owner of a dedicated one."""

    def pack_commands(self, commands: Any) -> list[bytes]: ...


async def converse(connection: Connection, *words: str) -> Any:
    """One command and its reply. Error replies are raised as redis-py's `ResponseError`."""
    await connection.send_packed_command(connection.pack_commands([words]), check_health=False)
    return await connection.read_response()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """Of one node, where there are several."""

    kind: str
    """`redis` or `valkey`."""
    version: str
    """Of that product; empty if the user may not ask."""
    run_id: str
    """New at every start of the server; empty if the user may not ask."""
    modules: Mapping[str, int] = field(default_factory=dict[str, int])
    """Name -> version number as the module counts it (RediSearch 2.10.5 is 21005)."""
    search: bool
    """Whether there is an FT.SEARCH command."""
    cluster: bool
    maxmemory: int
    """Bytes, 0 for no limit."""
    maxmemory_policy: str
    """Empty if the user may not ask."""
    aof: bool
    """Whether writes go to an append-only file."""
    loading: bool
    replica: bool
    database: int
    """The number of the database that was asked for."""

    @property
    def evicts(self) -> bool:
        """Whether the server may drop keys that have no time to live, journals among them."""
        return self.maxmemory_policy.startswith("allkeys-")

    def require_search(self, where: str) -> None:
        """Raises `BackendMissing` with the ways out unless indexes can be made here."""
        if not self.search:
            raise BackendMissing(
                f"Redis at {where} ({self.kind} {self.version}) has no search module: use Redis 8 or Redis Stack, "
                "unset REDIS_URL for the private server, or ORKA_MEMORY_BACKEND=redis for memories without an index"
            )
        if self.database != 0:
            raise BackendMissing(
                f"Redis at {where}: search indexes live in database 0 only and REDIS_URL names database "
                f"{self.database}: end it with /0, or use ORKA_MEMORY_BACKEND=redis for memories without an index"
            )


async def probe(connection: Connection, *, database: int) -> ServerFacts:
    """Asks a connected server. Raises redis-py's errors where not even an answer comes."""
    info = parse_info(cast("bytes", await _ask(connection, "INFO") or b""))
    policy = info.get("maxmemory_policy")
    if policy is None:
        policy = _second(await _ask(connection, "CONFIG", "GET", "maxmemory-policy"))
    modules = _modules(await _ask(connection, "MODULE", "LIST"))
    command = cast("Sequence[object]", await _ask(connection, "COMMAND", "INFO", "FT.SEARCH") or ())
    return ServerFacts(
        kind="valkey" if "valkey_version" in info else "redis",
        version=info.get("valkey_version") or info.get("redis_version", ""),
        run_id=info.get("run_id", ""),
        modules=modules,
        search="search" in modules or "searchlight" in modules or any(command),
        cluster=info.get("cluster_enabled") == "1" or info.get("redis_mode") == "cluster",
        maxmemory=int(info.get("maxmemory", "0")),
        maxmemory_policy=policy,
        aof=info.get("aof_enabled") == "1",
        loading=info.get("loading", "0") != "0",
        replica=info.get("role") == "slave",
        database=database,
    )


def refuse_eviction(facts: ServerFacts, where: str) -> None:
    """Raises `StoreError` for a server that may drop journals."""
    if facts.evicts:
        raise StoreError(
            f"Redis at {where} has maxmemory-policy {facts.maxmemory_policy}, which may drop the journal of a run "
            "at any time: set it to noeviction (`CONFIG SET maxmemory-policy noeviction`), "
            "or accept that with ORKA_ALLOW_EVICTION=1"
        )


async def _ask(connection: Connection, *words: str) -> Any:
    """The reply, or None where the server refuses the question (permission, unknown command)."""
    try:
        return await converse(connection, *words)
    except ResponseError as exc:
        if getattr(exc, "status_code", None) in {"NOAUTH", "WRONGPASS"}:
            raise
        return None


def _second(reply: Any) -> str:
    values = cast("Sequence[bytes]", reply or ())
    return values[1].decode() if len(values) > 1 else ""


def _modules(reply: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in cast("Sequence[Sequence[Any]]", reply or ()):
        pairs = dict(zip(row[::2], row[1::2], strict=False))
        found[cast("bytes", pairs[b"name"]).decode()] = int(pairs[b"ver"])
    return found
