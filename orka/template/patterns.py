"""Searching with a regular expression from a graph file, in bounded time.

Python's `re` backtracks, and a search cannot be interrupted. So a pattern is read before it is used: repeats within
repeats, alternatives within repeats and back-references, which can take exponential time, are refused; for the rest the
worst case is a power of the text's length, and only so many characters are searched as keep it under `STEPS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from orka.errors import TemplateError

PATTERN_LIMIT = 1000
"""Characters of a pattern."""
TEXT_LIMIT = 100_000
"""Characters searched at most, whatever the pattern."""
STEPS = 10_000_000
"""Steps of the matcher in the worst case, at 15 to 60 ns each: some tenths of a second."""
_REPEAT = re.compile(r"(?:[*+?]|\{(?!\})(\d*)(?:(,)(\d*))?\})[?+]?")
_GROUP = re.compile(r"\(\?(?:[:=!>]|<[=!]|P<\w+>|[aiLmsu]*(?:-[ims]+)?[:)])")
_LOOKS = ("(?=", "(?!", "(?<")
_SAMPLE = "".join(map(chr, range(256))) + "ßЖ中あ ’…🎉"
_SAMPLED = frozenset(_SAMPLE)


@dataclass(frozen=True, slots=True)
class _Atom:
    """One character position of a pattern, or something without width."""

    source: str
    chars: frozenset[str] | None
    """The sample characters that it matches; None: not known, or without width."""
    least: int
    certain: bool
    """True when every match contains it."""
    repeated: bool
    """True when it is matched more than once."""
    varies: bool
    """True when that is a variable number of times."""


_ALTERNATIVE = _Atom("|", None, 0, False, False, False)
_LOOK = _Atom("(?", None, 0, False, False, False)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern and the power of the text's length that a search can take."""

    expression: re.Pattern[str]
    exponent: int

    @property
    def text_limit(self) -> int:
        """Characters of a text that are searched."""
        return min(TEXT_LIMIT, int(STEPS ** (1 / self.exponent)))

    def search(self, text: str) -> re.Match[str] | None:
        """The first match within the first `text_limit` characters."""
        return self.expression.search(text[: self.text_limit])

    def search_end(self, text: str) -> re.Match[str] | None:
        """The first match within the last `text_limit` characters. A `^` is the beginning of the whole text."""
        return self.expression.search(text, max(0, len(text) - self.text_limit))

    def price(self, text: str) -> int:
        """Units of work to charge for one search."""
        length = min(len(text), self.text_limit)
        return length + (length**self.exponent // 4 if self.exponent > 1 else 0)


@lru_cache(256)
def compile_pattern(source: str, flags: int = 0) -> Pattern:
    """Reads and compiles a pattern. Raises `TemplateError` when it is no pattern, could take exponential time, or a power
    of the text's length beyond the fourth."""
    expression, exponent = parse_pattern(source, flags), exponent_of(source, flags)
    if exponent > 4:
        raise TemplateError(f"the pattern {source!r} has too many repeats that can match the same text")
    return Pattern(expression, exponent)


def parse_pattern(source: str, flags: int = 0) -> re.Pattern[str]:
    """Compiles a pattern, however long its searches may take. Raises `TemplateError` when it is none."""
    if len(source) > PATTERN_LIMIT:
        raise TemplateError(f"the template goes beyond the limit of {PATTERN_LIMIT} characters in a pattern")
    try:
        return re.compile(source, flags)
    except (re.error, RecursionError, OverflowError, ValueError) as error:
        raise TemplateError(f"{source!r} is not a regular expression: {error}") from None


def exponent_of(source: str, flags: int = 0) -> int:
    """The power of the text's length that a search can take. Raises `TemplateError` when it could take exponential time."""
    return _exponent(_atoms(source, flags))


def _atoms(source: str, flags: int) -> list[_Atom]:
    """The pattern as a flat list. Raises `TemplateError` for what can take exponential time."""
    atoms: list[_Atom] = []
    groups: list[int] = []
    sample = _SAMPLE + "".join(sorted({*source} - _SAMPLED))
    at = 0
    while at < len(source):
        char = source[at]
        start = at
        if char == "(":
            at = _opened(source, at)
            if source[at - 1] != ")":
                groups.append(len(atoms))
            if source[start : start + 3] in _LOOKS:
                atoms.append(_LOOK)
            continue
        if char == "|":
            atoms.append(_ALTERNATIVE)
            at += 1
            continue
        first = len(atoms)
        if char == ")":
            first = groups.pop() if groups else 0
            at += 1
        else:
            at = _atom_end(source, at)
        repeat = _REPEAT.match(source, at)
        least, repeated, varies = _repetition(repeat, source)
        at = repeat.end() if repeat else at
        if char == ")":
            atoms[first:] = _group(atoms[first:], least, repeated, varies, source)
        else:
            width = source[start : repeat.start() if repeat else at]
            atoms.append(_Atom(width, _chars(width, sample, flags), least, least > 0, repeated, varies))
    return _group(atoms, 1, False, False, source)


def _opened(source: str, at: int) -> int:
    """The index after the opening of a group, or after a group of flags."""
    match = _GROUP.match(source, at)
    if match:
        return match.end()
    if source.startswith("(?", at):
        raise TemplateError(f"the pattern {source!r} has a group of a kind that is not available here")
    return at + 1


def _atom_end(source: str, at: int) -> int:
    """The index after an escape, a class or a character."""
    if source[at] == "\\":
        if source[at + 1].isdigit() and source[at + 1] != "0":
            raise TemplateError(f"the pattern {source!r} refers back to a group, which is not available")
        long = re.compile(r"\\(?:x..|u.{4}|U.{8}|N\{[^}]*\}|.)", re.DOTALL).match(source, at)
        return long.end() if long else at + 2
    if source[at] != "[":
        return at + 1
    at += 2 if source.startswith("[^", at) else 1
    at += source.startswith("]", at)
    while source[at] != "]":
        at += 2 if source[at] == "\\" else 1
    return at + 1


def _repetition(repeat: re.Match[str] | None, source: str) -> tuple[int, bool, bool]:
    """(least count, whether more than one is possible, whether the count varies then)."""
    if repeat is None:
        return 1, False, False
    if repeat[0][0] != "{":
        many = repeat[0][0] != "?"
        return int(repeat[0][0] == "+"), many, many
    if max(len(repeat[1] or ""), len(repeat[3] or "")) > 3:
        raise TemplateError(f"the pattern {source!r} repeats more than 999 times")
    many = (repeat[3] if repeat[2] else repeat[1]) not in ("0", "1")
    return int(repeat[1] or 0), many, many and repeat[2] is not None


def _group(inner: list[_Atom], least: int, repeated: bool, varies: bool, source: str) -> list[_Atom]:
    """The atoms of a group, given the group's own repeat."""
    if repeated and any(atom.repeated or atom.least == 0 for atom in inner):
        raise TemplateError(f"the pattern {source!r} repeats a group that itself repeats or has alternatives")
    if repeated:
        # Several characters as one: nothing is known about what it matches.
        return [_Atom("", inner[0].chars if len(inner) == 1 else None, least, least > 0, repeated, varies)]
    if least == 0:
        return [replace(atom, least=0, certain=False) for atom in inner]
    if _ALTERNATIVE in inner or inner[:1] == [_LOOK]:
        return [replace(atom, certain=False) for atom in inner]
    return inner


@lru_cache(1024)
def _chars(source: str, sample: str, flags: int) -> frozenset[str] | None:
    if source in ("^", "$") or (source[0] == "\\" and source[1:] in ("A", "Z", "b", "B")):
        return None
    # Flags may also be set inside the pattern: what any of them makes it match counts.
    ways = [re.compile(source, flags | more) for more in (0, re.IGNORECASE | re.DOTALL, re.ASCII)]
    return frozenset(char for char in sample if any(way.fullmatch(char) for way in ways))


def _exponent(atoms: list[_Atom]) -> int:
    """The power of the text's length that bounds a search.

    One for every repeat that can match what follows it, too (each length is a choice), one for scanning the others, and
    one more when a match can be tried from every character that such a repeat covers.
    """
    while atoms and atoms[-1].least == 0 and atoms[-1].chars is not None and _ALTERNATIVE not in atoms:
        atoms = atoms[:-1]  # What may match nothing at the end cannot fail.
    choices = scans = restarts = 0
    for index, atom in enumerate(atoms[:-1]):
        if atom.varies:
            choice = _overlaps(atom, atoms[index + 1 :])
            choices += choice
            scans = scans or not choice
            restarts = restarts or not any(before.certain and _disjoint(atom, before) for before in atoms[:index])
    return max(1, choices + scans + restarts)


def _overlaps(atom: _Atom, following: list[_Atom]) -> bool:
    """Whether what follows can match what the repeat matches, so that the matcher has a choice."""
    for other in following:
        if not _disjoint(atom, other):
            return True
        if other.certain:
            return False
    return False


def _disjoint(atom: _Atom, other: _Atom) -> bool:
    return atom.chars is not None and other.chars is not None and not atom.chars & other.chars
