"""What full-text search finds in a text, the same on both backends. Pure.

The search module splits at ASCII punctuation and spaces only: a line break, a dash or a quotation mark of another alphabet
stay part of a word there, and a Chinese sentence is one long word. What it would miss is stored beside the text.
"""

from __future__ import annotations

import re

from orka.words import LONGEST, MOST_WORDS, READ, STOP_WORDS, query_words, words_of

__all__ = ["LONGEST", "MOST_WORDS", "READ", "STOP_WORDS", "hidden_words", "query_words", "words_of"]

_PLAIN = re.compile(r"[ -\[\]^`-~\t]*")
"""ASCII without `_`, backslash and control characters: the server's words are ours."""
_LONG = re.compile(r"[A-Za-z0-9]{65}")
_SEPARATORS = r"""\t ,./(){}\[\]:;~!@#$%^&*\-=+|'`"<>?"""
_SERVER_WORD = re.compile(rf"(?:\\(?:.|\Z)|[^\\{_SEPARATORS}])+", re.DOTALL)
"""What the module takes for a word (measured on RediSearch 2.10.5). Behind a backslash a separator is none."""


def hidden_words(text: str) -> list[str]:
    """The words of a text that the server's tokenizer does not see as such, each once."""
    if _PLAIN.fullmatch(text) and not _LONG.search(text):
        return []
    read, _, _ = text.partition("\0")  # the server stops at a NUL
    seen = {word.lower() for word in _SERVER_WORD.findall(read) if word.isascii() or _is_small(word)}
    return [word for word in dict.fromkeys(words_of(text)) if word not in seen]


def _is_small(word: str) -> bool:
    """Nothing is left to fold: the server has it as we do, whichever letters it knows."""
    return word == word.casefold() == word.lower()
