"""`FolderEngine`: searches a folder of texts, offline. What it has read is kept while the files do not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from orka.clock import monotonic
from orka.errors import EmbeddingError, SearchError
from orka.logs import get_logger
from orka.search.base import Hit, Vectors
from orka.search.passages import Passage, split_text
from orka.search.ranking import Ranked
from orka.search.reading import Listing, NotText, TextFile, list_files, permitted_folder, read_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_PASSAGES: Final = 50_000
"""Of one folder: some 100 MB with their vectors."""
_FRESH: Final = 1.0
"""Seconds for which a listing is believed."""
_BATCH: Final = 512
"""Passages embedded at once."""
_WARNED: Final = 20
"""Files passed over that are named in one warning."""

_log = get_logger("orka.search")


@dataclass(frozen=True, slots=True)
class _Read:
    """What is kept of one file."""

    version: tuple[int, int]
    passages: list[Passage]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Index:
    ranked: Ranked
    rows: list[tuple[str, Passage]]
    """(file's name, passage) of each row."""


class FolderEngine:
    """A `SearchEngine`. Nothing is read before the first search; the folder is looked at again at most once a second."""

    name = "folder"

    def __init__(self, path: str, embedder: Vectors, roots: Sequence[Path]) -> None:
        """`path` as a graph gives it; `roots`: folders that graphs may read."""
        self._path = path
        self._roots = tuple(roots)
        self._embedder = embedder
        self._turn = anyio.Lock()
        self._looked = -_FRESH
        self._files: dict[str, _Read] = {}
        self._skipped: frozenset[tuple[str, str]] = frozenset()
        self._index: _Index | None = None

    async def search(self, query: str, /, *, limit: int, timeout: float) -> list[Hit]:
        """`SearchError` when the folder cannot be read, its texts cannot be embedded, or time is over; `ConfigError` when
        it is not there or not permitted."""
        try:
            with anyio.fail_after(timeout):
                index = await self._fresh()
                vector = (await self._embedder.embed([query]))[0]
                best = await anyio.to_thread.run_sync(index.ranked.best, query, vector, limit)
        except TimeoutError as exc:
            raise SearchError(f"the folder {self._path!r} was not searched within {timeout:g} s") from exc
        except EmbeddingError as exc:
            raise SearchError(f"the folder {self._path!r} cannot be searched by meaning: {exc}") from exc
        return [_hit(*index.rows[row]) for row, _ in best]

    async def _fresh(self) -> _Index:
        """Those who come while it is read wait for the same reading."""
        async with self._turn:
            if self._index is not None and monotonic() - self._looked < _FRESH:
                return self._index
            root = await anyio.to_thread.run_sync(permitted_folder, self._path, self._roots)
            listing = await anyio.to_thread.run_sync(list_files, root)
            versions = {file.name: file.version for file in listing.files}
            if self._index is None or versions != {name: read.version for name, read in self._files.items()}:
                await self._read(listing)
                self._index = await anyio.to_thread.run_sync(_build, self._files)
            self._looked = monotonic()
            return self._index

    async def _read(self, listing: Listing) -> None:
        """Files that are new or have changed; a cancelled reading keeps what it has."""
        kept: dict[str, _Read] = {}
        skipped = list(listing.skipped)
        room = MOST_PASSAGES
        for file in listing.files:
            read = self._files.get(file.name)
            if read is None or read.version != file.version:
                passages, why = await anyio.to_thread.run_sync(_passages, file)
                if why is not None:
                    skipped.append((file.name, why))
                elif len(passages) > room:
                    skipped.append((file.name, f"comes after {MOST_PASSAGES:,} passages of other files"))
                    passages = []
                read = _Read(file.version, passages, await self._embed(file.name, passages))
                self._files[file.name] = read
            kept[file.name] = read
            room -= len(read.passages)
        self._files = kept
        self._warn(skipped)

    async def _embed(self, name: str, passages: Sequence[Passage]) -> NDArray[np.float32]:
        """Shape (len(passages), dimension)."""
        import numpy as np

        parts = [
            await self._embedder.embed([_words(name, passage) for passage in passages[start : start + _BATCH]])
            for start in range(0, len(passages), _BATCH)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)

    def _warn(self, skipped: Sequence[tuple[str, str]]) -> None:
        """Once, until something else is passed over."""
        found = frozenset(skipped)
        if found - self._skipped:
            files = [f"{name} {why}" for name, why in skipped[:_WARNED]]
            _log.warning("search.files_skipped", folder=self._path, files=files, count=len(skipped))
        self._skipped = found


def _passages(file: TextFile) -> tuple[list[Passage], str | None]:
    """Of one file, or why there are none. Blocking."""
    try:
        return split_text(read_text(file)), None
    except NotText as exc:
        return [], str(exc)


def _build(files: dict[str, _Read]) -> _Index:
    """CPU work."""
    import numpy as np

    rows = [(name, passage) for name, read in sorted(files.items()) for passage in read.passages]
    vectors = [read.vectors for _, read in sorted(files.items()) if len(read.passages)]
    matrix = np.concatenate(vectors) if vectors else np.zeros((0, 0), dtype=np.float32)
    return _Index(Ranked([_words(name, passage) for name, passage in rows], matrix), rows)


def _words(name: str, passage: Passage) -> str:
    """What a passage is found by: its heading or else its file's name say what it is about."""
    about = passage.heading or name.rsplit("/", 1)[-1].rsplit(".", 1)[0].replace("_", " ").replace("-", " ")
    return f"{about}\n{passage.text}"


def _hit(name: str, passage: Passage) -> Hit:
    title = f"{name}: {passage.heading}" if passage.heading else name
    return Hit(title=title, url=f"{name}:{passage.line}", text=passage.text)
