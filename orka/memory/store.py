"""`MemoryStore`: what a backend does. `orka.memory.redisstack` and `orka.memory.basic` are the two."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from orka.errors import OrkaError
from orka.memory.query import Candidate, Look
from orka.memory.record import MemoryRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with (done, of how many; 0 where that is not known) while something lasts."""


class MemoryStore(Protocol):
    """Used by several tasks of one event loop; opened and closed by whoever made it."""

    @property
    def name(self) -> str:
        """`redisstack` or `redis`."""
        ...

    @property
    def together(self) -> int:
        """Queries that are best searched for at once, where many wait."""
        ...

    async def write(
        self, records: Sequence[MemoryRecord], vectors: NDArray[np.float32] | None, /
    ) -> Sequence[OrkaError | None]:
        """Stores all of them in one pipeline, whole hashes replaced; `vectors` has a row of length 1 for each (zeros: no
        vector). Gives for each None or why it was refused. `StoreError` when the server cannot be reached: some may be
        stored, and writing them again is harmless. Returns when what was stored can be found by this process."""
        ...

    async def search(self, looks: Sequence[Look], /) -> Sequence[Sequence[Candidate]]:
        """All looks in one round trip (per primary). Expired and deleted records are never given."""
        ...

    async def delete(self, keys: Sequence[str], /) -> int:
        """Gives how many were there."""
        ...

    def scan(self, /) -> AsyncIterator[Sequence[MemoryRecord]]:
        """All memories, in batches, in no order: SCAN's guarantees
        (https://redis.io/docs/latest/commands/scan/#scan-guarantees)."""
        ...
