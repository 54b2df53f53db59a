"""Exit codes: one table, printed again in docs/cli.md, and which of them an error gets."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

from orka.errors import (
    ConfigError,
    LeaseLost,
    LetterNotFound,
    OrkaError,
    QueryRefused,
    RunAlive,
    RunCancelled,
    RunNotFound,
    ServerError,
    StoreError,
)


class Exit(IntEnum):
    """What a command tells its caller."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    HELD = 4
    NOT_FOUND = 5
    CANCELLED = 6
    INTERNAL = 70
    OUTPUT_LOST = 74
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


MEANINGS: Mapping[Exit, str] = MappingProxyType(
    {
        Exit.OK: "done",
        Exit.FAILED: "the run failed, or cannot be resumed, cancelled or retried as asked; `check --strict` found warnings; "
        "`memory import` refused lines",
        Exit.USAGE: "a bad argument, graph file, template or setting",
        Exit.UNREACHABLE: "Redis or the private server cannot be reached, did not start, or lacks something",
        Exit.HELD: "another process executes the run (`cancel`: and has not ended it in time), or took it over",
        Exit.NOT_FOUND: "no run, dead letter, memory or skill of this id",
        Exit.CANCELLED: "the run was cancelled by somebody else",
        Exit.INTERNAL: "a defect of Orka; `-v` prints the traceback to report",
        Exit.OUTPUT_LOST: "standard output cannot be written: its disk is full, or the device fails",
        Exit.INTERRUPTED: "stopped by Ctrl-C (SIGINT)",
        Exit.BROKEN_PIPE: "the reader of standard output went away",
        Exit.TERMINATED: "stopped by SIGTERM",
    }
)

_BY_ERROR: tuple[tuple[type[OrkaError], Exit], ...] = (
    (ConfigError, Exit.USAGE),
    (QueryRefused, Exit.USAGE),
    (StoreError, Exit.UNREACHABLE),
    (ServerError, Exit.UNREACHABLE),
    (RunAlive, Exit.HELD),
    (LeaseLost, Exit.HELD),
    (RunNotFound, Exit.NOT_FOUND),
    (LetterNotFound, Exit.NOT_FOUND),
    (RunCancelled, Exit.CANCELLED),
    (OrkaError, Exit.FAILED),
)


def exit_for(error: OrkaError) -> Exit:
    """The code of the first class in the table that the error belongs to."""
    return next(code for kind, code in _BY_ERROR if isinstance(error, kind))
