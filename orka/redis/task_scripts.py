"""The Lua scripts of branch tasks, each behind a function whose signature is its contract. See `orka.redis.scripts`.

A task is an entry of a task stream with the fields `run`, `path`, `task`, and, when it was queued before, `again` and `alone`.
Its *record* in the run's hash of branches says who may write under its path: the process that the consumer group has
given the task to. A claim is `<process>/<task id>`, and each time that a task is queued again it gets another id: whoever
still holds the former one can write nothing more.

Replies begin with a word: `ok`, or why nothing was done:

* `closed`   the branch's join has decided without it, the run has ended, or the branch is done
* `stale`    the task was given to another process
* `gap`      the record is behind the writer (the server lost its tail); the last sequence number follows
* `missing`  the run's keys are gone
"""

from __future__ import annotations

from collections.abc import Sequence

from orka.redis.keys import GROUP, RunKeys, inbox_key
from orka.redis.lua import ENTRIES, RECORDS, Argument, Command, Script
from orka.redis.scripts import Entry, encode_entries

BRANCHES = "local run_key, branches = KEYS[1], KEYS[4]\n" + RECORDS
"""For scripts whose first keys are run, journal, values, branches."""
# ARGV: claim, path.  Leaves `r`, the caller's record.
_FENCE = """
local r = record(ARGV[2])
if not r or r[1] ~= 'open' then return {'closed'} end
if not claims(r, ARGV[1]) then return {'stale'} end
"""

# KEYS: run, journal, values, branches.  ARGV: claim, path, first sequence number, number of entries, the entries as in
# `scripts`, then 1 when the branch is done with them, path of the task that waits for it, run id, entries for it
# ('' : it has to read them).
COMMIT = Script.of(
    BRANCHES
    + """
local r = record(ARGV[2])
if not r or r[1] ~= 'open' then
  if r and r[2] == ARGV[1] and ARGV[#ARGV - 3] == '1' and ARGV[3] + ARGV[4] - 1 == tonumber(r[3]) then
    return {'ok', tonumber(r[3]), {}}  -- sent again: the reply was lost
  end
  return {'closed'}
end
if not claims(r, ARGV[1]) then return {'stale'} end
local last = tonumber(r[3])
local seq = tonumber(ARGV[3])
if seq > last + 1 then return {'gap', last} end
local at = 5
local count = tonumber(ARGV[4])
"""
    + ENTRIES
    + """
r[3] = last
if finished > 0 then r[4], r[5] = '0', '0' end
for i = 1, count do
  if ids[i] then
    if r[8] == '' then r[8] = ids[i] end
    r[9] = ids[i]
  end
end
if ARGV[at] == '1' then
  take_off(r)
  r[1] = 'done'
  wake(ARGV[at + 1], 'kind', 'done', 'run', ARGV[at + 2], 'path', ARGV[2], 'entries', ARGV[at + 3], 'first', r[8], 'last', r[9])
end
keep(ARGV[2], r)
return {'ok', last, ids}
"""
)

# KEYS: run, journal, values, branches.  ARGV: claim, path.
RENEW_CLAIM = Script.of(
    BRANCHES
    + _FENCE
    + """
redis.call('XCLAIM', r[7], 'workers', claimant(ARGV[1]), 0, r[6], 'JUSTID')
return {'ok', tonumber(r[3]), ''}
"""
)

# KEYS: run, journal, values, branches.  ARGV: claim, path.
CLAIM = Script.of(
    BRANCHES
    + """
local r = record(ARGV[2])
if not r or r[1] ~= 'open' then return {'closed'} end
if not claims(r, ARGV[1]) then return {'stale'} end
keep(ARGV[2], r)
return {'ok', r[8], r[9]}
"""
)

