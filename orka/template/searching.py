"""Searching with the expressions of a graph file where texts are searched whole: answers of models, a page or two long.

`patterns` keeps a search short by searching a part of the text; that part may be smaller than a paragraph. Here the search
is watched instead, and one that takes too long is given up. Only where counts come to much repeats within repeats are
refused as there: `((a{99}){99}){99}` takes gigabytes before anything is searched.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import regex
import structlog

from orka.errors import TemplateError
from orka.template.patterns import exponent_of, parse_pattern

log = structlog.get_logger(__name__)

PATIENCE: Final = 0.3
"""Seconds for one search: that of a page takes less than a thousandth of it."""

MOST_COUNTED: Final = 1000
"""Product of the counts in an expression that needs no further look."""
_COUNT: Final = re.compile(r"\{(\d*),?(\d*)\}")


@dataclass(frozen=True, slots=True)
class Search:
    """A compiled expression. Searches give the interpreter's lock back, so that a thread may wait for them."""

    expression: regex.Pattern[str]

    def first(self, text: str) -> regex.Match[str] | None:
        return next(self.every(text), None)

    def every(self, text: str) -> Iterator[regex.Match[str]]:
        """The matches, until they have taken `PATIENCE` together."""
        try:
            yield from self.expression.finditer(text, timeout=PATIENCE, concurrent=True)
        except TimeoutError:
            log.warning("search.given_up", pattern=self.expression.pattern, characters=len(text), seconds=PATIENCE)


@lru_cache(256)
def compile_search(source: str, flags: int = 0) -> Search:
    """Reads and compiles an expression. `TemplateError` when it is none, or one that this engine cannot take."""
    parse_pattern(source, flags)
    if math.prod(int(most or least or 1) or 1 for least, most in _COUNT.findall(source)) > MOST_COUNTED:
        exponent_of(source, flags)
    try:
        return Search(regex.compile(source, flags))
    except (regex.error, RecursionError) as error:
        raise TemplateError(f"{source!r} is not a regular expression: {error}") from None
