"""Templates inside an agent's options: compiled with its step, rendered for every attempt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias, cast

import msgspec

from orka.agents.base import OptionName
from orka.template.environment import Environment, Template
from orka.template.view import View
from orka.types import Json

Tree: TypeAlias = "Template | list[Tree] | dict[str, Tree] | bool | int | float | str | None"
"""A value with its templates compiled."""


def compile_options(options: Mapping[str, Json], names: frozenset[str], environment: Environment) -> dict[str, Tree]:
    """Those of the named options that have templates in them. `TemplateError`."""
    found: dict[str, Tree] = {}
    for name in names:
        if name in options and any(_templates(tree := _compiled(options[name], environment))):
            found[name] = tree
    return found


def render_options(
    options: Mapping[str, Json], trees: Mapping[str, Tree], view: View, names: Mapping[str, OptionName]
) -> Mapping[str, Json]:
    """The options with their texts rendered; they see `names`, too. `TemplateError`."""
    if names:
        known = {name: _value_of(place, options, trees, view) for name, place in names.items()}
        view = msgspec.structs.replace(view, variables={**view.variables, **known})  # warnings go to the same list
    return {**options, **{name: _rendered(tree, view) for name, tree in trees.items()}}


def _value_of(name: OptionName, options: Mapping[str, Json], trees: Mapping[str, Tree], view: View) -> str:
    view = msgspec.structs.replace(view, warnings=[])  # they come with the option itself
    for place in name.places:
        tree: object = trees.get(place[0], options.get(place[0]))
        for key in place[1:]:
            tree = cast("Mapping[str, object]", tree).get(key) if isinstance(tree, Mapping) else None
        text = tree.render(view) if isinstance(tree, Template) else tree
        if isinstance(text, str) and text:
            return text
    return name.default


def templates_in(trees: Mapping[str, Tree]) -> Iterator[Template]:
    for tree in trees.values():
        yield from _templates(tree)


def _compiled(value: Json, environment: Environment) -> Tree:
    match value:
        case str() if "{{" in value or "{%" in value:
            return environment.compile(value)
        case list():
            return [_compiled(item, environment) for item in value]
        case dict():
            return {name: _compiled(item, environment) for name, item in value.items()}
        case _:
            return value


def _rendered(tree: Tree, view: View) -> Json:
    match tree:
        case Template():
            return tree.render(view)
        case list():
            return [_rendered(item, view) for item in tree]
        case dict():
            return {name: _rendered(item, view) for name, item in tree.items()}
        case _:
            return cast("Json", tree)


def _templates(tree: Tree) -> Iterator[Template]:
    match tree:
        case Template():
            yield tree
        case list():
            for item in tree:
                yield from _templates(item)
        case dict():
            for item in tree.values():
                yield from _templates(item)
        case _:
            pass
