"""Runs a command's coroutine until it ends or a signal stops it: the first cancels it, the second leaves at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

from orka.cli.exits import Exit

_CODES = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}
_FAREWELL = 1.0
"""Seconds that cancelled tasks have to end with their process."""
_SHOW_CURSOR = b"\x1b[?25h"


def run_until_stopped(
    work: Callable[[], Coroutine[Any, Any, int]], *, stopping: Callable[[], None] = lambda: None
) -> int:
    """The code that `work` returns, or the signal's. `stopping` is called in the loop, after the first one.

    A handler of our own instead of asyncio's: it also leaves when the loop is busy or closing, or a thread hangs.
    """
    received: list[int] = []
    stops: list[Callable[[], object]] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if received:
            if os.isatty(2):
                os.write(2, _SHOW_CURSOR)
            os._exit(_CODES[signal.Signals(number)])
        received.append(number)
        for stop in stops:
            stop()

    async def main() -> int:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        assert task is not None
        stops.append(lambda: loop.call_soon_threadsafe(stopping))
        stops.append(lambda: loop.call_soon_threadsafe(task.cancel))
        if received:
            task.cancel()
        try:
            return await work()
        except asyncio.CancelledError:
            if not received:
                raise
            return _CODES[signal.Signals(received[0])]

    before = {number: signal.signal(number, on_signal) for number in _CODES}
    try:
        return run_to_the_end(main())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_to_the_end(work: Coroutine[Any, Any, int]) -> int:
    """`asyncio.run`, except that this would wait for an agent which ignores its cancellation: the process just leaves."""

    async def main() -> int:
        code = await work
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left and (await asyncio.wait(left, timeout=_FAREWELL))[1]:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        return code

    return asyncio.run(main())
