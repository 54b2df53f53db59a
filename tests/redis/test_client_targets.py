"""Opening what `REDIS_URL` names: password, unix socket, TLS, cluster, and everything that can be wrong with it."""

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from redis.crc import key_slot
from servers import Servers, free_port, start_cluster

from orka.errors import BackendMissing, StoreError
from orka.redis.client import RedisHandle, open_redis
from orka.redis.control import ask
from orka.redis.pipeline import Pipe
from orka.settings import Settings

WithUrl = Callable[[str], Settings]


async def test_server_with_a_password_and_without_search(servers: Servers, with_url: WithUrl) -> None:
    server = servers.start(password="hunter2")
    async with open_redis(with_url(server.url)) as redis:
        assert not redis.private
        assert await redis.client.ping()
        assert (redis.facts.kind, redis.facts.version[:2], redis.facts.search) == ("valkey", "9.", False)
        assert redis.facts.run_id == (await _info(redis))["run_id"]
        with pytest.raises(BackendMissing, match=f"127.0.0.1:{server.port}.*no search module.*unset REDIS_URL"):
            redis.facts.require_search(redis.target.label)


@pytest.mark.parametrize("login", ["", ":wrong-secret@", "me:wrong-secret@"])
async def test_wrong_password_is_an_error_that_does_not_show_it(
    servers: Servers, with_url: WithUrl, login: str
) -> None:
    server = servers.start(password="hunter2")
    with pytest.raises(StoreError, match=f"127.0.0.1:{server.port}.*REDIS_URL") as caught:
        await _open(with_url(f"redis://{login}127.0.0.1:{server.port}"))
    assert "secret" not in str(caught.value)
    assert "password" in str(caught.value)


async def test_unix_socket_and_database(servers: Servers, with_url: WithUrl) -> None:
    server = servers.start(search=True)
    async with open_redis(with_url(f"unix://{server.socket}?db=3")) as redis:
        await redis.client.set("key", "value")
        assert await redis.client.get("key") == b"value"
        with pytest.raises(BackendMissing, match=r"database 0 only.*database 3.*/0"):
            redis.facts.require_search(redis.target.label)
    async with open_redis(with_url(f"unix://{server.socket}")) as redis:
        assert await redis.client.get("key") is None
        redis.facts.require_search(redis.target.label)
        assert redis.facts.modules["search"] == 21005


async def test_nobody_listening_names_the_place_and_the_ways_out(with_url: WithUrl) -> None:
    port = free_port()
    with pytest.raises(StoreError, match=rf"nobody listens at 127.0.0.1:{port} .*unset REDIS_URL"):
        await _open(with_url(f"redis://:hunter2@127.0.0.1:{port}/0"))
    with pytest.raises(StoreError, match=r"no socket /nowhere/redis.sock"):
        await _open(with_url("unix:///nowhere/redis.sock"))
    with pytest.raises(StoreError, match=r"no-such-host.invalid:6379 cannot be found"):
        await _open(with_url("redis://no-such-host.invalid"))


async def test_a_place_that_accepts_and_stays_silent_is_given_up(with_url: WithUrl) -> None:
    async with _listening(b"") as port:
        with pytest.raises(StoreError, match=f"127.0.0.1:{port} does not answer in time"):
            await _open(replace(with_url(f"redis://127.0.0.1:{port}"), redis_timeout=0.3))


async def test_something_that_is_not_redis_is_an_error(with_url: WithUrl) -> None:
    async with _listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        with pytest.raises(StoreError, match=f"127.0.0.1:{port} does not speak as Redis does"):
            await _open(with_url(f"redis://127.0.0.1:{port}"))


