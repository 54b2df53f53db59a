"""Events: what readers of a run are shown, and the positions at which they go on. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import msgspec

from orka.journal.entries import Kind
from orka.types import Json, Path

_LAST_NUMBER = 2**64 - 1
"""Of the entries of one millisecond."""


class Token(msgspec.Struct, frozen=True):
    """Text that an agent under way has emitted: what a `node.token` event says."""

    id: str
    """Of the node."""
    attempt: int
    text: str
    seq: int
    """Characters that the attempt has emitted before: a reader who has more or fewer was given some twice, or misses
    some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """One entry of a run's journal, or a piece of an answer."""

    id: str
    """Position in the feed: give it as `after` to go on behind this event."""
    kind: str
    """`run.started`, `node.finished`, ...: see `orka.journal.entries.Kind`."""
    path: Path
    """Of the visit; empty for the run itself."""
    at_ms: int
    """When Redis stored it."""
    data: dict[str, Json]

    @classmethod
    def of(cls, entry_id: str, kind: str, path: str, data: bytes) -> RunEvent:
        fields = cast("dict[str, Json]", msgspec.json.decode(data))
        for name in ("output", "input", "items"):
            value = fields.get(name)
            if isinstance(value, dict):  # values are wrapped, so that large ones can be elsewhere
                fields[name] = value.get("json")
                if "ref" in value:
                    fields[f"{name}_ref"] = value["ref"]
        return cls(id=entry_id, kind=kind, path=Path(path), at_ms=milliseconds(entry_id), data=fields)

    @classmethod
    def of_token(cls, position: str, path: str, token: Token, at_ms: int) -> RunEvent:
        data = cast("dict[str, Json]", msgspec.to_builtins(token))
        return cls(id=position, kind=Kind.NODE_TOKEN, path=Path(path), at_ms=at_ms, data=data)


class Position(NamedTuple):
    """Where a reader is: the last entry that it has of each of the run's two streams."""

    journal: str
    tokens: str

    def __str__(self) -> str:
        return f"{self.journal}+{self.tokens}"


def parse_position(text: str) -> Position:
    """`<entry>` or `<entry>+<token>`, ids of the streams. Of an entry alone, tokens are read from its millisecond on: some
    of them may have been read before."""
    journal, plus, tokens = text.partition("+")
    if plus:
        return Position(journal, tokens)
    before = milliseconds(journal) - 1
    return Position(journal, "0" if before < 0 else f"{before}-{_LAST_NUMBER}")


def milliseconds(entry_id: str) -> int:
    """When an entry was stored, since the epoch."""
    return int(entry_id.partition("-")[0])
