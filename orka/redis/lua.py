"""What the Lua scripts share: `Script`, the clock, and the loop that writes journal entries."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, TypeAlias

Argument: TypeAlias = str | bytes | int
Command: TypeAlias = tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua script and the SHA-1 that EVALSHA names it by."""

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> Script:
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


NOW: Final = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""

# Before: `seq`, the number of the first entry; `last`, the highest number stored; `at`, where the entries begin in ARGV;
# `count` of them, each kind, path, data, number of values, and digest, JSON per value.  KEYS 2 and 3: journal, values.
# After: `ids` of the entries (false: it was there already), `finished` visits among the new ones, `last` and `at` moved on.
ENTRIES: Final = """
local ids = {}
local finished = 0
for i = 1, count do
  local values = tonumber(ARGV[at + 3])
  if seq > last then
    for v = 1, values do
      redis.call('HSET', KEYS[3], ARGV[at + 2 + 2 * v], ARGV[at + 3 + 2 * v])
    end
    ids[i] = redis.call('XADD', KEYS[2], '*', 'kind', ARGV[at], 'path', ARGV[at + 1], 'data', ARGV[at + 2])
    if ARGV[at] == 'node.finished' then finished = finished + 1 end
    last = seq
  else
    ids[i] = false
  end
  seq = seq + 1
  at = at + 4 + 2 * values
end
"""

# Records of branch tasks, one field per path in the hash `branches` (a key, set before like `run_key`, the run's). The
# path of a submitted run's own task is ''.  Fields: 1 `open` or `done`, 2 claim (`<process>/<task id>`, '' before the first),
# 3 sequence number within the claim, 4 deaths since something finished, 5 those while alone in a worker, 6 task id,
# 7 stream, 8 and 9 first and last entry, 10 why it waits.
RECORDS: Final = """
local function record(path)
  local raw = redis.call('HGET', branches, path)
  if not raw then return nil end
  return {string.match(raw,
    '^([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)$')}
end
local function keep(path, r)
  redis.call('HSET', branches, path, table.concat(r, '|'))
end
local function claimant(claim)
  return string.match(claim, '^(.*)/')
end
local function claims(r, claim)
  if r[2] == claim then return true end
  if r[2] ~= '' or r[6] ~= string.match(claim, '/(.*)$') then return false end
  r[2], r[3] = claim, '0'
  return true
end
local function tell(process, ...)
  local inbox = string.match(run_key, '^{.-}') .. ':inbox:' .. process
  redis.call('XADD', inbox, '*', ...)
  if redis.call('PTTL', inbox) < 1800000 then redis.call('PEXPIRE', inbox, 3600000) end
end
local function wake(scope, ...)
  if scope == '' then
    local process = redis.call('HGET', run_key, 'process')
    if process then tell(process, ...) end
  else
    local r = record(scope)
    if r and r[1] == 'open' and r[2] ~= '' then tell(claimant(r[2]), ...) end
  end
end
local function stop(r, run, path)
  if r[2] ~= '' then tell(claimant(r[2]), 'kind', 'stop', 'run', run, 'path', path, 'claim', r[2]) end
end
local function take_off(r)
  if r[6] == '' then return end  -- parked: the sweeper finds no record any more
  redis.call('XACK', r[7], 'workers', r[6])
  redis.call('XDEL', r[7], r[6])
end
"""