# Whether the caller may send and close branches: the run's owner by its lease, a branch by its claim.
# ARGV: path of the caller's own task ('' : the run), lease or claim.
_SENDER = """
if ARGV[1] == '' then
  local held = redis.call('HGET', KEYS[1], 'lease')
  if not held then return {'missing'} end
  if held ~= ARGV[2] then
    -- Ours is higher where the server has forgotten our take-over: see the append script.
    if tonumber(string.match(held, '^%d+')) >= tonumber(string.match(ARGV[2], '^%d+')) then return {'stale'} end
  end
else
  local own = record(ARGV[1])
  if not own or own[1] ~= 'open' then return {'closed'} end
  if own[2] ~= ARGV[2] then
    if not claims(own, ARGV[2]) then return {'stale'} end
    keep(ARGV[1], own)
  end
end
"""

# KEYS: run, journal, values, branches, scopes, stream.  ARGV: path of the sender's own task, lease or claim, run id, fork,
# scope ('' : none, or in the tasks), number of tasks, path, task, first and last entry from before of each, `1` if they may
# have run before, then paths whose results the sender has. Their records go; the entries that they tell of are from then on
# within the sender's own, so that another execution of it finds them.
SEND = Script.of(
    BRANCHES
    + _SENDER
    + """
if ARGV[5] ~= '' then redis.call('HSETNX', KEYS[5], ARGV[4], ARGV[5]) end
local count = tonumber(ARGV[6])
local again = ARGV[7 + 4 * count]
local settled = 8 + 4 * count
if settled <= #ARGV then
  for i = settled, #ARGV do
    local r = again == '1' and record(ARGV[i])
    if r and r[1] == 'open' then  -- the server had forgotten that it was done
      take_off(r)
      stop(r, ARGV[3], ARGV[i])
    end
    redis.call('HDEL', branches, ARGV[i])
  end
  if ARGV[1] ~= '' then
    local own = record(ARGV[1])
    local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
    if own[8] ~= '' and newest[1] then
      own[9] = newest[1][1]
      keep(ARGV[1], own)
    end
  end
end
for i = 0, count - 1 do
  local path, task, first, last = ARGV[7 + 4 * i], ARGV[8 + 4 * i], ARGV[9 + 4 * i], ARGV[10 + 4 * i]
  local r = record(path)
  if not r then
    local id
    if again == '1' then
      id = redis.call('XADD', KEYS[6], '*', 'run', ARGV[3], 'path', path, 'task', task, 'again', '1')
    else
      id = redis.call('XADD', KEYS[6], '*', 'run', ARGV[3], 'path', path, 'task', task)
    end
    keep(path, {'open', '', '0', '0', '0', id, KEYS[6], first, last, ''})
  elseif r[1] == 'done' then
    wake(ARGV[1], 'kind', 'done', 'run', ARGV[3], 'path', path, 'entries', '', 'first', r[8], 'last', r[9])
  end
end
return {'ok'}
"""
)

# KEYS: run, journal, values, branches, scopes.  ARGV: path of the sender's own task, lease or claim, run id, fork, paths of
# its branches that may still have a record. What runs below them goes too.
CLOSE = Script.of(
    BRANCHES
    + _SENDER
    + """
local cut = {}
local function cut_off(path, r)
  if r[1] == 'open' then
    take_off(r)
    stop(r, ARGV[3], path)
    if r[2] ~= '' or r[8] ~= '' then cut[#cut + 1] = path .. '/' end  -- it may have branches of its own
  end
  redis.call('HDEL', branches, path)
end
for i = 5, #ARGV do
  local r = record(ARGV[i])
  if r then cut_off(ARGV[i], r) end
end
if #cut > 0 then
  for _, path in ipairs(redis.call('HKEYS', branches)) do
    for _, prefix in ipairs(cut) do
      if string.sub(path, 1, #prefix) == prefix then
        local r = record(path)
        if r then cut_off(path, r) end
      end
    end
  end
end
redis.call('HDEL', KEYS[5], ARGV[4])
return {'ok'}
"""
)

# KEYS: task streams of one node, the most urgent first.  ARGV: process, how many.
FETCH = Script.of(
    """
local left = tonumber(ARGV[2])
local found = {}
for _, stream in ipairs(KEYS) do
  local reply = redis.call('XLEN', stream) > 0  -- most are empty, and this is the cheapest way to see it
    and redis.call('XREADGROUP', 'GROUP', 'workers', ARGV[1], 'COUNT', left, 'STREAMS', stream, '>')
  if reply then
    found[#found + 1] = {stream, reply[1][2]}
    left = left - #reply[1][2]
    if left <= 0 then break end
  end
end
return found
"""
)

