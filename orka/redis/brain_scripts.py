"""The Lua scripts of skills and episodes, each behind a function whose signature is its contract. All keys are in one slot.

A skill has a version that rises with every change. Whoever changes one says which version it has seen, so that what is
decided outside (`orka.brain`) is never decided on something that has changed meanwhile: the loser is told what is there now.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from orka.redis.keys import EPISODE_PREFIX, SKILL_PREFIX
from orka.redis.lua import NOW, Command, Script

PAGE: Final = 200
"""Ids that are looked at in one go."""
MOST_PASSED: Final = 10_000
"""Ids of one index that are passed over at most, for those that a filter wants."""

# KEYS: sources, then the sets of each group.  ARGV: prefix, most, 'live' (scores are times to live until) or '', fields to
# give (their number, then names), number of sources, limit of each, then the size of each group.
LOOK = Script.of(
    NOW
    + f"local PAGE, MOST_PASSED = {PAGE}, {MOST_PASSED}\n"
    + """
local prefix, most = ARGV[1], tonumber(ARGV[2])
local least = ARGV[3] == 'live' and '(' .. string.format('%.0f', now) or '-inf'
local at = 5 + tonumber(ARGV[4])
local fields = {unpack(ARGV, 5, at - 1)}
local sources, limits, groups = tonumber(ARGV[at]), at, {}
local key = sources
for g = at + sources + 1, #ARGV do
  groups[#groups + 1] = {key + 1, key + tonumber(ARGV[g])}
  key = key + tonumber(ARGV[g])
end
local function wanted(id)
  for _, group in ipairs(groups) do
    local found = false
    for k = group[1], group[2] do
      if redis.call('ZSCORE', KEYS[k], id) then found = true break end
    end
    if not found then return false end
  end
  return true
end
local seen, rows = {}, {}
for s = 1, sources do
  local taken, limit, passed = 0, tonumber(ARGV[limits + s]), 0
  while taken < limit and #rows < most and passed < MOST_PASSED do
    local ids = redis.call('ZREVRANGEBYSCORE', KEYS[s], '+inf', least, 'LIMIT', passed, PAGE)
    for _, id in ipairs(ids) do
      if taken >= limit or #rows >= most then break end
      if not seen[id] and wanted(id) then
        seen[id] = true
        local row = redis.call('HMGET', prefix .. id, unpack(fields))
        if row[1] then
          rows[#rows + 1] = row
          taken = taken + 1
        end
      end
    end
    passed = passed + #ids
    if #ids < PAGE then break end
  end
end
return rows
"""
)

# KEYS: skill, visit, all skills, its other indexes.
# ARGV: id, prefix, version seen ('0': it is new), JSON, model, vector ('': as it is), expires_ms, most, visit_ms.
PUT_SKILL = Script.of(
    NOW
    + """
local done = redis.call('GET', KEYS[2])
if done then return {'done', done} end
local version = redis.call('HGET', KEYS[1], 'version') or '0'
if version ~= ARGV[3] then return {'changed', version, redis.call('HGET', KEYS[1], 'json') or ''} end
local expires = tonumber(ARGV[7])
redis.call('HSET', KEYS[1], 'version', string.format('%d', version + 1), 'json', ARGV[4])
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'model', ARGV[5], 'vector', ARGV[6]) end
redis.call('PEXPIREAT', KEYS[1], ARGV[7])
for i = 3, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', string.format('%.0f', now))
  redis.call('ZADD', KEYS[i], ARGV[7], ARGV[1])
  if redis.call('PTTL', KEYS[i]) < expires - now then redis.call('PEXPIREAT', KEYS[i], ARGV[7]) end
end
local over = redis.call('ZCARD', KEYS[3]) - tonumber(ARGV[8])
if over > 0 then  -- those that would have been forgotten first; the other indexes pass them over
  for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, over - 1)) do
    redis.call('DEL', ARGV[2] .. id)
    redis.call('ZREM', KEYS[3], id)
  end
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[9])
return {'ok', version + 1}
"""
)

# KEYS: episode, then succeeded and failed of all, succeeded and failed of its domain.
# ARGV: id, prefix, JSON, model, vector, at_ms, 'succeeded' or 'failed', most of all, most of the domain.
PUT_EPISODE = Script.of(
    NOW
    + """
local succeeded = ARGV[7] == 'succeeded'
redis.call('HSET', KEYS[1], 'version', '1', 'json', ARGV[3], 'model', ARGV[4], 'vector', ARGV[5],
  'home', KEYS[4], 'other', KEYS[5])
