"""What searching is: the `SearchEngine` protocol, what it finds, and what may be said about which one is meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Backend: TypeAlias = Literal["duckduckgo", "searxng", "folder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One thing that was found."""

    title: str
    url: str
    """Address; of a file, its path inside the folder."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where to search. None: as the environment says."""

    backend: Backend | None = None
    url: str | None = None
    """Of a SearXNG instance."""
    path: str | None = None
    """Of a folder of texts."""
    region: str | None = None
    """Region or language, as the backend writes it."""

    def over(self, other: Source) -> Source:
        """What this one says, and `other` where it says nothing. Address and path of another backend do not count."""
        backend = self.named or other.named
        return Source(
            backend=backend,
            url=self.url or (other.url if backend == "searxng" else None),
            path=self.path or (other.path if backend == "folder" else None),
            region=self.region or other.region,
        )

    @property
    def named(self) -> Backend | None:
        """The backend, also where only an address or a path tells."""
        if self.backend is None and self.url is not None:
            return "searxng"
        return "folder" if self.backend is None and self.path is not None else self.backend


class SearchEngine(Protocol):
    """Any number of searches at once."""

    @property
    def name(self) -> str:
        """The backend, for results and messages."""
        ...

    async def search(self, query: str, /, *, limit: int, timeout: float) -> list[Hit]:
        """The best `limit` hits; none when nothing fits. `timeout`: seconds in all. `SearchError`."""
        ...


class SearchAccess(Protocol):
    """The search engines of this process."""

    def engine(self, source: Source, /) -> SearchEngine:
        """`ConfigError` when the source cannot be searched as it is."""
        ...


class Vectors(Protocol):
    """The part of an embedder that searching by meaning needs."""

    async def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Shape (len(texts), dimension), rows of length 1."""
        ...
