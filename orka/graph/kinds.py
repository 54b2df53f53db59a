"""Names of types: which are control nodes, which agent types are planned, and the other spellings that files use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from orka.graph.models import KINDS
from orka.graph.nodes import NO_OPTIONS
from orka.graph.spec import AgentSpec, AgentSpecs
from orka.types import Json

PLANNED = frozenset(
    {
        "satellite-state-writer",
        "streaming-executor",
    }
)
"""Agent types that existing files use. One that no registry entry covers yet is told apart from a misspelling."""

CHOOSERS = frozenset({"graph-scout", "path_executor"})
"""Nodes that name the next ones at run time: in their presence nothing can be called unreachable."""

_ALIASES: Mapping[str, tuple[str, Mapping[str, Json]]] = {
    "memory-reader": ("memory", {"config": {"operation": "read"}}),
    "memory-writer": ("memory", {"config": {"operation": "write"}}),
    "graphscout": ("graph-scout", NO_OPTIONS),
}
"""Spelling -> type, and the options that the spelling stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeName:
    """What the `type` of a file's entry turned out to be."""

    kind: Literal["control", "agent", "planned", "unknown"]
    name: str
    """The canonical name; as written where unknown."""
    spec: AgentSpec | None = None
    implied: Mapping[str, Json] = field(default_factory=lambda: NO_OPTIONS)
    """Options that an alias stands for; what the file says wins."""


def resolve_type(written: str, specs: AgentSpecs) -> TypeName:
    """The type that `written` means. Case and surrounding blanks do not count, nor `-` against `_`."""
    word = written.strip().lower()
    dashed = word.replace("_", "-")
    if word not in specs and dashed in _ALIASES:
        word, implied = _ALIASES[dashed]
    else:
        implied = NO_OPTIONS
    for name in (word, word.replace("-", "_"), word.replace("_", "-")):
        if name in KINDS:
            return TypeName(kind="control", name=name)
        if (spec := specs.get(name)) is not None:
            return TypeName(kind="agent", name=spec.name, spec=spec, implied=implied)
        if name in PLANNED:
            return TypeName(kind="planned", name=name, implied=implied)
    return TypeName(kind="unknown", name=written)


def spellings(specs: AgentSpecs) -> tuple[str, ...]:
    """Every word that `resolve_type` knows, planned types included: what a misspelling may have meant."""
    return tuple(sorted({*KINDS, *specs, *PLANNED, *_ALIASES}))


def known_types(specs: AgentSpecs) -> tuple[str, ...]:
    """Every name that `type` may have in this version, sorted."""
    return tuple(sorted({*KINDS, *specs}))
