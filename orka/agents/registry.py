"""The open set of agent types: built-in ones, those of installed distributions, and those registered in process.

Nothing is built here before a graph needs it, and no plug-in is imported before one of its types is asked for.
"""

from __future__ import annotations

import importlib.metadata
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import TypeVar, cast

from pydantic import BaseModel

from orka.agents.adapters import AgentTarget, agent_type_of
from orka.agents.base import AgentType
from orka.agents.tooling.toolbox import Toolbox, default_toolbox
from orka.errors import ConfigError

ENTRY_POINTS = "orka.agents"
"""Entry-point group in which a distribution names its agent types."""
CONTROL_TYPES = frozenset({"router", "fork", "join", "failover", "loop", "map", "path_executor"})
"""Types that the interpreter itself runs; no agent may take their names."""
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_MARK = "__orka_agent__"
T = TypeVar("T", bound=AgentTarget)
F = TypeVar("F", bound=Callable[..., object])


class Registry:
    """Agent types by name and alias. Every method may be called from any thread.

    A fresh registry holds the built-in types; `Registry(())` is empty.
    """

    def __init__(
        self, types: Iterable[AgentType] | None = None, *, plugins: bool = False, toolbox: Toolbox | None = None
    ) -> None:
        """`plugins`: names that nobody registered are looked up in the entry points of installed distributions. `toolbox`:
        tools of agents that ask a model, a box of its own unless given."""
        self.toolbox = toolbox or Toolbox()
        self._lock = threading.RLock()
        self._types: dict[str, AgentType] = {}
        self._origins: dict[str, str] = {}
        self._loading: set[str] = set()
        self._waiting: dict[str, importlib.metadata.EntryPoint] | None = None if plugins else {}
        for entry, aliases in builtin_types() if types is None else ((entry, ()) for entry in types):
            self.add(entry, aliases=aliases, origin="a built-in type")

    def add(self, entry: AgentType, *, aliases: Iterable[str] = (), origin: str = "a registered type") -> None:
        """Makes a type known by its name and `aliases`, all or none. `ConfigError` when a name is taken by another
        origin (both are named); the same origin replaces its type, so that a notebook's cell can be run again."""
        names = (entry.name, *aliases)
        with self._lock:
            for name in names:
                _refuse_bad(name)
                taken = self._types.get(name)
                if taken is not None and taken is not entry and self._origins[name] != origin:
                    raise _clash(name, origin, self._origins[name])
                point = (self._waiting or {}).get(name)
                if point is not None and name not in self._loading and not _is_part_of(origin, point):
                    raise _clash(name, origin, _describe(point))
            for name in names:
                self._types[name] = entry
                self._origins[name] = origin

    def agent(
        self,
        name: str,
        *,
        pure: bool = False,
        options: type[BaseModel] | None = None,
        aliases: tuple[str, ...] = (),
        summary: str = "",
    ) -> Callable[[T], T]:
        """Decorator that registers a class or function here; see `orka.agents.registry.agent`."""

        def register(target: T) -> T:
            entry = agent_type_of(target, name, pure=pure, options=options, summary=summary)
            self.add(entry, aliases=aliases, origin=_origin_of(target))
            setattr(target, _MARK, (entry, aliases))
            return target

        return register

    def specs(self) -> Mapping[str, AgentType]:
        """Everything known, by name and alias, for the checker. Looking a name up loads its plug-in if it has one."""
        return _Specs(self)

    def find(self, name: str) -> AgentType | None:
        """The type of this name or alias, or None. `ConfigError` when it is a plug-in that cannot be loaded."""
        entry = self._types.get(name)
        if entry is not None:
            return entry
        with self._lock:
            point = self._plugins().get(name)
        return None if point is None else self._load(point)

    def names(self) -> tuple[str, ...]:
        """Every name and alias, sorted; plug-ins that are not loaded yet included."""
        with self._lock:
            return tuple(sorted({*self._types, *self._plugins()}))

    def _plugins(self) -> dict[str, importlib.metadata.EntryPoint]:
        if self._waiting is None:
            waiting: dict[str, importlib.metadata.EntryPoint] = {}
            for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
                other = waiting.get(point.name)
                if other is not None and other.value != point.value:
                    raise _clash(point.name, _describe(point), _describe(other))
                origin = self._origins.get(point.name)
                if origin is None:
                    waiting[point.name] = point
                elif not _is_part_of(origin, point):  # else its module was imported already and registered it
                    raise _clash(point.name, _describe(point), origin)
            self._waiting = waiting
        return self._waiting

    def _load(self, point: importlib.metadata.EntryPoint) -> AgentType:
        # Not under our lock: the import may wait for another thread that is registering a type right now.
        self._loading.add(point.name)
        try:
            loaded: object = point.load()
        except Exception as exc:  # bulkhead: a plug-in is foreign code, and any fault of it is reported as its own
            raise ConfigError(
                f"agent type {point.name!r} cannot be loaded from {_describe(point)}: {type(exc).__name__}: {exc}"
            ) from exc
        entry, aliases = _definition(loaded, point)
        with self._lock:
            others = tuple(name for name in (*aliases, point.name) if name != entry.name)
            self.add(entry, aliases=others, origin=_describe(point))
            self._plugins().pop(point.name, None)
        return entry


