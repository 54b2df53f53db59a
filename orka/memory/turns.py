"""`Turns`: in which order batches go to the store, so that of two writes of one key the later one stays."""

from __future__ import annotations

import asyncio


class Turns:
    """Batches, numbered from 0 without a gap, go for the first time in their order, one behind the other. One that has failed
    goes again when nothing is under way, the oldest first, and none goes for the first time before that is settled."""

    def __init__(self) -> None:
        self._due = 0
        """The next to go for the first time."""
        self._skipped: set[int] = set()
        """Later ones that will never go."""
        self._flying: set[int] = set()
        self._failed: set[int] = set()
        self._moved = asyncio.Event()

    async def first(self, number: int, *, alone: bool = False) -> None:
        """`alone`: when nothing is under way. The next may go while this one is."""
        while number != self._due or self._failed or (alone and self._flying):
            await self._moved.wait()
        self._flying.add(number)
        self._pass(number)

    def fail(self, number: int) -> None:
        """It has come back and has to go again: see `again`."""
        self._flying.discard(number)
        self._failed.add(number)
        self._move()

    async def again(self, number: int) -> None:
        while self._flying or number != min(self._failed):
            await self._moved.wait()
        self._flying.add(number)

    def end(self, number: int) -> None:
        """It is done, or will never go. Harmless when repeated."""
        self._flying.discard(number)
        self._failed.discard(number)
        if number >= self._due:
            self._pass(number)
        self._move()

    def _pass(self, number: int) -> None:
        self._skipped.add(number)
        while self._due in self._skipped:
            self._skipped.discard(self._due)
            self._due += 1
        self._move()

    def _move(self) -> None:
        """Wakes all who wait, to look again."""
        self._moved.set()
        self._moved = asyncio.Event()
