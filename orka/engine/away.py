"""`Away`: where this process's part of a run stands among others, and how its branches get to them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias

import msgspec

from orka.dispatch.sender import Sender
from orka.journal.paths import ROOT
from orka.redis.keys import RUNS
from orka.types import Path

SHARED: Final = "default"
"""The queue of branches that name none."""
Parking: TypeAlias = Callable[[], AbstractAsyncContextManager[object]]


class Away(msgspec.Struct, frozen=True, kw_only=True):
    """Given to a run whose branches may leave this process."""

    sender: Sender
    everything: bool
    """Every fork's branches go to the shared queues, not only those that name one."""
    queue: str = ""
    """That this part of the run was taken from; empty: from none."""
    task: Path = ROOT
    """Path of the task that is executed here; empty: the run."""
    level: int = RUNS
    deadline_ms: int = 0
    """Of the run, absolute; 0: none."""
    parked: Parking = contextlib.nullcontext
    """Entered while nothing is done but to wait for branches: gives the worker's slot to others."""
