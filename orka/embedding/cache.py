"""`CachedEmbedder`: vectors that were computed before come from Redis instead of from the model.

Worth it for an endpoint, which takes time and money. The local model takes about as long as Redis does, and what Redis can do is
better spent on memories: there it is off unless asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio

from orka.embedding.base import Embedder
from orka.embedding.vectors import clean
from orka.errors import EmbeddingError, StoreError
from orka.logs import get_logger
from orka.redis.keys import embedding_key
from orka.redis.pipeline import Keyed, Pipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PATIENCE: Final = 2.0
"""Seconds for one round trip; the model is asked instead of waiting for longer."""
RECOVERY: Final = 5.0
"""Seconds after a failure for which Redis is left alone: without them every batch would wait in vain."""
BATCH_TEXTS: Final = 1024
"""Texts of one round trip: 16 MiB of vectors of 4,096 numbers."""

_log = get_logger("orka.embedding")


class CacheStatistics(NamedTuple):
    found: int
    """Different texts of a batch whose vectors were there."""
    computed: int
    failures: int
    """Round trips that Redis did not answer."""


class CachedEmbedder:
    """An `Embedder`. It owns neither the one below nor the pipe, which should be one that nothing urgent goes through."""

    def __init__(self, embedder: Embedder, pipe: Pipe, seconds: float) -> None:
        """`seconds`: how long a vector is kept after it was computed."""
        self._embedder = embedder
        self._pipe = pipe
        self._milliseconds = max(1, round(seconds * 1000))
        self._label = re.sub(r"[^\w./-]", "_", embedder.name)[:64]  # braces would put all vectors into one slot
        self._not_before = 0.0
        self._found = self._computed = self._failures = 0

    @property
    def name(self) -> str:
        return self._embedder.name

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    def statistics(self) -> CacheStatistics:
        return CacheStatistics(self._found, self._computed, self._failures)

    async def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """As the embedder below, with one round trip that reads and, for what is not there, one that writes. When Redis
        does not answer it embeds without."""
        import numpy as np

        if len(texts) <= BATCH_TEXTS:
            return await self._batch(texts)
        starts = range(0, len(texts), BATCH_TEXTS)
        return np.concatenate([await self._batch(texts[start : start + BATCH_TEXTS], start) for start in starts])

    async def _batch(self, texts: Sequence[str], start: int = 0) -> NDArray[np.float32]:
        """`start`: the place of the first one among all of the caller's."""
        import numpy as np

        wanted = [clean(text) for text in texts]
        keys = {text: self._key(text) for text in wanted if text}
        rows = await self._read(keys)
        missing = [text for text in keys if text not in rows]
        if missing:
            try:
                computed = await self._embedder.embed(missing)
            except EmbeddingError as exc:
                if exc.index is None:
                    raise
                raise EmbeddingError(str(exc), index=start + wanted.index(missing[exc.index])) from exc
            rows.update(zip(missing, computed, strict=True))
            await self._write([(keys[text], rows[text].tobytes()) for text in missing])
        self._found += len(keys) - len(missing)
        self._computed += len(missing)
        result = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for place, text in enumerate(wanted):
            if text:
                result[place] = rows[text]
        return result

    def _key(self, text: str) -> str:
        """The whole name and the dimension count: the label is only for whoever looks into Redis."""
        digest = blake2b(digest_size=16)
        for part in (self.name, str(self.dimension)):
            digest.update(part.encode("utf-8", "replace") + b"\0")
        digest.update(text.encode())
        return embedding_key(self._label, digest.hexdigest())

    async def _read(self, keys: dict[str, str]) -> dict[str, NDArray[np.float32]]:
        import numpy as np

        replies = await self._roundtrip([(key, ("GET", key)) for key in keys.values()])
        rows: dict[str, NDArray[np.float32]] = {}
        for text, reply in zip(keys, replies, strict=bool(replies)):
            if isinstance(reply, bytes) and len(reply) == 4 * self.dimension:
                row = np.frombuffer(reply, dtype=np.float32)
                if np.isfinite(row).all():
                    rows[text] = row
        return rows

    async def _write(self, rows: Sequence[tuple[str, bytes]]) -> None:
        await self._roundtrip([(key, ("SET", key, row, "PX", self._milliseconds)) for key, row in rows])

    async def _roundtrip(self, commands: list[Keyed]) -> list[object]:
        """Replies, or none at all when Redis is away or slow. Error replies (it is full, it loads) are values."""
        if not commands or anyio.current_time() < self._not_before:
            return []
        try:
            with anyio.fail_after(PATIENCE):
                return await self._pipe.roundtrip(commands)
        except (StoreError, TimeoutError) as exc:
            self._failures += 1
            self._not_before = anyio.current_time() + RECOVERY
            reason = str(exc) or f"no answer within {PATIENCE:g} s"
            _log.warning("embedding.cache_skipped", reason=reason, seconds=RECOVERY)
            return []
