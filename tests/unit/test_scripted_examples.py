"""Answers that `ScriptedLLM` makes up fit the schema that was asked for."""

from __future__ import annotations

import pytest

from orka.llm.scripted import example_of
from orka.types import Json


@pytest.mark.parametrize(
    ("schema", "example"),
    [
        ({"enum": ["red", "green"]}, "red"),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, 0.5),
        ({"type": "array", "items": {"type": "integer", "minimum": 3}, "minItems": 2}, [3, 3]),
        ({"type": "object", "properties": {"a": {"type": "boolean"}}, "anyOf": [{"required": ["a"]}]}, {"a": True}),
    ],
)
def test_an_example_fits_its_schema(schema: dict[str, Json], example: Json) -> None:
    assert example_of(schema) == example


def test_lists_in_lists_stay_small() -> None:
    schema: dict[str, Json] = {"type": "string"}
    for _ in range(9):
        schema = {"type": "array", "items": schema, "minItems": 1000}
    assert len(str(example_of(schema))) < 1_000_000
