"""The Lua scripts of limits that many processes respect together, each behind a function whose signature is its contract.

A limit has places (so many at once) or turns (so many per time) or both. Whoever wants one comes with a *ticket*,
`<process>/<number>/<run>/<path>`. Places are given in the order in which they were asked for, and belong to the ticket for
as long as its process renews them: the dead give theirs back by dying. A waiter is told through its process's inbox.

Turns follow the generic cell rate algorithm (ITU-T I.371, annex A, as virtual scheduling; ATM Forum TM 4.0, 4.4.2): one
number, the theoretical arrival time (TAT) of the next turn, grows by the interval with every turn, and nobody goes earlier than
TAT less the tolerance, `(burst - 1) * interval`. Here a ticket that is early is not refused: the turn is reserved, and its
time is the answer, so that nobody asks twice. A place comes first, its turn is reserved with it.

All times are the server's, in microseconds: whole numbers below 2**53, as Lua has them.
"""

from __future__ import annotations

from collections.abc import Sequence

from orka.redis.lua import TELL, Command, Script

# KEYS: held, queue, asked, turns, spare, tat.
# A waiter in `asked`: time at which it counts as dead, its lease in milliseconds, places, interval, tolerance, when it came.
_LIMIT = (
    "local run_key = KEYS[1]\n"
    + TELL
    + """
local held, queue, asked, turns, spare, tat = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local function digits(n) return string.format('%.0f', n) end
local function keep(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, math.ceil(ms)) end
end
local function move(at)  -- the TAT: behind `now` it says nothing
  if at > now then
    redis.call('SET', tat, digits(at), 'PX', math.ceil((at - now) / 1000) + 1)
  else
    redis.call('DEL', tat)
  end
end
-- The time until the ticket's turn, and the TAT that stands for it ('' : it has none).
local function reserve(ticket, interval, tolerance)
  if interval == 0 then return 0, '' end
  redis.call('ZREMRANGEBYSCORE', turns, '-inf', digits(now))
  redis.call('ZREMRANGEBYSCORE', spare, '-inf', digits(now))
  local turn, at
  local given = redis.call('ZRANGE', spare, 0, 0, 'WITHSCORES')
  if given[1] then
    at, turn = given[1], tonumber(given[2])
    redis.call('ZREM', spare, at)
  else
    local before = math.max(now, tonumber(redis.call('GET', tat) or '0'))
    turn = math.max(now, before - tolerance)
    at = digits(before + interval)
    move(before + interval)
  end
  if turn > now then
    redis.call('ZADD', turns, digits(turn), ticket)
    keep(turns, (turn - now) / 1000 + 1000)
  end
  return turn - now, at
end
local function hold(ticket, lease)
  redis.call('ZADD', held, digits(now + lease * 1000), ticket)
  keep(held, lease + 1000)
end
local function wait(ticket, lease, most, interval, tolerance, since)
  local parts = {digits(now + lease * 1000), lease, most, interval, tolerance, since}
  redis.call('HSET', asked, ticket, table.concat(parts, '|'))
  keep(asked, lease + 1000)
  keep(queue, lease + 1000)
end
local function waiter(ticket)
  local raw = redis.call('HGET', asked, ticket)
  if not raw then return nil end
  local expiry, lease, most, interval, tolerance, since = string.match(raw, '^(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)$')
  return tonumber(expiry), tonumber(lease), tonumber(most), tonumber(interval), tonumber(tolerance), since
end
-- Places of the dead come free, and go to those who wait, in their order; the dead among them are passed over.
local function promote()
  redis.call('ZREMRANGEBYSCORE', held, '-inf', digits(now))
  while true do
    local ticket = redis.call('ZRANGE', queue, 0, 0)[1]
    if not ticket then return end
    local expiry, lease, most, interval, tolerance = waiter(ticket)
    local alive = expiry and expiry > now
    if alive and redis.call('ZCARD', held) >= most then return end
    redis.call('ZREM', queue, ticket)
    redis.call('HDEL', asked, ticket)
    if alive then
      hold(ticket, lease)
      local left, at = reserve(ticket, interval, tolerance)
      local process = string.match(ticket, '^(.-)/')
      tell(process, 'kind', 'limit', 'run', '', 'path', '', 'ticket', ticket, 'wait', digits(left), 'tat', at)
    end
  end
end
local function turn_of(ticket)
  local turn = tonumber(redis.call('ZSCORE', turns, ticket) or '0')
  return math.max(0, turn - now)
end
"""
)

