"""docs/agents.md: its tables are those of the models, its code runs."""

from __future__ import annotations

import inspect
import json
import re

import pytest
from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from support.pages import ROOT, read_blocks

from orka.agents.base import AgentType
from orka.agents.memory import MemoryConfig
from orka.agents.registry import Registry, builtin_types
from orka.agents.search import SourceKeys
from orka.agents.structured import StructuredOutput
from orka.agents.tooling.options import ServerKeys, ToolEntry
from orka.graph.load import check_graph
from orka.template.environment import Environment

FILE = ROOT / "docs" / "agents.md"
PAGE = FILE.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return [block.text for block in read_blocks(FILE) if block.kind == language]


def table(options: type[BaseModel], title: str = "key") -> str:
    lines = [f"| {title} | default | meaning |", "|---|---|---|"]
    for name, field in options.model_fields.items():
        lines.append(f"| `{key_of(name, field)}` | {default_of(field)} | {field.description} |")
    return "\n".join(lines)


def key_of(name: str, field: FieldInfo) -> str:
    """As files write it."""
    alias = field.validation_alias
    first = alias.choices[0] if isinstance(alias, AliasChoices) else alias
    return first if isinstance(first, str) else name


def default_of(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "`{}`"
    value = field.default
    return "required" if value is PydanticUndefined else f"`{value if isinstance(value, str) else json.dumps(value)}`"


@pytest.mark.parametrize("entry", [entry for entry, _ in builtin_types()], ids=lambda entry: entry.name)
def test_page_describes_every_key_of(entry: AgentType) -> None:
    section = PAGE.split(f"### `{entry.name}`\n")[1].split("\n##")[0]
    same = re.search(r"Its keys are those of \[`([^`]+)`\]", section)
    if same is not None:
        assert entry.options is Registry().specs()[same.group(1)].options
    elif entry.options.model_fields:
        assert table(entry.options) in section
    else:
        assert "no keys of its own" in section


def test_page_describes_every_key_of_structured_output() -> None:
    assert table(StructuredOutput, "key of `structured_output`") in PAGE


def test_page_of_models_describes_every_key_of_tools() -> None:
    page = FILE.with_name("models.md").read_text(encoding="utf-8")
    assert table(ToolEntry, "key of a tool") in page
    assert table(ServerKeys, "key of `mcp`") in page


def test_page_describes_every_key_of_the_config_of_memories() -> None:
    assert table(MemoryConfig, "key of `config`") in PAGE


def test_page_describes_every_key_of_the_source_of_searches() -> None:
    assert table(SourceKeys, "key of `search`") in PAGE


@pytest.mark.parametrize("number", range(5))
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
