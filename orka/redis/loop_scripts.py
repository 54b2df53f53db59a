"""The Lua script that keeps the rounds of loops for later runs, behind a function whose signature is its contract."""

from __future__ import annotations

from collections.abc import Sequence

from orka.redis.keys import past_loops_key, past_loops_written_key
from orka.redis.lua import NOW, Command, Script

# KEYS: past loops, visits written.  ARGV: visit, rounds kept, then the JSON of each round, oldest first.
# The elements of the list stay as whoever wrote them: decoding and encoding would make objects of empty lists.
KEEP_ROUNDS = Script.of(
    NOW
    + """
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return {'again'} end
local kind = redis.call('TYPE', KEYS[1]).ok
local raw = kind == 'string' and redis.call('GET', KEYS[1]) or '[]'
local whole, list = pcall(cjson.decode, raw)
if (kind ~= 'string' and kind ~= 'none') or not whole or not string.find(raw, '^%s*%[') then return {'bad'} end
local rounds, depth, from, quoted, at = {}, 0, 1, false, 1
local function add(to)
  local round = string.match(string.sub(raw, from, to), '^%s*(.-)%s*$')
  if round ~= '' then rounds[#rounds + 1] = round end
  from = to + 2
end
while true do
  at = string.find(raw, quoted and '["\\\\]' or '["%[%]{},]', at)
  if not at then break end
  local c = string.sub(raw, at, at)
  if quoted then
    if c == '"' then quoted = false else at = at + 1 end
  elseif c == '"' then
    quoted = true
  elseif c == '[' or c == '{' then
    depth = depth + 1
    if depth == 1 then from = at + 1 end
  elseif c == ',' then
    if depth == 1 then add(at - 1) end
  else
    if depth == 1 then add(at - 1) end
    depth = depth - 1
  end
  at = at + 1
end
for i = 3, #ARGV do rounds[#rounds + 1] = ARGV[i] end
local first = math.max(1, #rounds - ARGV[2] + 1)
redis.call('SET', KEYS[1], '[' .. table.concat(rounds, ', ', first) .. ']')
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1001)
redis.call('PEXPIRE', KEYS[2], 2592000000)
return {'ok'}
"""
)

LOOP_SCRIPTS = (KEEP_ROUNDS,)
"""Loaded beside those of `orka.redis.scripts`."""


def keep_rounds(loop: str, *, visit: str, rounds: Sequence[bytes], most: int) -> Command:
    """Appends the rounds (JSON) of one visit to those that the loop has kept, and drops all but the newest `most`. Sent
    again for the same visit it changes nothing, as long as fewer than 1,000 others came after it, and for 30 days.

    Reply: `ok`, `again`, or `bad`: what is there is no JSON list, and stays.
    """
    keys = past_loops_key(loop), past_loops_written_key(loop)
    return ("EVALSHA", KEEP_ROUNDS.sha, len(keys), *keys, visit, most, *rounds)
