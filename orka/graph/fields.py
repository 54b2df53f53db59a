"""One mapping of a file against one pydantic model: faults with places, in the words of people who write YAML."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from orka.graph.diagnostics import Findings, Mark, suggest
from orka.graph.keys import Keys
from orka.graph.tree import ListTree, MapTree, Scalar, Tree, kind_of, plain
from orka.types import Json

M = TypeVar("M", bound=BaseModel)

_EXPECTED: Mapping[str, str] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
    "number_expected": "a number",
    "name_expected": "a name of letters, digits and '_' that templates do not know yet",
    "rate_expected": "a rate like 60/min (per s, sec, min, h, hour or day)",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
}
"""pydantic's error types -> what the author should have written."""


def settle(
    table: MapTree, model: type[M], findings: Findings, *, owner: str, agent: str | None = None, at: Mark | None = None
) -> M | None:
    """`table` as a `model`; None, with the faults reported, when values are missing or of a wrong type.

    `owner` names the mapping in messages (`agent 'x'`). Keys the model does not know are not given to it. A key without
    a value (`past_loops_metadata:`) stands for its default where none is no value of its own.
    """
    known = keys_of(model)
    data = {entry.key.text: plain(entry.value) for entry in table.entries if entry.key.text in known}
    for name in [name for name, value in data.items() if value is None]:
        if _may_be_left_out(model, name) and not _takes_none(known[name]):
            del data[name]
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        _report(exc.errors(include_url=False), table, findings, owner, agent, at or table.at)
        return None


def _may_be_left_out(model: type[BaseModel], name: str) -> bool:
    return any(
        name in (key, info.alias, info.validation_alias) and not info.is_required()
        for key, info in model.model_fields.items()
    )


def _takes_none(annotation: Any) -> bool:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _takes_none(args[0])
    if origin in (Union, types.UnionType):
        return any(map(_takes_none, args))
    return annotation in (Any, types.NoneType)


def check_keys(
    table: MapTree, models: Iterable[type[BaseModel]], findings: Findings, *, owner: str, agent: str | None = None
) -> None:
    """Warns of keys that none of `models` has, also inside the mappings that their fields describe.

    An agent's own model with `extra="allow"` takes any key.
    """
    models = tuple(models)
    known: dict[str, Any] = {}
    for model in models:
        known.update(keys_of(model))
    is_open = any(not issubclass(model, Keys) and model.model_config.get("extra") == "allow" for model in models)
    for entry in table.entries:
        name = entry.key.text
        if name in known:
            _check_inside(entry.value, known[name], findings, f"{name!r} of {owner}", agent)
        elif not is_open:
            findings.warning(
                f"unknown key {name[:60]!r} in {owner}",
                entry.key.at,
                hint=_owner_of(name, known) or suggest(name, known) or _quote_hint(entry.key),
                agent=agent,
                key=name,
            )


def _owner_of(name: str, known: Mapping[str, Any]) -> str | None:
    """The mapping inside which the key would be known."""
    for key, annotation in known.items():
        if any(name in keys_of(model) for model in _models_in(annotation)):
            return f"it belongs under {key!r}"
    return None


def keys_of(model: type[BaseModel]) -> dict[str, Any]:
    """Every key that a file may use for a field of `model`, with the field's annotation."""
    keys: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        alias = info.validation_alias or info.alias
        if isinstance(alias, str):
            keys[alias] = info.annotation
            if model.model_config.get("populate_by_name"):
                keys[name] = info.annotation
        elif alias is not None:
            choices = getattr(alias, "choices", [alias])
            for choice in choices:
                first = choice if isinstance(choice, str) else choice.path[0]
                keys[str(first)] = info.annotation
        else:
            keys[name] = info.annotation
    return keys


def merged(first: MapTree, second: MapTree) -> MapTree:
    """Both mappings as one; keys of `first` win."""
    own = {entry.key.text for entry in first.entries}
    return MapTree((*first.entries, *(entry for entry in second.entries if entry.key.text not in own)), first.at)


def without(table: MapTree, names: Iterable[str]) -> MapTree:
    dropped = frozenset(names)
    return MapTree(tuple(entry for entry in table.entries if entry.key.text not in dropped), table.at)


def as_options(table: MapTree) -> dict[str, Json]:
    return {entry.key.text: plain(entry.value) for entry in table.entries}


def _check_inside(tree: Tree, annotation: Any, findings: Findings, owner: str, agent: str | None) -> None:
    """Only where the annotation leaves one model: a union of several says nothing about the keys."""
    inner = _models_in(annotation)
    if len(inner) != 1:
        return
    for item in tree.items if isinstance(tree, ListTree) else (tree,):
        if isinstance(item, MapTree):
            check_keys(item, inner, findings, owner=owner, agent=agent)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, Annotated, list, tuple):
        return [model for part in get_args(annotation) for model in _models_in(part)]
    return []


