"""Opening a Redis: the private server or `REDIS_URL`; shared clients, dedicated connections, the way to a slot.

All connections speak RESP2, so that replies have one shape everywhere, and none repeats a command by itself: whoever
sent it decides whether sending it again is harmless.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Final, cast

import anyio
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection as TcpConnection
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError

from orka.errors import StoreError
from orka.redis.facts import Connection, ServerFacts, converse, probe, refuse_eviction
from orka.redis.faults import translate
from orka.redis.server import OnLoading, ServerHandle, private_server
from orka.redis.url import Target, node_name, parse_url
from orka.settings import Settings

__all__ = [
    "Connection",
    "NodeRouter",
    "RedisHandle",
    "Target",
    "connection_for",
    "open_redis",
    "parse_url",
    "translate",
]

MAX_CONNECTIONS: Final = 64
"""Of the shared client, per node; who comes later waits for a free one."""
_LOADING_POLL: Final = 0.25


class RedisHandle:
    """An open Redis. `open_redis` makes and closes it; usable from several tasks of one event loop."""

    def __init__(
        self,
        *,
        client: Redis | RedisCluster,
        target: Target,
        facts: ServerFacts,
        server: ServerHandle | None,
        timeout: float,
    ) -> None:
        self.client = client
        """For single commands of any kind. A bounded pool; a cancelled command's connection is closed."""
        self.target = target
        self.facts = facts
        self.server = server
        """The private server, if it is one."""
        self._timeout = timeout

    @property
    def private(self) -> bool:
        return self.server is not None

    def connection(self, node: str | None = None) -> Connection:
        """A connection of its own for pipelines or blocking reads, not yet connected: see `connection_for`."""
        return connection_for(self.target, node, timeout=self._timeout, server=self.server)

    async def open_router(self) -> NodeRouter:
        """The way to a slot's node, for `orka.redis.pipeline.Pipe`."""
        router = NodeRouter(self.target, self.connection, cluster=self.facts.cluster, timeout=self._timeout)
        await router.refresh()
        return router


