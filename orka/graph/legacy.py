"""A workflow file as plain data, for questions about what it uses: every entry with its keys, its texts and its place.

Nothing is checked here, so that also a file with faults can be asked. What the answers mean is `differences.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orka.types import Json

_MARKS = re.compile(r"\{\{|\{%|\}\}|%\}")
_ENDS = {"{{": "}}", "{%": "%}"}
_MENTIONED = re.compile(r"previous_outputs\.(\w+)|['\"]([^'\"]*)['\"]")


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
        return "\n".join(found for text in texts for found in _expressions(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """One file."""

    head: Mapping[str, Json]
    """Its `orchestrator`."""
    parts: tuple[Part, ...]
    by_id: Mapping[str, Part]
    """The first entry of each id."""

    def of(self, *types: str) -> Iterator[Part]:
        return (part for part in self.parts if part.type in types)


def is_workflow(document: Json) -> bool:
    """Whether the file means to be a workflow: other YAML files lie in the same folders."""
    return isinstance(document, dict) and isinstance(document.get("orchestrator"), dict)


def read_workflow(document: Mapping[str, Json]) -> Workflow:
    """Whatever can be understood of it; the rest is left out."""
    head = mapping_of(document.get("orchestrator"))
    parts = tuple(_parts([*list_of(document.get("agents")), *list_of(head.get("agents"))], None, None))
    return Workflow(head=head, parts=parts, by_id={part.id: part for part in reversed(parts)})


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


def mentioned(expressions: str) -> frozenset[str]:
    """Ids of agents that templates name: as attributes of `previous_outputs`, or in quotes."""
    found = _MENTIONED.findall(expressions)
    return frozenset(name for attribute, quoted in found for name in (attribute, quoted, quoted.split(".")[0]) if name)


def _expressions(text: str) -> Iterator[str]:
    """One pass over the marks: a pattern for the whole would read a text of opening marks once for each of them."""
    start = None
    for mark in _MARKS.finditer(text):
        if start is None:
            start = mark if mark[0] in _ENDS else None
        elif mark[0] == _ENDS[start[0]]:
            yield text[start.start() : mark.end()]
            start = None


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
