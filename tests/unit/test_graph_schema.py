"""The JSON Schema and the key reference: both made of the models, and docs/format.md up to date with them.

Run as a script, this file writes the reference into docs/format.md.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orka.agents.registry import Registry
from orka.graph.load import check_graph
from orka.graph.models import KINDS
from orka.graph.schema import json_schema, reference
from orka.template.environment import Environment

SPECS = Registry().specs()
PAGE = Path(__file__).parents[2] / "docs" / "format.md"
BEGIN, END = "<!-- reference: begin -->\n", "<!-- reference: end -->"


def written() -> str:
    return PAGE.read_text(encoding="utf-8")


def renewed(page: str) -> str:
    head, rest = page.split(BEGIN)
    return head + BEGIN + "\n" + reference(SPECS) + "\n" + END + rest.split(END)[1]


def test_the_page_about_the_format_holds_the_generated_reference() -> None:
    assert written() == renewed(written()), "run: python tests/unit/test_graph_schema.py"


def examples() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", written(), re.DOTALL)


@pytest.mark.parametrize("text", examples(), ids=lambda text: text.split("\n")[0][:30])
def test_every_example_of_the_page_is_a_graph_without_a_remark(text: str) -> None:
    report = check_graph(text, source="docs/format.md", specs=SPECS, compile_template=Environment().compile)
    assert [fault.render() for fault in report.faults] == []


def test_the_report_on_the_page_is_what_the_checker_prints() -> None:
    file, printed = re.findall(r"```text\n(.*?)```", written(), re.DOTALL)
    report = check_graph(file, source="flow.yml", specs=SPECS, compile_template=Environment().compile)
    assert "\n".join(fault.render() for fault in report.faults) + "\n" == printed


def parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from parts(inner)


def test_every_reference_of_the_schema_resolves() -> None:
    schema = json_schema(SPECS)
    named = {part["$ref"] for part in parts(schema) if isinstance(part.get("$ref"), str)}
    assert {name.removeprefix("#/$defs/") for name in named} <= set(schema["$defs"])
    assert {"#/$defs/agent", "#/$defs/orchestrator", "#/$defs/body", "#/$defs/node.loop"} <= named


def test_the_schema_knows_types_values_and_bounds() -> None:
    schema = json_schema(SPECS)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["orchestrator"]
    agent = schema["$defs"]["agent"]
    assert agent["required"] == ["id", "type"]
    assert {"router", "map", "echo", "template"} <= set(agent["properties"]["type"]["enum"])
    assert schema["$defs"]["node.fork"]["properties"]["mode"]["enum"] == ["parallel", "sequential"]
    assert schema["$defs"]["orchestrator"]["properties"]["max_steps"]["minimum"] == 1
    assert schema["$defs"]["node.map"]["properties"]["as"]["default"] == "item"
    when = {tuple(part["if"]["properties"]["type"]["enum"]): part.get("then") for part in agent["allOf"]}
    assert when[("loop",)] == {"$ref": "#/$defs/node.loop"}
    assert when[("classify",)] == {"$ref": "#/$defs/agent.classify"}


def test_every_key_of_every_model_has_a_meaning() -> None:
    text = reference(SPECS)
    assert [row for row in text.splitlines() if row.startswith("| `") and row.rstrip(" |").endswith(" |")] == []
    assert all(f"### `{kind}`" in text for kind in KINDS)
    assert "| `max_loops` | whole number | `5` | Rounds at most. |" in text
    assert "| `targets` | list | required |" in text


if __name__ == "__main__":
    PAGE.write_text(renewed(written()), encoding="utf-8")
