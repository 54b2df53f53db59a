"""The Lua scripts, each behind a function whose signature is its contract. A change that must not tear is one script.

Every script works in one slot. Times come from the server's clock. A lease is `<epoch>-<nonce>`: the epoch rises at every
take-over, the nonce tells two holders of one epoch apart (which a failover of Redis can produce).

Replies begin with a word: `ok`, or why nothing was written:

* `stale`    the lease belongs to somebody else
* `gap`      the journal is shorter than the writer believes (the server lost its tail); the last sequence number follows
* `missing`  the run's keys are gone
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from orka.redis.keys import RunKeys, ended_runs_key, graph_key, open_runs_key
from orka.redis.lua import ENTRIES, NOW, RECORDS, Argument, Command, Script
from orka.types import Digest


class Entry(msgspec.Struct, frozen=True):
    """One journal entry as it goes into the stream. (A struct because every step makes one.)"""

    kind: str
    path: str
    data: bytes
    """JSON object."""
    values: tuple[tuple[str, bytes], ...] = ()
    """(digest, JSON) of values that are stored beside the stream."""


# KEYS: run, journal, values.  ARGV: lease, lease_ms, first sequence number, number of entries, then per entry
# kind, path, data, number of values, and digest, JSON per value.  `at` is left behind the last argument read.
_APPEND = (
    NOW
    + """
local held = redis.call('HMGET', KEYS[1], 'lease', 'seq')
if not held[2] then return {'missing'} end
local last = tonumber(held[2])
local seq = tonumber(ARGV[3])
if held[1] ~= ARGV[1] then
  local theirs = tonumber(string.match(held[1] or '0', '^%d+'))
  local ours = tonumber(string.match(ARGV[1], '^%d+'))
  -- Ours is higher where the server has forgotten our take-over; what stands in our place then is the former owner's.
  if theirs >= ours or seq <= last then return {'stale'} end
end
if seq > last + 1 then return {'gap', last} end
local at = 5
local count = tonumber(ARGV[4])
"""
    + ENTRIES
)

# `progress`: the sequence number of the last entries among which a visit was finished.
_KEEP = """redis.call('HSET', KEYS[1], 'seq', last, 'lease', ARGV[1], 'lease_until', now + ARGV[2],
  finished > 0 and 'progress' or 'seq', last)
"""

APPEND = Script.of(_APPEND + _KEEP + "return {'ok', last, ids}")

# KEYS as above, then graph, open runs, ended runs, branches, scopes.  ARGV after the entries: run id, status, retention_ms.
# Whatever tasks are left go with the run: theirs, and the run's own.
FINISH = Script.of(
    _APPEND
    + "local run_key, branches = KEYS[1], KEYS[7]\n"
    + RECORDS
    + """
for _, path in ipairs(redis.call('HKEYS', branches)) do
  local r = record(path)
  if r[1] == 'open' then
    take_off(r)
    stop(r, ARGV[at], path)
  end
end
redis.call('DEL', branches, KEYS[8])
redis.call('HDEL', KEYS[1], 'cancel')
local run_id, status, retention = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
if redis.call('HGET', KEYS[1], 'status') == 'running' then
  local keep = math.max(now + retention + 60000, tonumber(redis.call('HGET', KEYS[4], 'keep') or 0))
  redis.call('HSET', KEYS[4], 'keep', keep)
  if redis.call('HINCRBY', KEYS[4], 'runs', -1) <= 0 then redis.call('PEXPIREAT', KEYS[4], keep) end
end
redis.call('HSET', KEYS[1], 'seq', last, 'lease', ARGV[1], 'lease_until', 0, 'status', status, 'ended_ms', now)
redis.call('ZREM', KEYS[5], run_id)
redis.call('ZADD', KEYS[6], now, run_id)
if redis.call('PTTL', KEYS[6]) < retention then redis.call('PEXPIRE', KEYS[6], retention + 60000) end
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], retention) end
return {'ok', last, ids}
"""
)

# KEYS: run, journal, values, graph, open runs, ended runs, branches.
# ARGV: lease, lease_ms, run id, graph JSON ('' when the server should have it), retention_ms, deadline (ms from now, 0: none),
# entry data, task stream ('' : the caller executes the run itself), task, number of values, digest, JSON per value, then field,
# value pairs of the run's hash.
CREATE = Script.of(
    NOW
    + """
local held = redis.call('HMGET', KEYS[1], 'lease', 'seq')
if held[2] then
  if held[1] == ARGV[1] or ARGV[8] ~= '' then return {'ok', tonumber(held[2]), {false}} end
  return {'stale'}
end
if ARGV[4] == '' then
  if redis.call('EXISTS', KEYS[4]) == 0 then return {'graph'} end
else
  redis.call('HSET', KEYS[4], 'json', ARGV[4])
end
redis.call('HINCRBY', KEYS[4], 'runs', 1)
redis.call('PERSIST', KEYS[4])
local deadline = tonumber(ARGV[6])
if deadline > 0 then deadline = now + deadline end
redis.call('HSET', KEYS[1], 'status', 'running', 'lease', ARGV[1], 'lease_until', now + ARGV[2], 'seq', 1,
  'created_ms', now, 'generation', 1, 'deadline_ms', deadline, unpack(ARGV, 11 + 2 * ARGV[10]))
for v = 1, tonumber(ARGV[10]) do
  redis.call('HSET', KEYS[3], ARGV[9 + 2 * v], ARGV[10 + 2 * v])
