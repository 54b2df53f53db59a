"""Fixtures for every test that needs Redis: one private server for the whole session, emptied before each test."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from servers import Servers, Users, open_session_server

from orka.redis.client import RedisHandle, open_redis
from orka.settings import Settings


@pytest.fixture(scope="session")
def redis_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a private server that runs for the whole session, so that joining it costs milliseconds."""
    settings = Settings(home=tmp_path_factory.mktemp("orka") / ".orka", server_linger=0)
    with open_session_server(settings):
        yield settings


@pytest.fixture
async def clean_redis(redis_settings: Settings) -> AsyncIterator[RedisHandle]:
    """The session's server without any key."""
    async with open_redis(redis_settings) as redis:
        await redis.client.flushall()
        yield redis


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """Settings of a private server of the test's own, which stops with its last user."""
    return Settings(home=tmp_path / ".orka", server_linger=0, server_patience=10)


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
