"""Fixtures for every test that needs Redis: one private server for the whole session, emptied before each test."""

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from servers import Servers, Users, open_session_server

from orka import secrets
from orka.redis.client import RedisHandle, open_redis
from orka.settings import Settings


@pytest.fixture(scope="session")
def redis_settings() -> Iterator[Settings]:
    """Settings of a private server that runs for the whole session, so that joining it costs milliseconds."""
    with tempfile.TemporaryDirectory(prefix="orka-") as folder:
        settings = Settings(home=Path(folder) / ".orka", server_linger=0)
        with open_session_server(settings):
            yield settings


@pytest.fixture(autouse=True)
def no_secrets_of_other_tests() -> None:
    """A password of another test is an ordinary word in this one's messages."""
    secrets._known.clear()


@pytest.fixture(scope="module", autouse=True)
def nothing_of_other_files(request: pytest.FixtureRequest) -> None:
    """A file of tests finds the session's server empty: another one's memories may be indexed by another model."""
    items = [item for item in request.session.items if item.path == request.path]
    if any("redis_settings" in getattr(item, "fixturenames", ()) for item in items):
        anyio.run(_empty, request.getfixturevalue("redis_settings"))


async def _empty(settings: Settings) -> None:
    async with open_redis(settings) as redis:
        await redis.client.flushall()


@pytest.fixture
async def clean_redis(redis_settings: Settings) -> AsyncIterator[RedisHandle]:
    """The session's server without any key."""
    async with open_redis(redis_settings) as redis:
        await redis.client.flushall()
        yield redis


@pytest.fixture
def home() -> Iterator[Settings]:
    """Settings of a private server of the test's own, which stops with its last user. The folder's path is short
    enough for a socket, which pytest's own may not be."""
    with tempfile.TemporaryDirectory(prefix="orka-") as folder:
        yield Settings(home=Path(folder) / ".orka", server_linger=0, server_patience=10)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """Starts plain servers, without the search module: `servers.start(password="secret")`. They end with the test."""
    with Servers(tmp_path) as started:
        yield started


@pytest.fixture
def users() -> Iterator[Users]:
    """Starts processes that use a private server: `users.start(home)`. They and their servers end with the test."""
    with Users() as started:
        yield started


@pytest.fixture
def with_url(redis_settings: Settings) -> Callable[[str], Settings]:
    """The session's settings with another `redis_url`."""
    return lambda url: replace(redis_settings, redis_url=url, redis_timeout=3)
