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
redis.call('HDEL', KEYS[1], 'cancel', 'canceller')
local run_id, status, retention = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
local was = redis.call('HGET', KEYS[1], 'status')
if was == 'running' or was == 'queued' then  -- queued: the server has forgotten that it was taken
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
local held = redis.call('HMGET', KEYS[1], 'lease', 'seq', 'submitted')
if held[2] then
  if held[1] == ARGV[1] or held[3] == ARGV[1] then return {'ok', tonumber(held[2]), {false}} end
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
  redis.call('HSET', KEYS[1], 'status', 'queued', 'lease_until', 0, 'submitted', ARGV[1])
end
redis.call('ZADD', KEYS[5], now, ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', now - ARGV[5])
return {'ok', 1, {redis.call('XADD', KEYS[2], '*', 'kind', 'run.started', 'path', '', 'data', ARGV[7])}}
"""
)

SCRIPTS = (APPEND, FINISH, CREATE)
"""Loaded, with those of the neighbouring files, on every new connection that sends EVALSHA."""


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
        *("EVALSHA", FINISH.sha, 8, keys.run, keys.journal, keys.values, *shared_keys(keys, digest)),
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
    With `stream`, `task` is put there for a worker, and nobody holds the lease until one takes it; `lease` then says what
    was submitted.

    Reply as `append`, or `graph` when the graph has to be sent along; `stale`: another run has this id.
    """
    return (
        *("EVALSHA", CREATE.sha, 7, keys.run, keys.journal, keys.values, *shared_keys(keys, digest), keys.branches),
        *(lease, lease_ms, run_id, graph, retention_ms, deadline_ms, entry.data, stream, task, len(entry.values)),
        *(part for pair in entry.values for part in pair),
        *fields,
    )


def shared_keys(keys: RunKeys, digest: Digest) -> tuple[str, str, str]:
    """Graph, open runs, ended runs."""
    return graph_key(keys.tag, digest), open_runs_key(keys.tag), ended_runs_key(keys.tag)
