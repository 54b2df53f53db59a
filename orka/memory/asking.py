"""What callers may ask of a search: brought into one form, or refused by name. Pure.

Nothing beyond this point looks at types: one bad value would be an error of the server's, or of a whole round trip that
searches of others share.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final, cast

from orka.errors import QueryRefused
from orka.memory.query import Filters, MemoryQuery, Scalar, Wanted
from orka.memory.record import TAGS, as_number, plain_scalar, text_of

MOST_HITS: Final = 10_000
"""`offset` and `limit` together."""
_MODES: Final = ("vector", "text", "hybrid")
_FUSIONS: Final = ("weighted", "rrf")


def checked(query: MemoryQuery) -> MemoryQuery:
    """The query with texts that can be stored, tuples for several values, and plain numbers. `QueryRefused` names what cannot
    be looked for."""
    if not isinstance(query, MemoryQuery):  # pyright: ignore[reportUnnecessaryIsInstance]  callers are not all typed
        raise QueryRefused(f"{query!r} is no MemoryQuery(...): `search_memories` takes a text")
    limit, offset = _whole("limit", query.limit), _whole("offset", query.offset)
    if limit < 1 or offset < 0 or offset + limit > MOST_HITS:
        raise QueryRefused(
            f"limit={limit}, offset={offset}: a search gives 1 to {MOST_HITS:,} memories, pages included"
        )
    for name, value, known in (("mode", query.mode, _MODES), ("fusion", query.fusion, _FUSIONS)):
        if value not in known:
            raise QueryRefused(f"{name}={value!r} must be one of {', '.join(known)}")
    weights = {
        name: _number(name, getattr(query, name), least=0.0)
        for name in ("vector_weight", "text_weight", "temporal_weight", "temporal_decay_hours", "context_weight")
    }
    context: object = query.context
    return replace(
        query,
        text=_text("text", query.text) if query.text is not None else "",  # pyright: ignore[reportUnnecessaryComparison]
        limit=limit,
        offset=offset,
        filters=_filters(query.filters),
        least_similarity=_optional("least_similarity", query.least_similarity),
        context=tuple(_text("context", one) for one in _several(context)),
        ef_runtime=None if query.ef_runtime is None else max(1, _whole("ef_runtime", query.ef_runtime)),
        **weights,
    )


def _filters(filters: Filters) -> Filters:
    if not isinstance(filters, Filters):  # pyright: ignore[reportUnnecessaryIsInstance]  callers are not all typed
        raise QueryRefused(f"filters={filters!r} of a search must be Filters(...)")
    return Filters(
        **{name: _wanted(name, getattr(filters, name)) for name in TAGS},
        least_importance=_optional("least_importance", filters.least_importance),
        most_importance=_optional("most_importance", filters.most_importance),
        since_ms=_moment("since_ms", filters.since_ms),
        until_ms=_moment("until_ms", filters.until_ms),
        expires_before_ms=_moment("expires_before_ms", filters.expires_before_ms),
        metadata=_metadata(filters.metadata),
    )


def _wanted(name: str, value: object) -> Wanted:
    if value is None or isinstance(value, str):
        return None if value is None else text_of(value)
    return tuple(_text(name, one) for one in _several(value))


def _metadata(wanted: object) -> dict[str, Scalar | tuple[Scalar, ...]]:
    if not isinstance(wanted, Mapping):
        raise QueryRefused(f"metadata={wanted!r} of the filters must be a mapping of names to the values wanted")
    found: dict[str, Scalar | tuple[Scalar, ...]] = {}
    for name, value in cast("Mapping[object, object]", wanted).items():
        label = f"metadata filter {name!r}"
        many = isinstance(value, list | tuple | set | frozenset)
        values = tuple(_scalar(label, one) for one in _several(value)) if many else _scalar(label, value)  # pyright: ignore[reportUnknownArgumentType]
        found[_text("name of a metadata filter", name)] = values
    return found


def _scalar(label: str, value: object) -> Scalar:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, int):
        return int(value)
    try:
        plain = float(value) if isinstance(value, float) else plain_scalar(value)
    except TypeError:
        plain = None
    if isinstance(plain, bool | int) or (isinstance(plain, float) and math.isfinite(plain)):
        return plain
    raise QueryRefused(f"{label}: {value!r} is no text, number, boolean or None, which is what can be looked for")


def _several(value: object) -> tuple[object, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(cast("Collection[object]", value)) if isinstance(value, list | tuple | set | frozenset) else (value,)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise QueryRefused(f"{name}={value!r} of a search must be text")
    return text_of(value)


def _whole(name: str, value: object) -> int:
    try:
        return operator.index(cast("int", value))
    except TypeError:
        raise QueryRefused(f"{name}={value!r} of a search must be a whole number") from None


def _number(name: str, value: object, *, least: float = -math.inf) -> float:
    number = as_number(value)
    if math.isfinite(number) and number >= least:
        return number
    wanted = "a finite number" if least == -math.inf else f"a finite number from {least:g} on"
    raise QueryRefused(f"{name}={value!r} of a search must be {wanted}")


def _optional(name: str, value: object) -> float | None:
    return None if value is None else _number(name, value)


def _moment(name: str, value: object) -> int | None:
    """Milliseconds; of a broken number the next whole one: nothing lies between them."""
    if value is None or isinstance(value, int):
        return value if value is None else int(value)
    return math.ceil(_number(name, value))