class NodeRouter:
    """Which node holds a slot, and connections to it. A single server holds all of them."""

    def __init__(
        self, target: Target, connect: Callable[[str | None], Connection], *, cluster: bool, timeout: float
    ) -> None:
        self._target = target
        self._connect = connect
        self.cluster = cluster
        self._timeout = timeout
        self._slots: list[str] = [target.label] * (1 if not cluster else REDIS_CLUSTER_HASH_SLOTS)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of all primaries that hold slots."""
        return tuple(dict.fromkeys(self._slots))

    def node_of(self, slot: int) -> str:
        return self._slots[slot] if self.cluster else self._slots[0]

    def learn(self, slot: int, node: str) -> None:
        """A node has said who holds a slot."""
        if self.cluster:
            self._slots[slot] = node

    def lanes(self, tags: Sequence[str]) -> list[tuple[str, ...]]:
        """Hash tags in groups whose keys one command may name: all of them, or on a cluster each alone."""
        return [(tag,) for tag in tags] if self.cluster else [tuple(tags)]

    @contextlib.asynccontextmanager
    async def dedicated(self, key: str) -> AsyncGenerator[Connection]:
        """A connection to the node that holds `key`, for blocking reads; closed at the end."""
        await self.refresh()
        async with _connected(self.connection(self.node_of(key_slot(key.encode()))), self._timeout) as connection:
            yield connection

    def connection(self, node: str) -> Connection:
        """A new one, not yet connected: see `connection_for`."""
        return self._connect(node if self.cluster else None)

    async def refresh(self) -> None:
        """Asks the nodes one after the other who holds what, those known from the last time first. Nothing on a
        single server. Raises `StoreError` when none answers or slots have no node."""
        if not self.cluster:
            return
        known = [node for node in self.nodes if node != self._target.label]
        failure: BaseException | None = None
        for node in dict.fromkeys([*known, *(node_name(*place) for place in self._target.nodes)]):
            try:
                self._slots = await self._ask(node)
                return
            except (RedisError, OSError) as exc:
                failure = exc
        raise translate(failure or OSError("no node is known"), self._target.label) from failure

    async def _ask(self, node: str) -> list[str]:
        """CLUSTER SLOTS (https://redis.io/docs/latest/commands/cluster-slots/): an empty host means the one asked."""
        slots: list[str] = [""] * REDIS_CLUSTER_HASH_SLOTS
        async with _connected(self._connect(node), self._timeout) as connection:
            rows = cast("list[Any]", await converse(connection, "CLUSTER", "SLOTS"))
        for first, last, (host, port, *_), *_ in rows:
            name = node_name(host.decode() if host else node.rpartition(":")[0].strip("[]"), port)
            slots[first : last + 1] = [name] * (last + 1 - first)
        if "" in slots:
            raise StoreError(
                f"the Redis cluster at {self._target.label} has slots without a node (slot {slots.index('')} is one): "
                "look at `CLUSTER INFO`"
            )
        return slots


class _PrivateConnection(UnixDomainSocketConnection):
    """To the private server, wherever it listens now: a refused connection has it looked up or started again."""

    def __init__(self, *, server: ServerHandle, **options: Any) -> None:
        # redis-py leaves the types of its options open
        super().__init__(path=str(server.socket), **options)  # pyright: ignore[reportUnknownMemberType]
        self._server = server

    async def _connect(self) -> None:
        self.path = str(self._server.socket)
        try:
            await super()._connect()
        except (FileNotFoundError, ConnectionRefusedError):
            self.path = str(await self._server.revive())
            await super()._connect()


def connection_for(
    target: Target, node: str | None = None, *, timeout: float = 10.0, server: ServerHandle | None = None
) -> Connection:
    """A raw redis-py connection, not yet connected and owned by the caller: no limit on reads (a blocking read may take
    for ever), no retries, `timeout` seconds to connect. `node` is `host:port` of a cluster's node, None for the first.
    With `server` it revives the private server.
    Close it when a command on it was cancelled: the reply is still on its way."""
    options = _options(target, read_timeout=None, connect_timeout=timeout)
    if server is not None:
        return cast("Connection", _PrivateConnection(server=server, **options))
    if target.path is not None:
        return cast("Connection", UnixDomainSocketConnection(path=target.path, db=target.database, **options))
    host, port = target.nodes[0] if node is None else _host_port(node)
    kind = SSLConnection if target.tls else TcpConnection
    made = kind(host=host, port=port, db=target.database, socket_keepalive=True, **options, **_tls(target))
    return cast("Connection", made)


@contextlib.asynccontextmanager
async def open_redis(settings: Settings, *, on_loading: OnLoading | None = None) -> AsyncGenerator[RedisHandle]:
    """Opens `settings.redis_url`, or joins the private server, for as long as the block lasts.

    Raises `SettingsError` for a bad URL, `ServerError` for the private server, `StoreError` for an unreachable or
    unsuitable one; the message names the server, never its password.
    """
    async with contextlib.AsyncExitStack() as stack:
        server = None
        if settings.redis_url is None:
            server = await stack.enter_async_context(private_server(settings, on_loading=on_loading))
            target = Target(path=str(server.socket))
        else:
            target = parse_url(settings.redis_url)
        try:
            facts = await _first_facts(target, settings.redis_timeout)
        except (RedisError, OSError) as exc:
            raise translate(exc, target.label, tls=target.tls) from exc
        _check(facts, target, settings)
        client = _cluster_client(target, settings) if facts.cluster else _single_client(target, settings, server)
        stack.push_async_callback(_close, client)
        yield RedisHandle(client=client, target=target, facts=facts, server=server, timeout=settings.redis_timeout)


async def _close(client: Redis | RedisCluster) -> None:
    with anyio.CancelScope(shield=True):
        await client.aclose()


def _check(facts: ServerFacts, target: Target, settings: Settings) -> None:
    if len(target.nodes) > 1 and not facts.cluster:
        raise StoreError(
            f"REDIS_URL names several nodes ({target.label}) and the first that answers is not part of a cluster: "
            "name one"
        )
    if facts.cluster and target.database:
        raise StoreError(f"Redis at {target.label} is a cluster and has database 0 only: end REDIS_URL with /0")
    if facts.replica and not facts.cluster:
        raise StoreError(f"Redis at {target.label} is a replica: put the address of its primary into REDIS_URL")
    if not settings.allow_eviction:
        refuse_eviction(facts, target.label)


async def _first_facts(target: Target, timeout: float) -> ServerFacts:
    """Of the first node that answers. A node that loads its data is waited for, `timeout` seconds at most."""
    failure: BaseException | None = None
    for node in [node_name(*place) for place in target.nodes] or [None]:
        try:
            with anyio.fail_after(timeout):
                while True:
                    async with _connected(connection_for(target, node, timeout=timeout), timeout) as connection:
                        facts = await probe(connection, database=target.database)
                    if not facts.loading:
                        return facts
                    await anyio.sleep(_LOADING_POLL)
        except (RedisError, OSError) as exc:
            failure = exc
    raise failure or OSError("REDIS_URL names no node")


@contextlib.asynccontextmanager
async def _connected(connection: Connection, timeout: float) -> AsyncGenerator[Connection]:
    try:
        with anyio.fail_after(timeout):
            await connection.connect()
        yield connection
    finally:
        with anyio.CancelScope(shield=True):
            await connection.disconnect(nowait=True)


def _options(target: Target, *, read_timeout: float | None, connect_timeout: float) -> dict[str, Any]:
    return {
        "username": target.username,
        "password": target.password,
        "protocol": 2,
        "driver_info": None,  # saves two commands per connection
        "socket_timeout": read_timeout,
        "socket_connect_timeout": connect_timeout,
        "retry": Retry(NoBackoff(), 0),
    }


def _tls(target: Target) -> dict[str, Any]:
    options: dict[str, Any] = dict(target.tls_options)
    if "ssl_check_hostname" in options:
        options["ssl_check_hostname"] = options["ssl_check_hostname"].lower() not in {"0", "false", "no"}
    elif options.get("ssl_cert_reqs") == "none":
        options["ssl_check_hostname"] = False  # ssl refuses to check a name without a certificate
    return options


def _host_port(node: str) -> tuple[str, int]:
    host, _, port = node.rpartition(":")
    return host.strip("[]"), int(port)


def _single_client(target: Target, settings: Settings, server: ServerHandle | None) -> Redis:
    options = _options(target, read_timeout=settings.redis_timeout, connect_timeout=settings.redis_timeout)
    options |= {"db": target.database}
    if server is not None:
        options |= {"connection_class": _PrivateConnection, "server": server}
    elif target.path is not None:
        options |= {"connection_class": UnixDomainSocketConnection, "path": target.path}
    else:
        host, port = target.nodes[0]
        options |= {"host": host, "port": port, "socket_keepalive": True, **_tls(target)}
        options["connection_class"] = SSLConnection if target.tls else TcpConnection
    pool = BlockingConnectionPool(max_connections=MAX_CONNECTIONS, timeout=None, **options)
    return Redis.from_pool(pool)


def _cluster_client(target: Target, settings: Settings) -> RedisCluster:
    options = _options(target, read_timeout=settings.redis_timeout, connect_timeout=settings.redis_timeout)
    return RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in target.nodes],
        max_connections=10_000,  # going past it raises; nothing here waits for a free one
        ssl=target.tls,
        **options,
        **_tls(target),
    )
