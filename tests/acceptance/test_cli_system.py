"""`orka system`: which server is used, whether it answers, and how to end it."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.openai_server import started

Write = Callable[[str, str], str]

GRAPH = "orchestrator: {id: one, strategy: sequential, agents: [a]}\nagents: [{id: a, type: echo}]\n"


@pytest.fixture
def own_home(tmp_path: Path, here, monkeypatch: pytest.MonkeyPatch):
    """A data folder of the test's own, whose server would stay for a while; it is stopped in the end."""
    monkeypatch.setenv("ORKA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("ORKA_SERVER_LINGER", "60")
    yield
    here("system", "stop", "--force")


@pytest.mark.usefixtures("own_home")
def test_the_private_server_is_seen_and_stopped(here, write: Write) -> None:
    before = here("system", "status")
    assert before.returncode == 3
    assert "not running" in before.stdout
    assert here("system", "stop").stdout.startswith("no private server runs in ")

    assert here("run", write("one.yml", GRAPH), "x").returncode == 0
    seen = here("system", "status", "--json")
    status = json.loads(seen.stdout)
    assert seen.returncode == 0
    assert list(status) == ["version", "backend", "memory", "redis", "private_server", "llm"]
    assert (status["version"], status["backend"]) == ("0.1.0", "redisstack")
    assert status["redis"]["connected"] is True
    assert status["redis"]["search_module"] is True
    assert status["redis"]["error"] is None
    assert 0 < status["redis"]["ping_ms"] < 1000
    assert status["private_server"]["running"] is True
    assert status["private_server"]["keys"] > 0
    assert "pid " in here("system", "status").stdout

    assert here("system", "stop").stdout == "stopped\n"
    assert here("system", "status").returncode == 3


def test_a_redis_of_ones_own_is_described_without_its_password(here, servers, monkeypatch: pytest.MonkeyPatch) -> None:
    server = servers.start(password="hidden-word")
    monkeypatch.setenv("REDIS_URL", server.url)
    done = here("system", "status", "--json")
    status = json.loads(done.stdout)
    assert done.returncode == 0
    assert "hidden-word" not in done.stdout
    assert f":{server.port}" in status["redis"]["url"]
    assert (status["backend"], status["private_server"]) == ("redis", None)
    server.kill()
    gone = here("system", "status")
    assert gone.returncode == 3
    assert "hidden-word" not in gone.stdout
    assert f"server    {status['redis']['url']}\n" in gone.stdout
    asked = json.loads(here("system", "status", "--json", "--backend", "redis").stdout)
    assert (asked["memory"]["backend"], asked["redis"]["url"]) == ("redis", status["redis"]["url"])


@pytest.mark.usefixtures("own_home")
async def test_tells_whether_the_models_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def status(*options: str) -> str:
        command = [sys.executable, "-m", "orka.cli.main", "system", "status", *options]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        printed, _ = await asyncio.wait_for(process.communicate(), 30)
        return printed.decode()

    async with started() as server:
        monkeypatch.setenv("ORKA_LLM_URL", server.url)
        assert f"model     {server.url}/v1: test-model\n" in await status()
        expected = {"url": f"{server.url}/v1", "reachable": True, "models": ["test-model"], "error": None}
        assert json.loads(await status("--json"))["llm"] == expected
