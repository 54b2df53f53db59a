"""The private server stays for a while after its last user left."""

import asyncio
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from servers import Users, server_processes, until

from orka.errors import ServerError
from orka.redis.folder import server_folder
from orka.redis.locks import is_held
from orka.redis.server import private_server
from orka.settings import Settings


async def test_server_lingers_and_then_stops(home: Settings) -> None:
    async with private_server(replace(home, server_linger=0.5)) as server:
        socket = server.socket
    assert server_processes(home.home) == [server.pid]
    await until(lambda: server_processes(home.home) == [])
    assert not socket.exists()
    await until(lambda: _lingerers(home.home) == [])


async def test_a_lingering_server_is_joined_without_a_start(home: Settings) -> None:
    async with private_server(replace(home, server_linger=60)) as first:
        pass
    async with private_server(home) as second:
        assert (second.pid, second.started) == (first.pid, False)
    await until(lambda: _lingerers(home.home) == [])


async def test_nobody_lingers_for_a_server_that_did_not_start(home: Settings) -> None:
    folder = home.home / "redis" / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(ServerError):
        async with private_server(replace(home, server_linger=60)):
            pass
    assert _lingerers(home.home) == []


async def test_a_lingerer_spares_a_server_that_has_users_again(home: Settings) -> None:
    async with private_server(replace(home, server_linger=0.3)):
        pass
    async with private_server(home) as server:
        await until(lambda: not is_held(server_folder(home.home).linger))
        assert server_processes(home.home) == [server.pid]
    assert server_processes(home.home) == []


async def test_there_is_one_lingerer_and_a_later_user_moves_its_deadline_on(home: Settings) -> None:
    async with private_server(replace(home, server_linger=0.6)):
        pass
    (lingerer,) = _lingerers(home.home)
    async with private_server(replace(home, server_linger=1.2)) as server:
        pass
    assert _lingerers(home.home) == [lingerer]
    await asyncio.sleep(0.7)
    assert server_processes(home.home) == [server.pid]
    await until(lambda: server_processes(home.home) == [])


async def test_an_earlier_deadline_replaces_the_lingerer(home: Settings) -> None:
    async with private_server(replace(home, server_linger=60)):
        pass
    (lingerer,) = _lingerers(home.home)
    async with private_server(replace(home, server_linger=0.2)):
        pass
    assert _lingerers(home.home) != [lingerer]
    await until(lambda: server_processes(home.home) == [])
    await until(lambda: _lingerers(home.home) == [])


async def test_a_killed_lingerer_leaves_a_server_that_can_be_joined(home: Settings) -> None:
    async with private_server(replace(home, server_linger=60)) as first:
        pass
    for pid in _lingerers(home.home):
        os.kill(pid, signal.SIGKILL)
    async with private_server(home) as second:
        assert second.pid == first.pid
    assert server_processes(home.home) == []


async def test_a_server_whose_folder_was_removed_still_stops_and_spares_its_successor(home: Settings) -> None:
    async with private_server(replace(home, server_linger=0.5)) as first:
        pass
    shutil.rmtree(home.home)
    async with private_server(home) as second:
        assert second.pid != first.pid
        await until(lambda: not Path(f"/proc/{first.pid}").exists() or _is_zombie(first.pid))
        async with private_server(home) as third:
            assert (third.pid, third.started) == (second.pid, False)


def test_server_and_lingerer_are_out_of_reach_of_the_terminal(home: Settings, users: Users) -> None:
    user = users.start(replace(home, server_linger=0.5))
    pid = user.ready()[0]
    assert os.getsid(pid) == pid
    user.leave()
    (lingerer,) = _lingerers(home.home)
    assert os.getsid(lingerer) == lingerer


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def _lingerers(home: Path) -> list[int]:
    """The pid of the live lingerer of a folder, if there is one."""
    file = server_folder(home).linger
    return [int(file.read_text().split()[0])] if is_held(file) else []
