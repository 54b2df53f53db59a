"""The files of compose/: they parse, fit each other and the command line, and keep what journals need. No Docker engine runs
here: whether the containers start is not tested."""

import json
import re
import subprocess
import sys
import time
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from orka.redis.url import parse_url
from orka.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "compose"
FILES = ("compose.yaml", "compose.cluster.yaml")
DOCKERFILE = (COMPOSE / "worker.Dockerfile").read_text(encoding="utf-8")
KEEPS = {"--appendonly": "yes", "--appendfsync": "everysec", "--maxmemory-policy": "noeviction"}


def services(name: str) -> dict[str, Any]:
    return yaml.safe_load((COMPOSE / name).read_text(encoding="utf-8"))["services"]


def options(command: list[str]) -> dict[str, str]:
    assert command[0] == "redis-server"
    return dict(zip(command[1::2], command[2::2], strict=True))


def instructions(name: str) -> list[str]:
    """What the last stage of the Dockerfile says with one word, continued lines joined."""
    stage = re.split(r"^FROM .*$", DOCKERFILE.replace("\\\n", ""), flags=re.MULTILINE)[-1]
    return [line.partition(" ")[2].strip() for line in stage.splitlines() if line.startswith(f"{name} ")]


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def test_compose_file_gives_a_redis_that_keeps_journals() -> None:
    redis = services("compose.yaml")["redis"]
    assert redis["image"] == "redis:8"
    assert options(redis["command"]) == KEEPS
    assert redis["ports"] == ["127.0.0.1:6380:6379"]
    assert redis["volumes"] == ["redis-data:/data"]


def test_cluster_file_gives_three_primaries_that_keep_journals_and_are_made_one() -> None:
    data = yaml.safe_load((COMPOSE / "compose.cluster.yaml").read_text(encoding="utf-8"))
    nodes = {name: node for name, node in data["services"].items() if name.startswith("redis-")}
    assert len(nodes) == 3
    for node in nodes.values():
        found = options(node["command"])
        assert {name: found[name] for name in KEEPS} == KEEPS
        assert found["--cluster-enabled"] == "yes"
    addresses = [node["networks"]["cluster"]["ipv4_address"] for node in nodes.values()]
    network = ip_network(data["networks"]["cluster"]["ipam"]["config"][0]["subnet"])
    assert len({ip_address(address) for address in addresses}) == 3
    assert all(ip_address(address) in network for address in addresses)
    create = data["services"]["create"]
    [script] = create["command"]
    assert f"--cluster create {' '.join(f'{a}:6379' for a in addresses)} --cluster-replicas 0 --cluster-yes" in script
    assert subprocess.run(["sh", "-n", "-c", script], check=False).returncode == 0
    assert set(create["depends_on"]) == set(nodes)
    assert len({tuple(node["volumes"]) for node in nodes.values()}) == 3
    target = parse_url(data["services"]["worker"]["environment"]["REDIS_URL"])
    assert list(target.nodes) == [(address, 6379) for address in addresses]


@pytest.mark.parametrize("name", FILES)
def test_files_name_services_volumes_and_settings_that_exist(name: str) -> None:
    data = yaml.safe_load((COMPOSE / name).read_text(encoding="utf-8"))
    used: set[str] = set()
    for service in data["services"].values():
        assert set(service.get("depends_on", {})) <= set(data["services"])
        for condition in service.get("depends_on", {}).values():
            assert condition["condition"] in {"service_healthy", "service_completed_successfully"}
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            assert target.startswith("/")
            if source.startswith("."):
                assert (COMPOSE / source).exists()
            else:
                used.add(source)
        if "build" in service:
            context = (COMPOSE / service["build"]["context"]).resolve()
            assert (context / service["build"]["dockerfile"]).exists()
        settings = Settings.from_environment(service.get("environment", {}))
        if "environment" in service:
            assert settings.redis_url is not None
            assert parse_url(settings.redis_url).nodes
        documented = (ROOT / "orka" / "settings.py").read_text(encoding="utf-8")
        assert all(f"`{variable}`:" in documented for variable in service.get("environment", {}))
    assert used == set(data["volumes"])


@pytest.mark.parametrize("name", FILES)
def test_workers_are_several_and_have_longer_to_stop_than_their_grace_period(name: str) -> None:
    worker = services(name)["worker"]
    assert worker["deploy"]["replicas"] >= 2
    assert "container_name" not in worker
    assert "ports" not in worker
    words = worker["command"]
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert seconds(worker["stop_grace_period"]) > float(given["--grace"])
    assert_options_exist(["worker", *given])


@pytest.mark.parametrize("name", FILES)
def test_the_orchestrator_of_the_example_runs_a_graph_that_is_there(name: str) -> None:
    example = services(name)["orchestrator"]
    assert example["profiles"] == ["example"]
    assert example["entrypoint"] == ["orka", "run", "--distributed"]
    assert_options_exist(example["entrypoint"][1:])
    assert (ROOT / "configs" / Path(example["command"][0]).name).exists()
    assert example["volumes"] == ["../configs:/graphs:ro"]


def assert_options_exist(words: list[str]) -> None:
    command = [sys.executable, "-m", "orka.cli.main", words[0], "--help"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for word in words[1:]:
        if word.startswith("--"):
            assert word in printed


def test_image_runs_the_worker_as_nobody_in_particular() -> None:
    assert instructions("USER") == ["10001"]
    assert re.search(r"useradd .*--uid 10001 ", DOCKERFILE)
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    [entry] = [json.loads(text) for text in instructions("ENTRYPOINT")]
    [more] = [json.loads(text) for text in instructions("CMD")]
    assert entry[:2] == ["orka", "worker"]
    assert_options_exist([*entry[1:], *more])
    [check] = instructions("HEALTHCHECK")
    python, script, file = json.loads(check.partition(" CMD ")[2])
    assert (python, Path(script).name, file) == ("python", "health.py", entry[entry.index("--health") + 1])
    sources = [words.split()[0] for words in instructions("COPY") if not words.startswith("--from")]
    assert all((ROOT / source).exists() for source in sources)


def test_image_is_built_from_the_package_alone() -> None:
    ignored = (COMPOSE / "worker.Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[0] == "*"
    kept = [line[1:] for line in ignored if line.startswith("!")]
    assert all((ROOT / name).exists() for name in kept)
    assert {"orka", "pyproject.toml", "README.md", "LICENSE", "compose/health.py"} == set(kept)


def verdict(file: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, str(COMPOSE / "health.py"), str(file), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize(
    ("seen", "progress", "running", "expected"),
    [
        (1, 1, 3, (0, "well")),
        (1, 4000, 0, (0, "well")),
        (1, 4000, 3, (1, "3 tasks, and none begun or ended for 4000 s")),
        (100, 1, 3, (1, "no sign of life for 100 s")),
    ],
    ids=["busy", "idle", "stuck", "silent"],
)
def test_health_check_looks_at_progress(
    tmp_path: Path, seen: int, progress: int, running: int, expected: tuple[int, str]
) -> None:
    now = int(time.time() * 1000) - 100
    file = tmp_path / "health.json"
    facts = {"seen_ms": now - seen * 1000, "progress_ms": now - progress * 1000, "running": running}
    file.write_text(json.dumps(facts), encoding="utf-8")
    assert verdict(file) == expected


def test_health_check_without_a_file_fails(tmp_path: Path) -> None:
    assert verdict(tmp_path / "absent.json")[0] == 1
