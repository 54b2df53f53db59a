"""`--import`: modules that register agent types, before a command needs them."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from orka.errors import ConfigError

Modules: TypeAlias = Annotated[
    list[str] | None, Parameter(name="--import", help="A module that registers agent types; may be repeated.")
]


def search_here(what: str) -> None:
    """Modules are found in the working folder too, as `python -m` finds them. `what`: is looked for."""
    try:
        sys.path.insert(0, os.getcwd())
    except FileNotFoundError:
        raise ConfigError(f"the working folder does not exist any more, so there are no {what} in it") from None


def import_agents(modules: Iterable[str] | None) -> None:
    """`ConfigError` for a module that cannot be imported, whatever it raises."""
    if not modules:
        return
    search_here("modules")
    for module in modules:
        try:
            importlib.import_module(module)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # bulkhead: importing runs foreign code, which may also call `sys.exit`
            why = str(exc) if isinstance(exc, ImportError) else f"{type(exc).__name__}: {exc}"
            raise ConfigError(f"--import {module}: {why}", path=module) from exc
