"""A tool that a model may call, as the rounds see it: what the model is told, and how it is called. No tool lives here."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from orka.llm.base import Tool
from orka.types import Json

KEY: Final = "idempotency_key"
"""A parameter of this name is given by Orka. The model does not see it."""
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
"""Names of tools that every protocol takes."""
_BAD: Final = re.compile(r"[^A-Za-z0-9_-]")

Call: TypeAlias = Callable[[Mapping[str, Json], str], Awaitable[str]]
"""Arguments and idempotency key -> what the model is told. `ToolFault`, or whatever the tool raises."""


class ToolFault(Exception):
    """A call that failed for a reason that the model is told in these words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One tool of a node."""

    tool: Tool
    call: Call
    origin: str
    """Where it comes from, for messages."""


def usable_name(name: str) -> str:
    """A name like `name` that every protocol takes."""
    clean = _BAD.sub("_", name)[:64]
    return clean if NAME.fullmatch(clean) else f"_{clean}"[:64]