async def test_server_that_evicts_journals_is_refused_unless_allowed(servers: Servers, with_url: WithUrl) -> None:
    server = servers.start("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with pytest.raises(StoreError, match=r"allkeys-lru.*noeviction.*ORKA_ALLOW_EVICTION=1"):
        await _open(with_url(server.url))
    async with open_redis(replace(with_url(server.url), allow_eviction=True)) as redis:
        assert redis.facts.evicts
    await ask(server.socket, "CONFIG", "SET", "maxmemory-policy", "volatile-lru", timeout=5)
    await _open(with_url(server.url))


async def test_user_who_may_not_ask_about_the_server_can_open_it(servers: Servers, with_url: WithUrl) -> None:
    server = servers.start()
    user = ["ACL", "SETUSER", "me", "on", ">pw", "~*", "+@all", "-@admin", "-@dangerous"]
    assert await ask(server.socket, *user, timeout=5) == b"+OK"
    async with open_redis(with_url(f"redis://me:pw@127.0.0.1:{server.port}")) as redis:
        assert (redis.facts.version, redis.facts.run_id, redis.facts.maxmemory_policy) == ("", "", "")
        assert await redis.client.set("key", "value")


async def test_missing_database_full_server_and_replica_are_told_apart(servers: Servers, with_url: WithUrl) -> None:
    server = servers.start("--databases", "2")
    with pytest.raises(StoreError, match=r"has no database of that number"):
        await _open(with_url(f"redis://127.0.0.1:{server.port}/2"))
    crowded = servers.start("--maxclients", "1")
    reader, writer = await asyncio.open_connection("127.0.0.1", crowded.port)
    writer.write(b"PING\r\n")
    assert await reader.readline() == b"+PONG\r\n"
    with pytest.raises(StoreError, match=r"maxclients"):
        await _open(with_url(crowded.url))
    writer.close()
    replica = servers.start("--replicaof", "127.0.0.1", str(server.port))
    with pytest.raises(StoreError, match=r"is a replica"):
        await _open(with_url(replica.url))


async def test_several_nodes_that_are_no_cluster_are_refused(servers: Servers, with_url: WithUrl) -> None:
    one, two = servers.start(), servers.start()
    with pytest.raises(StoreError, match=r"not part of a cluster"):
        await _open(with_url(f"redis://127.0.0.1:{one.port},127.0.0.1:{two.port}"))


async def test_cluster_of_three_nodes(servers: Servers, with_url: WithUrl) -> None:
    nodes = await start_cluster(servers)
    dead = free_port()
    places = ",".join(f"127.0.0.1:{port}" for port in [dead, *(node.port for node in nodes)])
    async with open_redis(with_url(f"redis://:hunter2@{places}/0")) as redis:
        assert redis.facts.cluster
        for number in range(20):
            await redis.client.set(f"key{number}", str(number))
        assert [await redis.client.get(f"key{number}") for number in range(20)] == [b"%d" % n for n in range(20)]
        router = await redis.open_router()
        assert router.nodes == tuple(f"127.0.0.1:{node.port}" for node in nodes)
        assert router.node_of(key_slot(b"key1")) == f"127.0.0.1:{nodes[key_slot(b'key1') // 5462].port}"
        pipe = Pipe(router)
        commands = [(f"key{number}", ("GET", f"key{number}")) for number in range(20)]
        assert await pipe.roundtrip(commands) == [b"%d" % n for n in range(20)]
        await pipe.aclose()
    async with open_redis(with_url(f"redis://:hunter2@127.0.0.1:{nodes[0].port}")) as redis:
        assert redis.facts.cluster
        assert await redis.client.get("key1") == b"1"
    with pytest.raises(StoreError, match=r"cluster.*database 0 only|has no database"):
        await _open(with_url(f"redis://:hunter2@127.0.0.1:{nodes[0].port}/1"))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command to make a certificate")
async def test_tls_is_verified_unless_the_url_says_otherwise(
    servers: Servers, with_url: WithUrl, tmp_path: Path
) -> None:
    """The private server's program is built without TLS, so a relay ends it here."""
    server = servers.start(password="hunter2")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    arguments = [*command.split(), "-keyout", str(key), "-out", str(certificate)]
    await asyncio.to_thread(subprocess.run, arguments, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_unix_connection(str(server.socket))
        await asyncio.gather(_copy(reader, onward_writer), _copy(onward_reader, writer))

    async with await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context) as listener:
        place = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        for options in (f"?ssl_ca_certs={certificate}", "?ssl_cert_reqs=none"):
            async with open_redis(with_url(f"rediss://:hunter2@{place}/0{options}")) as redis:
                assert await redis.client.echo("over TLS") == b"over TLS"
                connection = redis.connection()
                await connection.connect()
                await connection.disconnect()
        with pytest.raises(StoreError, match=r"not trusted.*ssl_ca_certs"):
            await _open(with_url(f"rediss://:hunter2@{place}"))
        with pytest.raises(StoreError, match=r"lost|does not answer|not speak"):
            await _open(with_url(f"redis://:hunter2@{place}"))
    with pytest.raises(StoreError, match=r"use redis:// if the server has no TLS"):
        await _open(replace(with_url(f"rediss://:hunter2@127.0.0.1:{server.port}"), redis_timeout=0.5))


@contextlib.asynccontextmanager
async def _listening(answer: bytes) -> AsyncIterator[int]:
    """A port on which everybody gets `answer` and nothing more."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await reader.read(1 << 20)
        await reader.read()
        writer.close()
        await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.create_task(serve(reader, writer)))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1]
    await asyncio.gather(*connections)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def _info(redis: RedisHandle) -> dict[str, str]:
    return await redis.client.info("server")


async def _open(settings: Settings) -> None:
    async with open_redis(settings):
        pass
