"""Parameters that a server does not take and can do without: which one its refusal means, and the request without it.
Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

_DISPENSABLE: Final = ("stream_options", "max_tokens", "temperature", "stream")
"""Old servers know no `stream_options`, some no streams; OpenAI's reasoning models want `max_completion_tokens` and no
temperature of one's own."""
_UNKNOWN: Final = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|not (?:permitted|allowed)", re.IGNORECASE
)
STATUSES: Final = frozenset({400, 422})


def refused_parameter(body: Mapping[str, Any], said: str) -> str | None:
    """The parameter of the request that is not known or not supported, by what the server says; None for refusals of
    another kind, as of a value."""
    if _UNKNOWN.search(said) is None:
        return None
    return next((name for name in _DISPENSABLE if name in body and re.search(rf"(?<!\w){name}(?!\w)", said)), None)


def without_refused(body: Mapping[str, Any], refused: Collection[str]) -> dict[str, Any]:
    """The request as the server takes it. The bound on tokens goes by its other name."""
    kept = {name: value for name, value in body.items() if name not in refused}
    if "max_tokens" in refused and "max_tokens" in body:
        kept["max_completion_tokens"] = body["max_tokens"]
    if not kept.get("stream"):
        kept.pop("stream_options", None)
    return kept
