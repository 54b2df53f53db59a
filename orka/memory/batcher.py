"""`Batcher`: many callers' single requests in few calls, without a background task.

Whoever comes when fewer calls than allowed are under way makes one for all who wait, and passes that duty on. So an idle batcher
answers at once, and a busy one gathers for as long as the call before takes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class BatcherStatistics(NamedTuple):
    """Counters since it was made, and what is under way."""

    requests: int
    calls: int
    waiting: int


class _Turn(Enum):
    """In place of a result: it is the waiting one's turn to make a call."""

    YOURS = 0


class _Waiting(Generic[T, R]):
    __slots__ = ("future", "item")

    def __init__(self, item: T) -> None:
        self.item = item
        self.future: asyncio.Future[R | _Turn] = asyncio.get_running_loop().create_future()


class Batcher(Generic[T, R]):
    """Used by the tasks of one event loop. `call` gets up to `most` items, in the order in which they came, and gives a
    result for each. A cancelled caller's request may be executed."""

    def __init__(self, call: Callable[[list[T]], Awaitable[Sequence[R]]], *, most: int, at_once: int = 1) -> None:
        self._call = call
        self._most = most
        self._at_once = at_once
        self._queue: deque[_Waiting[T, R]] = deque()
        self._active = 0
        self._requests = self._calls = 0

    def statistics(self) -> BatcherStatistics:
        return BatcherStatistics(requests=self._requests, calls=self._calls, waiting=len(self._queue))

    async def submit(self, item: T) -> R:
        """The result for `item`. Raises what its call raised."""
        self._requests += 1
        waiting = _Waiting[T, R](item)
        self._queue.append(waiting)
        if self._active < self._at_once:
            self._active += 1
            return await self._lead(waiting)
        try:
            result = await waiting.future
        except asyncio.CancelledError:
            self._leave(waiting)
            raise
        return await self._lead(waiting) if result is _Turn.YOURS else result

    async def _lead(self, own: _Waiting[T, R]) -> R:
        """Makes one call, with `own` among its items."""
        self._queue.remove(own)
        batch, leading = [own], list[_Waiting[T, R]]()
        while self._queue and len(batch) < self._most:
            other = self._queue.popleft()
            (leading if other.future.done() else batch).append(other)  # one whose turn it is makes a call of its own
        self._queue.extendleft(reversed(leading))
        self._calls += 1
        try:
            results = await self._call([waiting.item for waiting in batch])
        except asyncio.CancelledError:
            # Only this caller gives up: the others are asked for again, first of all.
            self._queue.extendleft(reversed([waiting for waiting in batch[1:] if not waiting.future.done()]))
            raise
        except BaseException as exc:
            for waiting in batch[1:]:
                if not waiting.future.done():
                    waiting.future.set_exception(exc)
            raise
        finally:
            self._pass_on()
        for waiting, result in zip(batch[1:], results[1:], strict=True):
            if not waiting.future.done():
                waiting.future.set_result(result)
        return results[0]

    def _pass_on(self) -> None:
        for waiting in self._queue:
            if not waiting.future.done():
                waiting.future.set_result(_Turn.YOURS)
                return
        self._active -= 1

    def _leave(self, waiting: _Waiting[T, R]) -> None:
        if waiting in self._queue:
            self._queue.remove(waiting)
        future = waiting.future
        if not future.cancelled() and future.exception() is None and future.result() is _Turn.YOURS:
            self._pass_on()
