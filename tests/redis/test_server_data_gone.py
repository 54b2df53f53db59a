"""Data that somebody has taken away: the private server does not begin without it as if nothing had been there."""

import shutil
from pathlib import Path

import pytest

from orka.errors import ServerError
from orka.redis.client import open_redis
from orka.redis.folder import ServerFolder, server_folder
from orka.redis.server import private_server
from orka.settings import Settings


async def filled(home: Settings) -> ServerFolder:
    """The folder of a server that had a key and was stopped."""
    async with open_redis(home) as redis:
        await redis.client.set("key", "value")
    return server_folder(home.home)


def contents(folder: ServerFolder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.path.rglob("*")) if path.is_file()}


async def refused(home: Settings) -> str:
    with pytest.raises(ServerError) as caught:
        async with private_server(home):
            pass
    return str(caught.value)


async def test_data_without_their_manifest_are_not_written_over(home: Settings) -> None:
    folder = await filled(home)
    manifest = folder.manifest.read_bytes()
    folder.manifest.unlink()
    before = contents(folder)
    for _ in range(2):
        message = await refused(home)
        assert f"{folder.data} has data (appendonly.aof.1.base.rdb, appendonly.aof.1.incr.aof)" in message
        assert "no appendonly.aof.manifest" in message
        assert message.endswith(f"Bring back what is missing, from a copy; or start afresh by removing {folder.path}")
        assert contents(folder) == before
    folder.manifest.write_bytes(manifest)
    async with open_redis(home) as redis:
        assert await redis.client.get("key") == b"value"


@pytest.mark.parametrize("empty", [False, True])
async def test_a_folder_whose_data_are_gone_is_refused_and_can_be_removed(home: Settings, empty: bool) -> None:
    folder = await filled(home)
    shutil.move(folder.data, folder.path / "elsewhere")
    if empty:
        folder.data.mkdir()
    message = await refused(home)
    assert f"a server has kept its data in {folder.path}, and its folder appendonlydir is gone or empty" in message
    assert f"removing {folder.path}" in message
    if empty:
        folder.data.rmdir()
    shutil.move(folder.path / "elsewhere", folder.data)
    async with open_redis(home) as redis:
        assert await redis.client.get("key") == b"value"
    shutil.rmtree(folder.path)
    async with open_redis(home) as redis:
        assert await redis.client.get("key") is None


async def test_data_of_a_server_that_left_no_mark_are_missed_too(home: Settings) -> None:
    folder = await filled(home)
    async with open_redis(home) as redis:
        await redis.client.set("key", "v" * 1000)
    folder.kept.unlink()
    folder.manifest.unlink()
    assert "no appendonly.aof.manifest" in await refused(home)


async def test_a_first_start_that_was_cut_off_is_no_loss(home: Settings) -> None:
    async with private_server(home):
        pass
    folder = server_folder(home.home)
    folder.kept.unlink()  # as if it had been killed before its first word
    folder.manifest.unlink()
    async with open_redis(home) as redis:
        assert await redis.client.set("key", "value")
    assert folder.kept.exists()


async def test_a_file_that_the_manifest_names_and_that_is_gone_is_named(home: Settings) -> None:
    folder = await filled(home)
    (file,) = folder.data.glob("*.incr.aof")
    file.unlink()
    with pytest.raises(ServerError) as caught:
        async with private_server(home):
            pass
    assert file.name in str(caught.value)