end
if ARGV[8] ~= '' then
  local id = redis.call('XADD', ARGV[8], '*', 'run', ARGV[3], 'path', '', 'task', ARGV[9])
  redis.call('HSET', KEYS[7], '', table.concat({'open', '', '0', '0', '0', id, ARGV[8], '', '', ''}, '|'))
  redis.call('HSET', KEYS[1], 'status', 'queued', 'lease_until', 0)
end
redis.call('ZADD', KEYS[5], now, ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', now - ARGV[5])
return {'ok', 1, {redis.call('XADD', KEYS[2], '*', 'kind', 'run.started', 'path', '', 'data', ARGV[7])}}
"""
)

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
local pending = r and r[6] ~= '' and redis.call('XPENDING', r[7], 'workers', r[6], r[6], 1)[1]
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

# KEYS: run, journal, values, graph, open runs, ended runs, the graph it ran with before (the same unless the caller changes it).
# ARGV: lease, lease_ms, sequence number, data of `run.resumed`, run id, graph digest, graph JSON, retention_ms, holder, process.
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
for i = 1, 3 do redis.call('PERSIST', KEYS[i]) end
return {'ok', seq, {redis.call('XADD', KEYS[2], '*', 'kind', 'run.resumed', 'path', '', 'data', ARGV[4])}}
"""
)

# KEYS: run, journal, values.  ARGV: the lease's nonce, retention_ms.  Gives a lease back without having written anything.
RELEASE = Script.of(
    """
local held = redis.call('HMGET', KEYS[1], 'lease', 'status', 'ended_ms')
if string.match(held[1] or '', '-(.*)$') ~= ARGV[1] then return {'stale'} end
redis.call('HSET', KEYS[1], 'lease_until', 0)
if held[2] ~= 'running' then
  for i = 1, 3 do redis.call('PEXPIREAT', KEYS[i], held[3] + ARGV[2]) end
end
return {'ok'}
"""
)

SCRIPTS = (APPEND, FINISH, CREATE, RENEW, TAKE, REOPEN, RELEASE)
"""Loaded on every new connection that sends EVALSHA."""


def encode_entries(entries: Sequence[Entry]) -> list[Argument]:
    """As the scripts read them: kind, path, data, number of values, digest and JSON of each."""
    arguments: list[Argument] = []
    for entry in entries:
        arguments += (entry.kind, entry.path, entry.data, len(entry.values))
        for pair in entry.values:
            arguments += pair
    return arguments


def append(keys: RunKeys, *, lease: str, lease_ms: int, first: int, entries: Sequence[Entry]) -> Command:
    """Appends `entries` under sequence numbers from `first` on; those already there are dropped.

    Reply: `ok`, last sequence number, entry ids (None where it was there already); or `stale`, `gap`, `missing`.
    """
    return (
        *("EVALSHA", APPEND.sha, 3, keys.run, keys.journal, keys.values),
        *(lease, lease_ms, first, len(entries), *encode_entries(entries)),
    )


def finish(
    keys: RunKeys,
    digest: Digest,
    *,
    lease: str,
    lease_ms: int,
    first: int,
    entries: Sequence[Entry],
    run_id: str,
    status: str,
    retention_ms: int,
) -> Command:
    """`append`, and the run ends with `status`: the lease is given back and the run's keys get their lifetime."""
    return (
        *("EVALSHA", FINISH.sha, 8, keys.run, keys.journal, keys.values, *_shared(keys, digest)),
        *(keys.branches, keys.scopes),
        *(lease, lease_ms, first, len(entries), *encode_entries(entries), run_id, status, retention_ms),
    )


def create(
    keys: RunKeys,
    digest: Digest,
    *,
    lease: str,
    lease_ms: int,
    run_id: str,
    graph: bytes,
    retention_ms: int,
    deadline_ms: int,
    entry: Entry,
    fields: Sequence[str],
    stream: str = "",
    task: bytes = b"",
) -> Command:
    """Creates run, lease and `run.started` as one. `graph` may be empty when the server should have it already.
    With `stream`, `task` is put there for a worker, and nobody holds the lease until one takes it.

    Reply as `append`, or `graph` when the graph has to be sent along.
    """
    return (
        *("EVALSHA", CREATE.sha, 7, keys.run, keys.journal, keys.values, *_shared(keys, digest), keys.branches),
        *(lease, lease_ms, run_id, graph, retention_ms, deadline_ms, entry.data, stream, task, len(entry.values)),
        *(part for pair in entry.values for part in pair),
        *fields,
    )


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
) -> Command:
    """Marks a taken run as running again, in its next generation, with a `run.resumed` entry. Reply as `append`.

    `digest` and `graph` are what it runs from now on, `before` is the digest that it ran with until now.
    """
    shared = (*_shared(keys, digest), graph_key(keys.tag, before))
    return (
        *("EVALSHA", REOPEN.sha, 7, keys.run, keys.journal, keys.values, *shared),
        *(lease, lease_ms, seq, data, run_id, digest, graph, retention_ms, holder, process),
    )


def release(keys: RunKeys, *, nonce: str, retention_ms: int) -> Command:
    """Gives back a lease, of which the caller may know no more than the nonce. Reply: `ok` or `stale`."""
    return ("EVALSHA", RELEASE.sha, 3, keys.run, keys.journal, keys.values, nonce, retention_ms)


def _shared(keys: RunKeys, digest: Digest) -> tuple[str, str, str]:
    return graph_key(keys.tag, digest), open_runs_key(keys.tag), ended_runs_key(keys.tag)
