"""From a user's class or function to an `AgentType`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeAlias, cast

import anyio.to_thread
from pydantic import BaseModel, ConfigDict

from orka.agents.base import Agent, AgentInput, AgentOutput, AgentTools, AgentType
from orka.agents.legacy import BaseAgent
from orka.agents.values import as_output
from orka.errors import ConfigError
from orka.graph.nodes import AgentNode

AgentTarget: TypeAlias = "Callable[..., Any]"
"""A class with `async def run(self, task)`, or a function of one `AgentInput`."""


class AnyOptions(BaseModel):
    """Options of a type that declares none: every key is accepted."""

    model_config = ConfigDict(extra="allow")


class _Runs(Protocol):
    async def run(self, task: AgentInput, /) -> object: ...


class ObjectAgent:
    """A user's object with a `run` of its own, whose value may be any JSON."""

    def __init__(self, inner: _Runs) -> None:
        self._inner = inner

    async def run(self, task: AgentInput, /) -> AgentOutput:
        return as_output(await self._inner.run(task))


class FunctionCaller:
    """Calls a function with the `AgentInput`: an async one on the loop, any other in a worker thread."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self._is_async = is_async(function)

    async def run(self, task: AgentInput, /) -> AgentOutput:
        return as_output(await self.call(task))

    async def call(self, task: AgentInput, /) -> object:
        """Cancelling returns at once; a thread cannot be stopped, so what it still gives is dropped."""
        if self._is_async:
            value = self._function(task)
        else:
            value = await anyio.to_thread.run_sync(self._function, task, abandon_on_cancel=True)
        return await cast("Awaitable[object]", value) if inspect.isawaitable(value) else value


def is_async(function: Callable[..., object]) -> bool:
    """Whether calling it gives an awaitable: an async function, a partial of one, or an object with an async call."""
    while isinstance(function, partial):
        function = cast("partial[object]", function).func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def agent_type_of(
    target: AgentTarget,
    name: str,
    *,
    pure: bool = False,
    options: type[BaseModel] | None = None,
    summary: str = "",
) -> AgentType:
    """The registry entry for a class or function. `ConfigError` when it cannot be an agent, saying why."""
    if isinstance(target, type):
        build, event_type = _class_builder(target, name), target.__name__
    else:
        _refuse_bad_function(target, name)
        build = _function_builder(target)
        event_type = "".join(part.capitalize() for part in name.replace("-", "_").replace(".", "_").split("_"))
        event_type = event_type if event_type.endswith("Agent") else event_type + "Agent"
    return AgentType(
        name=name,
        event_type=event_type,
        options=options or AnyOptions,
        build=build,
        pure=pure,
        summary=summary or _first_sentence(target),
    )


def _function_builder(target: AgentTarget) -> Callable[[AgentNode, AgentTools], Agent]:
    caller = FunctionCaller(target)
    return lambda _node, _tools: caller


def _class_builder(target: type, name: str) -> Callable[[AgentNode, AgentTools], Agent]:
    run = getattr(target, "run", None)
    if not inspect.iscoroutinefunction(run):
        raise ConfigError(f"agent type {name!r}: {target.__qualname__} needs `async def run(self, task)`")
    if BaseAgent in target.__mro__:
        return _legacy_builder(cast("type[BaseAgent]", target))
    make = cast("Callable[..., _Runs]", target)
    match _positionals(target):
        case 0:
            return lambda _node, _tools: ObjectAgent(make())
        case 2:
            return lambda node, tools: ObjectAgent(make(node, tools))
        case count:
            raise ConfigError(
                f"agent type {name!r}: the constructor of {target.__qualname__} takes {count} arguments; "
                "it may take none, or (node, tools)"
            )


def _legacy_builder(target: type[BaseAgent]) -> Callable[[AgentNode, AgentTools], Agent]:
    def build(node: AgentNode, _: AgentTools) -> Agent:
        options: dict[str, Any] = {name: value for name, value in node.options.items() if name.isidentifier()}
        common: dict[str, Any] = {
            "prompt": node.prompt,
            "timeout": node.policy.timeout,
            "max_concurrency": node.max_concurrency,
        }
        made = target(node.id, **common, **options)
        return ObjectAgent(made)

    return build


def _refuse_bad_function(target: AgentTarget, name: str) -> None:
    if not callable(target):
        raise ConfigError(f"agent type {name!r}: a {type(target).__name__} is neither a class nor a function")
    count = _positionals(target)
    if count != 1:
        label = getattr(target, "__qualname__", repr(target))
        raise ConfigError(f"agent type {name!r}: {label} takes {count} arguments; it must take one, the AgentInput")


def _positionals(target: AgentTarget) -> int:
    """How many positional arguments must be given."""
    required = 0
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            required += parameter.default is parameter.empty
    return required


def _first_sentence(target: AgentTarget) -> str:
    text = inspect.getdoc(target) or ""
    return " ".join(text.split("\n\n")[0].split())
