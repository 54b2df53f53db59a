"""`Gate`: lets a worker's task begin when there is room in its queue, and lets others in while it waits for its branches."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from orka.dispatch.consumer import Consumer
from orka.dispatch.limits import Limit, Limits, Place
from orka.dispatch.slots import Slot
from orka.dispatch.task import BranchTask


def queue_limit(queue: str, most: int) -> Limit:
    """`most` tasks of a queue under way at once."""
    return Limit(name=f"queue:{queue}", most=most)


class Gate:
    """Of one task. Whoever waits at a gate holds no slot, and its worker takes no further tasks of that queue meanwhile."""

    def __init__(self, limits: Limits, consumer: Consumer, slot: Slot, task: BranchTask) -> None:
        self._limits = limits
        self._consumer = consumer
        self._slot = slot
        self._task = task
        self._place: Place | None = None
        self._waiting = 0
        """Sequences of the task that wait for branches: while there is one, it has no place, as it has no slot."""
        self._entering: anyio.Event | None = None
        """Set when the sequence that asks for a place has it; there while one does."""

    @asynccontextmanager
    async def inside(self) -> AsyncGenerator[None]:
        """Waits for a place; it is given back at the end."""
        try:
            await self._enter()
            yield
        finally:
            self._leave()

    @asynccontextmanager
    async def parked(self) -> AsyncGenerator[None]:
        """Without place and slot inside; with both again behind, if no other sequence waits. When cancelled it stays
        without."""
        self._waiting += 1
        self._leave()
        async with self._slot.parked():
            try:
                yield
            finally:
                self._waiting -= 1
            while self._place is None and not self._waiting:
                await (self._enter() if self._entering is None else self._entering.wait())

    async def _enter(self) -> None:
        task, entering = self._task, anyio.Event()
        self._entering = entering
        place = self._limits.ask(queue_limit(task.queue, task.most), task.run, task.path)
        try:
            await place.answered.wait()
            if not place.granted.is_set():
                with self._consumer.passing_over(task.queue):
                    async with self._slot.parked():
                        await place.wait()
        except BaseException:
            place.give_back()
            raise
        finally:
            self._entering = None
            entering.set()
        if self._waiting:  # since it was asked for
            place.give_back()
        else:
            self._place = place

    def _leave(self) -> None:
        if self._place is not None:
            self._place.give_back()
            self._place = None
