"""`MemoryRecord`: one memory, and its hash in Redis. Nothing here talks to a server.

The field names are those of OrKa 0.9 where it had them, so that its memories are read as they are. What filters compare is
stored encoded (`encode_tag`): any text may name a namespace, and none of it can become query syntax.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, cast
from weakref import WeakValueDictionary

import msgspec

from orka.clock import now_ms
from orka.errors import RecordRefused
from orka.memory.text import hidden_words
from orka.types import Json

PREFIX: Final = "orka_memory:"
"""Of the keys of memories; nothing else begins with it."""
MOST_CONTENT: Final = 8 * 1024 * 1024
"""Bytes of one content."""
SEPARATOR: Final = "\x1f"
"""Between the facets of a record."""
TAGS: Final = ("namespace", "memory_type", "category", "session", "node_id", "trace_id")
"""What is compared whole."""
OPTIONAL: Final = frozenset({"session", "node_id", "trace_id"})
"""Tags that a record need not have: empty means none."""
FACETS: Final = "facets"
"""The scalars of the metadata as tags, `name=value`."""
_TAGS: Final = tuple((name.encode(), name) for name in TAGS)
_LONGEST_TAG: Final = 256
_EARLIEST, _LATEST = -62_135_596_800_000, 253_402_300_799_999
"""Milliseconds since 1970, of the years 1 to 9999: those that a date can be made of."""
_DIGITS: Final = 9
"""Of an importance behind the point: the search module gives numbers back with twelve."""
_NOTHING: Final[Mapping[str, Json]] = {}


def plain_scalar(value: object) -> object:
    """For msgspec: the scalars of numpy as Python's. `TypeError` for anything else."""
    numpy: Any = sys.modules.get("numpy")  # nobody has such a scalar without it
    if numpy is not None and isinstance(value, numpy.generic):
        return cast("Any", value).item()
    raise TypeError(f"a {type(value).__module__}.{type(value).__name__} is no JSON")


_json = msgspec.json.Encoder(order="deterministic", enc_hook=plain_scalar)
_unwritten: WeakValueDictionary[int, MemoryRecord] = WeakValueDictionary()
"""Records with a key of their own that no write has taken up, by identity."""


class MemoryRecord(msgspec.Struct, frozen=True, kw_only=True, weakref=True):
    """One memory. `new_record` checks and completes what callers give. (A struct because every write makes one.)"""

    key: str
    """`orka_memory:` and 32 hex digits."""
    content: str
    namespace: str = "default"
    memory_type: str = "short_term"
    category: str = "stored"
    session: str = ""
    node_id: str = ""
    trace_id: str = ""
    """Of the run, or the application's own."""
    importance: float = 0.5
    """0 to 1."""
    timestamp_ms: int = 0
    expire_ms: int = 0
    """When it expires, milliseconds since the epoch; 0: never."""
    metadata: Mapping[str, Any] = _NOTHING
    """JSON."""

    def expired(self, at_ms: int) -> bool:
        return 0 < self.expire_ms <= at_ms

    def tag(self, name: str) -> str:
        """The value of one of `TAGS`."""
        return cast("str", getattr(self, name))


class MemoryHit(msgspec.Struct, frozen=True, kw_only=True):
    """A memory that was found."""

    record: MemoryRecord
    score: float
    """What the order follows; higher is better."""
    similarity: float | None = None
    """Cosine, 1 for the same direction; None when it was found by words alone."""
    text_score: float | None = None
    """BM25 over the best of the same search, 0 to 1; None when it was found by meaning alone."""


def new_key() -> str:
    """Of a memory that nothing else names."""
    return PREFIX + os.urandom(16).hex()


def key_for(*parts: str) -> str:
    """The same parts, the same key: an upsert's namespace and name, a visit's run, path and number."""
    digest = blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return PREFIX + digest.hexdigest()


