"""`orka system`: which server is used, whether it answers, and how to end it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

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
    assert list(status) == ["version", "backend", "memory", "redis", "private_server"]
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
