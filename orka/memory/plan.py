"""What the search module is asked for a look, and what its answer says. Pure.

Whatever comes from users travels as a parameter and never inside the query, so none of it can become syntax
(https://redis.io/docs/latest/develop/ai/search-and-query/advanced-concepts/dialects/, dialect 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec

from orka.memory.hashes import RECORD_FIELDS
from orka.memory.layout import Layout
from orka.memory.query import Candidate, Filters, Look
from orka.memory.record import FACETS, decode_record, encode_tag, fields_of
from orka.redis.lua import Argument, Command, Script

TIMEOUT_MS: Final = 10_000
"""After which the module would give up, and give what it had until then as if it were all."""
SMALL: Final = 5000
"""Memories up to which comparing all is as quick as walking the graph, and misses nothing: a graph whose vectors were often
replaced can have some that no way leads to."""
DISTANCE: Final = "distance"
SINCE: Final = "since"
_GREATEST: Final = 2**53
"""Whole numbers up to here are exact in the index, which keeps doubles."""

Reach: TypeAlias = Literal["server", "cluster", "primary"]
"""Of an index: all there is; all there is, on a cluster that its search module spans; one primary of a cluster."""

_WINDOWS_MS: Final = tuple(10**power for power in range(3, 12))
"""How far back the newest are looked for, one after the other: sorting costs 0.6 microseconds for each that matches."""

# ARGV: 1 number of fields, the fields; number of windows, 0 or: how many are enough, the place of the window's beginning in
# the search, the windows' beginnings; the search.  Windows: the first one that has enough, or the last.
# Fields: for an index that knows nothing of the cluster around it. There the module finds the hashes of one slot only (the
# server looks keys up by the slot of the command that runs, which is that of the index's name), so the script reads them:
# it gives what the search gives, with values in the order of the fields.
_SEARCH: Final = Script.of("""
local fields = tonumber(ARGV[1])
local at = fields + 2
local windows = tonumber(ARGV[at])
local found
if windows == 0 then
  found = redis.pcall(unpack(ARGV, at + 1))
else
  local search = {unpack(ARGV, at + 3 + windows)}
  for i = 1, windows do
    search[tonumber(ARGV[at + 2])] = ARGV[at + 2 + i]
    found = redis.pcall(unpack(search))
    if found.err or found[1] >= tonumber(ARGV[at + 1]) then break end
  end
