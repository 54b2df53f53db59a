"""Python functions as tools: what a model is told of them, and what comes of the arguments that it writes."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from support import tools

from orka.agents.registry import Registry
from orka.agents.tooling.base import ToolFault
from orka.agents.tooling.functions import FunctionTool
from orka.agents.tooling.records import arguments_of, key_of
from orka.errors import ConfigError
from orka.llm.base import ToolCall


def test_model_is_told_name_docstring_and_arguments() -> None:
    tool = FunctionTool(tools.weather).tool
    assert (tool.name, tool.description) == ("weather", "The weather in a city.\n\nTold as it is now.")
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Its name."},
            "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
        },
        "required": ["city"],
        "additionalProperties": False,
    }


async def test_async_function_is_called_with_validated_arguments_and_its_value_is_json() -> None:
    tool = FunctionTool(tools.weather)
    assert await tool.call({"city": "Bern", "unit": "f"}, "k") == '{"city":"Bern","degrees":70.7}'


async def test_plain_function_runs_in_a_thread_and_may_call_its_arguments_what_it_likes() -> None:
    tool = FunctionTool(tools.thread)
    assert await tool.call({"schema": "3", "json": ["a"]}, "k") == "3 ['a'] False"
    assert await tool.call({"schema": 3}, "k") == "3 None False"


async def test_objects_and_partials_with_a_name_are_tools() -> None:
    doubler = FunctionTool(tools.doubler, name="double")
    assert doubler.tool.parameters["properties"] == {"number": {"type": "integer"}}
    assert await doubler.call({"number": 4}, "k") == "8"
    bern = FunctionTool(functools.partial(tools.weather, unit="f"), name="bern", description="Of Bern.")
    assert bern.tool.description == "Of Bern."
    assert await bern.call({"city": "Bern"}, "k") == '{"city":"Bern","degrees":70.7}'


async def test_idempotency_key_is_given_and_not_shown() -> None:
    tool = FunctionTool(tools.book)
    assert list(tool.tool.parameters["properties"]) == ["seat"]  # type: ignore[arg-type]
    tools.called.clear()
    assert await tool.call({"seat": "4a"}, "the key") == "booked 4a"
    assert tools.called == [("book", ("4a", "the key"))]
    with pytest.raises(ToolFault, match="idempotency_key: Extra inputs"):
        await tool.call({"seat": "4a", "idempotency_key": "mine"}, "the key")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "the arguments do not fit: city: Field required"),
        ({"city": 3}, "the arguments do not fit: city: Input should be a valid string"),
        ({"city": "x", "unit": "k"}, "the arguments do not fit: unit: Input should be 'c' or 'f'"),
        ({"city": "x", "town": "y"}, "the arguments do not fit: town: Extra inputs are not permitted"),
    ],
)
async def test_wrong_arguments_are_told(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ToolFault) as caught:
        await FunctionTool(tools.weather).call(arguments, "k")
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (tools.many, r"tool 'many' takes \*numbers: a model needs named arguments"),
        (tools.live, "the arguments of tool 'live' cannot come from JSON"),
        (tools.callback, "the arguments of tool 'callback' cannot come from JSON"),
        (lambda: 1, "'<lambda>' cannot name a tool"),
    ],
)
def test_function_that_cannot_be_a_tool_is_refused(function: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FunctionTool(function)


def call(arguments: str) -> ToolCall:
    return ToolCall(id="1", name="t", arguments=arguments)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        (" null ", {}),
        ('```json\n{"a": [1, 2]}\n```', {"a": [1, 2]}),
        ("{'a': True,}", {"a": True}),
    ],
)
def test_arguments_are_read_as_generously_as_answers(written: str, meant: object) -> None:
    assert arguments_of(call(written)) == meant


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("nothing", "not JSON"),
        ("[1]", "one JSON object"),
        ('"a"', "one JSON object"),
        ('{"a": ' + "[" * 300 + "]" * 300 + "}", "nested too deeply"),
        ('{"a": "' + "x" * 200_000 + '"}', "at most 200,000"),
    ],
)
def test_arguments_that_are_none_are_told(written: str, told: str) -> None:
    with pytest.raises(ToolFault, match=told):
        arguments_of(call(written))


def test_key_of_a_call_tells_visit_tool_arguments_and_repetitions_apart() -> None:
    first = key_of("run:book", "pay", {"a": 1, "b": 2}, 0)
    assert first.startswith("run:book:pay:")
    assert key_of("run:book", "pay", {"b": 2, "a": 1}, 0) == first
    others = {
        key_of("run:book#2", "pay", {"a": 1, "b": 2}, 0),
        key_of("run:book", "refund", {"a": 1, "b": 2}, 0),
        key_of("run:book", "pay", {"a": 1, "b": 3}, 0),
        key_of("run:book", "pay", {"a": 1, "b": 2}, 1),
    }
    assert len(others | {first}) == 5


def test_registry_has_a_toolbox_that_refuses_a_name_twice() -> None:
    registry = Registry(())
    assert registry.toolbox.tool("sky")(tools.weather) is tools.weather
    registry.toolbox.add(tools.weather, name="sky")  # the same function again
    with pytest.raises(ConfigError, match=r"tool 'sky' is given by support.tools.book and by support.tools.weather"):
        registry.toolbox.add(tools.book, name="sky")
    assert registry.toolbox.names() == ("sky",)
    assert Registry(()).toolbox.names() == ()
