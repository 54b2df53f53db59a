"""What SIGKILL leaves behind, and that the next start copes with it."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError
from servers import Users, server_processes, until, wait_until

from orka.errors import ServerError
from orka.redis.client import open_redis
from orka.redis.control import ask
from orka.redis.folder import read_pid, server_folder
from orka.redis.locks import try_exclusive
from orka.redis.server import Loading, private_server
from orka.redis.status import stop_private_server
from orka.settings import Settings


def test_a_server_whose_users_were_all_killed_is_adopted(home: Settings, users: Users) -> None:
    first, second = users.start(home), users.start(home)
    pid = first.ready()[0]
    second.ready()
    first.ask("set key value")
    first.kill()
    second.kill()
    third = users.start(home)
    assert third.ready()[:2] == (pid, False)
    assert third.ask("get key") == "value"
    third.leave()
    assert server_processes(home.home) == []


def test_after_a_kill_of_users_and_server_the_next_starts_with_the_data(home: Settings, users: Users) -> None:
    first = users.start(home)
    pid, _, socket = first.ready()
    first.ask("set key value")
    first.kill()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server_processes(home.home) == [])
    assert socket.exists()
    second = users.start(home)
    assert second.ready()[1] is True
    assert second.ask("get key") == "value"
    assert not socket.exists()


@pytest.mark.parametrize("fsync", ["everysec", "always"])
async def test_no_acknowledged_write_is_lost_when_the_server_is_killed_under_load(home: Settings, fsync: str) -> None:
    settings = replace(home, fsync=fsync)
    acknowledged = 0
    async with open_redis(settings) as redis:
        assert redis.server is not None

        async def load() -> None:
            nonlocal acknowledged
            with contextlib.suppress(RedisError):
                while True:
                    await redis.client.rpush("list", "x" * 100)
                    acknowledged += 1

        loading = asyncio.create_task(load())
        await until(lambda: acknowledged > 200)
        os.kill(redis.server.pid, signal.SIGKILL)
        await loading
        assert await _patiently(lambda: redis.client.llen("list")) in (acknowledged, acknowledged + 1)


async def test_whoever_needs_a_killed_server_starts_it_again(home: Settings) -> None:
    async with open_redis(home) as one, open_redis(home) as two:
        assert one.server is not None
        before = one.server.pid
        await one.client.set("key", "value")
        os.kill(before, signal.SIGKILL)
        await until(lambda: server_processes(home.home) == [])
        gets = [lambda client=redis.client: client.get("key") for redis in (one, two)]
        assert await asyncio.gather(*map(_patiently, gets)) == [b"value", b"value"]
        after = server_processes(home.home)
        assert len(after) == 1
        assert after != [before]


async def test_a_cut_off_tail_of_the_data_file_costs_the_last_write_only(home: Settings) -> None:
    async with private_server(home) as server:
        await ask(server.socket, "SET", "first", "1", timeout=5)
        await ask(server.socket, "SET", "last", "2", timeout=5)
    (file,) = server_folder(home.home).path.glob("appendonlydir/*.incr.aof")
    file.write_bytes(file.read_bytes()[:-3])
    async with private_server(home) as server:
        assert await ask(server.socket, "GET", "first", timeout=5) == b"1"
        assert await ask(server.socket, "GET", "last", timeout=5) == b"$-1"


async def test_a_data_file_that_is_damaged_within_is_an_error_that_says_so(home: Settings) -> None:
    async with private_server(home) as server:
        await ask(server.socket, "SET", "key", "x" * 1000, timeout=5)
        await ask(server.socket, "SET", "key", "x" * 1000, timeout=5)
    (file,) = server_folder(home.home).path.glob("appendonlydir/*.incr.aof")
    file.write_bytes(b"*3\r\n!" + file.read_bytes())
    with pytest.raises(ServerError, match="damaged") as caught:
        await _join(home)
    assert "Bad file format" in caught.value.log_tail
    assert server_processes(home.home) == []


async def test_stale_files_are_no_hindrance(home: Settings) -> None:
    async with private_server(home):
        pass
    folder = server_folder(home.home)
    stale = folder.path / "redis-abcdef.sock"
    stale.write_text("not a socket")
    folder.address.write_text(str(stale))
    folder.pid.write_text(str(os.getpid()))
    folder.linger.write_text(f"{os.getpid()} 1e9")
    async with private_server(home) as server:
        assert server.started
        assert server.pid != os.getpid()
    assert not stale.exists()


async def test_a_join_waits_for_a_server_that_is_about_to_end(home: Settings) -> None:
    async with private_server(home):
        pass
    lock = try_exclusive(server_folder(home.home).alive)
    assert lock is not None
    joining = asyncio.create_task(_join(home))
    await asyncio.sleep(0.1)
    assert not joining.done()
    os.close(lock)
    assert await asyncio.wait_for(joining, 10) is True


async def test_a_server_that_cannot_be_reached_is_never_joined_by_a_second_one(home: Settings) -> None:
    async with private_server(home) as server:
        server.socket.unlink()
        with pytest.raises(ServerError, match="orka system stop"):
            await _join(replace(home, server_patience=0.3))
        assert server_processes(home.home) == [server.pid]
        assert await stop_private_server(home, force=True)
    assert server_processes(home.home) == []


async def test_a_server_that_hangs_is_a_clear_error_and_can_be_ended(home: Settings, users: Users) -> None:
    user = users.start(home)
    pid = user.ready()[0]
    user.ask("set key value")
    user.kill()
    os.kill(pid, signal.SIGSTOP)
    impatient = replace(home, server_patience=0.3)
    with pytest.raises(ServerError, match=rf"pid {pid}.*has not answered for 0.3 s.*orka system stop"):
        await _join(impatient)
    assert await stop_private_server(impatient)
    assert server_processes(home.home) == []
    async with private_server(home) as server:
        assert await ask(server.socket, "GET", "key", timeout=5) == b"value"


async def test_loading_is_waited_for_with_progress_and_can_be_cancelled(home: Settings) -> None:
    await _make_loading_slow(home)
    seen: list[Loading] = []
    joining = asyncio.create_task(_join(home, seen))
    await until(lambda: seen)
    joining.cancel()
    await asyncio.gather(joining, return_exceptions=True)
    assert server_processes(home.home) == []
    seen.clear()
    assert await _join(home, seen)
    loaded = [progress.loaded_bytes for progress in seen]
    assert loaded == sorted(loaded)
    assert all(0 <= progress.loaded_bytes <= progress.total_bytes for progress in seen)
    async with private_server(home) as server:
        assert await ask(server.socket, "GET", "count", timeout=5) == b"8192"


async def test_a_server_that_dies_while_it_loads_is_an_error(home: Settings) -> None:
    await _make_loading_slow(home)
    seen: list[Loading] = []
    joining = asyncio.create_task(_join(home, seen))
    await until(lambda: seen)
    pid = read_pid(server_folder(home.home))
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ServerError, match="died while it loaded"):
        await joining


async def _patiently(call: Callable[[], Awaitable[Any]]) -> Any:
    """The first calls may be the ones that find the connection broken."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(RedisError):
                return await call()


async def _make_loading_slow(home: Settings) -> None:
    """Adds scripts that count for a while to the data file. While it loads, the server looks at its connections after
    every 1024 commands."""
    async with private_server(home):
        pass
    (file,) = server_folder(home.home).path.glob("appendonlydir/*.incr.aof")
    burn = _packed("EVAL", "for i = 1, 5000000 do end", "0") + _packed("INCR", "count") * 1024
    with file.open("ab") as data:
        data.write(burn * 8)


def _packed(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in words)


async def _join(home: Settings, seen: list[Loading] | None = None) -> bool:
    async with private_server(home, on_loading=None if seen is None else seen.append) as server:
        assert isinstance(server.socket, Path)
        return server.started