for i = 2, 5 do
  if (i % 2 == 0) == succeeded then
    redis.call('ZADD', KEYS[i], ARGV[6], ARGV[1])
  else
    redis.call('ZREM', KEYS[i], ARGV[1])
  end
end
-- The oldest goes, where failures age half as fast: there is more to learn from them.
local function trim(good, bad, most)
  while redis.call('ZCARD', good) + redis.call('ZCARD', bad) > most do
    local a = redis.call('ZRANGE', good, 0, 0, 'WITHSCORES')
    local b = redis.call('ZRANGE', bad, 0, 0, 'WITHSCORES')
    local id = a[1] or b[1]
    if a[1] and b[1] and (now - b[2]) / 2 > now - a[2] then id = b[1] end
    local homes = redis.call('HMGET', ARGV[2] .. id, 'home', 'other')
    for _, key in ipairs({KEYS[2], KEYS[3], homes[1] or good, homes[2] or bad}) do redis.call('ZREM', key, id) end
    redis.call('DEL', ARGV[2] .. id)
  end
end
trim(KEYS[4], KEYS[5], tonumber(ARGV[9]))
trim(KEYS[2], KEYS[3], tonumber(ARGV[8]))
return {'ok'}
"""
)

# KEYS: skill or episode.  ARGV: model, vector.
SET_VECTOR = Script.of(
    "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'model', ARGV[1], 'vector', ARGV[2]) end\n"
    "return {'ok'}\n"
)

# KEYS: all skills.
SWEEP = Script.of(
    NOW
    + """
local checked = redis.call('ZCARD', KEYS[1])
return {checked, redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))}
"""
)

BRAIN_SCRIPTS = (LOOK, PUT_SKILL, PUT_EPISODE, SET_VECTOR, SWEEP)
"""Loaded beside those of `orka.redis.scripts`."""


def look(
    prefix: str,
    sources: Sequence[tuple[str, int]],
    groups: Sequence[Sequence[str]],
    *,
    most: int,
    live: bool,
    fields: Sequence[str],
) -> Command:
    """Reads at most `most` hashes of ids from the sorted sets `sources`, each with a limit of its own, highest scores first:
    only ids that are in one set at least of every group. `live`: scores are times, and those in the past do not count.

    Reply: a list of the values of `fields` (the first one must be there) per hash, in the order in which they were found.
    """
    keys = [key for key, _ in sources] + [key for group in groups for key in group]
    return (
        *("EVALSHA", LOOK.sha, len(keys), *keys, prefix, most, "live" if live else "", len(fields), *fields),
        *(len(sources), *(limit for _, limit in sources), *(len(group) for group in groups)),
    )


def put_skill(
    key: str,
    visit: str,
    indexes: Sequence[str],
    *,
    skill: str,
    version: int,
    json: bytes,
    model: str,
    vector: bytes,
    expires_ms: int,
    most: int,
    visit_ms: int,
) -> Command:
    """Writes the next version of a skill and its places in the indexes, the set of all skills first. Beyond `most` skills
    those go that would expire first. `visit` remembers for `visit_ms` that this was done. An empty `vector` stays as it is.

    Reply: `ok` and the new version; `changed`, the version that is there (0: none) and its JSON; or `done` and the id of
    the skill that this visit has changed before.
    """
    return (
        *("EVALSHA", PUT_SKILL.sha, 2 + len(indexes), key, visit, *indexes, skill, SKILL_PREFIX, version, json),
        *(model, vector, expires_ms, most, visit_ms),
    )


def put_episode(
    key: str,
    sets: Sequence[str],
    *,
    episode: str,
    json: bytes,
    model: str,
    vector: bytes,
    at_ms: int,
    success: bool,
    most: int,
    most_of_domain: int,
) -> Command:
    """Writes an episode, in place of one of the same id, and deletes the oldest beyond `most` and beyond `most_of_domain`;
    failures age half as fast. `sets`: those that succeeded and failed of all, and of its domain. Reply: `ok`."""
    return (
        *("EVALSHA", PUT_EPISODE.sha, 1 + len(sets), key, *sets, episode, EPISODE_PREFIX, json, model, vector, at_ms),
        *("succeeded" if success else "failed", most, most_of_domain),
    )


def set_vector(key: str, model: str, vector: bytes) -> Command:
    """Another vector for what is still there. Reply: `ok`."""
    return ("EVALSHA", SET_VECTOR.sha, 1, key, model, vector)


def sweep(skills: str) -> Command:
    """Takes expired skills out of the set of all. Reply: how many were in it, and how many of them had expired."""
    return ("EVALSHA", SWEEP.sha, 1, skills)
