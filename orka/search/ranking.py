"""`Ranked`: passages that can be ranked by meaning and by words. CPU work on arrays: call it in a thread.

Words count by BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009).
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from orka.words import query_words, words_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST_COSINE: Final = 0.25
"""Similarity below which a passage that has none of the words is no hit."""
MEANING: Final = 0.6
"""Weight of the similarity in a score; the rest is that of the words."""
_K1: Final = 1.2
_B: Final = 0.75


class Ranked:
    """Built once for some passages, and never changed."""

    def __init__(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """`texts`: what the words are taken from. `vectors`: shape (len(texts), dimension), rows of length 1."""
        import numpy as np

        self._vectors = vectors
        self._postings: dict[str, tuple[array[int], array[int]]] = {}
        lengths: list[int] = []
        for row, text in enumerate(texts):
            words = words_of(text)
            lengths.append(len(words))
            for word, times in Counter(words).items():
                rows, counts = self._postings.setdefault(word, (array("I"), array("I")))
                rows.append(row)
                counts.append(times)
        self._lengths: NDArray[np.float32] = np.array(lengths, dtype=np.float32)

    def __len__(self) -> int:
        return len(self._lengths)

    def best(self, query: str, vector: NDArray[np.float32], limit: int) -> list[tuple[int, float]]:
        """(row, score from 0 to 1) of the best, best first. `vector`: shape (dimension,), that of the query."""
        import numpy as np

        if not len(self):
            return []
        words = self._by_words(query_words(query))
        cosines: NDArray[np.float32] = self._vectors @ vector
        top = float(words.max())
        scores = MEANING * np.clip(cosines, 0, 1) + (1 - MEANING) * (words / top if top > 0 else words)
        fits = (words > 0) | (cosines >= LEAST_COSINE)
        # Rounded, and ties in the order of the passages: another machine's last bits must not change the order.
        order = np.lexsort((np.arange(len(self)), -np.round(scores, 4)))
        return [(int(row), round(float(scores[row]), 4)) for row in order if fits[row]][:limit]

    def _by_words(self, words: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        size = len(self)
        scores: NDArray[np.float32] = np.zeros(size, dtype=np.float32)
        mean = max(float(self._lengths.mean()), 1e-9)
        for word in words:
            if (posting := self._postings.get(word)) is None:
                continue
            rows = np.array(posting[0], dtype=np.intp)
            times = np.array(posting[1], dtype=np.float32)
            rarity = math.log1p((size - len(rows) + 0.5) / (len(rows) + 0.5))
            against = _K1 * (1 - _B + _B * self._lengths[rows] / mean)
            scores[rows] += np.float32(rarity * (_K1 + 1)) * times / (times + against)
        return scores