end
if found.err or fields == 0 then return found end
local rows = {found[1]}
for i = 2, #found, 2 do
  rows[#rows + 1] = found[i]
  rows[#rows + 1] = found[i + 1]
  rows[#rows + 1] = redis.call('HMGET', found[i], unpack(ARGV, 2, fields + 1))
end
return rows
""")


class _Parameters:
    """Values by the names that stand for them in the query."""

    def __init__(self) -> None:
        self.words: list[Argument] = []

    def name(self, value: Argument) -> str:
        name = f"p{len(self.words)}"
        self.words += (name, value)
        return f"${name}"


def plan_look(
    look: Look, layout: Layout, index: str, reach: Reach = "server", *, documents: int = SMALL
) -> Command | None:
    """FT.SEARCH (https://redis.io/docs/latest/commands/ft.search/) for a look; None when nothing can match.
    `documents`: about how many memories the index has.

    The condition on the expiry is in every query: measured on 60,000 memories it costs nothing beside a search by
    vector, and a search that found out afterwards what had expired would have to ask again.
    """
    if look.count < 1:
        return None
    parameters = _Parameters()
    windows = _windows(look) if look.vector is None and not look.words else []
    where = _conditions(look.filters, look.at_ms, parameters, bool(windows))
    if where is None:
        return None
    first = 0
    if look.vector is not None:
        # With filters the module chooses itself between walking the graph in BATCHES and comparing all that match: that is
        # 0.07 ms where one in 1,000 matches, and BATCHES takes 14. Without, it is known that nearly all match, and left to
        # itself the module would compare all of 20,000 in 1.9 ms, which the graph does in 0.2.
        policy = "" if where.startswith("@") or documents < SMALL else " HYBRID_POLICY BATCHES"
        width = max(1, look.ef_runtime or layout.ef_runtime)
        [row] = layout.pack(look.vector.reshape(1, -1))
        if not row:
            return None
        query = f"({where})=>[KNN $k @{layout.field} $vector EF_RUNTIME $width{policy} AS {DISTANCE}]"
        parameters.words += ("k", str(look.count), "vector", row, "width", str(width))
        order: tuple[Argument, ...] = ("SORTBY", DISTANCE)
    elif look.words:
        query = _words_query([parameters.name(word) for word in look.words], where)
        # VERBATIM: or the words' stems are looked for as well, which `NOSTEM` fields do not have.
        order = ("VERBATIM", "WITHSCORES", "SCORER", "BM25STD")
    else:
        # Dialect 4 would sort in 0.2 ms what takes 70 here without windows, and misses rows.
        first = max(0, look.offset)
        query = where
        order = ("SORTBY", "timestamp", "DESC")
    command: list[Argument] = ["FT.SEARCH", index, query, *order, "LIMIT", str(first), str(look.count)]
    if reach == "primary":
        command += ("NOCONTENT",) if look.words and look.vector is None else ("NOCONTENT", "WITHSORTKEYS")
    else:
        given = (DISTANCE, *RECORD_FIELDS) if look.vector is not None else _read(look, layout)
        command += ("RETURN", str(len(given)), *given)
    command += ("TIMEOUT", str(TIMEOUT_MS), "DIALECT", "2", "PARAMS", str(len(parameters.words)), *parameters.words)
    if reach == "cluster" or (reach == "server" and not windows):
        return tuple(command)
    fields = _read(look, layout) if reach == "primary" else ()
    narrowing: list[Argument] = []
    if windows:
        place = len(command) - len(parameters.words) + 2 * parameters.words[::2].index(SINCE) + 1
        narrowing = [str(first + look.count), str(place + 1), *windows]
    return ("EVAL", _SEARCH.text, "0", str(len(fields)), *fields, str(len(windows)), *narrowing, *command)


def _words_query(words: Sequence[str], where: str) -> str:
    """Any of the words, which are parameters, and the conditions, whose weight in the score is nothing.

    Inside an intersection the module counts one word of an alternative and stops (measured on RediSearch 2.10.5): the memory
    with all of the words would come no higher than others. So the alternative only chooses, and each word counts once more
    as one that may be there. Where nearly all memories meet the conditions, an intersection for each word is quicker."""
    terms = [f"@content|words:({word})" for word in words]
    conditions = f"({where})=>{{$weight: 0}}"
    if len(terms) > 1 and where.startswith("@"):
        return f"({'|'.join(terms)})=>{{$weight: 0}} {conditions} {' '.join(f'~({term})' for term in terms)}"
    return "|".join(f"({term} {conditions})" for term in terms)


def _read(look: Look, layout: Layout) -> tuple[str, ...]:
    """Fields of a hash that the candidates of a look are made of."""
    return RECORD_FIELDS if look.beside is None else (*RECORD_FIELDS, layout.field)


def _windows(look: Look) -> list[str]:
    """Beginnings of the windows in which the newest are looked for, the last of which leaves nothing out."""
    until_ms = look.filters.until_ms
    latest = look.at_ms if until_ms is None else min(look.at_ms, until_ms - 1)
    since_ms = -_GREATEST if look.filters.since_ms is None else look.filters.since_ms
    return [_whole(latest - span) for span in _WINDOWS_MS if latest - span > since_ms] + [_whole(since_ms)]


def _conditions(filters: Filters, at_ms: int, parameters: _Parameters, windowed: bool) -> str | None:
    """What must hold, as a query; None when that is impossible. `windowed`: the time is from a parameter on."""
    found: list[str] = []
    for name, values in filters.tags():
        if not values:
            return None
        found.append(_any_of(name, [encode_tag(value) for value in values], parameters))
    for facets in filters.facets():
        if not facets:
            return None
        found.append(_any_of(FACETS, facets, parameters))
    if filters.least_importance is not None or filters.most_importance is not None:
        least = "-inf" if filters.least_importance is None else repr(float(filters.least_importance))
        most = "+inf" if filters.most_importance is None else repr(float(filters.most_importance))
        found.append(f"@importance_score:[{parameters.name(least)} {parameters.name(most)}]")
    if filters.expires_before_ms is not None:
        found.append(f"@orka_expire_time:[(0 {parameters.name(_whole(filters.expires_before_ms - 1))}]")
    if windowed or filters.since_ms is not None or filters.until_ms is not None:
        first = "-inf" if filters.since_ms is None else _whole(filters.since_ms)
        last = "+inf" if filters.until_ms is None else _whole(filters.until_ms - 1)
        parameters.words += (SINCE, first)
        found.append(f"@timestamp:[${SINCE} {parameters.name(last)}]")
    found.append(f"-@orka_expire_time:[(0 {parameters.name(_whole(at_ms))}]")
    return " ".join(found)


def _any_of(field: str, tags: Sequence[str], parameters: _Parameters) -> str:
    return f"@{field}:{{{'|'.join(parameters.name(tag) for tag in tags)}}}"


def _whole(value: int) -> str:
    return str(min(max(int(value), -_GREATEST), _GREATEST))


def read_reply(reply: Sequence[Any], look: Look, layout: Layout, reach: Reach = "server") -> list[Candidate]:
    """Candidates of a reply to `plan_look`'s command, in its order. Every row is held against the filters again: a hash
    may have been replaced between the index and the reading of it."""
    apart = reach == "primary"
    names = [name.encode() for name in _read(look, layout)]
    found: list[Candidate] = []
    packed: list[bytes] = []
    scored = look.vector is None and bool(look.words)
    size = 3 if scored or apart else 2
    for i in range(1, len(reply), size):
        values = cast("Sequence[bytes | None] | None", reply[i + size - 1])
        if not values:
            continue  # it expired or was deleted while the search was under way
        if apart:
            fields = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        else:
            fields = fields_of(cast("Sequence[bytes]", values))
        record = decode_record(cast("bytes", reply[i]).decode("utf-8", "replace"), fields)
        if record is None or not look.filters.match(record, look.at_ms):
            continue
        similarity = relevance = None
        if look.vector is not None:
            distance = cast("bytes", reply[i + 1])[1:] if apart else fields[DISTANCE.encode()]  # a sort key: #0.25
            similarity = min(1.0, max(-1.0, 1.0 - float(distance)))
        elif scored:
            relevance = float(cast("bytes", reply[i + 1]))
        packed.append(fields.get(names[-1], b""))
        found.append(Candidate(record=record, similarity=similarity, relevance=relevance))
    return found if look.beside is None else _compared(found, layout.cosines(packed, look.beside))


def _compared(found: Sequence[Candidate], cosines: Sequence[float | None]) -> list[Candidate]:
    return [
        msgspec.structs.replace(candidate, similarity=cosine) for candidate, cosine in zip(found, cosines, strict=True)
    ]


def merge_candidates(parts: Sequence[Sequence[Candidate]], look: Look) -> list[Candidate]:
    """The best of several indexes' answers to one look. (BM25 weighs words by how rare they are in each index alone:
    memories are spread evenly by hash slot, so the weights are nearly the same.)"""
    if len(parts) == 1:
        return list(parts[0])
    every = [candidate for part in parts for candidate in part]
    if look.vector is not None:
        every.sort(key=lambda one: -(one.similarity or 0.0))
    elif look.words:
        every.sort(key=lambda one: -(one.relevance or 0.0))
    else:
        every.sort(key=lambda one: -one.record.timestamp_ms)
        return every[look.offset : look.offset + look.count]
    return every[: look.count]
