"""`Words`: an inverted index of the words of texts, and BM25. Pure.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the inverse document frequency
that cannot be negative, as the search module's BM25STD has it:
https://redis.io/docs/latest/develop/ai/search-and-query/advanced-concepts/scoring/
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orka.memory.columns import renumbered
from orka.memory.matrix import Ranking
from orka.memory.rows import Rows, best, grown
from orka.memory.text import words_of

K1: Final = 1.2
B: Final = 0.5
"""As the module has it (measured on RediSearch 2.10.5, by EXPLAINSCORE); elsewhere 0.75 is usual."""
_BITS: Final = 6
"""Of how often a word is in a text, below the text's number: 63 times and more count alike (they nearly do in BM25)."""
_OFTEN: Final = (1 << _BITS) - 1


class Words:
    """4 bytes per different word of a memory and 4 per memory, and every different word once."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._postings: dict[str, array[int]] = {}
        self._lengths: NDArray[np.int32] = np.zeros(64, dtype=np.int32)

    def put(self, places: NDArray[np.intp], numbers: range, texts: Sequence[str]) -> None:
        lengths: list[int] = []
        postings = self._postings
        for number, text in zip(numbers, texts, strict=True):
            words = words_of(text)
            lengths.append(len(words))
            above = number << _BITS
            for word, times in Counter(words).items():
                posting = postings.get(word)
                if posting is None:
                    posting = postings[word] = array("I")
                posting.append(above | min(times, _OFTEN))
        self._lengths = grown(self._lengths, len(self._rows))
        self._lengths[places] = lengths

    def move(self, source: int, to: int) -> None:
        self._lengths[to] = self._lengths[source]

    def renumber(self, new: NDArray[np.int32]) -> None:
        """After `Rows.renumber`; words that no memory has any more are forgotten."""
        self._postings = {word: kept for word, old in self._postings.items() if (kept := renumbered(old, new, _BITS))}

    def rank(self, words: Sequence[str], mask: NDArray[np.bool_], count: int) -> Ranking:
        """The rows of the mask that have any of the words, by BM25 among all rows."""
        size = len(self._rows)
        lengths = self._lengths[:size]
        mean = float(lengths.mean()) if size else 0.0
        scores: NDArray[np.float32] = np.zeros(size, dtype=np.float32)
        for word in words:
            if (posting := self._postings.get(word)) is None:
                continue
            packed = np.array(posting, dtype=np.uint32)
            rows = self._rows.row_of[packed >> _BITS]
            there = rows >= 0
            rows, times = rows[there], (packed[there] & _OFTEN).astype(np.float32)
            rarity = math.log1p((size - len(rows) + 0.5) / (len(rows) + 0.5))
            against = K1 * (1 - B + (B / max(mean, 1e-9)) * lengths[rows].astype(np.float32))
            scores[rows] += np.float32(rarity * (K1 + 1)) * times / (times + against)
        scores[~mask | (scores <= 0)] = -np.inf
        order = best(scores, count, self._rows.number[:size])
        return order, scores[order]