def new_record(
    content: str,
    *,
    key: str | None = None,
    namespace: str = "default",
    memory_type: str = "short_term",
    category: str = "stored",
    session: str = "",
    node_id: str = "",
    trace_id: str = "",
    importance: float = 0.5,
    timestamp_ms: int | None = None,
    expire_ms: int = 0,
    metadata: Mapping[str, Json] | None = None,
) -> MemoryRecord:
    """A record that can be stored. `RecordRefused` names what cannot."""
    if not isinstance(content, str):  # pyright: ignore[reportUnnecessaryIsInstance]  callers are not all typed
        raise RecordRefused(f"a memory's content is text, and this is a {type(content).__name__}")
    content = _text(content, "content")
    if len(content.encode()) > MOST_CONTENT:
        raise RecordRefused(f"a memory of {len(content):,} characters is too long: at most {MOST_CONTENT:,} bytes")
    if not math.isfinite(weight := as_number(importance)):
        raise RecordRefused(f"importance={importance!r} is not a number from 0 to 1")
    names = {
        "namespace": namespace,
        "memory_type": memory_type,
        "category": category,
        "session": session,
        "node_id": node_id,
        "trace_id": trace_id,
    }
    record = MemoryRecord(
        key=new_key() if key is None else _checked_key(key),
        content=content,
        importance=round(min(1.0, max(0.0, weight)), _DIGITS),
        timestamp_ms=now_ms() if timestamp_ms is None else _milliseconds("timestamp_ms", timestamp_ms),
        expire_ms=max(0, _milliseconds("expire_ms", expire_ms)),
        metadata=_plain(metadata or _NOTHING),
        **{name: _text(value, name) for name, value in names.items()},
    )
    if key is None:
        _unwritten[id(record)] = record
    return record


def is_first_write(record: MemoryRecord) -> bool:
    """Whether nothing can be stored under its key: the key was drawn for this record, and nobody has asked this before.
    (Told by identity: a changed copy of a record has its key, and may find the original stored.)"""
    return _unwritten.pop(id(record), None) is record


def as_number(value: object) -> float:
    """NaN for what is none: callers are not all typed."""
    if isinstance(value, str | bytes):
        return math.nan
    try:
        return float(cast("float", value))
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _milliseconds(name: str, value: object) -> int:
    if not _EARLIEST <= (number := as_number(value)) <= _LATEST:
        shown = repr(value)[:60]
        raise RecordRefused(f"{name}={shown} is no time in milliseconds since 1970")
    return int(number)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise RecordRefused(f"{name} of a memory is text, and {value!r} is a {type(value).__name__}")
    return text_of(value)


def text_of(value: str) -> str:
    """As it is stored: half a surrogate pair (from broken JSON) is no character."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _checked_key(key: str) -> str:
    name = key.removeprefix(PREFIX)
    if name == key or not name:
        raise RecordRefused(f"{key!r} is no key of a memory: they begin with {PREFIX!r}")
    if "\0" in name:  # the search module would look for the hash by what is before it
        raise RecordRefused(f"{key!r} is no key of a memory: it has a NUL")
    return key


def _plain(metadata: Mapping[str, Json]) -> Mapping[str, Json]:
    """Checked to be JSON, and the record's own."""
    if not metadata:
        return _NOTHING
    try:
        found: object = msgspec.json.decode(_json.encode(metadata))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as exc:
        raise RecordRefused(f"metadata of a memory must be JSON, with text as names: {exc}") from exc
    if not isinstance(found, dict):
        raise RecordRefused(f"metadata of a memory is a mapping, and this is a {type(metadata).__name__}")
    return cast("dict[str, Json]", found)


@lru_cache(maxsize=4096)  # most are repeated, and looking at every character takes a microsecond
def encode_tag(value: str) -> str:
    """As tags are stored and looked for. Short printable text is itself; anything else (empty, with white space at an end,
    with control characters, long; with a backslash, which the search module takes off again before a mark) is `~` and its
    BLAKE2b-128."""
    plain = 0 < len(value) <= _LONGEST_TAG and value.isprintable() and "\\" not in value
    if plain and value[0] not in "~ " and value[-1] != " ":
        return value
    return _digest(value)


