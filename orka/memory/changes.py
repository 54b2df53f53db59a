"""The stream of changes: which memories were written or deleted, for processes that keep a `Mirror`. Pure.

An entry says that the hashes of some keys are to be read again, and comes after the commands that changed them. Its fields:
`k` 16 bytes for each key that is 32 hex digits, `o` the other keys (MessagePack).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from orka.memory.record import PREFIX
from orka.redis.keys import memory_changes_key
from orka.redis.lua import Command
from orka.redis.pipeline import Keyed

KEPT: Final = 10_000
"""Entries (about) of the stream, 16 MB at most: who has been away for longer reads all memories again."""
_KEYS: Final = 100
"""Of one entry."""
_READ: Final = 20
"""Entries read at once."""
_HEX = re.compile(re.escape(PREFIX) + "[0-9a-f]{32}")


def announce(keys: Sequence[str]) -> list[Keyed]:
    """The commands that tell everybody."""
    stream = memory_changes_key()
    return [(stream, _entry(keys[i : i + _KEYS])) for i in range(0, len(keys), _KEYS)]


def beginning() -> Keyed:
    """An entry about nothing: from here on somebody follows. Later it tells whether the stream was cut past it."""
    return memory_changes_key(), _entry(())


def newest() -> Keyed:
    """The last entry: one to follow from where none can be added."""
    return memory_changes_key(), ("XREVRANGE", memory_changes_key(), "+", "-", "COUNT", 1)


def _entry(keys: Sequence[str]) -> Command:
    packed = bytes.fromhex("".join(key[len(PREFIX) :] for key in keys if _HEX.fullmatch(key)))
    others = [key for key in keys if not _HEX.fullmatch(key)]
    entry: Command = ("XADD", memory_changes_key(), "MAXLEN", "~", KEPT, "*", "k", packed)
    return (*entry, "o", msgspec.msgpack.encode(others)) if others else entry


def read_after(entry: bytes) -> Command:
    """What follows an entry, as far as it is there."""
    return ("XREAD", "COUNT", _READ, "STREAMS", memory_changes_key(), entry)


def look_up(entry: bytes) -> Command:
    """Gives the entry if the stream still has it: then it has all that follow."""
    return ("XRANGE", memory_changes_key(), entry, entry, "COUNT", 1)


def parse_change(fields: Mapping[bytes, bytes]) -> list[str]:
    """Keys whose hashes have changed."""
    packed = fields.get(b"k", b"").hex()
    keys = [PREFIX + packed[i : i + 32] for i in range(0, len(packed), 32)]
    if (others := fields.get(b"o")) is not None:
        keys += msgspec.msgpack.decode(others, type=list[str])
    return keys
