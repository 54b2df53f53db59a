"""`Slots`: how many tasks a worker executes at once. A task that only waits for its own branches gives its slot away."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio


class Slots:
    """Used by the tasks of one event loop."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self.parked = 0
        """Tasks that wait for their branches."""
        self.exclusive = False
        """One task is to run, or runs, with nothing beside it: no slot is free for others."""
        self._returning: deque[anyio.Event] = deque()
        self._changed: anyio.Event | None = None
        """There while somebody waits."""

    @property
    def free(self) -> int:
        """For new tasks: those that return from waiting go first."""
        if self.exclusive:
            return 0
        return max(0, self.total - self.used - len(self._returning))

    async def wait(self) -> None:
        """Returns when something has changed."""
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def notify(self) -> None:
        """Whoever waits should look again."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def take(self, *, alone: bool = False) -> Slot:
        """One slot, whether or not it is free: look at `free` before. `alone`: nothing new is taken beside it."""
        self.used += 1
        self.exclusive = self.exclusive or alone
        return Slot(self, alone=alone)

    def reserve(self, count: int) -> None:
        """Holds `count` free ones back while tasks for them are fetched."""
        self.used += count

    def give_back(self, count: int = 1) -> None:
        self.used -= count
        while self._returning and self.used < self.total:
            self.used += 1  # on behalf of the one who returns
            self._returning.popleft().set()
        self.notify()

    async def take_back(self) -> None:
        """Waits for a slot, before all new tasks."""
        if self.used < self.total and not self._returning:
            self.used += 1
            return
        turn = anyio.Event()
        self._returning.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn in self._returning:
                self._returning.remove(turn)
            else:
                self.give_back()
            raise


class Slot:
    """One task's place. The task holds it while none of its sequences waits for branches: if one that has returned took it
    back before the others, what these wait for might never get one."""

    def __init__(self, slots: Slots, *, alone: bool = False) -> None:
        self._slots = slots
        self._held = True
        self._over = False
        self._alone = alone
        self._waiting = 0
        """Sequences that wait."""
        self._fetching: anyio.Event | None = None
        """Set when the sequence that fetches it back has it; there while one does."""

    def free(self) -> None:
        """For good. May be called more than once."""
        self._over = True
        self._let_go()

    def _let_go(self) -> None:
        if self._held:
            self._held = False
            if self._alone:
                self._slots.exclusive = False
            self._slots.give_back()

    @asynccontextmanager
    async def parked(self) -> AsyncGenerator[None]:
        """Without the slot inside; with it again behind, if no other sequence waits. When cancelled it stays without. A
        task that runs alone lets others in while it waits (its own branches may be among them), and is alone again behind."""
        if self._over:
            yield
            return
        self._waiting += 1
        if self._waiting == 1:
            self._slots.parked += 1
        self._let_go()
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._slots.parked -= 1
        while not (self._held or self._waiting or self._over):
            await (self._fetch() if self._fetching is None else self._fetching.wait())

    async def _fetch(self) -> None:
        slots, fetching = self._slots, anyio.Event()
        self._fetching = fetching
        try:
            if self._alone:
                while slots.exclusive:
                    await slots.wait()
                slots.exclusive = True
            try:
                await slots.take_back()
            except BaseException:
                if self._alone:
                    slots.exclusive = False
                    slots.notify()
                raise
            self._held = True
            if self._waiting or self._over:  # since it was asked for
                self._let_go()
            while self._held and self._alone and slots.used > 1:
                await slots.wait()
        finally:
            self._fetching = None
            fetching.set()
