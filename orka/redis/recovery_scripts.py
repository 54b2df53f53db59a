"""The Lua scripts for tasks that went wrong: handed back, left behind by the dead, given up, cancelled.

Records, claims and replies are those of `orka.redis.task_scripts`.
"""

from __future__ import annotations

from collections.abc import Sequence

from orka.redis.keys import RunKeys, dead_key, parked_key
from orka.redis.lua import NOW, RECORDS, Command, Script
from orka.redis.task_scripts import BRANCHES, run_of

# KEYS: run, journal, values, branches, parked.  ARGV: process, path, task id, stream, delay in ms (0: offered again at once),
# why.  Gives a task back that was not, or not completely, carried out; that counts as no death.
HAND_BACK = Script.of(
    NOW
    + BRANCHES
    + """
local held = redis.call('XPENDING', ARGV[4], 'workers', ARGV[3], ARGV[3], 1)
if not held[1] or held[1][2] ~= ARGV[1] then return {'stale'} end
local found = redis.call('XRANGE', ARGV[4], ARGV[3], ARGV[3])
redis.call('XACK', ARGV[4], 'workers', ARGV[3])
redis.call('XDEL', ARGV[4], ARGV[3])
local r = record(ARGV[2])
if not found[1] or not r or r[1] ~= 'open' or r[6] ~= ARGV[3] then return {'closed'} end
local fields = found[1][2]
local again = false
for i = 1, #fields, 2 do again = again or fields[i] == 'again' end
if not again then
  fields[#fields + 1] = 'again'
  fields[#fields + 1] = '1'
end
r[2], r[10] = '', ARGV[6]
if tonumber(ARGV[5]) > 0 then
  redis.call('ZADD', KEYS[5], now + ARGV[5], cjson.encode({stream = ARGV[4], path = ARGV[2], run = KEYS[1], fields = fields}))
  r[6] = ''
else
  r[6] = redis.call('XADD', ARGV[4], '*', unpack(fields))
end
keep(ARGV[2], r)
return {'ok'}
"""
)

# KEYS: parked, then task streams of its partition.  ARGV: lease_ms, how many to look at per stream, deaths alone that are too
# many, process, number of streams, where to begin in each of them, then processes known to be dead. Queues again parked tasks
# that are due, and tasks whose worker is dead or gave no sign of life for a lease. Reply: tasks queued again, where to go on
# in each stream (`-`: it is done), then stream, id, run, path, task, deaths of each task that has died too often.
SWEEP = Script.of(
    NOW
    + """
local run_key, branches
"""
    + RECORDS
    + """
local tag = string.match(KEYS[1], '^{.-}')
local moved, found, given_up = 0, 0, {}
local function at(key)
  run_key = key
  branches = key .. ':branches'
end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local task = cjson.decode(member)
  at(task.run)
  local r = record(task.path)
  if r and r[1] == 'open' and r[6] == '' then
    r[6] = redis.call('XADD', task.stream, '*', unpack(task.fields))
    keep(task.path, r)
    moved = moved + 1
  end
  redis.call('ZREM', KEYS[1], member)
end
-- Whoever waits for branches ran none of its own agents, and a branch of it may have taken the worker down.
local function has_branches(path)
  local below = path == '' and '' or path .. '/'
  for _, other in ipairs(redis.call('HKEYS', branches)) do
    if other ~= path and string.sub(other, 1, #below) == below and record(other)[1] == 'open' then return true end
  end
  return false
end
-- A read that waits takes a task even when its process sleeps: that is no death of the task.
local function was_begun(named, r, consumer)
  if named.path ~= '' then return r[2] ~= '' end
  return redis.call('HGET', run_key, 'process') == consumer
end
local function left_behind(stream, id, consumer)
  found = found + 1
  local entry = redis.call('XRANGE', stream, id, id)
  local fields = entry[1] and entry[1][2] or {}
  local named = {}
  for i = 1, #fields, 2 do named[fields[i]] = fields[i + 1] end
  if named.run then at(tag .. ':run:' .. named.run) end
  local r = named.run and record(named.path)
  if not r or r[1] ~= 'open' or r[6] ~= id then
    redis.call('XACK', stream, 'workers', id)
    redis.call('XDEL', stream, id)
    return
  end
  if was_begun(named, r, consumer) then
    if named.path == '' then  -- what a run had finished before this death does not excuse the next one
      local progress = redis.call('HGET', run_key, 'progress') or '0'
      if tonumber(progress) > tonumber(r[3]) then r[3], r[4], r[5] = progress, '0', '0' end
    end
    r[4] = r[4] + 1
    if named.alone and not has_branches(named.path) then r[5] = r[5] + 1 end
  end
  if tonumber(r[5]) >= tonumber(ARGV[3]) then
    redis.call('XCLAIM', stream, 'workers', ARGV[4], 0, id, 'JUSTID')
    given_up[#given_up + 1] = {stream, id, named.run, named.path, named.task, tostring(r[4])}
  else
    stop(r, named.run, named.path)
    redis.call('XACK', stream, 'workers', id)
    redis.call('XDEL', stream, id)
    local again = {'run', named.run, 'path', named.path, 'task', named.task, 'again', '1'}
    if tonumber(r[4]) >= 2 then
      again[9], again[10] = 'alone', '1'
    end
    r[2], r[10] = '', 'its worker ' .. consumer .. ' gave no sign of life'
    r[6] = redis.call('XADD', stream, '*', unpack(again))
    moved = moved + 1
  end
  keep(named.path, r)
end
local streams = tonumber(ARGV[5])
local after = {}
for k = 1, streams do
  local stream, from = KEYS[k + 1], ARGV[5 + k]
  after[k] = '-'
  -- A part of the list by id, because the server would walk all of it to find those that are late.
  local pending = redis.pcall('XPENDING', stream, 'workers', from, '+', ARGV[2])
  if not pending.err then
    for _, p in ipairs(pending) do
      if p[3] >= tonumber(ARGV[1]) and found < 20 then
        left_behind(stream, p[1], p[2])
      elseif p[3] >= tonumber(ARGV[1]) then
        after[k] = p[1]
        break
      end
    end
    if after[k] == '-' and #pending == tonumber(ARGV[2]) then after[k] = '(' .. pending[#pending][1] end
    for i = 6 + streams, #ARGV do
      local theirs = redis.call('XPENDING', stream, 'workers', '-', '+', 20, ARGV[i])
      for _, p in ipairs(theirs) do
        left_behind(stream, p[1], p[2])
        if after[k] == '-' then after[k] = p[1] end
      end
      if #theirs == 0 then
        redis.call('XGROUP', 'DELCONSUMER', stream, 'workers', ARGV[i])
        redis.call('DEL', tag .. ':bell:' .. ARGV[i])
      end
    end
  end
end
return {moved, after, given_up}
"""
)

