"""What counts as JSON, and how a value that is not says where."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np
import pytest
from pydantic import BaseModel

from orka.agents.base import AgentOutput
from orka.agents.values import as_output, ensure_json, output_value
from orka.errors import AgentError


class Colour(StrEnum):
    RED = "red"


class Model(BaseModel):
    name: str = "n"


@dataclass
class Point:
    x: int = 1


@pytest.mark.parametrize(
    "value",
    [
        "",
        "text",
        "größer 🚀",
        0,
        -(2**63),
        2**64 - 1,
        1.5,
        True,
        None,
        [],
        {},
        [1, ["a", {"b": None}]],
        {"a": {"b": [1.0]}},
    ],
)
def test_json_comes_back_as_the_same_object(value: object) -> None:
    assert ensure_json(value) is value


def test_tuples_mappings_and_subclasses_become_plain_json() -> None:
    given = {"t": (1, (2,)), "o": OrderedDict(a=1), "e": Colour.RED, "n": np.float64(0.5)}
    value = ensure_json(given)
    assert value == {"t": [1, [2]], "o": {"a": 1}, "e": "red", "n": 0.5}
    assert isinstance(value, dict)
    assert type(value["e"]) is str
    assert type(value["n"]) is float
    assert given["t"] == (1, (2,))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"x", "v is a bytes, which is not JSON: decode it to text"),
        ({"items": [1, 2, 3, math.nan]}, "v.items[3] is nan"),
        ({"items": ({"deep": -math.inf},)}, "v.items[0].deep is -inf"),
        ({1: "a"}, "v, key 1 is a key of type int"),
        ({"a": {None: 1}}, "v.a, key None is a key of type NoneType"),
        ([Model()], 'v[0] is a Model, which is not JSON: return its `model_dump(mode="json")`'),
        (Point(), "v is a Point, which is not JSON: return `dataclasses.asdict(...)` of it"),
        ({1, 2}, "v is a set, which is not JSON: return a sorted list of it"),
        (date(2026, 1, 1), "v is a date, which is not JSON: return its `isoformat()`"),
        (np.zeros(2), "v is a ndarray, which is not JSON: return its `tolist()`"),
        (object(), "v is a object"),
        (2**64, "v is an integer beyond 64 bits"),
        ("half \ud800 pair", "v is a text, which is not JSON: it holds half of a surrogate pair"),
        ({"\ud800": 1}, "v, key '\\ud800' is a text"),
    ],
)
def test_what_is_not_json_is_refused_by_its_place(value: object, message: str) -> None:
    with pytest.raises(AgentError) as caught:
        ensure_json(value, "v")
    assert str(caught.value).startswith(message)
    assert caught.value.kind == "ValueNotJson"


def test_value_inside_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(AgentError, match="nested too deeply"):
        ensure_json(loop)


def test_two_hundred_levels_are_the_deepest() -> None:
    value: object = "core"
    for _ in range(200):
        value = [value]
    assert ensure_json(value) is value
    with pytest.raises(AgentError, match="at most 200 levels"):
        ensure_json([value])


def test_dict_with_response_is_the_whole_result() -> None:
    assert as_output({"response": "yes", "score": 0.5}) == AgentOutput(response="yes", fields={"score": 0.5})
    assert as_output({"answer": 1}) == AgentOutput(response={"answer": 1})
    assert as_output(None) == AgentOutput(response=None)
    given = AgentOutput(response=1)
    assert as_output(given) is given


def test_output_is_one_mapping_with_the_response_first() -> None:
    value = output_value(AgentOutput(response=("a",), fields={"score": 0.5, "response": "ignored"}))
    assert list(value.items()) == [("response", ["a"]), ("score", 0.5)]
    with pytest.raises(AgentError, match=r"^scores\.a is nan"):
        output_value(AgentOutput(response="x", fields={"scores": {"a": math.nan}}))
