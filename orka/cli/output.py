"""Printing: answers and JSON on standard output, everything else on standard error, control characters made visible."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from typing import TextIO

from orka.results import Usage
from orka.secrets import redact_text
from orka.types import Json

_UNSAFE = "\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
"""Control characters (C0 but for tab and newline, DEL, C1), and those that reorder what is read."""
_IN_TEXT = re.compile(rf"\r(?!\n)|(?!\r)[{_UNSAFE}]")
_IN_LINE = re.compile(rf"[\t\n{_UNSAFE}]")


def safe_text(text: str) -> str:
    """`text` for a terminal: an escape sequence in run data is shown, not obeyed. Lines and tabs stay."""
    return _IN_TEXT.sub(_visible, text)


def safe_line(text: str, width: int = 0) -> str:
    """`text` as one line for a tree or a table, cut to `width` characters when that is not 0."""
    line = _IN_LINE.sub(lambda match: " " if match[0] in "\t\n" else _visible(match), text)
    return line if not width or len(line) <= width else line[: width - 1] + "…"


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def render_json(value: object, *, indent: int | None = 2) -> str:
    """JSON that people can read. On a terminal it stays JSON: what is unsafe is escaped as `\\uXXXX`."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return re.sub(f"[{_UNSAFE}]", lambda match: f"\\u{ord(match[0]):04x}", text)


def print_value(value: Json, out: TextIO) -> None:
    """The answer of a run: a string as it is (made safe when a person looks), any other value as JSON."""
    if isinstance(value, str):
        print(safe_text(value) if out.isatty() else value, file=out)
    else:
        print_json(value, out)


def print_json(value: object, out: TextIO | None = None) -> None:
    """`out`: standard output unless given."""
    print(render_json(value), file=out)


def print_table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Columns as wide as their longest cell, two spaces between them, the last one as it comes."""
    cells = [[safe_line(cell) for cell in row] for row in (titles, *rows)]
    widths = [max(_columns(row[column]) for row in cells) for column in range(len(cells[0]) - 1)]
    for row in cells:
        padded = [cell + " " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*padded, row[-1]]).rstrip())


def _columns(text: str) -> int:
    """Columns of a terminal that it takes: characters of East Asian scripts and emoji take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def usage_text(usage: Usage) -> str:
    """Tokens and cost for people: `1,234 tokens (1,000 of prompts, 234 of answers), $0.0123`. Empty where there are none."""
    parts: list[str] = []
    if usage.tokens:
        prompts, answers = f"{usage.prompt_tokens:,} of prompts", f"{usage.completion_tokens:,} of answers"
        parts.append(f"{usage.tokens:,} tokens ({prompts}, {answers})")
    if usage.cost_usd:
        parts.append(cost_text(usage.cost_usd))
    return ", ".join(parts)


def cost_text(usd: float) -> str:
    """Dollars: four decimals, of very little six."""
    return f"${usd:.4f}" if usd >= 0.001 else f"${usd:.6f}"


def span(ms: int) -> str:
    """A duration for people: `3.2 s`, `5 min`, `2 h`."""
    seconds = max(0, ms) / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def warn(text: str) -> None:
    """One message on standard error, without secrets."""
    print(safe_text(redact_text(text)), file=sys.stderr, flush=True)


class StandardError:
    """`sys.stderr` as it is at the moment of writing: a live tree replaces it, to keep what is written above itself."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()