# KEYS: run, journal, values, branches, dead letters.  ARGV: process, path, task id, run id, parent, data of `branch.finished`,
# reason, retention_ms.  Ends a branch whose task is given up. The task of a submitted run ('' as path) stays for whoever then
# ends the run: if that fails, it is found again.
BURY = Script.of(
    NOW
    + BRANCHES
    + """
local r = record(ARGV[2])
if not r or r[1] ~= 'open' or r[6] ~= ARGV[3] then return {'closed'} end
local held = redis.call('XPENDING', r[7], 'workers', r[6], r[6], 1)
if not held[1] or held[1][2] ~= ARGV[1] then return {'stale'} end
if r[10] == 'given up' then return {'ok'} end
local entry = redis.call('XRANGE', r[7], r[6], r[6])
redis.call('XADD', KEYS[5], 'MAXLEN', '~', 10000, '*', 'run', ARGV[4], 'path', ARGV[2], 'stream', r[7], 'reason', ARGV[7],
  'deaths', r[4], unpack(entry[1] and entry[1][2] or {}))
redis.call('PEXPIRE', KEYS[5], ARGV[8])
if ARGV[2] == '' then
  r[10] = 'given up'
  keep('', r)
  return {'ok'}
end
take_off(r)
stop(r, ARGV[4], ARGV[2])
local id = redis.call('XADD', KEYS[2], '*', 'kind', 'branch.finished', 'path', ARGV[2], 'data', ARGV[6])
if r[8] == '' then r[8] = id end
r[9], r[1] = id, 'done'
keep(ARGV[2], r)
wake(ARGV[5], 'kind', 'done', 'run', ARGV[4], 'path', ARGV[2], 'entries', '', 'first', r[8], 'last', r[9])
return {'ok'}
"""
)

# KEYS: task stream.  ARGV: names of consumers.  Those without a pending task go: a consumer takes its pending list with it, so
# the look and the removal are one step. Reply: how many went.
FORGET = Script.of(
    """
local gone = 0
for _, name in ipairs(ARGV) do
  if #redis.call('XPENDING', KEYS[1], 'workers', '-', '+', 1, name) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'workers', name)
    redis.call('DEL', string.match(KEYS[1], '^{.-}') .. ':bell:' .. name)
    gone = gone + 1
  end
end
return gone
"""
)

