"""Words of a text, the same on both backends: what full-text search finds. Pure.

The search module splits at ASCII punctuation and spaces only: a line break, a dash or a quotation mark of another alphabet
stay part of a word there, and a Chinese sentence is one long word. What it would miss is stored beside the text.
"""

from __future__ import annotations

import re
from typing import Final

MOST_WORDS: Final = 32
"""Different words of a query that are searched for."""
LONGEST: Final = 64
"""Characters of one word that count."""

_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]+")
"""Japanese, Chinese and Korean, written without spaces between words."""
_PLAIN = re.compile(r"[ -\[\]^`-~\t]*")
"""ASCII without `_`, backslash and control characters: the server's words are ours."""
_LONG = re.compile(r"[A-Za-z0-9]{65}")
_SERVER_WORD = re.compile(r"""[^\t ,./(){}\[\]:;~!@#$%^&*\-=+|'`"<>?]+""")
"""What the module takes for a word (measured on RediSearch 2.10.5)."""

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
        if word.isascii() or not _UNSPACED.search(word):
            words.append(word[:LONGEST])
        else:
            words.extend(_pairs(word))
    return words


def _pairs(word: str) -> list[str]:
    parts: list[str] = []
    for place, part in enumerate(_UNSPACED.split(word)):
        if place:
            run = _UNSPACED.findall(word)[place - 1]
            parts.extend(run[i : i + 2] for i in range(max(1, len(run) - 1)))
        if part:
            parts.append(part[:LONGEST])
    return parts


def query_words(text: str) -> tuple[str, ...]:
    """The words of a query, each once, stop words only when there is nothing else; at most `MOST_WORDS`."""
    words = dict.fromkeys(words_of(text))
    telling = [word for word in words if word not in STOP_WORDS]
    return tuple(telling or words)[:MOST_WORDS]


def hidden_words(text: str) -> list[str]:
    """The words of a text that the server's tokenizer does not see as such, each once."""
    if _PLAIN.fullmatch(text) and not _LONG.search(text):
        return []
    read, _, _ = text.partition("\0")  # the server stops at a NUL
    seen = {word.lower() for word in _SERVER_WORD.findall(read) if word.isascii()}
    return [word for word in dict.fromkeys(words_of(text)) if word not in seen]
