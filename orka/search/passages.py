"""A text in passages short enough to be found and quoted by themselves. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MOST: Final = 1_000
"""Characters of a passage, when nobody says otherwise."""
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)[ \t#]*$")
_UNDERLINE = re.compile(r"[ \t]*(?:={3,}|-{3,})[ \t]*$")
_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A few paragraphs that stand under one heading."""

    text: str
    heading: str
    """Empty where there is none."""
    line: int
    """At which it begins, from 1."""


def split_text(text: str, most: int = MOST) -> list[Passage]:
    """Passages of at most `most` characters, cut between paragraphs where possible, else between sentences, else between
    words. Headings (Markdown's `#`, or underlined) are no part of a passage: each names those below it."""
    found: list[Passage] = []
    kept: list[str] = []
    heading, line, size = "", 1, 0

    def close() -> None:
        nonlocal kept, size
        if kept:
            found.append(Passage(text="\n\n".join(kept), heading=heading, line=line))
        kept, size = [], 0

    for start, kind, block in _blocks(text):
        if kind == "heading":
            close()
            heading = block
            continue
        for part in _parts(block, most):
            if kept and size + 2 + len(part) > most:
                close()
            if not kept:
                line = start
            kept.append(part)
            size += len(part) + 2
    close()
    return found


def _blocks(text: str) -> Iterator[tuple[int, str, str]]:
    """(line, `heading` or `paragraph`, text) in order."""
    block: list[str] = []
    start = 1
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        row = raw.rstrip()
        marked = _HEADING.match(row)
        if len(block) == 1 and _UNDERLINE.match(row):
            yield start, "heading", block[0].strip()
            block = []
        elif marked or not row.strip():
            if block:
                yield start, "paragraph", "\n".join(block)
            block = []
            if marked and marked[1]:
                yield number, "heading", marked[1]
        else:
            if not block:
                start = number
            block.append(row)
    if block:
        yield start, "paragraph", "\n".join(block)


def _parts(block: str, most: int) -> Iterator[str]:
    """A paragraph as it is, or in pieces of sentences."""
    if len(block) <= most:
        yield block
        return
    piece = ""
    for sentence in _SENTENCE_END.split(block):
        if piece and len(piece) + 1 + len(sentence) > most:
            yield piece
            piece = ""
        if len(sentence) > most:
            *whole, sentence = _cut(sentence, most)
            yield from whole
        piece = f"{piece} {sentence}" if piece else sentence
    if piece:
        yield piece


def _cut(text: str, most: int) -> Iterator[str]:
    """At least one piece; between words where there are any."""
    while len(text) > most:
        place = text.rfind(" ", most // 2, most + 1)
        end = place if place > 0 else most
        yield text[:end].rstrip()
        text = text[end:].lstrip()
    yield text
