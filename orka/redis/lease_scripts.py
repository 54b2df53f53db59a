"""The Lua scripts of leases: renewing one, taking a run over, letting it go on, giving it back. See `orka.redis.scripts`."""

from __future__ import annotations

from orka.redis.keys import RunKeys, graph_key
from orka.redis.lua import NOW, RECORDS, TELL, Command, Script
from orka.redis.scripts import shared_keys
from orka.types import Digest

# KEYS: run, branches.  ARGV: lease, lease_ms, process ('' : as it is), holder. Tells a server that has forgotten the take-over
# again whom branches wake. The task of a submitted run lives as long as the lease, and its deaths are forgotten when a visit
# has finished since (up to where, is in place of its sequence number).
RENEW = Script.of(
    NOW
    + "local run_key, branches = KEYS[1], KEYS[2]\n"
    + RECORDS
    + """
local held = redis.call('HMGET', KEYS[1], 'lease', 'seq', 'status', 'cancel', 'progress')
if not held[2] then return {'missing'} end
local theirs, ours = tonumber(string.match(held[1] or '0', '^%d+')), tonumber(string.match(ARGV[1], '^%d+'))
if held[1] ~= ARGV[1] and theirs >= ours then return {'stale'} end
if held[1] == ARGV[1] and (held[3] == 'running' or held[3] == 'queued') then
  redis.call('HSET', KEYS[1], 'status', 'running', 'lease', ARGV[1], 'lease_until', now + ARGV[2])
  if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'process', ARGV[3], 'holder', ARGV[4]) end
end
local r = record('')
-- A queue that nobody has served yet has no group.
local pending = r and r[6] ~= '' and redis.pcall('XPENDING', r[7], 'workers', r[6], r[6], 1)[1]
if pending and pending[2] == ARGV[3] then redis.call('XCLAIM', r[7], 'workers', ARGV[3], 0, r[6], 'JUSTID') end
if r and tonumber(held[5] or 0) > tonumber(r[3]) then keep('', {r[1], r[2], held[5], '0', '0', unpack(r, 6)}) end
return {'ok', tonumber(held[2]), held[4] or ''}
"""
)

# KEYS: run, journal, values.  ARGV: nonce, holder, lease_ms, holder known to be dead ('' : none), take over anyway (0 or 1),
# process.
TAKE = Script.of(
    NOW
    + """
local held = redis.call('HMGET', KEYS[1], 'status', 'lease', 'lease_until', 'holder', 'seq', 'generation')
if not held[1] then return {'missing'} end
if held[1] == 'completed' then return {'completed'} end
if held[2] and string.match(held[2], '-(.*)$') == ARGV[1] then  -- sent again because the reply was lost
  return {'ok', held[2], tonumber(held[5]), tonumber(held[6]), held[1]}
end
local left = tonumber(held[3] or 0) - now
if left > 0 and held[4] ~= ARGV[4] and ARGV[5] ~= '1' then return {'alive', held[4], left} end
local epoch = tonumber(string.match(held[2] or '0', '^%d+')) + 1
local lease = epoch .. '-' .. ARGV[1]
redis.call('HSET', KEYS[1], 'lease', lease, 'lease_until', now + ARGV[3], 'holder', ARGV[2], 'process', ARGV[6])
if held[1] == 'queued' then redis.call('HSET', KEYS[1], 'status', 'running') end
for i = 1, 3 do  -- of an ended run: whoever took it may die before it goes on, and the keys must still go some day
  local left = redis.call('PTTL', KEYS[i])
  if left >= 0 and left < 3600000 then redis.call('PEXPIRE', KEYS[i], 3600000) end
end
return {'ok', lease, tonumber(held[5]), tonumber(held[6]), held[1]}
"""
)

