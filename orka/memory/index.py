"""The index of the search module: its definition, where it lives, and that it is there and as it should be.

On a single server, or a cluster whose search module spans it, there is one index under the layout's name, and the documented
name is its alias. On a plain cluster every primary indexes its own hashes: each has an index, named by a hash tag of one
of its slots, because commands go where the index's name hashes to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, cast

import anyio
from redis.crc import key_slot
from redis.exceptions import ResponseError

from orka.errors import BackendMissing, IndexMismatch, StoreError
from orka.logs import get_logger
from orka.memory.index_lock import IndexLock
from orka.memory.layout import INDEX, Layout
from orka.memory.plan import Reach
from orka.memory.record import FACETS, PREFIX, SEPARATOR, TAGS
from orka.memory.store import OnProgress
from orka.redis.client import NodeRouter
from orka.redis.lua import Argument, Command
from orka.redis.pipeline import Pipe

_INDEXING_POLL: Final = 0.1
"""Seconds. The module tells nobody when it is done."""
_NEVER: Final = "orka_probe_of_nothing:"
_log = get_logger()


@dataclass(frozen=True, slots=True)
class Place:
    """One index of a layout."""

    tag: str
    """Hashes to a slot of the primary that holds the index: what commands about it are sent by."""
    index: str
    reach: Reach = "server"


def definition(layout: Layout, *, apart: bool = False) -> Command:
    """What follows FT.CREATE and a name (https://redis.io/docs/latest/commands/ft.create/)."""
    words: list[Argument] = ["ON", "HASH", "PREFIX", "1", PREFIX, "STOPWORDS", "0", "SCHEMA"]
    words += ("content", "TEXT", "NOSTEM", "words", "TEXT", "NOSTEM")
    for name in (*TAGS, FACETS):
        words += (name, "TAG", "SEPARATOR", SEPARATOR, "CASESENSITIVE")
    for name in ("timestamp", "importance_score", "orka_expire_time"):
        words += (name, "NUMERIC", "SORTABLE") if apart and name == "timestamp" else (name, "NUMERIC")
    shape = ("TYPE", layout.precision, "DIM", str(layout.dimension), "DISTANCE_METRIC", "COSINE")
    graph = ("M", str(layout.m), "EF_CONSTRUCTION", str(layout.ef_construction))
    return (*words, layout.field, "VECTOR", "HNSW", str(len(shape) + len(graph)), *shape, *graph)


def differences(info: Mapping[str, Any], layout: Layout, *, apart: bool = False) -> list[str]:
    """What an index that is there has otherwise than `definition`, in words."""
    found: list[str] = []
    prefixes = _words(_pairs(info.get("index_definition", ())).get("prefixes", ()))
    if prefixes != [PREFIX]:
        found.append(f"prefixes {prefixes} there, {[PREFIX]} wanted")
    there = {name: words for words in map(_words, info.get("attributes", ())) if (name := _after(words, "identifier"))}
    for name, wanted in _schema(layout, apart).items():
        if name not in there:
            found.append(f"{name} is not indexed there")
            continue
        for option, value in wanted:
            known = _after(there[name], option) if value else option if option in there[name] else ""
            if known.upper() != (value or option).upper():
                found.append(f"{name}: {option} {known or 'missing'} there{f', {value} wanted' if value else ''}")
    return found


def _schema(layout: Layout, apart: bool) -> dict[str, list[tuple[str, str]]]:
    """For each field the options that FT.INFO must show, with their values; flags have none."""
    schema = {name: [("type", "TEXT"), ("NOSTEM", "")] for name in ("content", "words")}
    tag = [("type", "TAG"), ("SEPARATOR", SEPARATOR), ("CASESENSITIVE", "")]
    schema |= dict.fromkeys((*TAGS, FACETS), tag)
    schema |= {name: [("type", "NUMERIC")] for name in ("timestamp", "importance_score", "orka_expire_time")}
    if apart:  # searches there read the order from the index: it does not find the hashes
        schema["timestamp"].append(("SORTABLE", ""))
    schema[layout.field] = [
        *(("type", "VECTOR"), ("algorithm", "HNSW"), ("data_type", layout.precision), ("dim", str(layout.dimension))),
        *(("distance_metric", "COSINE"), ("M", str(layout.m)), ("ef_construction", str(layout.ef_construction))),
    ]
    return schema


def place_tags(node_of: Callable[[int], str], nodes: Sequence[str]) -> dict[str, str]:
    """For each primary a tag that hashes to it: the documented name itself for one of them."""
    tags: dict[str, str] = {}
    for number in count():
        tag = INDEX if number == 0 else f"{INDEX}.{number}"
        tags.setdefault(node_of(key_slot(tag.encode())), tag)
        if len(tags) >= len(nodes):
            return tags
    raise AssertionError("unreachable")


class Indexes:
    """Of one Redis, on a pipe of the caller's."""

    def __init__(self, pipe: Pipe, router: NodeRouter, where: str) -> None:
        self._pipe = pipe
        self._router = router
        self._where = where
        self._spans: bool | None = None
        self.documents = 0
        """Memories in the indexes that were waited for, then."""

    async def places(self, layout: Layout) -> list[Place]:
        """Where the layout's indexes are, or are to be."""
        await self._router.refresh()
        nodes = self._router.nodes
        if not self._router.cluster:
            return [Place(INDEX, layout.index)]
        # On a cluster the tag keeps name and alias in one slot, which is asked of commands that name both.
        if await self._spanning():
            return [Place(INDEX, _tagged(layout, INDEX), "cluster")]
        tags = list(place_tags(self._router.node_of, nodes).values())
        listed = await self._pipe.roundtrip([(tag, ("FT._LIST",)) for tag in tags])
        found: list[Place] = []
        for tag, reply in zip(tags, listed, strict=True):
            node = self._router.node_of(key_slot(tag.encode()))
            known = [Place(tag, _tagged(layout, tag), reach="primary")]
            # An index under another tag of this primary: slots have moved since it was made.
            for name in map(_text, cast("Sequence[Any]", self._checked(reply))):
                match = re.fullmatch(rf"\{{(.+)\}}:{layout.version}", name)
                if match and self._router.node_of(key_slot(match[1].encode())) == node:
                    known.append(Place(match[1], name, reach="primary"))
            names = {_text(name) for name in cast("Sequence[Any]", reply)}
            found.append(next((place for place in known if place.index in names), known[0]))
        return found

    async def _spanning(self) -> bool:
        """Whether the search module of this cluster makes an index on all primaries at once: tried out, with an index of
        nothing that goes by itself."""
        if self._spans is None:
            one, *others = place_tags(self._router.node_of, self._router.nodes).values()
            if not others:
                return False  # a cluster of one, for now
            other = others[0]
            name = f"{{{one}}}:probe:{os.urandom(8).hex()}"
            made = ("FT.CREATE", name, "TEMPORARY", "60", "PREFIX", "1", _NEVER, "SCHEMA", "x", "TAG")
            self._checked((await self._pipe.roundtrip([(one, made)]))[0])
            [listed] = await self._pipe.roundtrip([(other, ("FT._LIST",))])
            await self._pipe.roundtrip([(one, ("FT.DROPINDEX", name))])
            self._spans = name in {_text(other) for other in cast("Sequence[Any]", self._checked(listed))}
        return self._spans

    async def ensure(self, layout: Layout, lock: IndexLock, on_progress: OnProgress | None = None) -> list[Place]:
        """Makes what is missing, for any number of processes at once, and waits until the hashes that were there before
        are indexed. Raises `IndexMismatch` for an index that is otherwise than the layout says."""
        places = await self.places(layout)
        made = False
        if not await self._ready(places, layout):
            async with lock.held():
                made = await self.create(places, layout)
                await self.point(places, layout)
        await self.wait(places, on_progress)
        if made and self.documents:  # of another backend or version, or restored without its index
            _log.warning("memory.indexed", index=layout.index, memories=self.documents)
        return places

    async def _ready(self, places: Sequence[Place], layout: Layout) -> bool:
        infos = await self._infos([*places, Place(INDEX, INDEX)])
        for place, info in zip(places, infos[:-1], strict=True):
            if info is not None and (found := differences(info, layout, apart=place.reach == "primary")):
                raise IndexMismatch(
                    f"the index {place.index!r} in Redis at {self._where} is otherwise than its layout says "
                    f"({'; '.join(found)}): remove it with `FT.DROPINDEX {place.index}`, which keeps the memories, "
                    "and it is made anew"
                )
        named = None if infos[-1] is None else _name(infos[-1])
        aliased = all(named == place.index for place in places if place.tag == INDEX)
        return all(infos[:-1]) and aliased

    async def create(self, places: Sequence[Place], layout: Layout) -> bool:
        """Under the lock; whether any was made. Harmless for those that are there."""
        commands = [
            (one.tag, ("FT.CREATE", one.index, *definition(layout, apart=one.reach == "primary"))) for one in places
        ]
        replies = await self._pipe.roundtrip(commands)
        for reply in replies:
            if isinstance(reply, ResponseError) and "already exists" not in str(reply):
                if "FT.CREATE" in str(reply) or "argument" in str(reply).lower():
                    raise BackendMissing(
                        f"the search module of Redis at {self._where} is too old for memories ({reply}): RediSearch 2.10 "
                        "or newer is needed (Redis 8, Redis Stack 7.4, or unset REDIS_URL for the private server)"
                    )
                self._checked(reply)
        await self._ready(places, layout)
        return not all(isinstance(reply, ResponseError) for reply in replies)

    async def point(self, places: Sequence[Place], layout: Layout) -> None:
        """Under the lock: the documented name is an alias of the layout's index (of the one beside it, on a plain cluster).
        An index of OrKa 0.9 that bears the name itself is removed: an alias beside it would be ignored. Its hashes stay."""
        [info] = await self._infos([Place(INDEX, INDEX)])
        if info is not None and _name(info) == INDEX:
            prefixes = _words(_pairs(info.get("index_definition", ())).get("prefixes", ()))
            if prefixes not in ([PREFIX], [PREFIX.rstrip(":")]):
                raise IndexMismatch(
                    f"Redis at {self._where} has an index named {INDEX!r} over {prefixes}, which is not of memories: "
                    "memories need this name; use another Redis, or drop it with "
                    f"`FT.DROPINDEX {INDEX}`, which keeps the hashes"
                )
            [reply] = await self._pipe.roundtrip([(INDEX, ("FT.DROPINDEX", INDEX))])
            self._checked(reply)
            _log.warning("memory.old_index.replaced", index=INDEX, memories=int(_text(info.get("num_docs", 0))))
        for place in places:
            if place.tag == INDEX:
                [reply] = await self._pipe.roundtrip([(INDEX, ("FT.ALIASUPDATE", INDEX, place.index))])
                self._checked(reply)

    async def wait(self, places: Sequence[Place], on_progress: OnProgress | None) -> None:
        """Until nothing is left to index of what was there when the indexes were made."""
        while True:
            infos = [info for info in await self._infos(places) if info is not None]
            under_way = [info for info in infos if _text(info.get("indexing", 0)) not in {"0", ""}]
            if not under_way:
                self.documents = sum(int(_text(info.get("num_docs", 0))) for info in infos)
                return
            if on_progress is not None:
                shares = [(int(_text(info["num_docs"])), float(_text(info["percent_indexed"]))) for info in infos]
                done = sum(docs for docs, _ in shares)
                on_progress(done, max(done, round(sum(docs / max(share, 0.001) for docs, share in shares))))
            await anyio.sleep(_INDEXING_POLL)

    async def drop(self, places: Sequence[Place]) -> None:
        """The hashes stay. Harmless for those that are gone."""
        await self._pipe.roundtrip([(place.tag, ("FT.DROPINDEX", place.index)) for place in places])

    async def _infos(self, places: Sequence[Place]) -> list[dict[str, Any] | None]:
        replies = await self._pipe.roundtrip([(place.tag, ("FT.INFO", place.index)) for place in places])
        return [None if is_unknown(reply) else _pairs(self._checked(reply)) for reply in replies]

    def _checked(self, reply: Any) -> Any:
        if isinstance(reply, ResponseError):
            if "unknown command" in str(reply).lower():
                raise BackendMissing(
                    f"a node of Redis at {self._where} has no search module: load it on all of them, or use "
                    "ORKA_MEMORY_BACKEND=redis for memories without an index"
                )
            raise StoreError(f"the search module of Redis at {self._where} refuses the index of memories: {reply}")
        return reply


def is_unknown(reply: object) -> bool:
    """Whether an error reply says that there is no index of this name (RediSearch 2 and Redis 8 have words of their own), or
    that its slot is elsewhere now."""
    text = str(reply).lower() if isinstance(reply, ResponseError) else ""
    return (
        "no such index" in text or "unknown index name" in text or "index not found" in text or "non local key" in text
    )


def _tagged(layout: Layout, tag: str) -> str:
    return f"{{{tag}}}:{layout.version}"


def _name(info: Mapping[str, Any]) -> str:
    return _text(info.get("index_name", ""))


def _pairs(reply: Any) -> dict[str, Any]:
    values = cast("Sequence[Any]", reply)
    return {_text(values[i]): values[i + 1] for i in range(0, len(values) - 1, 2)}


def _words(reply: Any) -> list[str]:
    return [_text(word) for word in cast("Sequence[Any]", reply)]


def _after(words: Sequence[str], option: str) -> str:
    """The value of an option, whose name newer modules write in another case."""
    folded = [word.lower() for word in words]
    place = folded.index(option.lower()) if option.lower() in folded[:-1] else -1
    return words[place + 1] if place >= 0 else ""


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
