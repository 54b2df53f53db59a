"""Processes that share the private server of one folder."""

import asyncio
import os
from dataclasses import replace

from servers import Users, server_processes

from orka.redis.client import open_redis
from orka.redis.control import ask
from orka.redis.folder import server_folder
from orka.redis.locks import lock_exclusive
from orka.redis.server import private_server
from orka.redis.status import server_status
from orka.settings import Settings


async def test_server_is_private_to_its_owner(home: Settings) -> None:
    async with private_server(home) as server:
        assert await ask(server.socket, "PING", timeout=5) == b"+PONG"
        assert server.socket.stat().st_mode & 0o777 == 0o600
        assert server.socket.parent.stat().st_mode & 0o777 == 0o700
        config = (await ask(server.socket, "INFO", "server", timeout=5)).decode()
        assert "tcp_port:0" in config


def test_eight_processes_on_an_empty_folder_start_one_server(home: Settings, users: Users) -> None:
    started = [users.start(home) for _ in range(8)]
    answers = [user.ready() for user in started]
    assert len({pid for pid, _, _ in answers}) == 1
    assert sorted(new for _, new, _ in answers) == [False] * 7 + [True]
    assert server_processes(home.home) == [answers[0][0]]
    for number, user in enumerate(started):
        assert user.ask(f"set key{number} {number}") == "+OK"
    assert [started[0].ask(f"get key{number}") for number in range(8)] == [str(number) for number in range(8)]


def test_last_to_leave_stops_the_server(home: Settings, users: Users) -> None:
    first, second = users.start(home), users.start(home)
    pid = first.ready()[0]
    second.ready()
    first.leave()
    assert server_processes(home.home) == [pid]
    assert second.ask("get nothing") == "$-1"
    second.leave()
    assert server_processes(home.home) == []


def test_data_is_there_after_a_clean_stop(home: Settings, users: Users) -> None:
    first = users.start(home)
    first.ready()
    first.ask("set key value")
    first.leave()
    second = users.start(home)
    assert second.ready()[1] is True
    assert second.ask("get key") == "value"


def test_processes_that_come_and_go_at_once_never_see_two_servers_or_none(home: Settings, users: Users) -> None:
    for _ in range(2):
        started = [users.start(home) for _ in range(3)]
        for user in started:
            user.ready()
            assert user.ask("incr visits").startswith(":")
            user.leave()
    last = users.start(home)
    last.ready()
    assert last.ask("get visits") == "6"
    assert len(server_processes(home.home)) == 1


async def test_joins_and_leaves_within_one_process_share_the_server(home: Settings) -> None:
    pids: set[int] = set()

    async def use(number: int) -> None:
        for _ in range(5):
            async with private_server(home) as server:
                pids.add(server.pid)
                assert await ask(server.socket, "PING", timeout=5) == b"+PONG"
                await asyncio.sleep(0.001 * number)

    async with private_server(home) as server:
        await asyncio.gather(*(use(number) for number in range(10)))
        assert pids == {server.pid}
    assert not (await server_status(home)).running


async def test_two_folders_have_two_servers(home: Settings) -> None:
    other = replace(home, home=home.home.with_name("other"))
    async with private_server(home) as one, private_server(other) as two:
        assert one.pid != two.pid
        await ask(one.socket, "SET", "key", "one", timeout=5)
        assert await ask(two.socket, "GET", "key", timeout=5) == b"$-1"


async def test_two_names_of_one_folder_have_one_server(home: Settings) -> None:
    home.home.mkdir()
    link = home.home.with_name("link")
    link.symlink_to(home.home)
    async with private_server(home) as one, private_server(replace(home, home=link)) as two:
        assert one.pid == two.pid


async def test_strictest_fsync_of_all_users_wins(home: Settings) -> None:
    async with open_redis(home) as redis:
        assert await redis.client.config_get("appendfsync") == {"appendfsync": "everysec"}
        async with private_server(replace(home, fsync="always")):
            pass
        async with private_server(home):
            assert await redis.client.config_get("appendfsync") == {"appendfsync": "always"}


async def test_cancelling_the_start_leaves_no_server(home: Settings) -> None:
    async def use() -> None:
        async with private_server(home):
            await asyncio.Event().wait()

    for pause in (0, 0.002, 0.01, 0.03, 0.06, 0.1, 0.2):
        task = asyncio.create_task(use())
        await asyncio.sleep(pause)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert server_processes(home.home) == []
    async with private_server(home) as server:
        assert server.started


async def test_waiting_for_the_lock_leaves_the_event_loop_free(home: Settings) -> None:
    async with private_server(home):
        pass
    folder = server_folder(home.home)
    gate = await lock_exclusive(folder.gate)
    waiting = asyncio.create_task(_join(home))
    given_up = asyncio.create_task(_join(home))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    os.close(gate)
    assert await asyncio.wait_for(waiting, 10) is True
    async with private_server(home) as server:
        assert server.started


async def _join(home: Settings) -> bool:
    async with private_server(home) as server:
        return server.started
