"""`Engines`: the search engines of one process, made when an agent first names them."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import anyio
import anyio.to_thread

from orka.errors import ConfigError, SearchError
from orka.search.base import Backend, SearchEngine, Source, Vectors
from orka.search.duckduckgo import DuckDuckGoEngine, Turns
from orka.search.folder import FolderEngine
from orka.search.searxng import SearxngEngine
from orka.settings import Settings
from orka.version import VERSION

if TYPE_CHECKING:  # httpx takes 0.15 s to import, and most processes search nothing
    import httpx

_FOLDERS: Final = 8
"""Folders whose index is kept; the one unused for longest goes first."""
_CONNECTIONS: Final = 32


class Engines:
    """A `SearchAccess`, used on one event loop. Whoever made it closes it."""

    def __init__(self, settings: Settings, embedder: Vectors) -> None:
        self._usual = Source(
            backend=cast("Backend | None", settings.search_backend),
            url=settings.searxng_url if settings.search_backend in (None, "searxng") else None,
        )
        self._searxng_url = settings.searxng_url
        self._roots = settings.search_folders or (Path(),)
        self._embedder = embedder
        self._turns = Turns()
        self._folders: OrderedDict[str, FolderEngine] = OrderedDict()
        self._client: httpx.AsyncClient | None = None
        self._opening = anyio.Lock()
        self._closed = False

    def engine(self, source: Source, /) -> SearchEngine:
        """`ConfigError` when an address, a path or a library is missing."""
        meant = source.over(self._usual)
        match meant.backend:
            case "searxng":
                if (url := meant.url or self._searxng_url) is None:
                    raise ConfigError(
                        "search by SearXNG needs an address: give `search: {url: ...}` or ORKA_SEARXNG_URL"
                    )
                return SearxngEngine(url, meant.region, self._opened)
            case "folder":
                if meant.path is None:
                    raise ConfigError("search in a folder needs its path: `search: {backend: folder, path: ...}`")
                return self._folder(meant.path)
            case "duckduckgo" | None:
                return DuckDuckGoEngine(meant.region, self._turns)

    def _folder(self, path: str) -> FolderEngine:
        engine = self._folders.pop(path, None) or FolderEngine(path, self._embedder, self._roots)
        self._folders[path] = engine
        if len(self._folders) > _FOLDERS:
            self._folders.popitem(last=False)
        return engine

    async def _opened(self) -> httpx.AsyncClient:
        if self._closed:
            raise SearchError("the search engines of this process are closed")
        async with self._opening:
            if self._client is None:  # reading the certificates takes a while
                self._client = await anyio.to_thread.run_sync(_client)
        return self._client

    async def aclose(self) -> None:
        """Closes its connections; harmless when repeated."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            with anyio.CancelScope(shield=True):
                await client.aclose()


def _client() -> httpx.AsyncClient:
    import httpx

    return httpx.AsyncClient(
        headers={"User-Agent": f"orka/{VERSION}", "Accept": "application/json"},
        timeout=httpx.Timeout(None, connect=10.0),  # each search has a time of its own
        limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
        follow_redirects=False,
    )
