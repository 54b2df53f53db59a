"""What the checker is told about agent types and templates: data handed in from upper floors, so that `graph`
imports neither `agents` nor `template`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from pydantic import BaseModel


class AgentSpec(Protocol):
    """The part of a registry entry that checking a file needs (`orka.agents.base.AgentType` has it)."""

    @property
    def name(self) -> str: ...
    @property
    def options(self) -> type[BaseModel]: ...
    @property
    def summary(self) -> str: ...
    @property
    def templates(self) -> frozenset[str]: ...


class TemplateFacts(Protocol):
    """What compiling a template says about it."""

    @property
    def reads(self) -> frozenset[str]:
        """Node ids whose outputs the template names as constants."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings found at compile time (unknown filters), one sentence each."""
        ...


CompileTemplate: TypeAlias = Callable[[str], TemplateFacts]
"""Raises `orka.errors.TemplateError` (its `line` counts within the template) for a template that does not compile."""

CheckPattern: TypeAlias = Callable[[str, int], object]
"""Given a regular expression that compiles, and its flags of `re`. Raises `orka.errors.TemplateError` for one that a run
would refuse."""

AgentSpecs: TypeAlias = Mapping[str, AgentSpec]
"""By type name and by alias; an alias maps to the spec of its canonical name."""
