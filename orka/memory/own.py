"""`OwnWrites`: batches of this process between their sending and their return in the stream of changes. Pure.

What comes back need not be read from the server again, unless somebody else changed the same memory since it was sent:
whose command came last then is known only there.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from orka.memory.record import MemoryRecord

MOST_KEPT: Final = 20_000
"""Memories that are kept until their change comes back; more are read from the server then."""
_MOST_BATCHES: Final = 10_000

State: TypeAlias = tuple[MemoryRecord, bytes] | None
"""A memory and its packed vector, or that it is gone."""


@dataclass(slots=True)
class Batch:
    """One write or delete."""

    left: set[str]
    """Keys that have not come back."""
    states: dict[str, State] = field(default_factory=dict[str, State])
    disturbed: set[str] = field(default_factory=set[str])
    """Changed by somebody else meanwhile."""
    stored: bool = False
    """The server has confirmed it."""


class OwnWrites:
    """Used from one event loop."""

    def __init__(self) -> None:
        self._process = os.urandom(8).hex()
        self._numbers = itertools.count(1)
        self._batches: dict[str, Batch] = {}
        self._kept = 0

    def __len__(self) -> int:
        return len(self._batches)

    def begin(self, keys: Sequence[str], states: dict[str, State]) -> str:
        """Before sending. Gives the batch's name; `states` may be empty."""
        name = f"{self._process}:{next(self._numbers)}"
        if len(self._batches) >= _MOST_BATCHES:  # what reads the stream is away: searches do not wait for these
            return name
        batch = self._batches[name] = Batch(left=set(keys))
        if self._kept + len(states) <= MOST_KEPT:
            batch.states = states
            self._kept += len(states)
        return name

    def confirm(self, name: str) -> None:
        if (batch := self._batches.get(name)) is not None:
            batch.stored = True

    def end(self, name: str) -> None:
        """It has come back in full, or may never come."""
        if (batch := self._batches.pop(name, None)) is not None:
            self._kept -= len(batch.states)

    def stored(self) -> list[str]:
        """Batches that the server has and this process has not applied."""
        return [name for name, batch in self._batches.items() if batch.stored]

    def waits(self, names: Iterable[str]) -> bool:
        return any(name in self._batches for name in names)

    def disturb(self, keys: Sequence[str]) -> None:
        """Somebody else has changed these."""
        for batch in self._batches.values():
            if batch.states:
                batch.disturbed.update(key for key in keys if key in batch.states)

    def returned(self, name: str, keys: Sequence[str]) -> tuple[dict[str, State], bool]:
        """(states of those keys that need not be read, whether that was all of the batch). `end` it once applied."""
        batch = self._batches.get(name)
        if batch is None:
            return {}, False
        batch.left.difference_update(keys)
        known = {key: batch.states[key] for key in keys if key in batch.states and key not in batch.disturbed}
        return known, not batch.left

    def owns(self, name: str) -> bool:
        return name.startswith(self._process)
