"""Words of a text, the same wherever Orka compares texts by their words. Pure."""

from __future__ import annotations

import re
from typing import Final

MOST_WORDS: Final = 32
"""Different words of a query that are searched for."""
LONGEST: Final = 64
"""Characters of one word that count."""
_BYTES: Final = 128
"""Of one word in UTF-8 that count: the search module finds no longer ones."""
READ: Final = 32_768
"""Characters of a query, and of what is compared with others word by word, that are read: it takes some milliseconds."""

_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]+")
"""Japanese, Chinese and Korean, written without spaces between words."""
STOP_WORDS: Final = frozenset(
    _WORD.findall(
        "a an and are as at be but by for from had has have he her his how i if in is it its of on or our she so that the their"
        " them then there these they this to was we were what when where which who will with you your"
    )
)
"""Left out of a query that has other words: nearly every text has them."""


def words_of(text: str) -> list[str]:
    """In their order, case folded, repetitions kept. Scripts without spaces give pairs of neighbouring characters."""
    words: list[str] = []
    for word in _WORD.findall(text.lower() if text.isascii() else text.casefold()):
        if word.isascii():
            words.append(word[:LONGEST])
        elif not _UNSPACED.search(word):
            words.append(_cut(word))
        else:
            words.extend(_pairs(word))
    return words


def _cut(word: str) -> str:
    return word[:LONGEST].encode()[:_BYTES].decode("utf-8", "ignore")


def _pairs(word: str) -> list[str]:
    parts: list[str] = []
    for place, part in enumerate(_UNSPACED.split(word)):
        if place:
            run = _UNSPACED.findall(word)[place - 1]
            parts.extend(run[i : i + 2] for i in range(max(1, len(run) - 1)))
        if part:
            parts.append(_cut(part))
    return parts


def query_words(text: str) -> tuple[str, ...]:
    """The words of a query, each once, stop words only when there is nothing else; at most `MOST_WORDS`, from the first
    `READ` characters."""
    words = dict.fromkeys(words_of(text[:READ]))
    telling = [word for word in words if word not in STOP_WORDS]
    return tuple(telling or words)[:MOST_WORDS]
