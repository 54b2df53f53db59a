"""`Delivery`: one task in the hands of this process."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from orka.types import Path, RunId


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One task as the consumer group has given it to this process. (A struct because every branch makes one.)"""

    stream: str
    id: str
    run: RunId
    path: Path
    task: bytes
    again: bool
    """It may have been executed before."""
    alone: bool
    """Its workers died twice: nothing else runs beside it."""


def parse_delivery(stream: str, entry_id: bytes, fields: Sequence[bytes]) -> Delivery:
    """From a stream entry, as Redis gives it."""
    named = {fields[i]: fields[i + 1] for i in range(0, len(fields), 2)}
    return Delivery(
        stream=stream,
        id=entry_id.decode(),
        run=RunId(named[b"run"].decode()),
        path=Path(named[b"path"].decode()),
        task=named[b"task"],
        again=b"again" in named,
        alone=b"alone" in named,
    )
