"""`DuckDuckGoEngine`: asks DuckDuckGo by the library `ddgs` (extra `search`), which blocks, in worker threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol, cast

import anyio
import anyio.to_thread

from orka.errors import ConfigError, SearchError
from orka.search.base import Hit

AT_ONCE: Final = 4
"""Searches under way in this process: more of them at once only get it refused."""
_NOTHING: Final = "No results found."
"""How the library says so."""


class Client(Protocol):
    """The part of `ddgs.DDGS` that is used."""

    def text(self, query: str, **options: Any) -> list[dict[str, Any]]: ...
    def news(self, query: str, **options: Any) -> list[dict[str, Any]]: ...


OpenClient = Callable[[int], Client]
"""A client whose requests take so many seconds at most."""


class Turns:
    """What all engines of a process wait for. A thread cannot be cancelled: its turn ends when it does, whoever asked may
    have gone long before."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._turns = anyio.Semaphore(at_once)

    async def run(self, function: Callable[[], list[Hit]]) -> list[Hit]:
        """In a worker thread, when it is its turn. Cancelling returns at once."""
        await self._turns.acquire()
        loop = asyncio.get_running_loop()  # anyio has no way to be called from a thread that nobody waits for
        begun = threading.Lock()

        def work() -> list[Hit]:
            if not begun.acquire(blocking=False):
                return []  # whoever asked has gone, and has given the turn back
            try:
                return function()
            finally:
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(self._turns.release)

        try:
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        finally:
            if begun.acquire(blocking=False):
                self._turns.release()


class DuckDuckGoEngine:
    """A `SearchEngine`. Web pages, else news."""

    name = "duckduckgo"

    def __init__(self, region: str | None, turns: Turns, open_client: OpenClient | None = None) -> None:
        """`region`: as in `us-en`, `de-de`. `ConfigError` when the library is not installed."""
        self._region = region or "us-en"
        self._turns = turns
        self._open_client = open_client or library_client()

    async def search(self, query: str, /, *, limit: int, timeout: float) -> list[Hit]:
        """`SearchError`."""

        def ask() -> list[Hit]:
            client = self._open_client(max(1, round(timeout)))
            options: dict[str, Any] = {"region": self._region, "max_results": limit, "backend": "duckduckgo"}
            return (_found(client.text, query, options) or _found(client.news, query, options))[:limit]

        try:
            with anyio.fail_after(timeout):
                return await self._turns.run(ask)
        except TimeoutError as exc:
            raise SearchError(f"DuckDuckGo gave no answer within {timeout:g} s") from exc


def _found(call: Callable[..., list[dict[str, Any]]], query: str, options: Mapping[str, Any]) -> list[Hit]:
    try:
        found = call(query, **options)
    except Exception as exc:  # bulkhead: the library's own errors and those of the parsers and transports below it
        if str(exc) == _NOTHING:
            return []
        raise SearchError(f"DuckDuckGo cannot be asked: {exc or type(exc).__name__}") from exc
    return [_hit(one) for one in found]


def _hit(one: Mapping[str, object]) -> Hit:
    return Hit(title=_text(one, "title"), url=_text(one, "href", "url"), text=_text(one, "body"))


def _text(one: Mapping[str, object], *names: str) -> str:
    return next((value for name in names if isinstance(value := one.get(name), str)), "")


def library_client(**options: Any) -> OpenClient:
    """Makes clients of the library; `options` as `DDGS` takes them (`proxy`, `verify`). `ConfigError` without it."""
    try:
        from ddgs import DDGS  # pyright: ignore  # an extra
    except ImportError as exc:
        raise ConfigError(
            "searching DuckDuckGo needs the library `ddgs`: pip install 'orka[search]', or name another backend "
            "(`search: {backend: searxng, url: ...}`, `search: {backend: folder, path: ...}`)"
        ) from exc
    make = cast("Callable[..., Client]", DDGS)
    return lambda seconds: make(timeout=seconds, **options)
