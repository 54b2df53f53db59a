"""What travels: a branch as a task, what its branches see, and the entries that answer it. JSON, versioned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from orka.errors import TaskUndecodable
from orka.journal.entries import Value
from orka.redis.scripts import Entry
from orka.results import Usage
from orka.types import Digest, Json, NodeId, Path, RunId

VERSION: Final = 1
"""Of the form of tasks and of what branches see. A worker hands back what is newer than itself."""
INLINE: Final = 1024
"""Bytes up to which what a fork's branches see travels in each task; above, it is stored once beside the run."""
REPLY: Final = 16 * 1024
"""Bytes of entries up to which an answer carries them; above, whoever waits reads them in the journal."""


NOTHING: Final = msgspec.Raw(b"")


class LoopSeen(msgspec.Struct, frozen=True, omit_defaults=True):
    """What templates inside a loop see of it."""

    number: int
    threshold: float
    past: list[Any] = []
    metadata: dict[str, Any] = {}
    scoring: str = ""


class Seen(msgspec.Struct, frozen=True, omit_defaults=True):
    """What every branch of one fork sees, whatever its parent does meanwhile. (`Any` is JSON: the recursive alias is not
    one that msgspec decodes.)"""

    input: Value
    outputs: dict[str, Any] = {}
    """Earlier outputs by node id."""
    variables: dict[str, Any] = {}
    loop: LoopSeen | None = None
    before: int = 0
    """Results around the branch when it began: its steps are counted from there."""
    inner: bool = False
    group: str = ""
    consumes: bool = False
    """Failures are taken in by the frame's owner at once."""
    session: str = ""
    """Of the run, if it was given one."""


class BranchTask(msgspec.Struct, frozen=True, omit_defaults=True):
    """One branch of a fork or one item of a map; with an empty path, a submitted run."""

    run: RunId
    path: Path
    digest: Digest
    """Of the graph, which the worker finds beside the run."""
    sequence: tuple[NodeId, ...] = ()
    visit: int = 0
    """Not a branch, but one visit of the one node in `sequence`, whose path `path` is: the how-manieth in its frame."""
    fork: str = ""
    """Path of its fork, and a digest of what its branches see: the name of that."""
    parent: Path = Path("")
    """Path of the task that waits for it; empty: the run's owner."""
    level: int = 0
    everything: bool = True
    """Forks inside send their branches away, too."""
    seen: msgspec.Raw = NOTHING
    """`Seen`; empty: it is stored beside the run."""
    item: msgspec.Raw = NOTHING
    """Of a map."""
    name: str = ""
    """Of a map: the variable that holds the item."""
    index: int = 0
    steps: int = 0
    """Steps that count against the same limit as its own; 0 for an item of a map, which has a limit for itself."""
    deadline_ms: int = 0
    """Of the run, absolute; 0: none."""
    needs: tuple[str, ...] = ()
    """Agent types that the branch may call, `function:<module>` for each function among them."""
    retried: tuple[Path, ...] = ()
    """Visits below the branch whose failure an earlier generation of the run has journaled: they are tried again."""
    queue: str = ""
    """Where it was sent; what it sends itself goes there, too."""
    most: int = 0
    """Tasks of that queue under way at once in the whole fleet, as its graph says; 0: any number."""
    tokens: bool = False
    """Somebody watches: its agents emit."""
    began_ms: int = 0
    """Of a run with a budget: when its seconds began to count."""
    spent: Usage | None = None
    """Of a run with a budget: what was used up elsewhere, as far as the sender knew."""
    version: int = VERSION


_encoder = msgspec.json.Encoder()
_tasks = msgspec.json.Decoder(BranchTask)
_seen = msgspec.json.Decoder(Seen)
_replies = msgspec.json.Decoder(list[tuple[str, str, msgspec.Raw]])


class _Version(msgspec.Struct):
    version: int = VERSION


def encode_task(task: BranchTask) -> bytes:
    return _encoder.encode(task)


def decode_task(data: bytes) -> BranchTask:
    """`TaskUndecodable` for a newer form, or for what is no task."""
    try:
        version = msgspec.json.decode(data, type=_Version).version
        if version > VERSION:
            raise TaskUndecodable(
                f"a task of version {version}, and this worker reads versions up to {VERSION}: use a newer one"
            )
        return _tasks.decode(data)
    except msgspec.MsgspecError as exc:
        raise TaskUndecodable(f"a task cannot be read: {exc}") from exc


def encode_seen(seen: Seen) -> bytes:
    return _encoder.encode(seen)


def decode_seen(data: bytes | msgspec.Raw) -> Seen:
    """`TaskUndecodable` for what is none."""
    try:
        return _seen.decode(data)
    except msgspec.MsgspecError as exc:
        raise TaskUndecodable(f"what a branch sees cannot be read: {exc}") from exc


def encode_item(item: Json) -> msgspec.Raw:
    return msgspec.Raw(_encoder.encode(item))


def encode_reply(entries: Sequence[Entry]) -> bytes:
    """The entries of a branch for whoever waits for it; empty when they are too many to be sent twice."""
    size = 0
    for entry in entries:
        size += len(entry.data) + len(entry.path)
        if size > REPLY:
            return b""
    return _encoder.encode([(entry.kind, entry.path, msgspec.Raw(entry.data)) for entry in entries])


def decode_reply(data: bytes) -> Iterable[tuple[str, str, msgspec.Raw]]:
    """(kind, path, data) of every entry."""
    return _replies.decode(data)
