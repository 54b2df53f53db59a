"""What journal entries say: one frozen struct per kind, JSON on the wire, readable with XRANGE.

`RULES` is the version of the interpreter's rules. It rises when the paths or decisions that a graph leads to change.
A reader refuses entries of rules it does not know.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, NamedTuple, TypeAlias

import msgspec

from orka.errors import AgentError, JournalMismatch
from orka.redis.scripts import Entry
from orka.results import Failure, Usage
from orka.types import Json, Path, Status

RULES: Final = 1


class Kind:
    """The words in an entry's `kind` field."""

    RUN_STARTED: Final = "run.started"
    RUN_RESUMED: Final = "run.resumed"
    RUN_COMPLETED: Final = "run.completed"
    RUN_FAILED: Final = "run.failed"
    RUN_CANCELLED: Final = "run.cancelled"
    NODE_STARTED: Final = "node.started"
    NODE_RETRYING: Final = "node.retrying"
    NODE_FINISHED: Final = "node.finished"
    FORK_OPENED: Final = "fork.opened"
    MAP_OPENED: Final = "map.opened"
    PATH_OPENED: Final = "path.opened"
    ROUND_SCORED: Final = "round.scored"
    BRANCH_FINISHED: Final = "branch.finished"
    NODE_TOKEN: Final = "node.token"
    """Never in a journal: see `orka.journal.tokens`."""


ENDED: Final = frozenset({Kind.RUN_COMPLETED, Kind.RUN_FAILED, Kind.RUN_CANCELLED})
"""Kinds after which a run writes nothing more until it is resumed."""


class Value(msgspec.Struct, frozen=True, omit_defaults=True):
    """A JSON value, in the entry itself or, when it is large, in the run's values under a digest."""

    json: msgspec.Raw = msgspec.Raw(b"null")
    ref: str = ""


NO_VALUE = Value()


class RunStarted(msgspec.Struct, frozen=True, omit_defaults=True):
    graph: str
    digest: str
    input: Value
    at_ms: int
    version: str
    """Of Orka, for people."""
    rules: int = 1
    """`RULES` of the writer; absent: 1, whatever the reader's are."""
    session: str = ""
    """Given by the caller; empty: none was, and the run's id stands for it."""


class RunResumed(msgspec.Struct, frozen=True, omit_defaults=True):
    digest: str
    at_ms: int
    version: str
    holder: str
    rules: int = 1


class RunEnded(msgspec.Struct, frozen=True, omit_defaults=True):
    answers: tuple[str, ...] = ()
    """Paths of the visits whose responses are the run's answer; the answer itself is in their entries."""
    many: bool = False
    """The answer is the list of the responses (a map's), not the one response."""
    error: Failure | None = None
    path: str = ""
    """The visit whose failure ended the run."""
    warnings: tuple[str, ...] = ()
    """About the run as a whole."""


