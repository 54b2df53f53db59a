"""`Endpoint`: where an OpenAI-compatible embeddings API is and how to ask it, and what its answers mean. No I/O here.

The API: https://platform.openai.com/docs/api-reference/embeddings; vLLM, Ollama, LM Studio, llama.cpp and others speak it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit, urlunsplit

import msgspec

from orka.clock import now_ms
from orka.embedding.vectors import unit_rows
from orka.errors import ConfigError, EmbeddingError
from orka.settings import endpoint_fault

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_LONGEST_DETAIL: Final = 300
_BUSY: Final = frozenset({408, 425, 429})
_TOO_MUCH: Final = frozenset({400, 413, 422})
_NO_USE: Final = "insufficient_quota"
"""OpenAI's code under status 429 for an account without money: waiting does not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A model behind an address. `ConfigError` where that cannot work."""

    url: str
    """The base, as in `https://api.openai.com/v1`; `/embeddings` is added."""
    model: str
    key: str | None = field(default=None, repr=False)
    """API key, sent as a bearer token to this host and nowhere else."""
    dimension: int | None = None
    """The endpoint is asked for vectors of so many numbers. None: whatever the model gives."""
    timeout: float = 60.0
    """Seconds for one request."""
    attempts: int = 5
    """Of one request that fails in a way that may pass."""
    pause: float = 0.5
    """Seconds before the second attempt; twice as long before each further one, and up to a half less at random."""
    longest_pause: float = 60.0
    """Seconds. An endpoint that wants to be left alone for longer (`Retry-After`) is not waited for."""
    texts: int = 256
    """Of one request. An endpoint that takes fewer is found out and given fewer."""
    characters: int = 100_000
    """Of all texts of one request together, when there are several."""
    at_once: int = 4
    """Requests under way at the same time; all others wait."""

    def __post_init__(self) -> None:
        if fault := endpoint_fault(self.url):
            shown = "" if "@" in self.url else f"={self.url!r}"
            raise ConfigError(f"url{shown} of an embedding endpoint {fault}")
        if not self.model:
            raise ConfigError("an embedding endpoint needs the name of its model: set ORKA_EMBEDDING_MODEL")
        if self.key is not None and re.fullmatch(r"[!-~]+", self.key) is None:
            raise ConfigError(
                "the key of an embedding endpoint is empty or has a character that no HTTP header can carry"
            )
        for name in ("attempts", "texts", "characters", "at_once"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)!r} of an embedding endpoint must be at least 1")
        if self.dimension is not None and self.dimension < 1:
            raise ConfigError(f"dimension={self.dimension!r} of an embedding endpoint must be at least 1")

    @property
    def target(self) -> str:
        """Address of the requests. A query of the base (Azure's `api-version`) stays."""
        parts = urlsplit(self.url)
        path = parts.path.rstrip("/").removesuffix("/embeddings")
        return urlunsplit(parts._replace(path=f"{path}/embeddings"))

    @property
    def label(self) -> str:
        """For messages: without a query, which may hold a key."""
        return urlunsplit(urlsplit(self.target)._replace(query=""))

    @property
    def local(self) -> bool:
        """On this machine, where no proxy should come between."""
        host = urlsplit(self.url).hostname or ""
        return host in _LOCAL or host.endswith(".localhost")

    @property
    def headers(self) -> dict[str, str]:
        plain = {"Content-Type": "application/json", "Accept": "application/json"}
        return plain if self.key is None else {**plain, "Authorization": f"Bearer {self.key}"}

    def question(self, texts: Sequence[str]) -> bytes:
        """The body of a request."""
        asked: dict[str, object] = {"model": self.model, "input": texts}
        if self.dimension is not None:
            asked["dimensions"] = self.dimension
        return msgspec.json.encode(asked)


