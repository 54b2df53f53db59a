"""Numbers as people and models write scores, brought to 0..1. Pure."""

from __future__ import annotations

import re
from math import isfinite
from typing import Final

_LEADING: Final = re.compile(r"[^\w.+-]*([+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?)", re.IGNORECASE)
"""The number that a text begins with. More may follow: a pattern such as `[0-9.]+` takes the full stop along."""


def normalise(text: str, right: str, whole: str) -> float | None:
    """A matched number to 0..1. `right` is what follows it, `whole` the entire match (where `/10` may stand)."""
    found = _LEADING.match(text)
    if found is None or not isfinite(value := float(found.group(1))):
        return None
    after = (text[found.end() :] + whole.partition(text)[2] + right).lstrip()
    if after.startswith("%") or re.match(r"/\s*100\b", after):
        value /= 100
    elif re.match(r"(?:/\s*10\b|out\s+of\s+10\b)", after, re.IGNORECASE):
        value /= 10
    elif 1 < value <= 100:
        value /= 100
    return min(1.0, max(0.0, value))


def score_of(value: object) -> float | None:
    """A number, or a text that is one, to 0..1; None for everything else, truth values included."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    return normalise(str(value), "", str(value))
