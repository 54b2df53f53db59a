"""What turns texts into vectors: the `Embedder` protocol, and texts of several callers in one call. Implementations live
beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from orka.errors import EmbeddingError

if TYPE_CHECKING:  # numpy takes 80 ms to import, and most commands embed nothing
    import numpy as np
    from numpy.typing import NDArray


class Embedder(Protocol):
    """Texts to vectors of unit length."""

    @property
    def name(self) -> str:
        """Model and version: vectors of different names are never compared."""
        ...

    @property
    def dimension(self) -> int: ...

    async def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Shape (len(texts), dimension), rows of length 1 (zeros for an empty text). Runs off the event loop."""
        ...


async def embed_each(embedder: Embedder, texts: Sequence[str]) -> tuple[NDArray[np.float32], dict[int, EmbeddingError]]:
    """As `embed`, for texts of several callers: in one call, and one more for each text that is refused alone. With the rows
    (zeros for what is refused), by place, why. `EmbeddingError` when no single text is to blame."""
    import numpy as np

    refused: dict[int, EmbeddingError] = {}
    places = list(range(len(texts)))
    while places:
        try:
            rows = await embedder.embed([texts[i] for i in places])
        except EmbeddingError as exc:
            if exc.index is None or not 0 <= exc.index < len(places):
                raise
            refused[places.pop(exc.index)] = exc
        else:
            if not refused:
                return rows, refused
            found = np.zeros((len(texts), embedder.dimension), dtype=np.float32)
            found[places] = rows
            return found, refused
    return np.zeros((len(texts), embedder.dimension), dtype=np.float32), refused
