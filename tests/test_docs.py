"""The pages of docs/: what they show runs, what they list is what there is, and their links lead somewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from servers import Servers
from support.pages import ROOT, Reader, read_blocks

from orka.journal.entries import BODIES
from orka.memory.record import PREFIX
from orka.redis.keys import (
    RUNS,
    bell_key,
    brain_adopted_key,
    brain_visit_key,
    dead_key,
    embedding_key,
    ended_runs_key,
    episode_key,
    episodes_keys,
    graph_key,
    inbox_key,
    memory_changes_key,
    memory_events_key,
    memory_layout_key,
    memory_lock_key,
    open_runs_key,
    parked_key,
    past_loops_key,
    past_loops_written_key,
    queues_key,
    run_keys,
    skill_key,
    skills_key,
    sweeper_key,
    task_stream,
    worker_key,
    workers_key,
)
from orka.settings import Settings
from orka.types import Digest, RunId

PLAYED = (
    "quickstart.md",
    "python.md",
    "brain.md",
    "cli.md",
    "contributing.md",
    "architecture.md",
    "scaling.md",
    "memory.md",
    "traces.md",
    "models.md",
    "migrating-from-orka-0.9.md",
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def reader(tmp_path: Path, redis_settings: Settings, servers: Servers) -> Reader:
    plain = servers.start("--appendonly", "yes")
    environment = {"ORKA_HOME": str(redis_settings.home), "ORKA_SERVER_LINGER": "0"}
    return Reader(tmp_path / "clone", environment, f"127.0.0.1:{plain.port}")


@pytest.mark.parametrize("name", PLAYED)
def test_snippets_run_and_print_what_the_page_says(name: str, reader: Reader) -> None:
    reader.play(ROOT / "docs" / name)


def test_every_page_with_snippets_has_its_test() -> None:
    """Those that are not played here are named by the file that tests them."""
    others = "".join(
        file.read_text(encoding="utf-8")
        for file in sorted((ROOT / "tests").rglob("test_*.py"))
        if file != Path(__file__)
    )
    pages = [page for page in PAGES if page.name not in PLAYED and read_blocks(page)]
    assert [page.name for page in pages if page.name not in others] == []


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    missing: list[str] = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            missing.append(target)
    assert missing == []


def test_every_page_is_linked_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in text] == []


@pytest.mark.parametrize("name", ["architecture.md", "contributing.md"])
def test_files_that_a_page_names_exist(name: str) -> None:
    named = set(re.findall(r"`((?:\w+/)*\w+\.(?:py|md|yaml))`", (ROOT / "docs" / name).read_text(encoding="utf-8")))
    missing = {file for file in named if not (ROOT / file).exists() and not (ROOT / "orka" / file).exists()}
    assert missing == set()


def rows(page: str, title: str) -> list[list[str]]:
    """Cells of the table whose header line begins with `title`."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    table = re.search(rf"^{re.escape(title)}.*\n\|[-|]+\|\n((?:\|.*\n)*)", text, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[1].splitlines()]


def settings_table() -> Iterator[list[str]]:
    """From the docstrings of the fields: variable, field, default, meaning."""
    tree = ast.parse((ROOT / "orka" / "settings.py").read_text(encoding="utf-8"))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef)).body
    docs = {
        field.target.id: ast.literal_eval(doc.value)
        for field, doc in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(doc, ast.Expr)
    }
    for field in fields(Settings):
        variable, meaning = re.fullmatch(r"(`\w+`): (.+)", docs[field.name]).groups()  # type: ignore[union-attr]
        assert field.default is not MISSING
        default = f"{field.default:.10g}" if isinstance(field.default, float) else str(field.default)
        yield [variable, f"`{field.name}`", "unset" if field.default is None else f"`{default}`", meaning]


def test_table_of_settings_is_that_of_the_code() -> None:
    assert rows("python.md", "| variable | field") == list(settings_table())


def test_table_of_entries_is_that_of_the_code() -> None:
    documented = {
        row[0].strip("`"): row[2].replace("`", "").split() for row in rows("architecture.md", "| kind | when")
    }
    assert documented == {kind: [field.name for field in msgspec.structs.fields(body)] for kind, body in BODIES.items()}


def test_table_of_keys_is_that_of_the_code() -> None:
    run = run_keys(RunId("<id>"), 1)
    keys = [run.run, run.journal, run.values, graph_key(run.tag, Digest("<digest>"))]
    keys += [open_runs_key(run.tag), ended_runs_key(run.tag)]
    keys += [run.branches, run.scopes, run.tokens, task_stream(run.tag, "<queue>", RUNS).removesuffix("0") + "<level>"]
    keys += [inbox_key(run.tag, "<process>"), bell_key(run.tag, "<process>"), parked_key(run.tag), dead_key(run.tag)]
    single = [workers_key(), worker_key("<id>"), queues_key(), sweeper_key()]
    single += [PREFIX + "<id>", memory_layout_key(), memory_lock_key(), memory_changes_key(), memory_events_key()]
    single += [embedding_key("<model>", "<digest>"), past_loops_key("<loop>"), past_loops_written_key("<loop>")]
    single += [skill_key("<id>"), skills_key(), skills_key("<kind>", "<word>"), brain_visit_key("<digest>")]
    single += [
        episode_key("<id>"),
        episodes_keys()[0],
        episodes_keys()[1],
        *episodes_keys("<domain>"),
        brain_adopted_key(),
    ]
    documented = [row[0].strip("`") for row in rows("architecture.md", "| key | type")]
    assert documented == [*(key.replace("{orka:0}", "{orka:N}") for key in keys), *single]
