"""A list of ids with an empty item (a bare `-`) is a mistake, wherever it stands; the JSON Schema says so too."""

from typing import Any

import pytest

from orka.agents.registry import Registry
from orka.graph.load import check_graph
from orka.graph.schema import json_schema
from orka.template.environment import Environment

SPECS = Registry().specs()


def report(text: str) -> list[str]:
    found = check_graph(text, source="f.yml", specs=SPECS, compile_template=Environment().compile)
    return [fault.render().splitlines()[0] for fault in found.faults]


def of_entry(entry: str) -> list[str]:
    return report(f"orchestrator: {{agents: [n]}}\nagents:\n  - {{id: n, {entry}}}\n  - {{id: a, type: echo}}\n")


@pytest.mark.parametrize(
    ("entry", "faults"),
    [
        (
            "type: fork, targets: [null, [null], [a, null]]",
            [
                "f.yml:3:35: error: 'targets' of fork 'n' must hold ids, not an empty item",
                "f.yml:3:42: error: 'targets' of fork 'n' must hold ids, not an empty item",
                "f.yml:3:53: error: 'targets' of fork 'n' must hold ids, not an empty item",
            ],
        ),
        (
            "type: fork, targets: [[a, [a, null]]]",
            ["f.yml:3:43: error: 'targets' of fork 'n' must hold ids, not an empty item"],
        ),
        (
            "type: failover, children: [null, [a]]",
            [
                "f.yml:3:40: error: 'children' of failover 'n' must hold ids, not an empty item",
                "f.yml:3:46: error: 'children' of failover 'n' must hold ids, not a list",
            ],
        ),
        (
            "type: map, items: [1], agents: [a, null]",
            ["f.yml:3:48: error: 'agents' of map 'n' must hold ids, not an empty item"],
        ),
        ("type: map, items: [1], agents: null", ["f.yml:3:44: error: 'agents' of map 'n' is empty"]),
        (
            "type: echo, depends_on: [null]",
            ["f.yml:3:38: error: 'depends_on' of agent 'n' must hold ids, not an empty item"],
        ),
        (
            "type: loop, internal_workflow: {orchestrator: {agents: [a, null]}}",
            ["f.yml:3:72: error: 'agents' of loop 'n' must hold ids, not an empty item"],
        ),
    ],
)
def test_an_empty_item_is_an_error_with_its_place(entry: str, faults: list[str]) -> None:
    assert [line for line in of_entry(entry) if ": error: " in line] == faults


def test_a_bare_dash_in_the_list_of_a_file_is_an_error() -> None:
    text = "orchestrator:\n  agents:\n    - a\n    -\n    - [a]\nagents: [{id: a, type: echo}]\n"
    assert report(text) == [
        "f.yml:4:6: error: 'agents' of 'orchestrator' must hold ids, not an empty item",
        "f.yml:5:7: error: 'agents' of 'orchestrator' must hold ids, not a list",
    ]


def test_a_key_without_a_value_names_nobody() -> None:
    assert report("orchestrator: {agents: [a]}\nagents: [{id: a, type: echo, depends_on: }]\n") == []


def fits(value: object, schema: dict[str, Any], definitions: dict[str, Any]) -> bool:
    """As much of JSON Schema as lists of ids need."""
    if "$ref" in schema:
        return fits(value, definitions[schema["$ref"].removeprefix("#/$defs/")], definitions)
    if "anyOf" in schema:
        return any(fits(value, member, definitions) for member in schema["anyOf"])
    if schema.get("type") == "array":
        items = schema.get("items", {})
        enough = isinstance(value, list) and len(value) >= schema.get("minItems", 0)
        return enough and all(fits(item, items, definitions) for item in value)  # type: ignore[union-attr]
    kinds = {"string": str, "null": type(None), "object": dict}
    return isinstance(value, kinds[schema["type"]]) if "type" in schema else True


@pytest.mark.parametrize(
    ("definition", "key", "good", "bad"),
    [
        ("node.fork", "targets", [["a"], [["a", ["b", "c"]]]], [None, [None], [["a", None]], [[]], "a"]),
        ("node.failover", "children", [["a"], [{"id": "a", "type": "echo"}]], [[None], [["a"]]]),
        ("node.map", "agents", ["a", ["a"]], [None, [None]]),
        ("agent", "depends_on", [None, "a", ["a"]], [[None], [["a"]]]),
        ("orchestrator", "agents", [["a"]], [[None], [["a"]]]),
    ],
)
def test_the_schema_agrees(definition: str, key: str, good: list[object], bad: list[object]) -> None:
    definitions = json_schema(SPECS)["$defs"]
    schema = definitions[definition]["properties"][key]
    assert [fits(value, schema, definitions) for value in good] == [True] * len(good)
    assert [fits(value, schema, definitions) for value in bad] == [False] * len(bad)
