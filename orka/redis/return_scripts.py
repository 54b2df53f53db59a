"""The Lua scripts for branches on a server that came back without its last second: what a worker still knows is put back.

Records, claims and replies are those of `orka.redis.task_scripts`. Such a server may have forgotten an entry of a branch, the
claim, that the task was given out, the task itself, or the run. Whoever knows more goes on where the server remembers, unless
somebody else has begun since.
"""

from __future__ import annotations

from collections.abc import Sequence

from orka.redis.keys import RunKeys
from orka.redis.lua import ENTRIES, Argument, Command, Script
from orka.redis.scripts import Entry, encode_entries
from orka.redis.task_scripts import BRANCHES, run_of

# Before: ARGV[1] claim, ARGV[2] path.  After: `own`, the id of the caller's task; `since`, no entry of the branch is older (what
# lies below it may be put back before its own entries are); `known(id)`, an entry is in the journal;
# `earlier(a, b)` of two stream ids; `yields(r, task)`, nobody else has begun with the record, and its task is the caller's one:
# the same id, an earlier one (the server has forgotten that it was queued again), or one that asks for the same.
_RETURN = (
    BRANCHES
    + """
local own = string.match(ARGV[1], '/(.*)$')
local since = string.match(own, '^%d+') .. '-0'
local function known(id)
  return id ~= '' and redis.call('XRANGE', KEYS[2], id, id)[1] ~= nil
end
local function earlier(a, b)
  local am, an = string.match(a, '^(%d+)-(%d+)$')
  local bm, bn = string.match(b, '^(%d+)-(%d+)$')
  am, an, bm, bn = tonumber(am), tonumber(an), tonumber(bm), tonumber(bn)
  return am < bm or (am == bm and an < bn)
end
local function asks(task)
  local ok, t = pcall(cjson.decode, task)
  return ok and table.concat({t.fork or '', t.digest or '', table.concat(t.retried or {}, ' ')}, ' ')
end
local function yields(r, task)
  if r[1] ~= 'open' then return false end
  if r[6] ~= '' and earlier(r[6], own) then return true end
  if r[2] ~= '' and r[3] ~= '0' then return false end
  if r[6] == '' or r[6] == own then return true end
  local entry = redis.call('XRANGE', r[7], r[6], r[6])[1]
  for i = 1, entry and #entry[2] or 0, 2 do
    if entry[2][i] == 'task' then return asks(entry[2][i + 1]) == asks(task) end
  end
  return false
end
"""
)

# KEYS: run, journal, values, branches, task stream.  ARGV: claim, path, run id, task, sequence number of the first entry below,
# ids of entries that the server had stored, '' for one that is not known.
REVIVE = Script.of(
    _RETURN
    + """
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return {'missing'} end
if status ~= 'running' and status ~= 'queued' then return {'closed'} end
local r = record(ARGV[2])
if r then
  if r[2] ~= ARGV[1] then
    if r[1] == 'done' or not yields(r, ARGV[4]) then return {'stale'} end
    r[2], r[3] = ARGV[1], '0'
  end
  if r[8] == '' then r[8], r[9] = since, '+' end
  keep(ARGV[2], r)
  return {'ok', tonumber(r[3])}
end
-- Its fork was closed, unless the server has forgotten that it was sent.
if tonumber(ARGV[5]) > 1 or known(ARGV[6] or '') then return {'closed'} end
if not ARGV[6] then
  local facts = redis.pcall('XINFO', 'STREAM', KEYS[5])
  for i = 1, facts.err and 0 or #facts, 2 do
    if facts[i] == 'last-generated-id' and not earlier(facts[i + 1], own) then return {'closed'} end
  end
end
local id = redis.call('XADD', KEYS[5], '*', 'run', ARGV[3], 'path', ARGV[2], 'task', ARGV[4], 'again', '1')
redis.pcall('XCLAIM', KEYS[5], 'workers', claimant(ARGV[1]), 0, id, 'FORCE', 'JUSTID')  -- ours, as far as others can see
keep(ARGV[2], {'open', ARGV[1], '0', '0', '0', id, KEYS[5], since, '+', ''})
return {'ok', 0}
"""
)

