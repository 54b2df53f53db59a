"""Functions that tests offer to models as tools."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import anyio
from pydantic import Field

called: list[tuple[str, Any]] = []
"""Name and what was given, in the order of the calls."""


@dataclass
class Place:
    city: str
    degrees: float


async def weather(city: Annotated[str, Field(description="Its name.")], unit: Literal["c", "f"] = "c") -> Place:
    """The weather in a city.

    Told as it is now.
    """
    called.append(("weather", (city, unit)))
    return Place(city, 21.5 if unit == "c" else 70.7)


def thread(schema: int, json: list[str] | None = None, /) -> str:
    called.append(("thread", (schema, json)))
    return f"{schema} {json} {threading.current_thread() is threading.main_thread()}"


async def book(seat: str, idempotency_key: str) -> str:
    called.append(("book", (seat, idempotency_key)))
    return f"booked {seat}"


async def broken(why: str = "") -> None:
    raise LookupError(why)


async def leaves() -> None:
    sys.exit(3)


async def odd() -> object:
    return object()


async def half() -> str:
    return "half \ud800 of one"


async def long() -> str:
    return "x" * 60_000


async def slow(seconds: float = 60.0) -> str:
    called.append(("slow", seconds))
    await anyio.sleep(seconds)
    return "at last"


async def gone() -> None:
    """Cancels itself."""
    import asyncio

    raise asyncio.CancelledError


async def many(*numbers: int) -> int:
    return sum(numbers)


class Doubler:
    """Doubles."""

    def __call__(self, number: int) -> int:
        """Twice as much."""
        return 2 * number


doubler = Doubler()


async def live(handle: Doubler) -> None: ...


async def callback(after: Callable[[], None]) -> None: ...