class Busy(Exception):
    """An attempt that failed in a way that may pass. `after`: seconds that the endpoint wants to be left alone."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


class TooMuch(Exception):
    """The endpoint refuses what it was asked; fewer or other texts may do."""


class _Item(msgspec.Struct):
    embedding: list[float]
    index: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Item]


def read_answer(endpoint: Endpoint, body: bytes, *, count: int, dimension: int | None) -> NDArray[np.float32]:
    """Rows of length 1 in the order of the texts. `EmbeddingError` for anything else than `count` good vectors. Blocking."""
    try:
        items = msgspec.json.decode(body, type=_Answer).data
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise EmbeddingError(
            f"{endpoint.label} does not answer as an OpenAI-compatible endpoint does ({exc}): is ORKA_EMBEDDING_URL its base "
            f"address, such as http://localhost:11434/v1? It says: {detail(endpoint, body)}"
        ) from exc
    if len(items) != count:
        raise EmbeddingError(f"{endpoint.label} gives {len(items)} vectors for {count} texts: it cannot be used")
    places = [item.index for item in items]
    if any(place is not None for place in places):
        by_place = {item.index: item for item in items}
        if set(by_place) != set(range(count)):
            raise EmbeddingError(
                f"{endpoint.label} numbers its {count} vectors wrongly (index {_first_wrong(places)!r}): whose "
                "they are is unknown"
            )
        items = [by_place[place] for place in range(count)]
    rows = [item.embedding for item in items]
    return unit_rows(rows, count=count, dimension=dimension, source=f"{endpoint.label} (model {endpoint.model!r})")


def _first_wrong(places: Sequence[int | None]) -> int | None:
    seen: set[int | None] = set()
    for place in places:
        if place is None or not 0 <= place < len(places) or place in seen:
            return place
        seen.add(place)
    return None


def judge_status(endpoint: Endpoint, status: int, retry_after: str | None, body: bytes) -> None:
    """Returns for a success; otherwise raises `Busy`, `TooMuch`, or an `EmbeddingError` that says what to do."""
    if 200 <= status < 300:
        return
    said = f"{status}: {detail(endpoint, body)}"
    if status in _BUSY or status >= 500:
        if status == 429 and _error_code(body) == _NO_USE:
            raise EmbeddingError(f"{endpoint.label} refuses ({said}): the account behind the key has no quota left")
        raise Busy(f"it answers {said}", _seconds(retry_after))
    if status in _TOO_MUCH:
        raise TooMuch(said)
    if status in (401, 403):
        remedy = "set ORKA_EMBEDDING_KEY to a valid one" if endpoint.key else "it wants one: set ORKA_EMBEDDING_KEY"
        raise EmbeddingError(f"{endpoint.label} refuses the API key ({said}): {remedy}")
    if status in (404, 405):
        raise EmbeddingError(
            f"{endpoint.label} has no such address or no model {endpoint.model!r} ({said}): look at ORKA_EMBEDDING_URL, the "
            "base address that usually ends in /v1, and at ORKA_EMBEDDING_MODEL"
        )
    if 300 <= status < 400:
        raise EmbeddingError(
            f"{endpoint.label} sends its callers elsewhere ({status}), where neither texts nor key are sent: put the final "
            "address into ORKA_EMBEDDING_URL"
        )
    raise EmbeddingError(f"{endpoint.label} refuses ({said})")


def detail(endpoint: Endpoint, body: bytes) -> str:
    """What the endpoint says, on one line, without the key."""
    error = _error(body)
    words = error.get("message") or error.get("detail")
    text = words if isinstance(words, str) else body[:2000].decode("utf-8", "replace")
    text = " ".join(text.split())
    if endpoint.key:
        text = text.replace(endpoint.key, "***")
    text = "".join(char if char.isprintable() else "?" for char in text)
    return (text if len(text) <= _LONGEST_DETAIL else f"{text[: _LONGEST_DETAIL - 3]}...") or "(nothing)"


def _error(body: bytes) -> dict[str, Any]:
    """`{"error": {"message": ...}}`, `{"error": "..."}`, `{"detail": "..."}`: all of them are in use."""
    try:
        found: object = msgspec.json.decode(body[:100_000])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    table = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    inner = table.get("error", table)
    return cast("dict[str, Any]", inner) if isinstance(inner, dict) else {"message": inner}


def _error_code(body: bytes) -> object:
    error = _error(body)
    return error.get("code") or error.get("type")


def _seconds(retry_after: str | None) -> float | None:
    """Of a Retry-After header (RFC 9110, 10.2.3): seconds, or a date."""
    if retry_after is None:
        return None
    return float(retry_after) if re.fullmatch(r"\d{1,9}(\.\d+)?", retry_after) else _until(retry_after)


def _until(date: str) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now_ms() / 1000)
    except (ValueError, OverflowError):
        return None