# ARGV: ticket, lease, places (0: any number), interval (0: no turns), tolerance.
ASK = Script.of(
    _LIMIT
    + """
local ticket, most = ARGV[1], tonumber(ARGV[3])
if redis.call('ZSCORE', turns, ticket) or redis.call('ZSCORE', held, ticket) then return {'go', turn_of(ticket), ''} end
if redis.call('ZSCORE', queue, ticket) then return {'wait'} end
if most > 0 then
  promote()
  if redis.call('ZCARD', queue) > 0 or redis.call('ZCARD', held) >= most then
    local last = redis.call('ZREVRANGE', queue, 0, 0, 'WITHSCORES')
    redis.call('ZADD', queue, (tonumber(last[2]) or 0) + 1, ticket)
    wait(ticket, ARGV[2], ARGV[3], ARGV[4], ARGV[5], digits(now))
    return {'wait'}
  end
  hold(ticket, tonumber(ARGV[2]))
end
local left, at = reserve(ticket, tonumber(ARGV[4]), tonumber(ARGV[5]))
return {'go', left, at}
"""
)

# ARGV: ticket, interval, TAT of its turn when it did not use that ('' : it did, or has none).
GIVE_BACK = Script.of(
    _LIMIT
    + """
local ticket, interval, own = ARGV[1], tonumber(ARGV[2]), ARGV[3]
redis.call('ZREM', held, ticket)
redis.call('ZREM', queue, ticket)
redis.call('HDEL', asked, ticket)
local turn = redis.call('ZSCORE', turns, ticket)
redis.call('ZREM', turns, ticket)
if own ~= '' then
  if redis.call('GET', tat) == own then  -- nobody came after it: as if it had never been
    local at = tonumber(own) - interval
    local last = redis.call('ZREVRANGE', spare, 0, 0)[1]
    while last and tonumber(last) == at do
      redis.call('ZREM', spare, last)
      at = at - interval
      last = redis.call('ZREVRANGE', spare, 0, 0)[1]
    end
    move(at)
  elseif turn and tonumber(turn) > now then  -- others have later turns: the next one to ask gets it
    redis.call('ZADD', spare, turn, own)
    keep(spare, (tonumber(turn) - now) / 1000 + 1000)
  end
end
promote()
return {'ok'}
"""
)

# ARGV: lease, number of holders, their tickets, tickets of waiters.
RENEW_PLACES = Script.of(
    _LIMIT
    + """
local lease, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local lost = 0
for i = 3, 2 + count do
  -- One that was given up for dead works all the same: it counts again, and others have to wait until there is room.
  if not redis.call('ZSCORE', held, ARGV[i]) then lost = lost + 1 end
  hold(ARGV[i], lease)
end
for i = 3 + count, #ARGV do
  local expiry, _, most, interval, tolerance, since = waiter(ARGV[i])
  if expiry then wait(ARGV[i], lease, most, digits(interval), digits(tolerance), since) end
end
promote()
local found = {}
for i = 3 + count, #ARGV do
  if redis.call('ZSCORE', held, ARGV[i]) then
    hold(ARGV[i], lease)
    found[#found + 1] = turn_of(ARGV[i])
  else
    found[#found + 1] = redis.call('ZSCORE', queue, ARGV[i]) and -1 or -2
  end
end
return {lost, found}
"""
)

LIMIT_SCRIPTS = (ASK, GIVE_BACK, RENEW_PLACES)
"""Loaded beside those of `orka.redis.scripts`."""


def ask(keys: Sequence[str], *, ticket: str, lease_ms: int, most: int, interval: int, tolerance: int) -> Command:
    """Asks for one of `most` places (0: there are none to wait for) and for a turn, one per `interval` microseconds (0: none).
    Harmless when repeated. `keys` as `limit_keys` gives them, here and below.

    Reply: `go`, microseconds until the turn, its TAT; or `wait`: the process is told when the place is there.
    """
    return ("EVALSHA", ASK.sha, len(keys), *keys, ticket, lease_ms, most, interval, tolerance)


def give_back(keys: Sequence[str], *, ticket: str, interval: int, unused: str) -> Command:
    """A place, a wait for one, and with `unused`, the turn's TAT, the turn as well. Reply: `ok`. Harmless when repeated
    without `unused`; with it, a second one finds another TAT."""
    return ("EVALSHA", GIVE_BACK.sha, len(keys), *keys, ticket, interval, unused)


def renew_places(keys: Sequence[str], *, lease_ms: int, holders: Sequence[str], waiters: Sequence[str]) -> Command:
    """Signs of life for tickets of one process. Reply: how many holders had lost their places, and per waiter: microseconds
    until its turn when it has its place by now, -1 while it waits, -2 when the server does not know it."""
    return ("EVALSHA", RENEW_PLACES.sha, len(keys), *keys, lease_ms, len(holders), *holders, *waiters)
