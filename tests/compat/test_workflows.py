"""Workflow files as they were written for OrKa 0.9, run against a model server; what must come of each stands beside it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from support.cases import Case, differences, read_case, script_server
from support.openai_server import Server, started
from support.web import Page, open_web

from orka.cli.import_check import Verdict, examine
from orka.engine.answer import value_of
from orka.errors import GraphError
from orka.orchestrator import Orchestrator
from orka.redis.client import RedisHandle
from orka.settings import Settings
from orka.testing import ScriptedLLM, ScriptedSearch
from orka.types import RunStatus

FILES = Path(__file__).parent / "files"
WORKFLOWS = sorted(FILES.glob("*.yml"))
ADDRESS = "http://localhost:1234"
"""Where all existing files expect their model; the only text of a file that a test changes."""


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with started() as server:
        yield server


FOUND = [
    {"url": "https://tides.test", "title": "Tide tables", "content": "High water at noon."},
    {"url": "https://harbour.test", "title": "The harbour", "content": "Low water at six."},
    {"url": "https://more.test", "title": "More", "content": "One hit more than is asked for."},
]
"""What the search engine of a case with `needs: search` finds."""


@asynccontextmanager
async def environment(settings: Settings, server: Server, needs: str = "") -> AsyncIterator[Settings]:
    """That in which people had their keys and addresses."""
    known = replace(settings, openai_url=f"{server.url}/v1", openai_key="sk-test", openai_model="gpt-from-environment")
    async with open_web() as web:
        web.answer = lambda path, query: Page(json.dumps({"results": FOUND}).encode())
        url = {"search": web.url, "search-down": "http://127.0.0.1:9"}.get(needs)
        yield known if url is None else replace(known, search_backend="searxng", searxng_url=url)


def prepared(file: Path, server: Server, folder: Path) -> Path:
    copy = folder / file.name
    copy.write_text(file.read_text(encoding="utf-8").replace(ADDRESS, server.url), encoding="utf-8")
    return copy


def check_warnings(case: Case, orchestrator: Orchestrator) -> None:
    messages = [fault.message for fault in orchestrator.warnings]
    assert len(messages) == len(case.warnings), messages
    assert all(any(part in message for message in messages) for part in case.warnings), messages


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
async def test_workflow_does_what_its_case_says(
    file: Path, server: Server, clean_redis: RedisHandle, redis_settings: Settings, tmp_path: Path
) -> None:
    case = read_case(file.with_suffix(".case.yaml"))
    server.refuses |= set(case.refuses)
    copy = prepared(file, server, tmp_path)
    if case.refused:
        with pytest.raises(GraphError) as refused:
            Orchestrator(copy, settings=redis_settings)
        assert [part for part in case.refused if part not in str(refused.value)] == []
        return
    async with (
        environment(redis_settings, server, case.needs) as settings,
        Orchestrator(copy, settings=settings) as orchestrator,
    ):
        check_warnings(case, orchestrator)
        for number, run in enumerate(case.runs):
            unexpected = script_server(server, run)
            async with asyncio.timeout(run.within):
                result = await orchestrator.execute(run.input)
            log = value_of(result, True)
            found = list(differences(run, value_of(result, False), log, server))
            assert found == [], f"run {number}: " + "\n".join(found)
            assert unexpected == [], f"run {number}: no rule fits {unexpected}"


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_import_check_names_what_differs(file: Path) -> None:
    case = read_case(file.with_suffix(".case.yaml"))
    finding = examine(file.name, file.read_bytes())
    assert finding is not None
    assert [difference.code for difference in finding.differences] == case.differs
    expected = Verdict.CANNOT if case.refused else Verdict.DIFFERS if case.differs else Verdict.SAME
    assert finding.verdict is expected


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
async def test_workflow_can_be_rehearsed_without_a_model(
    file: Path, clean_redis: RedisHandle, redis_settings: Settings
) -> None:
    case = read_case(file.with_suffix(".case.yaml"))
    if case.refused:
        return
    model, search = ScriptedLLM(), ScriptedSearch()
    async with Orchestrator(file, settings=redis_settings, llm=model, search=search) as orchestrator:
        result = await orchestrator.execute(case.runs[0].input)
    assert result.status is RunStatus.COMPLETED, result.error


async def test_run_and_its_log_are_what_the_case_says(
    server: Server, clean_redis: RedisHandle, redis_settings: Settings, tmp_path: Path
) -> None:
    """Through the two public calls that programs make."""
    file = FILES / "chain_of_three.yml"
    run = read_case(file.with_suffix(".case.yaml")).runs[0]
    orchestrator = Orchestrator(prepared(file, server, tmp_path), settings=redis_settings)
    script_server(server, run)
    answer = await orchestrator.run(run.input)
    script_server(server, run)
    log = await orchestrator.run(run.input, return_logs=True)
    assert isinstance(log, list)
    assert list(differences(run, answer, log, server)) == []


@pytest.mark.parametrize("name", ["loop_pattern", "fork_join", "json_input"])
async def test_the_command_line_prints_the_answer(
    name: str, server: Server, redis_settings: Settings, tmp_path: Path
) -> None:
    file = FILES / f"{name}.yml"
    run = read_case(file.with_suffix(".case.yaml")).runs[0]
    script_server(server, run)
    given = ["--json-input", json.dumps(run.input)] if isinstance(run.input, dict) else [run.input]
    command = [sys.executable, "-m", "orka.cli.main", "run", str(prepared(file, server, tmp_path)), *given]
    environment = {**os.environ, "ORKA_HOME": str(redis_settings.home), "ORKA_SERVER_LINGER": "0"}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    printed, _ = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, printed.decode()) == (0, f"{run.answer}\n")


def test_there_are_enough_files_and_each_has_its_case() -> None:
    assert len(WORKFLOWS) >= 40
    assert [file.name for file in WORKFLOWS if not file.with_suffix(".case.yaml").exists()] == []
