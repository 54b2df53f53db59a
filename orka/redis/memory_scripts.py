"""The Lua script that writes a memory over another of its key, behind a function whose signature is its contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from orka.redis.lua import Argument, Command, Script

# KEYS: a memory.  ARGV: number of fields that go, when it expires (0: never), those fields, then fields and values.
# HSET comes first: a server that is full, or refuses it for another reason, has changed nothing then.
REPLACE: Final = Script.of("""
redis.call('HSET', KEYS[1], unpack(ARGV, 3 + ARGV[1]))
if ARGV[1] ~= '0' then redis.call('HDEL', KEYS[1], unpack(ARGV, 3, 2 + ARGV[1])) end
if ARGV[2] == '0' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIREAT', KEYS[1], ARGV[2]) end
return 1
""")

MEMORY_SCRIPTS = (REPLACE,)
"""Loaded beside those of `orka.redis.scripts`."""


def replace_hash(key: str, fields: Sequence[Argument], *, leaving: Sequence[str], expire_ms: int) -> Command:
    """Name, value, name, value, ... of a hash as it is to be; `leaving` are taken off. `expire_ms` since the epoch, 0: never.
    Whole or not at all; harmless to repeat."""
    return ("EVALSHA", REPLACE.sha, 1, key, len(leaving), expire_ms, *leaving, *fields)