TASK_SCRIPTS = (COMMIT, RENEW_CLAIM, CLAIM, SEND, CLOSE, FETCH)
"""Loaded beside those of `orka.redis.scripts`."""


def run_of(keys: RunKeys) -> tuple[str, str, str, str]:
    return keys.run, keys.journal, keys.values, keys.branches


def commit(
    keys: RunKeys,
    *,
    claim: str,
    path: str,
    first: int,
    entries: Sequence[Entry],
    done: bool = False,
    parent: str = "",
    run_id: str = "",
    reply: bytes = b"",
) -> Command:
    """Appends a branch's entries under sequence numbers from `first` on; those already there are dropped. With `done`
    the task is taken off its stream and the task at `parent` ('' : the run's owner) is told, in the same step.

    Reply as `append`, or `closed`.
    """
    return (
        *("EVALSHA", COMMIT.sha, 4, *run_of(keys), claim, path, first, len(entries), *encode_entries(entries)),
        *(int(done), parent, run_id, reply),
    )


def renew_claim(keys: RunKeys, *, claim: str, path: str) -> Command:
    """A sign of life for a task under way. Reply: `ok`, last sequence number, ''; or `closed`, `stale`, `missing`."""
    return ("EVALSHA", RENEW_CLAIM.sha, 4, *run_of(keys), claim, path)


def claim_task(keys: RunKeys, *, claim: str, path: str) -> Command:
    """Claims a task that may have run before. Reply: `ok`, first and last entry of what it wrote ('' : nothing); or
    `closed`, `stale`, `missing`."""
    return ("EVALSHA", CLAIM.sha, 4, *run_of(keys), claim, path)


def send_tasks(
    keys: RunKeys,
    stream: str,
    *,
    scope: str,
    credential: str,
    run_id: str,
    fork: str,
    seen: bytes,
    tasks: Sequence[tuple[str, bytes, str, str]],
    again: bool,
    settled: Sequence[str],
) -> Command:
    """Queues branch tasks (path, task, first and last entry that it has in the journal already, '' : none). One that is
    there already is left alone, one that is done is answered again, unless it is among the `settled`.

    `scope` and `credential` say who sends; `seen` is what the branches of `fork` see, stored once. Reply: `ok`; or
    `closed`, `stale`, `missing`.
    """
    arguments: list[Argument] = [scope, credential, run_id, fork, seen, len(tasks)]
    for row in tasks:
        arguments += row
    return ("EVALSHA", SEND.sha, 6, *run_of(keys), keys.scopes, stream, *arguments, int(again), *settled)


def close_tasks(keys: RunKeys, *, scope: str, credential: str, run_id: str, fork: str, paths: Sequence[str]) -> Command:
    """The fork takes nothing more: tasks under way are told, queued ones go. Reply as `send_tasks`."""
    return ("EVALSHA", CLOSE.sha, 5, *run_of(keys), keys.scopes, scope, credential, run_id, fork, *paths)


def fetch_tasks(streams: Sequence[str], *, process: str, count: int) -> Command:
    """Takes up to `count` tasks, the first streams first, without waiting. Reply: list of [stream, entries]."""
    return ("EVALSHA", FETCH.sha, len(streams), *streams, process, count)


def make_groups(streams: Sequence[str]) -> list[Command]:
    """Creates streams with their consumer group, reading from the beginning. `BUSYGROUP` replies are harmless."""
    return [("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM") for stream in streams]


def read_inbox(keys: Sequence[str], after: Sequence[str], block_ms: int = 0) -> Command:
    """Waits for messages behind the given ids."""
    return ("XREAD", "COUNT", 500, "BLOCK", block_ms, "STREAMS", *keys, *after)


def forget_read(tag: str, process: str, last: str) -> Command:
    """Deletes what was read from an inbox, up to and with `last`."""
    milliseconds, _, number = last.partition("-")
    return ("XTRIM", inbox_key(tag, process), "MINID", f"{milliseconds}-{int(number) + 1}")
