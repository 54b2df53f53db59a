"""The file format for machines and readers: JSON Schema for editors, Markdown tables for `docs/format.md`.

Both are made of the models in `models.py` and of the agent types' own models, and of nothing else.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from orka.graph.keys import AgentKeys, BudgetKeys, ControlKeys, LimitKeys, NodeKeys, QueueKeys, RateKeys, RetryKeys
from orka.graph.kinds import known_types
from orka.graph.models import (
    KINDS,
    CognitionKeys,
    FileKeys,
    OrchestratorKeys,
    ScopeKeys,
    ScoreExtractionKeys,
    ScoringKeys,
    StrategyKeys,
)
from orka.graph.spec import AgentSpec, AgentSpecs

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SECTIONS: tuple[tuple[str, type[BaseModel], type[BaseModel] | None], ...] = (
    ("Retry", RetryKeys, None),
    ("Score extraction", ScoreExtractionKeys, None),
    ("Score strategy", StrategyKeys, None),
    ("Cognitive extraction", CognitionKeys, None),
    ("Scoring", ScoringKeys, None),
    ("Rate limit", RateKeys, None),
    ("Limit", LimitKeys, None),
    ("Queue", QueueKeys, None),
    ("Budget", BudgetKeys, None),
)
"""Heading, model, and the model whose keys are listed elsewhere."""


def json_schema(specs: AgentSpecs) -> dict[str, Any]:
    """JSON Schema, draft 2020-12, of graph files. Unknown keys are allowed: `orka check` only warns of them too."""
    definitions: dict[str, Any] = {}
    agent = _define(definitions, "agent", NodeKeys, type_names=known_types(specs))
    agent["required"] = ["id", "type"]
    branches: list[Any] = []
    for kind, model in KINDS.items():
        _define(definitions, f"node.{kind}", model, without=NodeKeys)
        branches.append(_when([kind], f"node.{kind}"))
    for name, (spec, spellings) in _types(specs).items():
        _define(definitions, f"agent.{name}", spec.options, without=NodeKeys)
        branches.append(_when(spellings, f"agent.{name}"))
    _define(definitions, "agent.common", AgentKeys, without=NodeKeys)
    branches.append({"if": _is_type(list(KINDS)), "else": {"$ref": "#/$defs/agent.common"}})
    agent["allOf"] = branches
    body = _define(definitions, "body", FileKeys)
    orchestrator = _define(definitions, "orchestrator", OrchestratorKeys)
    inner = _define(definitions, "orchestrator.inner", ScopeKeys)
    listed = {"type": "array", "minItems": 1, "items": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/agent"}]}}
    for scope in (orchestrator, inner):
        scope["properties"]["agents"] |= listed
        scope["required"] = ["agents"]
    agents = {"type": "array", "items": {"$ref": "#/$defs/agent"}}
    body["properties"] |= {"orchestrator": {"$ref": "#/$defs/orchestrator.inner"}, "agents": agents}
    definitions["node.loop"]["properties"]["internal_workflow"] |= {"$ref": "#/$defs/body"}
    definitions["node.fork"]["properties"]["targets"] |= {"items": {"$ref": "#/$defs/target"}}
    definitions["target"] = {
        "anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/target"}}]
    }
    children: Any = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/agent"}]}
    definitions["node.failover"]["properties"]["children"] |= {"items": children}
    top = _define({}, "file", FileKeys)
    top["properties"] |= {"orchestrator": {"$ref": "#/$defs/orchestrator"}, "agents": agents}
    return {
        "$schema": DIALECT,
        "title": "Orka graph",
        "type": "object",
        "required": ["orchestrator"],
        "properties": top["properties"],
        "$defs": definitions,
    }


def reference(specs: AgentSpecs) -> str:
    """Markdown: every key of the format, in tables."""
    parts = [
        _section("Top level", FileKeys, None),
        _section("Orchestrator", OrchestratorKeys, None),
        _section("Keys of every node", AgentKeys, None),
    ]
    parts += [_section(f"`{kind}`", model, ControlKeys, level=3) for kind, model in KINDS.items()]
    parts += [_section(heading, model, without) for heading, model, without in _SECTIONS]
    parts.append("## Agent types\n")
    for name, (spec, spellings) in _types(specs).items():
        part = _section(f"`{name}`", spec.options, AgentKeys, level=3, summary=spec.summary)
        if len(spellings) > 1:
            others = ", ".join(f"`{other}`" for other in spellings if other != name)
            part += f"\nAlso written {others}.\n"
        parts.append(part)
    parts[3] = "## Control nodes\n\nBeside the keys of every node:\n\n" + parts[3]
    return "\n".join(parts)


def _types(specs: AgentSpecs) -> dict[str, tuple[AgentSpec, list[str]]]:
    """Every agent type once, by its own name, with all its spellings."""
    found: dict[str, tuple[AgentSpec, list[str]]] = {}
    for spelling in sorted(specs):
        spec = specs[spelling]
        found.setdefault(spec.name, (spec, []))[1].append(spelling)
    return dict(sorted(found.items()))


def _when(types: list[str], name: str) -> dict[str, Any]:
    return {"if": _is_type(types), "then": {"$ref": f"#/$defs/{name}"}}


def _is_type(types: list[str]) -> dict[str, Any]:
    return {"properties": {"type": {"enum": types}}, "required": ["type"]}


def _define(
    definitions: dict[str, Any],
    name: str,
    model: type[BaseModel],
    *,
    type_names: tuple[str, ...] = (),
    without: type[BaseModel] | None = None,
) -> dict[str, Any]:
    """Puts a model's schema among `definitions`, what it refers to beside it, and returns it.

    Required keys are left to `orka check`: they may stand in `params`, which a schema cannot say.
    """
    # Two agent types may call their inner models alike, hence the prefix.
    schema: dict[str, Any] = model.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}", mode="validation")
    inner: dict[str, Any] = schema.pop("$defs", {})
    definitions.update({f"{name}.{other}": definition for other, definition in inner.items()})
    for key in ("required", "additionalProperties"):
        schema.pop(key, None)
    schema.setdefault("properties", {})
    for key in without.model_fields if without is not None else ():
        schema["properties"].pop(key, None)
    if type_names:
        schema["properties"]["type"] |= {"enum": list(type_names)}
    definitions[name] = schema
    return schema


def _section(
    heading: str, model: type[BaseModel], without: type[BaseModel] | None, *, level: int = 2, summary: str = ""
) -> str:
    text = summary or re.sub(r"\s+", " ", model.__doc__ or "").strip()
    head = f"{'#' * level} {heading}\n\n{text}\n"
    skipped = set(without.model_fields) if without is not None else set[str]()
    schema: dict[str, Any] = model.model_json_schema(mode="validation")
    rows = [_row(name, info, schema) for name, info in model.model_fields.items() if name not in skipped]
    if not rows:
        return f"{head}\nNo keys of its own.\n"
    return "\n".join((head, "| key | value | default | meaning |", "|---|---|---|---|", *rows, ""))


def _row(name: str, info: FieldInfo, whole: dict[str, Any]) -> str:
    aliases = (info.validation_alias, info.alias)
    choices = (alias.choices[0] for alias in aliases if isinstance(alias, AliasChoices))
    key = next((alias for alias in (*choices, *aliases) if isinstance(alias, str)), name)
    schema: dict[str, Any] = whole.get("properties", {}).get(key, {})
    meaning = re.sub(r"\s+", " ", info.description or "").strip()
    if schema.get("ignored"):
        kind, default = "any", ""
    else:
        kind = _kind(schema, whole.get("$defs", {}))
        default = "required" if info.is_required() else _default(info)
    return f"| `{key}` | {kind} | {default} | {meaning} |".replace("|  |", "| |")


def _default(info: FieldInfo) -> str:
    value: object = info.get_default(call_default_factory=True)
    if value is None or value == [] or value == {} or isinstance(value, BaseModel):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value}`"


def _kind(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """The values a key takes, in words."""
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        kinds = [_kind(member, definitions) for member in schema["anyOf"] if member.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "$ref" in schema:
        return _kind(definitions.get(str(schema["$ref"]).rsplit("/", 1)[-1], {}), definitions)
    kind = schema.get("type")
    if kind == "array":
        inner = _kind(schema.get("items", {}), definitions)
        return "list" if inner == "any" else f"list of {inner}"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    return words.get(str(kind), "mapping" if kind == "object" else "any")