# KEYS: run, journal, values, branches, task stream.  ARGV: claim, path, run id, task, path of the task that waits for the branch,
# 1 while nobody can have executed the branch again and taken its record away, sequence number of the first entry, number of
# entries, their ids as far as they are known, the entries as in `scripts`.
# Entries of a branch whose run has ended meanwhile are put behind its end.
RESTORE = Script.of(
    _RETURN
    + """
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return {'missing'} end
local under_way = status == 'running' or status == 'queued'
local seq, count = tonumber(ARGV[7]), tonumber(ARGV[8])
local r = record(ARGV[2])
local have = 0
if r and r[2] == ARGV[1] then
  have = tonumber(r[3]) - seq + 1
  if have < 0 then return {'gap', tonumber(r[3])} end
else
  for i = count, 1, -1 do
    if known(ARGV[8 + i]) then
      have = i
      break
    end
  end
  if have < count then
    if r and not yields(r, ARGV[4]) then return {'stale'} end
    if not r and (ARGV[6] ~= '1' or ARGV[8 + count] == '') then return {'stale'} end
  end
end
if have >= count then return {'ok', 0, {}} end
local last = seq - 1 + have
local at = 9 + count
"""
    + ENTRIES
    + """
if redis.call('PTTL', KEYS[1]) > 0 and redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('PEXPIRE', KEYS[3], redis.call('PTTL', KEYS[1]))
end
if under_way then
  r = r or {'open', '', '0', '0', '0', '', KEYS[5], '', '', ''}
  take_off(r)
  if r[8] == '' then r[8] = since end
  r[1], r[2], r[3], r[4], r[5], r[9] = 'done', ARGV[1], last, '0', '0', ids[count]
  keep(ARGV[2], r)
  wake(ARGV[5], 'kind', 'done', 'run', ARGV[3], 'path', ARGV[2], 'entries', '', 'first', r[8], 'last', r[9])
end
return {'ok', count - have, ids}
"""
)

# KEYS: run, journal, values, branches.  ARGV: claim, path.  A fork that was closed without the branch
# was closed before the crash: the server may have forgotten that. (A task that was sent again is wanted again.)
CLOSE_AGAIN = Script.of(
    _RETURN
    + """
local r = record(ARGV[2])
if r and r[1] == 'open' and (r[2] == ARGV[1] or (r[2] == '' and r[6] == own)) then
  take_off(r)
  redis.call('HDEL', branches, ARGV[2])
end
return {'ok', 0, {}}
"""
)

RETURN_SCRIPTS = (REVIVE, RESTORE, CLOSE_AGAIN)
"""Loaded beside those of `orka.redis.scripts`."""


def revive_claim(
    keys: RunKeys, stream: str, *, claim: str, path: str, run_id: str, task: bytes, first: int, ids: Sequence[str]
) -> Command:
    """A branch under way is the caller's again. `first` is the sequence number of the entry that the first of `ids` belongs to.

    Reply: `ok`, last sequence number that the server has; or `closed`, `stale`, `missing`.
    """
    return ("EVALSHA", REVIVE.sha, 5, *run_of(keys), stream, claim, path, run_id, task, first, *ids)


def restore_branch(
    keys: RunKeys,
    stream: str,
    *,
    claim: str,
    path: str,
    run_id: str,
    task: bytes,
    parent: str,
    fresh: bool,
    first: int,
    entries: Sequence[tuple[str, Entry]],
) -> Command:
    """A branch that was handed over is there as a whole again, and whoever waits is told. `entries`: the last ones, with the
    ids under which the server had stored them ('' : not known), under sequence numbers from `first` on. `fresh`: the server has
    been back for so short a time that nobody can have executed the branch again.

    Reply: `ok`, number of entries that were lost, ids of all (None where they are as they were); or `stale`, `gap`, `missing`.
    """
    arguments: list[Argument] = [claim, path, run_id, task, parent, int(fresh), first, len(entries)]
    arguments += [entry_id for entry_id, _ in entries]
    return (
        *("EVALSHA", RESTORE.sha, 5, *run_of(keys), stream),
        *arguments,
        *encode_entries([entry for _, entry in entries]),
    )


def close_again(keys: RunKeys, *, claim: str, path: str) -> Command:
    """A branch that was cut off stays so. Reply: as `restore_branch`, with nothing lost."""
    return ("EVALSHA", CLOSE_AGAIN.sha, 4, *run_of(keys), claim, path)
