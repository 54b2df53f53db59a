"""`--backend` of commands about memories, in place of ORKA_MEMORY_BACKEND."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from cyclopts import Parameter

from orka.settings import Settings

Backend = Annotated[
    Literal["redisstack", "redis"] | None, Parameter(help="In place of ORKA_MEMORY_BACKEND.", show_choices=True)
]


def settings_for(backend: str | None) -> Settings:
    """The settings of the environment, with this backend."""
    settings = Settings.from_environment()
    return settings if backend is None else replace(settings, backend=backend, force_basic_redis=False)