def _digest(value: str) -> str:
    return "~" + blake2b(value.encode("utf-8", "replace"), digest_size=16).hexdigest()


def encode_facet(name: str, value: object) -> str | None:
    """One scalar of the metadata as a tag; None for what is none (a list, a mapping)."""
    if not isinstance(value, str | int | float | bool) and value is not None:
        return None
    if "=" in name:  # or `a=b` of one memory would be `a` of another
        return _digest(f"{len(name)}:{name}={value if isinstance(value, str) else _json.encode(value).decode()}")
    if type(value) is int:
        return encode_tag(f"{name}={value}")
    text = value if isinstance(value, str) else _json.encode(value).decode()
    return encode_tag(f"{name}={text}")


def encode_fields(record: MemoryRecord) -> list[str | bytes]:
    """Name, value, name, value, ... of the hash, without vectors. Tags whose encoded form is another are in `labels` as
    they were."""
    fields: list[str | bytes] = ["content", record.content]
    labels: dict[str, str] = {}
    for name in TAGS:
        value: str = getattr(record, name)
        if not value and name in OPTIONAL:
            continue
        encoded = encode_tag(value) if len(value) <= _LONGEST_TAG else _digest(value)
        fields += (name, encoded)
        if encoded != value:
            labels[name] = value
    fields += ("timestamp", str(record.timestamp_ms), "importance_score", repr(record.importance))
    if record.expire_ms:
        fields += ("orka_expire_time", str(record.expire_ms))
    if record.metadata:
        fields += ("metadata", _json.encode(record.metadata))
        facets = [facet for item in record.metadata.items() if (facet := encode_facet(*item)) is not None]
        if facets:
            fields += (FACETS, SEPARATOR.join(facets))
    if labels:
        fields += ("labels", _json.encode(labels))
    if words := hidden_words(record.content):
        fields += ("words", " ".join(words))
    return fields


def decode_record(key: str, fields: Mapping[bytes, bytes]) -> MemoryRecord | None:
    """A memory from its hash, one of OrKa 0.9 included; None for what is none (it expired between search and reading)."""
    content = fields.get(b"content")
    if content is None:
        return None
    metadata = _mapping(fields.get(b"metadata"))
    values = {name: fields[raw].decode("utf-8", "replace") for raw, name in _TAGS if raw in fields}
    if b"labels" in fields:
        values |= {name: str(value) for name, value in _mapping(fields[b"labels"]).items() if name in TAGS}
    if b"namespace" not in fields:  # OrKa 0.9 kept them in the metadata, and importance and type beside it
        for name in ("namespace", "session", "category"):
            if isinstance(known := metadata.get(name), str):
                values.setdefault(name, known)
    return MemoryRecord(
        key=key,
        content=content.decode("utf-8", "replace"),
        importance=min(1.0, max(0.0, _number(fields.get(b"importance_score"), 0.5))),
        timestamp_ms=_time(fields.get(b"timestamp")),
        expire_ms=max(0, _time(fields.get(b"orka_expire_time"))),
        metadata=metadata,
        **values,
    )


def fields_of(pairs: Sequence[bytes]) -> dict[bytes, bytes]:
    """A reply of HGETALL, or a row of a search."""
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def _mapping(raw: bytes | None) -> dict[str, Json]:
    if not raw:
        return {}
    try:
        found: object = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return cast("dict[str, Json]", found) if isinstance(found, dict) else {}


def _time(raw: bytes | None) -> int:
    """0 for one that nobody can have meant."""
    value = _number(raw, 0)
    return int(value) if _EARLIEST <= value <= _LATEST else 0


def _number(raw: bytes | None, default: float) -> float:
    if raw is None:
        return default
    try:
        value = float(raw or default)
    except ValueError:
        return default
    return value if math.isfinite(value) else default
