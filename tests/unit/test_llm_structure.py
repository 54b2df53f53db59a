"""The short form of structured output, and what becomes of the fields that come back."""

import pytest

from orka.agents.structured import StructuredOutput, json_schema_of, structure_of
from orka.errors import ConfigError
from orka.llm.structure import coerce, describe_schema, missing_fields

ANSWER = {"required": ["response"], "optional": {"confidence": "number"}}


def test_short_form_is_expanded() -> None:
    short = {"required": ["response", "risky"], "optional": {"n": "int"}, "types": {"risky": "bool"}}
    assert json_schema_of(short, strict=True) == {
        "type": "object",
        "properties": {"response": {"type": "string"}, "risky": {"type": "boolean"}, "n": {"type": "integer"}},
        "required": ["response", "risky"],
        "additionalProperties": False,
    }


def test_names_and_types_are_a_schema() -> None:
    schema = json_schema_of({"score": "float", "tags": "list"}, strict=False)
    assert schema["properties"] == {"score": {"type": "number"}, "tags": {"type": "array"}}
    assert schema["required"] == ["score", "tags"]


def test_json_schema_stays_as_it_is() -> None:
    assert json_schema_of({"type": "object"}, strict=False) == {"type": "object"}
    whole = {"type": "object", "properties": {"a": {"type": "string", "enum": ["x"]}}}
    assert json_schema_of(whole, strict=True) == whole


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"required": "response"}, "list of names"),
        ({"required": ["a"], "types": {"a": "strng"}}, "'strng' of 'a' is no type"),
        ({"a": 1}, "neither"),
        ({"a": "number", "b": "wat"}, "'wat' of 'b' is no type"),
        ({"type": "array", "items": {}}, "must be of type object"),
    ],
)
def test_bad_schema_says_why(schema: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        json_schema_of(schema, strict=False)


def test_fields_become_of_their_types_where_nothing_is_guessed() -> None:
    schema = json_schema_of(
        {"n": "number", "i": "integer", "b": "boolean", "l": "array", "s": "string", "u": "number"}, strict=False
    )
    given = {"n": "0.8", "i": "3", "b": "Yes", "l": "one", "s": 5, "u": "many", "more": "kept"}
    assert coerce(given, schema) == {"n": 0.8, "i": 3, "b": True, "l": ["one"], "s": "5", "u": "many", "more": "kept"}
    assert coerce({"n": "80%", "i": 4.0, "b": 0, "l": None}, schema) == {"n": 0.8, "i": 4, "b": False, "l": None}
    assert coerce({"n": "1e30", "i": "1e30"}, schema) == {"n": 1e30, "i": 1e30}  # integers of 64 bits are stored


def test_what_is_inside_becomes_of_its_type_too() -> None:
    schema = {
        "type": "object",
        "properties": {
            "u": {"type": ["null", "number"]},
            "l": {"type": "array", "items": {"type": "integer"}},
            "o": {"type": "object", "properties": {"b": {"type": "boolean"}}},
        },
    }
    given = {"u": "4", "l": ["1", "x"], "o": {"b": "no"}}
    assert coerce(given, schema) == {"u": 4, "l": [1, "x"], "o": {"b": False}}
    assert coerce({"u": None, "l": "2", "o": None}, schema) == {"u": None, "l": [2], "o": None}
    text = describe_schema(schema)
    assert "- u: null or number, may be left out" in text
    assert "- l: array of integer" in text
    assert "- o: object {b: boolean}" in text


def test_an_empty_schema_is_none() -> None:
    found = structure_of(StructuredOutput.model_validate({"schema": {}}), {}, ANSWER, owner="a")
    assert found is not None
    assert "response" in describe_schema(found.schema)


def test_description_names_every_field() -> None:
    text = describe_schema(json_schema_of(ANSWER, strict=False))
    assert "- response: string" in text
    assert "- confidence: number, may be left out" in text
    assert missing_fields({"confidence": 1}, json_schema_of(ANSWER, strict=False)) == ["response"]


def test_agent_wins_over_the_graph_and_the_graph_over_the_type() -> None:
    graph = {"structured_output_defaults": {"enabled": True, "mode": "prompt", "coerce_types": False}}
    found = structure_of(None, graph, ANSWER, owner="a")
    assert found is not None
    assert (found.mode, found.coerces, found.schema["required"]) == ("prompt", False, ["response"])
    own = StructuredOutput.model_validate({"mode": "tool_call", "schema": {"score": "number"}})
    found = structure_of(own, graph, ANSWER, owner="a")
    assert found is not None
    assert (found.mode, found.coerces, found.schema["required"]) == ("tool_call", False, ["score"])


def test_off_is_off() -> None:
    assert structure_of(None, {}, ANSWER, owner="a") is None
    assert structure_of(StructuredOutput(enabled=False), {}, ANSWER, owner="a") is None
    switched = {"structured_output_defaults": {"enabled": False}}
    assert structure_of(StructuredOutput(), switched, ANSWER, owner="a") is None
    assert structure_of(StructuredOutput(enabled=True), switched, ANSWER, owner="a") is not None


def test_bad_defaults_of_the_graph_name_the_key() -> None:
    with pytest.raises(ConfigError, match=r"structured_output_defaults\.mode, used by 'a'"):
        structure_of(None, {"structured_output_defaults": {"mode": "xml"}}, ANSWER, owner="a")
