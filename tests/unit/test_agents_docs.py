"""docs/agents.md: its tables are those of the models, its code runs."""

from __future__ import annotations

import inspect
import json

import pytest
from pydantic_core import PydanticUndefined
from support.pages import ROOT, read_blocks

from orka.agents.base import AgentType
from orka.agents.registry import Registry, builtin_types
from orka.graph.load import check_graph
from orka.template.environment import Environment

FILE = ROOT / "docs" / "agents.md"
PAGE = FILE.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return [block.text for block in read_blocks(FILE) if block.kind == language]


def table(entry: AgentType) -> str:
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in entry.options.model_fields.items():
        value = field.default
        default = (
            "required" if value is PydanticUndefined else f"`{value if isinstance(value, str) else json.dumps(value)}`"
        )
        lines.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join(lines)


@pytest.mark.parametrize("entry", [entry for entry, _ in builtin_types()], ids=lambda entry: entry.name)
def test_page_describes_every_key_of(entry: AgentType) -> None:
    section = PAGE.split(f"### `{entry.name}`\n")[1].split("\n##")[0]
    if entry.options.model_fields:
        assert table(entry) in section
    else:
        assert "no keys of its own" in section


@pytest.mark.parametrize("number", range(2))
def test_graphs_of_the_page_load_without_a_word(number: int) -> None:
    report = check_graph(
        blocks("yaml")[number], source="agents.md", specs=Registry().specs(), compile_template=Environment().compile
    )
    assert [fault.render() for fault in report.faults] == []
    assert report.graph is not None


def test_code_of_the_page_runs() -> None:
    code = blocks("python")
    assert len(code) == 3
    names: dict[str, object] = {"__name__": "agents_page"}

    def run_all() -> None:
        for block in code:
            exec(compile(block, "docs/agents.md", "exec"), names)

    run_all()
    assert {"word_count", "Nearest", "output"} <= set(names)
    assert inspect.iscoroutinefunction(names["Nearest"].run)  # type: ignore[attr-defined]
