"""Dead letters: tasks that took their worker down too often. Each partition has a stream of them.

The ids of two partitions may be the same, so people are given `<partition>-<id in the stream>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orka.errors import LetterNotFound, RetryRefused
from orka.journal.registry import Registry
from orka.redis.keys import dead_key, tag_of
from orka.redis.recovery_scripts import retry_run
from orka.types import Path, RunId

_ID = re.compile(r"(\d+)-(\d+-\d+)")
_STREAM = re.compile(r"^\{.*?\}:tasks:(.*):(\d+)$")
_MOST = 10_000
"""Of a partition, the newest ones: as many as its stream keeps."""
_WHY_NOT = {
    "completed": "it completed: its join has taken the failure in, and there is nothing left to do",
    "running": "it is under way: it has taken the failure in, and goes on without that branch",
    "queued": "it waits on a queue already",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One task that was given up."""

    id: str
    run: RunId
    path: Path
    """Of the branch; empty: the submitted run itself."""
    queue: str
    level: int
    reason: str
    deaths: int
    died_ms: int
    """When it was given up."""
    task: str
    """JSON: see `orka.dispatch.task`."""


class DeadLetters:
    """Reads and changes the dead letters of one Redis. Cheap."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def list(self, run: RunId | None = None) -> list[Letter]:
        """The latest first; of one run, or of all."""
        tags = self._registry.tags if run is None else (self._registry.keys(run).tag,)
        keys = [dead_key(tag) for tag in tags]
        replies = await self._registry.ask([(key, ("XREVRANGE", key, "+", "-", "COUNT", _MOST)) for key in keys])
        letters = [
            _letter(tag, entry_id, fields)
            for tag, reply in zip(tags, replies, strict=True)
            for entry_id, fields in reply
        ]
        wanted = [letter for letter in letters if run is None or letter.run == run]
        return sorted(wanted, key=lambda letter: letter.died_ms, reverse=True)

    async def find(self, letter_id: str) -> Letter:
        """`LetterNotFound` when there is none of this id."""
        tag, entry_id = _place(letter_id)
        key = dead_key(tag)
        found = await self._registry.one(key, ("XRANGE", key, entry_id, entry_id))
        if not found:
            raise _not_found(letter_id)
        return _letter(tag, *found[0])

    async def drop(self, letter_id: str) -> None:
        """Deletes it; its run stays as it is. `LetterNotFound`."""
        tag, entry_id = _place(letter_id)
        if not await self._registry.one(dead_key(tag), ("XDEL", dead_key(tag), entry_id)):
            raise _not_found(letter_id)

    async def retry(self, letter: Letter, stream: str, task: bytes) -> None:
        """Puts `task`, which resumes the letter's run, on `stream`, and deletes the letter. `RetryRefused` when the run
        does not wait for that."""
        keys = self._registry.keys(letter.run)
        _, entry_id = _place(letter.id)
        reply = await self._registry.one(
            keys.run, retry_run(keys, stream, run_id=letter.run, task=task, letter=entry_id)
        )
        match reply[0]:
            case b"ok":
                return
            case b"gone":
                raise _not_found(letter.id)
            case b"refused":
                why = _WHY_NOT[reply[1].decode()]
            case _:
                why = "it is gone"
        raise RetryRefused(f"run {letter.run} is not tried again: {why}; `orka dead drop {letter.id}` drops its letter")


def _place(letter_id: str) -> tuple[str, str]:
    """Tag and stream id."""
    parts = _ID.fullmatch(letter_id)
    if parts is None:
        raise _not_found(letter_id)
    return tag_of(int(parts[1])), parts[2]


def _not_found(letter_id: str) -> LetterNotFound:
    return LetterNotFound(f"there is no dead letter {letter_id!r}; `orka dead list` shows those that are kept")


def _letter(tag: str, entry_id: bytes, fields: Sequence[bytes]) -> Letter:
    named = {fields[i]: fields[i + 1].decode() for i in range(0, len(fields), 2)}
    queue, level = queue_of(named[b"stream"])
    number = tag.removeprefix("{orka:").removesuffix("}")
    return Letter(
        id=f"{number}-{entry_id.decode()}",
        run=RunId(named[b"run"]),
        path=Path(named[b"path"]),
        queue=queue,
        level=level,
        reason=named[b"reason"],
        deaths=int(named[b"deaths"]),
        died_ms=int(entry_id.split(b"-")[0]),
        task=named.get(b"task", ""),
    )


def queue_of(stream: str) -> tuple[str, int]:
    """Queue and level of a task stream, from its name."""
    parts = _STREAM.match(stream)
    return (parts[1], int(parts[2])) if parts is not None else (stream, 0)
