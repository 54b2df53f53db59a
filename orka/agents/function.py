"""`function`: calls a Python function named by the file, if this process permits its module.

A graph file may come from a stranger, so nothing is imported before the permission is checked.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Annotated

import anyio.to_thread
from pydantic import BaseModel, Field

from orka.agents.adapters import FunctionCaller
from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType
from orka.errors import AgentError
from orka.graph.nodes import AgentNode
from orka.graph.values import shape

_SEGMENT = r"[A-Za-z][A-Za-z0-9_]*"  # no leading underscore: nothing private, nothing dunder
REFERENCE = rf"^{_SEGMENT}(\.{_SEGMENT})*:{_SEGMENT}(\.{_SEGMENT})*$"
"""How files name a function."""


class FunctionOptions(BaseModel):
    """Keys of a `function` node."""

    function: Annotated[str, shape("'module:name', both without a leading underscore")] = Field(
        pattern=REFERENCE,
        description="`module:name` of a function that takes an AgentInput and gives a JSON value.",
    )
    pure: bool = Field(
        default=False, description="Calling it twice is harmless and its value follows from its input: no barrier."
    )


class FunctionAgent:
    """Finds its function at the first call. Importing happens in a worker thread."""

    def __init__(self, reference: str, allowed: bool | frozenset[str]) -> None:
        self._reference = reference
        self._allowed = allowed
        self._caller: FunctionCaller | None = None

    async def run(self, task: AgentInput, /) -> AgentOutput:
        caller = self._caller
        if caller is None:
            if not is_permitted(self._reference, self._allowed):
                raise not_allowed(self._reference, self._reference.partition(":")[0])
            function = await anyio.to_thread.run_sync(load_function, self._reference, self._allowed)
            caller = self._caller = FunctionCaller(function)
        return await caller.run(task)


def is_permitted(reference: str, allowed: bool | frozenset[str]) -> bool:
    """Whether `module:name` may be called here: all may, or its module is one of those allowed or inside one."""
    return _covers(reference.partition(":")[0], allowed)


def load_function(reference: str, allowed: bool | frozenset[str]) -> Callable[..., object]:
    """Imports and returns what `module:name` names. Blocking. Raises `AgentError`: `FunctionNotAllowed` when it was
    defined in a module that is not permitted, `FunctionNotFound` when there is nothing callable of that name."""
    module_name, _, dotted = reference.partition(":")
    try:
        found: object = importlib.import_module(module_name)
    except Exception as exc:  # bulkhead: importing runs foreign code
        raise AgentError(
            f"function {reference!r}: importing {module_name!r} failed: {type(exc).__name__}: {exc}",
            kind="FunctionNotFound",
        ) from exc
    for name in dotted.split("."):
        holder = found
        try:
            found = getattr(holder, name)
        except AttributeError:
            raise AgentError(
                f"function {reference!r}: {_label(holder)} has no {name!r}", kind="FunctionNotFound"
            ) from None
        if isinstance(found, ModuleType):  # a permitted module's imports are no part of it
            raise AgentError(
                f"function {reference!r}: {name!r} is a module; name it before the colon", kind="FunctionNotFound"
            )
    if not callable(found):
        raise AgentError(
            f"function {reference!r} is a {type(found).__name__}, which cannot be called", kind="FunctionNotFound"
        )
    home = getattr(found, "__module__", None)
    if isinstance(home, str) and hasattr(found, "__qualname__") and not _covers(home, allowed):
        raise not_allowed(reference, home)  # imported into a permitted module from one that is not
    return found


def _covers(module: str, allowed: bool | frozenset[str]) -> bool:
    if isinstance(allowed, bool):
        return allowed
    return any(module == name or module.startswith(name + ".") for name in allowed)


def not_allowed(reference: str, module: str) -> AgentError:
    """What is raised for a function of a module that this process does not permit."""
    defined = "" if reference.startswith(f"{module}:") else f" (it is defined in {module!r})"
    return AgentError(
        f"function {reference!r}{defined} is not permitted in this process: if you trust the graph file, run with "
        f"`--allow-functions={module}`, or give `allow_functions={{{module!r}}}` to the Orchestrator",
        kind="FunctionNotAllowed",
    )


def _label(holder: object) -> str:
    name = getattr(holder, "__name__", type(holder).__name__)
    return f"module {name!r}" if isinstance(holder, ModuleType) else repr(name)


def _build(node: AgentNode, tools: AgentTools) -> Agent:
    return FunctionAgent(FunctionOptions.model_validate(dict(node.options)).function, tools.allow_functions)


TYPE = AgentType(
    name="function",
    event_type="FunctionAgent",
    options=FunctionOptions,
    build=_build,
    summary="Calls a Python function that this process permits.",
)
