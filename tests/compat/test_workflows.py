"""Workflow files as they were written for OrKa 0.9, run against a model server; what must come of each stands beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.cases import Case, differences, read_case, script_server
from support.openai_server import Server, started

from orka.agents.registry import default_registry
from orka.engine.answer import value_of
from orka.graph.kinds import PLANNED
from orka.orchestrator import Orchestrator
from orka.redis.client import RedisHandle
from orka.settings import Settings

FILES = Path(__file__).parent / "files"
WORKFLOWS = sorted(FILES.glob("*.yml"))
ADDRESS = "http://localhost:1234"
"""Where all existing files expect their model; the only text of a file that a test changes."""


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with started() as server:
        yield server


def settings_for(settings: Settings, server: Server) -> Settings:
    """The environment in which people had their keys and addresses."""
    return replace(settings, openai_url=f"{server.url}/v1", openai_key="sk-test", openai_model="gpt-from-environment")


def prepared(file: Path, server: Server, folder: Path) -> Path:
    copy = folder / file.name
    copy.write_text(file.read_text(encoding="utf-8").replace(ADDRESS, server.url), encoding="utf-8")
    return copy


def check_warnings(case: Case, orchestrator: Orchestrator) -> None:
    messages = [fault.message for fault in orchestrator.warnings]
    assert len(messages) == len(case.warnings), messages
    assert all(any(part in message for message in messages) for part in case.warnings), messages


WAITING = ()


def skip_planned(name: str, file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    missing = {one for one in PLANNED - set(default_registry().specs()) if f"type: {one}" in text}
    if missing or name in WAITING:
        pytest.skip(f"not there yet: {sorted(missing) or name}")


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
async def test_workflow_does_what_its_case_says(
    file: Path, server: Server, clean_redis: RedisHandle, redis_settings: Settings, tmp_path: Path
) -> None:
    case = read_case(file.with_suffix(".case.yaml"))
    skip_planned(file.stem, prepared(file, server, tmp_path))
    server.refuses |= set(case.refuses)
    settings = settings_for(redis_settings, server)
    async with Orchestrator(prepared(file, server, tmp_path), settings=settings) as orchestrator:
        check_warnings(case, orchestrator)
        for number, run in enumerate(case.runs):
            unexpected = script_server(server, run)
            async with asyncio.timeout(run.within):
                result = await orchestrator.execute(run.input)
            log = value_of(result, True)
            found = list(differences(run, value_of(result, False), log, server))
            assert found == [], f"run {number}: " + "\n".join(found)
            assert unexpected == [], f"run {number}: no rule fits {unexpected}"


def test_there_are_enough_files_and_each_has_its_case() -> None:
    assert len(WORKFLOWS) >= 40
    assert [file.name for file in WORKFLOWS if not file.with_suffix(".case.yaml").exists()] == []
