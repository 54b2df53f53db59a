"""Ids that sort by the time they were made, names that callers choose, and digests of JSON."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import uuid
from typing import Final

import msgspec

from orka.clock import now_ms
from orka.errors import ConfigError
from orka.types import Digest, RunId

_RUN_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_canonical = msgspec.json.Encoder(order="deterministic")


class _Ticks:
    """48 bits of milliseconds and a counter of 12, each higher than the one before, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> int:
        # Begun anew with 11 random bits: two processes rarely share a tick, and half of the counter is always left. What
        # goes beyond it, or comes after a clock that was set back, borrows from the milliseconds to come.
        seed = int.from_bytes(os.urandom(2), "big") >> 5
        with self._lock:
            self._last = max(now_ms() << 12 | seed, self._last + 1)
            return self._last


_ticks = _Ticks()


def new_run_id() -> RunId:
    """A version 7 UUID (RFC 9562 section 5.7): milliseconds, a counter in place of the first random bits (section 6.2,
    method 1), then 62 random bits. Sorts behind every id that this process has made before."""
    milliseconds, counter = divmod(_ticks.next(), 1 << 12)
    chance = int.from_bytes(os.urandom(8), "big") >> 2
    return RunId(str(uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | counter << 64 | 0b10 << 62 | chance)))


def parse_run_id(given: object) -> RunId:
    """An id that a caller has chosen for a run. It becomes part of keys and commands: `ConfigError` for what does not
    suit them."""
    if not isinstance(given, str) or _RUN_ID.fullmatch(given) is None:
        shown = (
            repr(given) if not isinstance(given, str) or len(given) <= 80 else f"a text of {len(given):,} characters"
        )
        raise ConfigError(
            f"run_id is {shown}; it may hold letters, digits and the characters - _ . : (1 to 128 in all)"
        )
    return RunId(given)


QUEUE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""Name of a queue: part of Redis keys."""
QUEUE_SHAPE: Final = "a name of at most 64 letters, digits, '_', '.' and '-'"


def parse_queue(given: object) -> str:
    """A queue that is named outside of a file. `ConfigError` for what no file could name: one side alone would use it."""
    if not isinstance(given, str) or QUEUE.fullmatch(given) is None:
        raise ConfigError(f"a queue is {QUEUE_SHAPE}, not {given!r:.80}")
    return given


def parse_session(given: object) -> str:
    """A session that a caller names: empty for None. `ConfigError` for what is no short text in one line."""
    if given is None:
        return ""
    if not isinstance(given, str) or not given or len(given) > 200 or not given.isprintable():
        raise ConfigError(f"a session is a text of 1 to 200 characters in one line, not {given!r:.80}")
    return given


def new_nonce() -> str:
    """Eight random bytes as hex: what tells two holders of one lease epoch apart."""
    return os.urandom(8).hex()


def digest_of(value: object) -> Digest:
    """BLAKE2b-128 (RFC 7693) of the canonical JSON (keys sorted) of `value`, as 32 hex digits."""
    return Digest(hashlib.blake2b(_canonical.encode(value), digest_size=16).hexdigest())