class NodeStarted(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attempt that touches the world is about to begin, or a loop that goes on from earlier runs."""

    id: str
    node: str
    """First 16 hex digits of the node's digest."""
    at_ms: int
    attempt: int = 1
    past: Value = NO_VALUE
    """Of a loop: the rounds of earlier runs, as it has read them."""


class NodeRetrying(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attempt failed and another one follows."""

    id: str
    node: str
    at_ms: int
    """The visit's time, not the attempt's."""
    attempt: int
    error: Failure
    delay_ms: int
    emitted: int = 0
    """As in `NodeFinished`."""


class Opened(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fork or a map opened its branches, or a path executor its path: an open entry, never an answer."""

    id: str
    node: str
    at_ms: int
    branches: int
    items: Value = NO_VALUE
    """Of a map: the list; of a path executor: the ids."""


class RoundScored(msgspec.Struct, frozen=True, omit_defaults=True):
    """The verdict of one round of a loop."""

    id: str
    node: str
    at_ms: int
    round: int
    score: float
    met: bool
    """The score reached the threshold."""
    timed_out: bool = False
    """The round ran out of time: nothing of it is used."""


WORKER_DIED: Final = "WorkerDied"
"""Kind of the error of a branch whose task was given up."""


class BranchFinished(msgspec.Struct, frozen=True, omit_defaults=True):
    """A branch that another process has executed is complete; its path is that of its frame."""

    worker: str
    """The process that executed it (for people)."""
    ms: float = 0
    """Duration of its last execution."""
    error: Failure | None = None
    """Why it stopped before its end, if it did."""
    fatal: bool = False
    """The error is the whole run's, not the branch's alone."""
    steps: int = 0
    """Steps that it took."""
    rules: int = 1


class NodeFinished(msgspec.Struct, frozen=True, omit_defaults=True):
    """A visit's commit."""

    id: str
    node: str
    at_ms: int
    """When the visit started: what `now()` gave to its templates."""
    ms: float
    """Duration."""
    status: Status = Status.SUCCESS
    output: Value = NO_VALUE
    """Of an agent. The output of a control node is computed again from its decision (`next`, `settled`, `child`)."""
    error: Failure | None = None
    attempts: int = 1
    usage: Usage | None = None
    next: tuple[str, ...] | None = None
    """Ids that a router or an agent chose to run next."""
    once: bool = False
    """Those of `next` that waited in the sequence are not visited there again."""
    fork: str = ""
    """Of a join, a map, a path, or a fork joined by the end of its frame: the path of what this commit closed."""
    settled: tuple[int, ...] | None = None
    """With `fork`: the branches that had ended when the join decided, in the order in which they ended; None: all."""
    late: tuple[int, ...] = ()
    """With `fork`: branches that ran out of time, whose visits are not used."""
    child: int | None = None
    """Of a failover: the child that gave the result; of one, or of a path, that ran out of time: what was under way then."""
    consumed: bool = False
    """A failure that the sequence goes on after: replay believes it."""
    warnings: tuple[str, ...] = ()
    emitted: int = 0
    """Characters that its last attempt emitted for those who watch: a reader of the feed knows when it has them all."""
    rules: int = 1


Body: TypeAlias = (
    RunStarted
    | RunResumed
    | RunEnded
    | NodeStarted
    | NodeRetrying
    | Opened
    | RoundScored
    | BranchFinished
    | NodeFinished
)


class Row(NamedTuple):
    """One entry, decoded."""

    kind: str
    path: Path
    body: Body
    id: str = ""


BODIES: Final[dict[str, type[Body]]] = {
    Kind.RUN_STARTED: RunStarted,
    Kind.RUN_RESUMED: RunResumed,
    Kind.RUN_COMPLETED: RunEnded,
    Kind.RUN_FAILED: RunEnded,
    Kind.RUN_CANCELLED: RunEnded,
    Kind.NODE_STARTED: NodeStarted,
    Kind.NODE_RETRYING: NodeRetrying,
    Kind.NODE_FINISHED: NodeFinished,
    Kind.FORK_OPENED: Opened,
    Kind.MAP_OPENED: Opened,
    Kind.PATH_OPENED: Opened,
    Kind.ROUND_SCORED: RoundScored,
    Kind.BRANCH_FINISHED: BranchFinished,
}

_encoder = msgspec.json.Encoder()
_decoders = {kind: msgspec.json.Decoder(body) for kind, body in BODIES.items()}


def encode_json(value: object) -> bytes:
    return _encoder.encode(value)


def decode_json(data: bytes | msgspec.Raw) -> Json:
    return msgspec.json.decode(data)


class ValueCodec:
    """Puts values into entries, large ones beside them. `limit` and `hard_limit` are bytes of JSON."""

    def __init__(self, limit: int, hard_limit: int) -> None:
        self._limit = limit
        self._hard_limit = hard_limit

    def store(self, value: Json) -> tuple[Value, tuple[tuple[str, bytes], ...]]:
        """The value for the entry and what has to be stored beside it. `AgentError` above the hard limit."""
        data = _encoder.encode(value)
        if len(data) <= self._limit:
            return Value(json=msgspec.Raw(data)), ()
        if len(data) > self._hard_limit:
            raise AgentError(
                f"a value of {len(data):,} bytes of JSON is over the hard limit of {self._hard_limit:,}"
                " (ORKA_VALUE_HARD_LIMIT); store it elsewhere and return where it is",
                kind="ValueTooLarge",
            )
        ref = blake2b(data, digest_size=16).hexdigest()
        return Value(ref=ref), ((ref, data),)


def make_entry(kind: str, path: str, body: Body, values: tuple[tuple[str, bytes], ...] = ()) -> Entry:
    return Entry(kind, path, _encoder.encode(body), values)


def decode_body(kind: str, data: bytes, *, run_id: str, path: str) -> Body:
    """`JournalMismatch` when the entry is of a kind or of rules that this version does not know."""
    decoder = _decoders.get(kind)
    if decoder is None:
        raise JournalMismatch(
            f"the journal of run {run_id} has an entry of kind {kind!r}, which this version of Orka does not know:"
            " it was written by a newer one; resume it with that version",
            run_id=run_id,
            path=path,
        )
    try:
        body = decoder.decode(data)
    except msgspec.MsgspecError as exc:
        raise JournalMismatch(
            f"the journal of run {run_id} has an entry of kind {kind!r} at {path or 'the run'!r}"
            f" that cannot be read: {exc}",
            run_id=run_id,
            path=path,
        ) from exc
    if isinstance(body, RunStarted | RunResumed | BranchFinished | NodeFinished) and body.rules != RULES:
        raise JournalMismatch(
            f"run {run_id} was written under version {body.rules} of the interpreter's rules and this version of Orka"
            f" follows version {RULES}; resume it with the version that wrote it",
            run_id=run_id,
            path=path,
        )
    return body
