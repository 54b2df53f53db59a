"""`SearxngEngine`: asks a SearXNG instance over its JSON API, https://docs.searxng.org/dev/search_api.html."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio
import msgspec

from orka.errors import ConfigError, SearchError
from orka.logs import get_logger
from orka.search.base import Hit
from orka.settings import endpoint_fault

if TYPE_CHECKING:
    import httpx

MOST_ANSWER: Final = 8 * 1024 * 1024
"""Bytes of one answer."""
_ATTEMPTS: Final = 2
_PAUSE: Final = 0.3
"""Seconds before the second attempt, when the instance does not say."""
_LONGEST_PAUSE: Final = 5.0
_BUSY: Final = frozenset({408, 429, 500, 502, 503, 504})

_log = get_logger("orka.search")


class _Result(msgspec.Struct):
    url: str | None = None
    title: str | None = None
    content: str | None = None


class _Answer(msgspec.Struct):
    results: list[_Result]


class _Busy(Exception):
    """An attempt that failed in a way that may pass. `after`: seconds that the instance wants to be left alone."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


class SearxngEngine:
    """A `SearchEngine`. Its connections are those of whoever made it."""

    name = "searxng"

    def __init__(self, url: str, region: str | None, open_client: Callable[[], Awaitable[httpx.AsyncClient]]) -> None:
        """`region`: a SearXNG language (`de`, `en-US`)."""
        if fault := endpoint_fault(url):
            shown = "" if "@" in url else f"={url!r}"
            raise ConfigError(f"url{shown} of a SearXNG instance {fault}")
        base = url.rstrip("/").removesuffix("/search")
        self._target = f"{base}/search"
        self._label = f"{urlsplit(base).scheme}://{urlsplit(base).netloc}"
        self._region = region
        self._open_client = open_client

    async def search(self, query: str, /, *, limit: int, timeout: float) -> list[Hit]:
        """Asked once more after a failure that may pass, as far as the time allows. `SearchError`."""
        try:
            with anyio.fail_after(timeout):
                body = await self._ask(query)
        except TimeoutError as exc:
            raise SearchError(f"{self._label} gave no answer within {timeout:g} s") from exc
        return self._read(body)[:limit]

    async def _ask(self, query: str) -> bytes:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._attempt(query)
            except _Busy as exc:
                wait = _PAUSE if exc.after is None else exc.after
                if attempt == _ATTEMPTS or wait > _LONGEST_PAUSE:
                    raise SearchError(f"{self._label} cannot be asked: {exc}") from exc.__cause__
                _log.info("search.failed", backend=self.name, url=self._label, reason=str(exc), wait=wait)
                await anyio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, query: str) -> bytes:
        client = await self._open_client()
        import httpx

        asked = {"q": query, "format": "json"} | ({"language": self._region} if self._region else {})
        chunks: list[bytes] = []
        size = 0
        try:
            async with client.stream("GET", self._target, params=asked) as response:
                if response.status_code != 200:
                    self._judge(response)
                async for chunk in response.aiter_bytes():
                    size += len(chunk)
                    if size > MOST_ANSWER:
                        raise SearchError(f"{self._label} gives an answer beyond {MOST_ANSWER:,} bytes")
                    chunks.append(chunk)
        except httpx.HTTPError as exc:
            raise _Busy(f"{type(exc).__name__}: {exc}") from exc
        return b"".join(chunks)

    def _judge(self, response: httpx.Response) -> None:
        status = response.status_code
        if status in _BUSY:
            raise _Busy(f"it answers with status {status}", _seconds(response.headers.get("Retry-After")))
        hint = ""
        if status == 403:
            hint = ": its settings.yml must list `json` under search.formats"
        elif status in (301, 302, 307, 308, 404):
            hint = ": is this the base address of a SearXNG instance?"
        raise SearchError(f"{self._label} answers with status {status}{hint}")

    def _read(self, body: bytes) -> list[Hit]:
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise SearchError(f"{self._label} does not answer as SearXNG's JSON API does: {exc}") from exc
        return [
            Hit(title=found.title or "", url=found.url or "", text=found.content or "")
            for found in answer.results
            if found.title or found.content
        ]


def _seconds(header: str | None) -> float | None:
    """Of a `Retry-After`; one that is a date is taken for a long time."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        return 2 * _LONGEST_PAUSE