def _report(
    errors: list[ErrorDetails], table: MapTree, findings: Findings, owner: str, agent: str | None, at: Mark
) -> None:
    """One fault per place: the members of a union complain separately, and only together they make sense."""
    by_place: dict[tuple[str, ...], list[ErrorDetails]] = {}
    for error in errors:
        keys, _ = _walk(table, error["loc"])
        by_place.setdefault(keys, []).append(error)
    for keys, group in by_place.items():
        if any(len(deeper) > len(keys) and deeper[: len(keys)] == keys for deeper in by_place) and keys:
            continue  # the other members of a union, where one of them fits but for what is inside
        _, found = _walk(table, group[0]["loc"])
        dotted = "".join(f"[{key}]" if key.isdigit() else f".{key}" for key in keys).lstrip(".")
        missing = [str(error["loc"][-1]) for error in group if error["type"] == "missing"]
        if missing and isinstance(found, MapTree):
            inside = f"{dotted!r} of {owner}" if dotted else owner
            for name in missing:
                place = at if found is table else found.at
                findings.error(f"{inside} has no {name!r}", place, agent=agent, key=name)
            continue
        if group[0]["type"] in ("value_error", "too_short"):
            problem = "is empty" if group[0]["type"] == "too_short" else f": {_reason(group[0])}"
            inside = f"{dotted!r} of {owner}" if dotted else owner
            findings.error(f"{inside} {problem}".replace(" :", ":"), found.at, agent=agent, key=dotted)
            continue
        wanted = " or ".join(dict.fromkeys(_wanted(error) for error in group if error["type"] != "missing"))
        findings.error(
            f"{dotted!r} of {owner} must be {wanted}, not {kind_of(found)}",
            found.at,
            hint=_value_hint(found, group),
            agent=agent,
            key=dotted,
        )


def _walk(table: MapTree, loc: tuple[int | str, ...]) -> tuple[tuple[str, ...], Tree]:
    """The keys of `loc` that the file has, and the value they lead to; pydantic also puts names of types into `loc`."""
    here: Tree = table
    keys: list[str] = []
    for step in loc:
        if isinstance(here, MapTree) and (value := here.value(str(step))) is not None:
            here = value
            keys.append(str(step))
        elif isinstance(here, ListTree) and isinstance(step, int) and step < len(here.items):
            here = here.items[step]
            keys.append(str(step))
    return tuple(keys), here


def _wanted(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "literal_error" | "enum" | "shape_expected":
            return str(context.get("expected", "another value"))
        case "greater_than_equal":
            return f"at least {context['ge']:g}"
        case "greater_than":
            return f"more than {context['gt']:g}"
        case "less_than_equal":
            return f"at most {context['le']:g}"
        case "less_than":
            return f"less than {context['lt']:g}"
        case "string_pattern_mismatch":
            return f"text like {context['pattern']}"
        case known if known in _EXPECTED:
            return _EXPECTED[known]
        case _:
            return f"another value ({error['msg'].lower()})"


def _reason(error: ErrorDetails) -> str:
    """What a validator of a model said."""
    return error["msg"].removeprefix("Value error, ")


def _value_hint(found: Tree, group: list[ErrorDetails]) -> str | None:
    if not isinstance(found, Scalar):
        return None
    for error in group:
        if error["type"] in ("literal_error", "enum") and isinstance(found.value, str):
            choices = [
                word.strip("' ")
                for word in str(error.get("ctx", {}).get("expected", "")).replace(" or ", ",").split(",")
            ]
            return suggest(found.value, choices)
        if error["type"] == "list_type" and isinstance(found.value, str) and found.value:
            return f"write [{found.text[:40]}]"
        if error["type"] == "string_type" and found.value is not None:
            return quote_hint(found)
    return None


def quote_hint(found: Scalar) -> str | None:
    """Why text turned out not to be text, and the way out."""
    if isinstance(found.value, bool):
        return f'YAML reads {found.text} as true or false; write "{found.text}"'
    if isinstance(found.value, int | float):
        return f'write "{found.text[:40]}"'
    return None


def _quote_hint(key: Scalar) -> str | None:
    return None if isinstance(key.value, str) else quote_hint(key)


def entry_at(table: MapTree, name: str) -> Mark:
    """Place of a key's value, else of the mapping."""
    value = table.value(name)
    return value.at if value is not None else table.at
