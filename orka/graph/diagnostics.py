"""Faults of a graph file as data, and how they look to a person. Collecting and rendering only: nothing here judges."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, NamedTuple

from orka.secrets import redact, redact_text
from orka.types import Json

MAX_FAULTS = 200
"""More are counted but not kept: a hostile file must not be able to make a report of a gigabyte."""
_WIDTH = 110
"""Characters shown of an offending line."""
_LONGEST = 600
"""Characters of a message: what it quotes may be a megabyte long."""
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""The line breaks of YAML 1.1, section 4.2; the parser counts lines by them."""


class Mark(NamedTuple):
    """A place in a file; both count from 1. Line 0: the file as a whole."""

    line: int
    column: int


NOWHERE = Mark(0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault of a file."""

    severity: Literal["error", "warning"]
    message: str
    file: str
    line: int = 0
    """From 1; 0 when the fault is about the file as a whole."""
    column: int = 0
    source_line: str = ""
    """The offending line as it stands in the file."""
    hint: str | None = None
    """What to do about it, without brackets: `did you mean 'summarise'?`."""
    agent_id: str | None = None
    key: str | None = None

    def render(self) -> str:
        """As compilers print it: place, severity, message, then the line and a caret."""
        where = self.file if not self.line else f"{self.file}:{self.line}:{self.column}"
        hint = f" ({self.hint})" if self.hint else ""
        head = redact_text(f"{where}: {self.severity}: {self.message}{hint}")
        if not self.source_line.strip():
            return head
        shown, caret = _window(redact_text(self.source_line), self.column)
        return f"{head}\n    {shown}\n    {' ' * caret}^"

    def as_json(self) -> dict[str, Json]:
        """The same, for programs."""
        told: dict[str, Json] = {
            "severity": self.severity,
            "message": self.message,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "hint": self.hint,
            "agent_id": self.agent_id,
            "key": self.key,
            "source_line": self.source_line,
        }
        return {name: redact(value) for name, value in told.items()}


class Findings:
    """Collects the faults of one file while it is read. `text` is the file's text, for the offending lines."""

    def __init__(self, file: str, text: str = "") -> None:
        self.file = file
        self._lines = _BREAK.split(text)
        self._faults: list[Fault] = []
        self._seen: set[tuple[str, Mark]] = set()
        self._spoiled: set[Mark] = set()
        self._dropped = 0
        self.failed = False
        """True once an error was found."""

    def error(
        self,
        message: str,
        at: Mark = NOWHERE,
        *,
        hint: str | None = None,
        agent: str | None = None,
        key: str | None = None,
    ) -> None:
        self.failed = True
        self._add("error", message, at, hint, agent, key)

    def warning(
        self,
        message: str,
        at: Mark = NOWHERE,
        *,
        hint: str | None = None,
        agent: str | None = None,
        key: str | None = None,
    ) -> None:
        self._add("warning", message, at, hint, agent, key)

    def spoil(self, at: Mark) -> None:
        """The value at this place could not be read, and is reported: what else is found there only follows from it."""
        self._spoiled.add(at)

    def line(self, number: int) -> str:
        """The text of a line, from 1; empty outside the file."""
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""

    def faults(self) -> tuple[Fault, ...]:
        """All of them in file order; those about the whole file come first."""
        ordered = sorted(self._faults, key=lambda fault: (fault.line, fault.column))
        if self._dropped:
            severity = "error" if self.failed else "warning"
            ordered.append(
                Fault(severity=severity, message=f"{self._dropped} more faults are not shown", file=self.file)
            )
        return tuple(ordered)

    def _add(
        self,
        severity: Literal["error", "warning"],
        message: str,
        at: Mark,
        hint: str | None,
        agent: str | None,
        key: str | None,
    ) -> None:
        message = message if len(message) <= _LONGEST else message[:_LONGEST] + "..."
        if at in self._spoiled or (message, at) in self._seen:
            return
        self._seen.add((message, at))
        if len(self._faults) >= MAX_FAULTS:
            self._dropped += 1
            return
        self._faults.append(
            Fault(
                severity=severity,
                message=message,
                file=self.file,
                line=at.line,
                column=at.column,
                source_line=_excerpt(self.line(at.line), at.column),
                hint=hint,
                agent_id=agent,
                key=key,
            )
        )


def suggest(word: str, known: Iterable[str]) -> str | None:
    """`did you mean 'x'?` when `known` has something close to `word`."""
    if len(word) > 100:
        return None
    by_fold = {name.casefold(): name for name in known}
    found = get_close_matches(word.casefold(), by_fold, n=1, cutoff=0.7)
    return f"did you mean {by_fold[found[0]]!r}?" if found else None


def shorten(value: str, limit: int = 60) -> str:
    """`value` quoted for a message, on one line and not longer than `limit` characters."""
    return repr(value if len(value) <= limit else value[: limit - 3] + "...")


def _excerpt(line: str, column: int) -> str:
    """Lines of ordinary length as they are; of a giant one only the part that can be shown."""
    if len(line) <= 2000:
        return line
    return line[: max(column, 1) + 2000] if column < 2000 else " " * (column - 1) + line[column - 1 : column + 200]


def _window(line: str, column: int) -> tuple[str, int]:
    """The part of a line that fits the screen, and the caret's place in it, from 0."""
    line = "".join(char if char.isprintable() else " " for char in line).rstrip()
    caret = max(column - 1, 0)
    start = max(0, caret - _WIDTH // 2) if len(line) > _WIDTH else 0
    if not start:
        indent = len(line) - len(line.lstrip())
        start = min(indent, caret)
    shown = line[start : start + _WIDTH]
    return shown, min(caret - start, len(shown))
