"""A workflow file as plain data, for questions about what it uses: every entry with its keys, its texts and its place.

Nothing is checked here, so that also a file with faults can be asked. What the answers mean is `differences.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orka.types import Json

_EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One entry of `agents`, wherever in the file it stands."""

    id: str
    type: str
    """In lower case, with dashes."""
    keys: Mapping[str, Json]
    """`params` flattened in; the entry's own keys win."""
    params: Mapping[str, Json]
    """Those under `params` alone."""
    loop: str | None = None
    """Id of the loop around it."""
    parent: str | None = None
    """Id of the failover that it is a child of."""

    def mapping(self, key: str) -> Mapping[str, Json]:
        """The value of a key that should be a mapping; empty where it is not."""
        return mapping_of(self.keys.get(key))

    @property
    def expressions(self) -> str:
        """The parts of its texts that Jinja evaluates, its own entries below it left out."""
        inner = {"internal_workflow", "children", "agents"}
        texts = texts_of({key: value for key, value in self.keys.items() if key not in inner})
        return "\n".join(found for text in texts for found in _EXPRESSION.findall(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """One file."""

    head: Mapping[str, Json]
    """Its `orchestrator`."""
    parts: tuple[Part, ...]

    def of(self, *types: str) -> Iterator[Part]:
        return (part for part in self.parts if part.type in types)

    def part(self, name: object) -> Part | None:
        return next((part for part in self.parts if part.id == name), None)


def is_workflow(document: Json) -> bool:
    """Whether the file means to be a workflow: other YAML files lie in the same folders."""
    return isinstance(document, dict) and isinstance(document.get("orchestrator"), dict)


def read_workflow(document: Mapping[str, Json]) -> Workflow:
    """Whatever can be understood of it; the rest is left out."""
    head = mapping_of(document.get("orchestrator"))
    parts = tuple(_parts([*list_of(document.get("agents")), *list_of(head.get("agents"))], None, None))
    return Workflow(head=head, parts=parts)


def texts_of(value: Json) -> Iterator[str]:
    """Every text in a value, at any depth."""
    waiting = [value]
    while waiting:
        here = waiting.pop()
        if isinstance(here, str):
            yield here
        elif isinstance(here, dict):
            waiting += here.values()
        elif isinstance(here, list):
            waiting += here


def branches_of(fork: Part) -> list[list[str]]:
    """The ids of each branch; those of a fork inside a branch belong to it."""
    return [list(texts_of(target))[::-1] for target in list_of(fork.keys.get("targets"))]


def reads(expressions: str, name: str) -> bool:
    """Whether templates mention the output of `name`."""
    escaped = re.escape(name)
    quoted = rf"['\"]{escaped}(?:\.[^'\"]*)?['\"]"
    return re.search(rf"previous_outputs\.{escaped}\b(?!-)|{quoted}", expressions) is not None


def _parts(entries: list[Json], loop: str | None, parent: str | None) -> Iterator[Part]:
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        params = mapping_of(entry.get("params"))
        part = Part(
            id=str(entry.get("id", "")),
            type=str(entry.get("type", "")).strip().lower().replace("_", "-"),
            keys={**params, **entry},
            params=params,
            loop=loop,
            parent=parent,
        )
        yield part
        body = part.mapping("internal_workflow")
        yield from _parts(list_of(body.get("agents")), part.id, None)
        yield from _parts(list_of(part.keys.get("children")), loop, part.id)


def mapping_of(value: Json) -> Mapping[str, Json]:
    """The value where it is a mapping; else an empty one."""
    return value if isinstance(value, dict) else {}


def list_of(value: Json) -> list[Json]:
    """The value where it is a list; else an empty one."""
    return value if isinstance(value, list) else []