class _Specs(Mapping[str, AgentType]):
    """A live view of a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __getitem__(self, name: str) -> AgentType:
        entry = self._registry.find(name)
        if entry is None:
            raise KeyError(name)
        return entry

    def __contains__(self, name: object) -> bool:
        return name in self._registry.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self._registry.names())

    def __len__(self) -> int:
        return len(self._registry.names())


def builtin_types() -> tuple[tuple[AgentType, tuple[str, ...]], ...]:
    """The types that come with Orka, with their aliases, in the order of the reference."""
    from orka.agents import (  # they import what registering does not need
        brain,
        classify,
        echo,
        failing,
        function,
        ingest,
        invariants,
        legacy_choices,
        llm,
        llm_choices,
        loop_validator,
        memory,
        plan_validator,
        rag,
        scout,
        search,
        template,
        validation,
    )

    return (
        *((entry, ()) for entry in llm.TYPES),
        (llm_choices.CLASSIFICATION, ()),
        (llm_choices.BINARY, ()),
        (loop_validator.TYPE, ()),
        (plan_validator.TYPE, ()),
        (template.TYPE, ()),
        (function.TYPE, ()),
        (classify.TYPE, ()),
        (memory.TYPE, ()),
        (rag.TYPE, ()),
        (ingest.TYPE, ()),
        (search.TYPE, ("search",)),
        (validation.TYPE, ()),
        (legacy_choices.BINARY, ()),
        (legacy_choices.CLASSIFICATION, ()),
        (brain.TYPE, ()),
        (scout.TYPE, ()),
        (invariants.TYPE, ()),
        (echo.TYPE, ()),
        (failing.TYPE, ()),
    )


@cache
def default_registry() -> Registry:
    """The registry of this process: built-in types, `@agent`, and plug-ins found when first needed."""
    return Registry(plugins=True, toolbox=default_toolbox())


def agent(
    name: str,
    *,
    pure: bool = False,
    options: type[BaseModel] | None = None,
    aliases: tuple[str, ...] = (),
    summary: str = "",
) -> Callable[[T], T]:
    """Registers a class or function as the agent type `name` of this process.

    A class has `async def run(self, task)` and takes nothing or `(node, tools)`; a function takes an `AgentInput`, and
    a plain `def` runs in a worker thread. Either gives an `AgentOutput` or a JSON value: a dict with `response` is the
    whole result, anything else is the response. `options` is the model of the keys that a file may give; without it
    every key is accepted. `pure` promises that calling it twice is harmless and that its value follows from its input.
    """
    return default_registry().agent(name, pure=pure, options=options, aliases=aliases, summary=summary)


def tool(name: str | None = None, *, description: str = "") -> Callable[[F], F]:
    """Registers a function as a tool of this process, for agents that ask a model: `tools: [name]` in a graph.

    The model is told the function's name, its docstring (or `description`) and its arguments, by their annotations. A plain
    `def` runs in a worker thread. Its value is a text, or becomes JSON; what it raises is told to the model. A parameter
    `idempotency_key` is given by Orka: the same text when a visit is repeated and calls the function as before.
    """
    return default_registry().toolbox.tool(name, description=description)


def register_agent_type(name: str, target: AgentTarget) -> None:
    """`agent(name)(target)`, as a call."""
    agent(name)(target)


def _definition(loaded: object, point: importlib.metadata.EntryPoint) -> tuple[AgentType, tuple[str, ...]]:
    if isinstance(loaded, AgentType):
        return loaded, ()
    marked = vars(loaded).get(_MARK) if hasattr(loaded, "__dict__") else None  # vars: a subclass is not its parent
    if marked is not None:
        return cast("tuple[AgentType, tuple[str, ...]]", marked)
    if not callable(loaded):
        raise ConfigError(
            f"agent type {point.name!r} of {_describe(point)} is a {type(loaded).__name__}: "
            "name a class, a function or an AgentType"
        )
    return agent_type_of(cast("AgentTarget", loaded), point.name), ()


def _refuse_bad(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot name an agent type: lower-case letters, digits, '_', '-' and '.', a letter first"
        )
    if name in CONTROL_TYPES:
        raise ConfigError(f"{name!r} cannot name an agent type: it is a control node of the interpreter")


def _clash(name: str, one: str, other: str) -> ConfigError:
    return ConfigError(f"agent type {name!r} is given by {one} and by {other}; rename one of them")


def _is_part_of(origin: str, point: importlib.metadata.EntryPoint) -> bool:
    """Whether the code that registered a type belongs to the plug-in's own package."""
    return origin.partition(".")[0] == point.module.partition(".")[0]


def _describe(point: importlib.metadata.EntryPoint) -> str:
    owner = point.dist.name if point.dist is not None else "an unknown distribution"
    return f"{owner!r} ({point.value})"


def _origin_of(target: AgentTarget) -> str:
    named = target if hasattr(target, "__qualname__") else type(target)
    return f"{named.__module__}.{named.__qualname__}"
