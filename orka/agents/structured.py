"""`structured_output` of a node: its settings, those of the graph, and the schema they come to. Workflow-format 10."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from orka.agents.model import Mode
from orka.errors import ConfigError
from orka.llm.structure import TYPES, expand_schema
from orka.types import Json

_JSON_SCHEMA = frozenset({"$schema", "$defs", "additionalProperties", "anyOf", "oneOf", "allOf", "properties", "type"})


class StructuredOutput(BaseModel):
    """`structured_output` of a node."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    enabled: bool | None = Field(default=None, description="`false` switches it off (true).")
    mode: Literal["auto", "json_schema", "model_json", "tool_call", "prompt"] | None = Field(
        default=None,
        description="How JSON is asked for: `json_schema` or `model_json` (the server's response formats), `tool_call`, "
        "`prompt` (in words alone); `auto`: the best that the server takes.",
    )
    schema_: dict[str, Any] | None = Field(
        default=None,
        alias="schema",
        description="`{required: [names], optional: {name: type}, types: {name: type}}`, a mapping of names to types, or a "
        "JSON Schema of an object.",
    )
    coerce_types: bool | None = Field(default=None, description='`"0.8"` becomes 0.8, and the like (true).')
    strict: bool | None = Field(default=None, description="No other fields (false).")

    @field_validator("schema_")
    @classmethod
    def _usable(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema:  # an empty one is none
            json_schema_of(schema, strict=False)
        return schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """What is asked for."""

    schema: Mapping[str, Json]
    """JSON Schema of an object."""
    mode: Mode
    coerces: bool


def structure_of(
    own: StructuredOutput | None, graph: Mapping[str, Json], default: Mapping[str, Json], *, owner: str
) -> Structure | None:
    """The agent's settings over `structured_output_defaults` of the graph; `default` is the schema (in the short form)
    where neither gives one. None when it is off. `ConfigError` for defaults that are none."""
    table = graph.get("structured_output_defaults")
    try:
        around = StructuredOutput.model_validate(table) if isinstance(table, dict) else StructuredOutput()
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"orchestrator.structured_output_defaults.{where}, used by {owner!r}: {first['msg']}"
        ) from exc
    mine = own or StructuredOutput()
    if own is None and not isinstance(table, dict):
        return None
    if not _chosen(mine.enabled, around.enabled, True):
        return None
    strict = _chosen(mine.strict, around.strict, False)
    schema = mine.schema_ or around.schema_ or dict(default)
    return Structure(
        schema=json_schema_of(schema, strict=strict),
        mode=mine.mode or around.mode or "auto",
        coerces=_chosen(mine.coerce_types, around.coerce_types, True),
    )


def json_schema_of(schema: Mapping[str, object], *, strict: bool) -> dict[str, Json]:
    """JSON Schema of what a file gives as a schema. `ValueError` for what is none."""
    if {"required", "optional", "types"} & schema.keys() and "properties" not in schema:
        required: object = schema.get("required") or []
        optional: object = schema.get("optional") or {}
        types: object = schema.get("types") or {}
        if not _is_names(required):
            raise ValueError("`required` must be a list of names")
        if not _is_types(types) or not (_is_types(optional) or _is_names(optional)):
            raise ValueError("`optional` and `types` must map names to types")
        return expand_schema(required, optional, types, strict=strict)
    if schema == {"type": "object"}:
        return {"type": "object"}
    if schema and _is_types(schema) and (not _JSON_SCHEMA & schema.keys() or _all_known(schema)):
        return expand_schema(list(schema), {}, schema, strict=strict)
    if not _JSON_SCHEMA & schema.keys():
        raise ValueError(
            "is neither `{required, optional, types}`, nor a mapping of names to types, nor a JSON Schema of an object"
        )
    if schema.get("type", "object") != "object":
        raise ValueError(f"must be of type object, not {schema['type']!r}")
    return {"type": "object", **cast("Mapping[str, Json]", schema)}


def _all_known(types: Mapping[str, str]) -> bool:
    return all(word.strip().lower() in TYPES for word in types.values())


def _chosen(own: bool | None, around: bool | None, default: bool) -> bool:
    return own if own is not None else around if around is not None else default


def _is_names(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(name, str) for name in cast("list[object]", value))


def _is_types(value: object) -> TypeGuard[Mapping[str, str]]:
    return isinstance(value, Mapping) and all(
        isinstance(word, str) for word in cast("Mapping[str, object]", value).values()
    )