# KEYS: run.  ARGV: run id, process.  Wants a run cancelled; the process is told if its lease is given back. Reply: `ok`, its
# status, its holder, ms that the lease still lasts.
CANCEL = Script.of(
    NOW
    + "local run_key, branches = KEYS[1], ''\n"
    + RECORDS
    + """
local held = redis.call('HMGET', KEYS[1], 'status', 'holder', 'lease_until', 'process')
if not held[1] then return {'missing'} end
if held[1] == 'running' or held[1] == 'queued' then
  redis.call('HSET', KEYS[1], 'cancel', now, 'canceller', ARGV[2])
  if held[4] then tell(held[4], 'kind', 'cancel', 'run', ARGV[1], 'path', '') end
end
return {'ok', held[1], held[2] or '', math.max(0, tonumber(held[3] or 0) - now)}
"""
)

# KEYS: run, journal, values, branches, task stream, dead letters.  ARGV: run id, task, id of the dead letter. The record lives
# as long as the run, which may be gone before a worker takes the task; that one then takes the task off.
RETRY = Script.of(
    NOW
    + BRANCHES
    + """
local held = redis.call('HMGET', KEYS[1], 'status', 'lease_until')
if not held[1] then return {'missing'} end
if held[1] ~= 'failed' and held[1] ~= 'cancelled' then return {'refused', held[1]} end
if tonumber(held[2] or 0) > now then return {'refused', 'running'} end
if record('') then  -- by another letter of the run, or because the reply was lost
  redis.call('XDEL', KEYS[6], ARGV[3])
  return {'ok'}
end
if redis.call('XDEL', KEYS[6], ARGV[3]) == 0 then return {'gone'} end
for i = 1, 3 do
  local left = redis.call('PTTL', KEYS[i])
  if left >= 0 and left < 3600000 then redis.call('PEXPIRE', KEYS[i], 3600000) end
end
local id = redis.call('XADD', KEYS[5], '*', 'run', ARGV[1], 'path', '', 'task', ARGV[2])
keep('', {'open', '', '0', '0', '0', id, KEYS[5], '', '', ''})
redis.call('PEXPIRE', KEYS[4], math.max(1, redis.call('PTTL', KEYS[1])))
return {'ok'}
"""
)

RECOVERY_SCRIPTS = (HAND_BACK, SWEEP, FORGET, BURY, CANCEL, RETRY)
"""Loaded beside those of `orka.redis.scripts`."""


def hand_back(
    keys: RunKeys, *, process: str, path: str, task_id: str, stream: str, delay_ms: int = 0, why: str = ""
) -> Command:
    """Gives a task back; `why` is shown by `orka doctor`. Reply: `ok`; `stale` and `closed` when it was not ours to give."""
    return (
        *("EVALSHA", HAND_BACK.sha, 5, *run_of(keys), parked_key(keys.tag)),
        *(process, path, task_id, stream, delay_ms, why.replace("|", "/")),
    )


def sweep(
    tag: str,
    streams: Sequence[str],
    *,
    lease_ms: int,
    count: int,
    most_deaths: int,
    process: str,
    starts: Sequence[str],
    dead: Sequence[str] = (),
) -> Command:
    """Queues again what `dead` processes, and those without a sign of life, have left behind, looking at `count` tasks of
    each stream from its place in `starts` on. Reply: number queued, where to go on, tasks that died too often."""
    return (
        *("EVALSHA", SWEEP.sha, 1 + len(streams), parked_key(tag), *streams),
        *(lease_ms, count, most_deaths, process, len(streams), *starts, *dead),
    )


def forget_consumers(stream: str, names: Sequence[str]) -> Command:
    """Takes consumers that have nothing pending out of a stream's group, whose process is gone for good. Reply: how many."""
    return ("EVALSHA", FORGET.sha, 1, stream, *names)


def bury(
    keys: RunKeys,
    *,
    process: str,
    path: str,
    task_id: str,
    run_id: str,
    parent: str,
    data: bytes,
    reason: str,
    retention_ms: int,
) -> Command:
    """Gives a task up: to the dead letters with it, and its branch fails. Reply: `ok`, `closed` or `stale`."""
    return (
        *("EVALSHA", BURY.sha, 5, *run_of(keys), dead_key(keys.tag)),
        *(process, path, task_id, run_id, parent, data, reason, retention_ms),
    )


def cancel_run(keys: RunKeys, run_id: str, process: str) -> Command:
    """Marks a run as not wanted any more and tells its owner; `process` is told (`idle`) when that gives it back without
    ending it. Reply: `ok`, status, holder, ms of lease left; or `missing`."""
    return ("EVALSHA", CANCEL.sha, 1, keys.run, run_id, process)


def retry_run(keys: RunKeys, stream: str, *, run_id: str, task: bytes, letter: str) -> Command:
    """Queues a run that failed or was cancelled for resuming, and deletes the dead letter that this is for. Its status
    stays until a worker takes it. Reply: `ok`; `refused`, status; `gone` without that letter; `missing`."""
    return ("EVALSHA", RETRY.sha, 6, *run_of(keys), stream, dead_key(keys.tag), run_id, task, letter)
