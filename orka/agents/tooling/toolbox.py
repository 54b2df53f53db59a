"""Functions that Python code registers as tools, by name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from orka.agents.tooling.functions import FunctionTool
from orka.errors import ConfigError

T = TypeVar("T", bound=Callable[..., Any])


class Toolbox:
    """Tools by name. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tools: dict[str, FunctionTool] = {}
        self._origins: dict[str, str] = {}

    def add(self, function: Callable[..., Any], *, name: str | None = None, description: str = "") -> None:
        """`ConfigError` for a function of which no tool can be made, and for a name that another function has; a function
        of the same module and name replaces its earlier self, so that a notebook's cell can be run again."""
        made = FunctionTool(function, name=name, description=description)
        origin = f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', made.name)}"
        with self._lock:
            other = self._origins.get(made.name, origin)
            if other != origin:
                raise ConfigError(f"tool {made.name!r} is given by {origin} and by {other}; give one another `name`")
            self._tools[made.name] = made
            self._origins[made.name] = origin

    def find(self, name: str) -> FunctionTool | None:
        return self._tools.get(name)

    def names(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(sorted(self._tools))

    def tool(self, name: str | None = None, *, description: str = "") -> Callable[[T], T]:
        """Decorator that registers a function here; see `orka.agents.registry.tool`."""

        def register(function: T) -> T:
            self.add(function, name=name, description=description)
            return function

        return register


@cache
def default_toolbox() -> Toolbox:
    """The tools of this process."""
    return Toolbox()