# KEYS: run, journal, values, graph, open runs, ended runs, the graph it ran with before (the same unless the caller changes it),
# branches (of a run that failed and was queued again they have a lifetime).
# ARGV: lease, lease_ms, sequence number, data of `run.resumed`, run id, graph digest, graph JSON, retention_ms, holder, process,
# deadline (ms from now, 0: none; '' leaves the run's as it is).
# Sent again when the server lost it: lease and holder are then those of before, too.
REOPEN = Script.of(
    NOW
    + """
local held = redis.call('HMGET', KEYS[1], 'lease', 'seq', 'status', 'created_ms')
if not held[2] then return {'missing'} end
local last = tonumber(held[2])
local seq = tonumber(ARGV[3])
if held[1] ~= ARGV[1] then
  if tonumber(string.match(held[1] or '0', '^%d+')) >= tonumber(string.match(ARGV[1], '^%d+')) then return {'stale'} end
  if seq <= last then return {'stale'} end
end
if seq > last + 1 then return {'gap', last} end
if seq <= last then return {'ok', last, {false}} end
if held[3] == 'running' then
  local keep = math.max(now + ARGV[8], tonumber(redis.call('HGET', KEYS[7], 'keep') or 0))
  if redis.call('HINCRBY', KEYS[7], 'runs', -1) <= 0 then redis.call('PEXPIREAT', KEYS[7], keep) end
end
redis.call('ZREM', KEYS[6], ARGV[5])
redis.call('HSET', KEYS[4], 'json', ARGV[7])
redis.call('HINCRBY', KEYS[4], 'runs', 1)
redis.call('PERSIST', KEYS[4])
redis.call('ZADD', KEYS[5], held[4], ARGV[5])
redis.call('HDEL', KEYS[1], 'ended_ms')
redis.call('HINCRBY', KEYS[1], 'generation', 1)
redis.call('HSET', KEYS[1], 'status', 'running', 'seq', seq, 'digest', ARGV[6], 'lease', ARGV[1],
  'lease_until', now + ARGV[2], 'holder', ARGV[9], 'process', ARGV[10])
if ARGV[11] ~= '' then
  redis.call('HSET', KEYS[1], 'deadline_ms', ARGV[11] == '0' and 0 or now + ARGV[11])
end
for _, i in ipairs({1, 2, 3, 8}) do redis.call('PERSIST', KEYS[i]) end
return {'ok', seq, {redis.call('XADD', KEYS[2], '*', 'kind', 'run.resumed', 'path', '', 'data', ARGV[4])}}
"""
)

# KEYS: run, journal, values.  ARGV: the lease's nonce, retention_ms.  Gives a lease back without having written anything. Who
# wants the run cancelled may end it now.
RELEASE = Script.of(
    "local run_key = KEYS[1]\n"
    + TELL
    + """
local held = redis.call('HMGET', KEYS[1], 'lease', 'status', 'ended_ms')
if string.match(held[1] or '', '-(.*)$') ~= ARGV[1] then return {'stale'} end
redis.call('HSET', KEYS[1], 'lease_until', 0)
local canceller = redis.call('HGET', KEYS[1], 'canceller')
if canceller then tell(canceller, 'kind', 'idle', 'run', string.match(KEYS[1], ':run:(.*)$'), 'path', '') end
if held[2] ~= 'running' then
  for i = 1, 3 do redis.call('PEXPIREAT', KEYS[i], held[3] + ARGV[2]) end
end
return {'ok'}
"""
)

LEASE_SCRIPTS = (RENEW, TAKE, REOPEN, RELEASE)
"""Loaded beside those of `orka.redis.scripts`."""


def renew(keys: RunKeys, *, lease: str, lease_ms: int, process: str = "", holder: str = "") -> Command:
    """Reply: `ok`, the last sequence number, and when somebody wanted the run cancelled (ms, '' : nobody); or `stale`,
    `missing`."""
    return ("EVALSHA", RENEW.sha, 2, keys.run, keys.branches, lease, lease_ms, process, holder)


def take(
    keys: RunKeys, *, nonce: str, holder: str, lease_ms: int, dead: str, force: bool, process: str = ""
) -> Command:
    """Takes the lease of a run that nobody executes. `dead` is a holder known to be gone; `process` names the inbox.

    Reply: `ok`, lease, last sequence number, generation, status; or `completed`; `alive`, holder, ms left; `missing`.
    """
    keys3 = (keys.run, keys.journal, keys.values)
    return ("EVALSHA", TAKE.sha, 3, *keys3, nonce, holder, lease_ms, dead, int(force), process)


def reopen(
    keys: RunKeys,
    digest: Digest,
    *,
    lease: str,
    lease_ms: int,
    seq: int,
    data: bytes,
    run_id: str,
    graph: bytes,
    before: Digest,
    retention_ms: int,
    holder: str,
    process: str = "",
    deadline_ms: int | None = None,
) -> Command:
    """Marks a taken run as running again, in its next generation, with a `run.resumed` entry. Reply as `append`.

    `digest` and `graph` are what it runs from now on, `before` is the digest that it ran with until now. `deadline_ms`: from now,
    0 for none; None leaves the run's deadline as it is.
    """
    shared = (*shared_keys(keys, digest), graph_key(keys.tag, before), keys.branches)
    return (
        *("EVALSHA", REOPEN.sha, 8, keys.run, keys.journal, keys.values, *shared),
        *(lease, lease_ms, seq, data, run_id, digest, graph, retention_ms, holder, process),
        "" if deadline_ms is None else deadline_ms,
    )


def release(keys: RunKeys, *, nonce: str, retention_ms: int) -> Command:
    """Gives back a lease, of which the caller may know no more than the nonce. Reply: `ok` or `stale`."""
    return ("EVALSHA", RELEASE.sha, 3, keys.run, keys.journal, keys.values, nonce, retention_ms)
