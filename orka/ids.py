"""Ids that sort by the time they were made, and digests of JSON."""

from __future__ import annotations

import hashlib
import os
import uuid

import msgspec

from orka.clock import now_ms
from orka.types import Digest, RunId

_canonical = msgspec.json.Encoder(order="deterministic")


def new_run_id() -> RunId:
    """A version 7 UUID (RFC 9562 section 5.7): 48 bits of milliseconds, then random bits."""
    value = (now_ms() << 80) | int.from_bytes(os.urandom(10), "big")
    value &= ~(0xF000 << 64) & ~(0xC000 << 48)
    value |= (0x7000 << 64) | (0x8000 << 48)
    return RunId(str(uuid.UUID(int=value)))


def new_nonce() -> str:
    """Eight random bytes as hex: what tells two holders of one lease epoch apart."""
    return os.urandom(8).hex()


def digest_of(value: object) -> Digest:
    """BLAKE2b-128 (RFC 7693) of the canonical JSON (keys sorted) of `value`, as 32 hex digits."""
    return Digest(hashlib.blake2b(_canonical.encode(value), digest_size=16).hexdigest())
