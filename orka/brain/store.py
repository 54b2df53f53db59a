"""`BrainStore`: skills and episodes in Redis. One round trip for each look and for each change.

What is decided about them is decided elsewhere; here is what is read at most, and what may be sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

import anyio.to_thread
import msgspec
from redis.exceptions import ResponseError

from orka.brain.episode import Episode
from orka.brain.names import label
from orka.brain.reading import Facts
from orka.brain.skill import Skill
from orka.errors import RecordRefused, StoreError
from orka.redis import keys
from orka.redis.brain_scripts import look, put_episode, put_skill, set_vector, sweep
from orka.redis.faults import passes, reply_text
from orka.redis.lua import Command
from orka.redis.patience import patiently
from orka.redis.pipeline import Pipe, is_moving

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_SKILLS: Final = 10_000
"""Kept; beyond them those go that would have been forgotten first."""
MOST_EPISODES: Final = 20_000
MOST_OF_DOMAIN: Final = 200
"""Episodes of one domain."""
CANDIDATES: Final = 512
"""Skills or episodes that one question looks at."""
LEARNING: Final = 256
"""Skills that one new skill is compared with: half of them of its domain."""
_FIELDS: Final = ("json", "version", "model", "vector")
_READ: Final = 200
"""Keys of one round trip."""

T = TypeVar("T", Skill, Episode)
_json = msgspec.json.Encoder()
_skills = msgspec.json.Decoder(Skill)
_episodes = msgspec.json.Decoder(Episode)


class Found(NamedTuple):
    """A skill that was read."""

    skill: Skill
    version: int
    """0: it is not there."""


class Row(NamedTuple):
    """What is known of the vector of something that was read."""

    model: str
    vector: bytes


class Put(NamedTuple):
    """What became of a change."""

    status: str
    """`ok`; `changed`: another one came before; `done`: this visit has made it before."""
    skill: str = ""
    """Id of what it was made to, when done before."""
    now: Found | None = None
    """What is there, when changed; None: nothing."""


class BrainStore:
    """On a pipe of the caller's."""

    def __init__(self, pipe: Pipe, *, visit_ms: int) -> None:
        """`visit_ms`: for how long a change is known to have been made."""
        self._pipe = pipe
        self._visit_ms = visit_ms

    async def skills(
        self,
        *,
        domain: str = "",
        tags: Sequence[str] = (),
        types: Sequence[str] = (),
        only_domain: str = "",
        only_type: str = "",
        most: int = CANDIDATES,
        vectors: bool = True,
    ) -> tuple[list[Found], list[Row]]:
        """Skills that may fit, those that live longest first: of `domain`, then those with one of the `tags`, then any.
        `types`, `only_type` and `only_domain` exclude all others."""
        sources: list[tuple[str, int]] = []
        if domain and not only_domain:
            sources.append((keys.skills_key("domain", label(domain)), most // 2))
        if not only_domain:
            sources += [(keys.skills_key("tag", label(tag)), max(1, most // 8)) for tag in tags[:8]]
        sources.append((keys.skills_key("domain", label(only_domain)) if only_domain else keys.skills_key(), most))
        wanted = [only_type] if only_type else list(dict.fromkeys(types))
        groups = [[keys.skills_key("type", label(one)) for one in wanted]] if wanted else []
        fields = _FIELDS if vectors else _FIELDS[:2]
        command = look(keys.SKILL_PREFIX, sources, groups, most=most, live=True, fields=fields)
        return await self._rows(command, _skills, Found)

    async def skill(self, identity: str) -> Found | None:
        """By its id."""
        key = keys.skill_key(identity)
        [[raw, version]] = await self._ask([(key, ("HMGET", key, "json", "version"))])
        found = None if raw is None else _read_one(_skills, raw)
        return None if found is None else Found(found, int(version))

    async def named(self, name: str) -> list[Found]:
        """Skills of a name, those that live longest first."""
        source = (keys.skills_key("name", label(name)), CANDIDATES)
        command = look(keys.SKILL_PREFIX, [source], [], most=CANDIDATES, live=True, fields=_FIELDS[:2])
        found, _ = await self._rows(command, _skills, Found)
        return [one for one in found if one.skill.name.lower() == name.lower()]

    async def put_skill(self, skill: Skill, version: int, *, visit: str, model: str = "", vector: bytes = b"") -> Put:
        """The version after `version`. `visit` names the change: made once, however often it is sent."""
        key, marker = keys.skill_key(skill.id), keys.brain_visit_key(_digest(visit))
        command = put_skill(
            key,
            marker,
            _indexes(skill),
            skill=skill.id,
            version=version,
            json=_json.encode(skill),
            model=model,
            vector=vector,
            expires_ms=skill.expires_ms,
            most=MOST_SKILLS,
            visit_ms=self._visit_ms,
        )
        [[status, *rest]] = await self._ask([(key, command)])
        match status:
            case b"ok":
                return Put("ok")
            case b"done":
                return Put("done", skill=rest[0].decode())
            case _:
                now = _read_one(_skills, rest[1]) if rest[1] else None
                return Put("changed", now=None if now is None else Found(now, int(rest[0])))

    async def visited(self, visit: str) -> str:
        """Id of the skill that this visit has changed, empty when it has not."""
        key = keys.brain_visit_key(_digest(visit))
        [reply] = await self._ask([(key, ("GET", key))])
        return "" if reply is None else reply.decode()

    async def put_episode(self, episode: Episode, *, model: str, vector: bytes) -> None:
        """In place of one of the same id."""
        key, domain = keys.episode_key(episode.id), label(episode.task_domain)
        command = put_episode(
            key,
            [*keys.episodes_keys(), *keys.episodes_keys(domain)],
            episode=episode.id,
            json=_json.encode(episode),
            model=model,
            vector=vector,
            at_ms=episode.at_ms,
            success=episode.success,
            most=MOST_EPISODES,
            most_of_domain=MOST_OF_DOMAIN,
        )
        await self._ask([(key, command)])

    async def episodes(
        self, *, domain: str = "", only_domain: str = "", failures: bool = True
    ) -> tuple[list[Episode], list[Row]]:
        """Episodes that may matter, the newest first: of `domain`, then any. `only_domain` excludes all others."""
        kinds = 2 if failures else 1
        near = [(key, MOST_OF_DOMAIN) for key in keys.episodes_keys(label(only_domain or domain))[:kinds]]
        rest = [(key, CANDIDATES // 4) for key in keys.episodes_keys()[:kinds]]
        sources = near if only_domain else ([*near, *rest] if domain else rest)
        command = look(keys.EPISODE_PREFIX, sources, [], most=CANDIDATES, live=False, fields=_FIELDS)
        return await self._rows(command, _episodes, lambda episode, _: episode)

    async def set_vectors(self, prefix: str, vectors: Sequence[tuple[str, bytes]], model: str) -> None:
        """(id, vector) pairs of skills or episodes: of what is still there."""
        await self._ask([(prefix + one, set_vector(prefix + one, model, vector)) for one, vector in vectors])

    async def sweep(self) -> tuple[int, int]:
        """Takes expired skills out of the index; gives how many it had, and how many were taken out."""
        key = keys.skills_key()
        [[checked, deleted]] = await self._ask([(key, sweep(key))])
        return int(checked), int(deleted)

    async def counts(self) -> tuple[int, int, int]:
        """Skills (expired ones, too, until swept), episodes that succeeded, that failed."""
        found = (keys.skills_key(), *keys.episodes_keys())
        skills, succeeded, failed = await self._ask([(key, ("ZCARD", key)) for key in found])
        return int(skills), int(succeeded), int(failed)

    async def adopted(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Skills and episodes of OrKa 0.9: how many are there, and how many there were when they were taken over."""
        old = (keys.old_skill_key(), keys.old_episode_key())
        mine = keys.brain_adopted_key()
        *there, taken = await self._ask(
            [*((key, ("HLEN", key)) for key in old), (mine, ("HMGET", mine, "skills", "episodes"))]
        )
        return (int(there[0]), int(there[1])), (int(taken[0] or 0), int(taken[1] or 0))

    async def set_adopted(self, skills: int, episodes: int) -> None:
        key = keys.brain_adopted_key()
        await self._ask([(key, ("HSET", key, "skills", skills, "episodes", episodes))])

    async def old(self, index: str, key_of: Callable[[str], str], most: int) -> list[Facts]:
        """JSON objects that the fields of a hash of OrKa 0.9 name, at most `most`."""
        [raw] = await self._ask([(index, ("HKEYS", index))])
        names = [key_of(name.decode("utf-8", "replace")) for name in raw[-most:]]
        found: list[Facts] = []
        for start in range(0, len(names), _READ):
            part = names[start : start + _READ]
            replies = await self._ask([(key, ("GET", key)) for key in part])
            found += [facts for reply in replies if reply is not None and (facts := _facts(reply))]
        return found

    async def _rows(
        self, command: Command, decoder: msgspec.json.Decoder[T], make: Callable[[T, int], Any]
    ) -> tuple[list[Any], list[Row]]:
        [rows] = await self._ask([(keys.BRAIN, command)])
        return await anyio.to_thread.run_sync(partial(_decoded, rows, decoder, make))

    async def _ask(self, commands: Sequence[tuple[str, Command]]) -> list[Any]:
        """Replies. All of them may be sent again: versions and visits make that harmless. `StoreError`."""

        async def once() -> list[Any]:
            return _checked(await self._pipe.roundtrip(commands))

        return await patiently(once, "brain.unreachable")


def pack(vector: NDArray[np.float32]) -> bytes:
    """Shape (dimension,), as half-precision numbers: scores do not need more."""
    import numpy as np

    return vector.astype(np.float16).tobytes()


def unpack(row: Row, model: str, dimension: int) -> NDArray[np.float32] | None:
    """None when it is of another model, or missing."""
    import numpy as np

    if row.model != model or len(row.vector) != 2 * dimension:
        return None
    return np.frombuffer(row.vector, dtype=np.float16).astype(np.float32)


def _checked(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, ResponseError):
            if passes(reply) or is_moving(reply):
                raise StoreError(f"Redis refuses commands for now: {reply_text(reply)}")
            raise RecordRefused(f"Redis refuses what was learned: {reply_text(reply)}")
    return replies


def _decoded(
    rows: Sequence[Sequence[Any]], decoder: msgspec.json.Decoder[T], make: Callable[[T, int], Any]
) -> tuple[list[Any], list[Row]]:
    found: list[Any] = []
    vectors: list[Row] = []
    for raw, version, *rest in rows:
        if (one := _read_one(decoder, raw)) is not None:
            found.append(make(one, int(version or 0)))
            model, vector = rest or (b"", b"")
            vectors.append(Row((model or b"").decode("utf-8", "replace"), vector or b""))
    return found, vectors


def _read_one(decoder: msgspec.json.Decoder[T], raw: bytes) -> T | None:
    """None for what this version cannot read: it counts as not there."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _facts(raw: bytes) -> Facts:
    """Empty for what is no JSON object."""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return cast("Facts", value) if isinstance(value, dict) else {}


def _indexes(skill: Skill) -> list[str]:
    domains = skill.domain_keywords[:8] or (skill.domain,)
    found = [keys.skills_key(), keys.skills_key("type", label(skill.skill_type))]
    found.append(keys.skills_key("name", label(skill.name)))
    found += [keys.skills_key("domain", label(domain)) for domain in domains]
    found += [keys.skills_key("tag", label(tag)) for tag in skill.tags]
    return list(dict.fromkeys(found))


def _digest(visit: str) -> str:
    return blake2b(visit.encode("utf-8", "replace"), digest_size=16).hexdigest()
