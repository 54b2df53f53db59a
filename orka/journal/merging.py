"""`Merge`: a run's two streams, its journal and its tokens, as one feed. Pure.

Both have ids of one server's clock. Tokens come over another connection than the entries: those of a visit stand behind
what was stored in an earlier millisecond, and always before the visit's end, which says how many characters there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

import msgspec

from orka.journal.entries import ENDED, Kind
from orka.journal.events import Position, RunEvent, Token, milliseconds

_LATE = 0.25
"""Seconds that the end of a visit waits for tokens that are to come. They were dropped if they do not."""
_RECENT_MS = 1000
"""How old the end of a visit may be when it is read, for its tokens to be still under way."""
_MOST_OVER = 1000
"""Visits whose end was shown without all of their tokens, and of which later ones are not shown."""

_ATTEMPT_ENDS = frozenset({Kind.NODE_FINISHED, Kind.NODE_RETRYING})
"""Entries that say how many characters an attempt has emitted."""
_ENDS = ENDED | {Kind.NODE_RETRYING, Kind.ROUND_SCORED, Kind.BRANCH_FINISHED}

StoredEntry: TypeAlias = tuple[str, str, str, bytes]
"""Id, kind, path, data."""
StoredToken: TypeAlias = tuple[str, str, bytes]
"""Id, path, data."""

_tokens = msgspec.json.Decoder(Token)


class _Piece(NamedTuple):
    id: str
    at_ms: int
    path: str
    token: Token


def _comes_first(piece: _Piece, head: RunEvent) -> bool:
    """Of what was stored in one millisecond, tokens stand before the end of anything, and behind its beginning."""
    return piece.at_ms < head.at_ms or (piece.at_ms == head.at_ms and head.kind in _ENDS)


class Merge:
    """Give it what was read of both streams, in order; take the events that can be shown."""

    def __init__(self, place: Position) -> None:
        self.read = place
        """How far the streams have been read."""
        self.kind = ""
        """Of the last event about the run itself that was given."""
        self._given = place.journal
        self._journal: deque[RunEvent] = deque()
        self._pieces: deque[_Piece] = deque()
        self._seen: dict[str, tuple[int, int]] = {}
        """Attempt and characters of it that were given, by visit."""
        self._over: dict[str, None] = {}
        self._until: float = 0
        """When the end of a visit stops waiting."""
        self._waits = False

    def add(self, entries: Iterable[StoredEntry], tokens: Iterable[StoredToken]) -> None:
        for entry in entries:
            self._journal.append(RunEvent.of(*entry))
            self.read = self.read._replace(journal=entry[0])
        for token_id, path, data in tokens:
            self._pieces.append(_Piece(token_id, milliseconds(token_id), path, _tokens.decode(data)))
            self.read = self.read._replace(tokens=token_id)

    def left(self, now: float) -> float | None:
        """Seconds that the end of a visit still waits for its tokens; None: nothing waits."""
        return max(0.0, self._until - now) if self._waits else None

    def take(self, now: float, now_ms: int, *, live: bool, limit_ms: float) -> Iterator[RunEvent]:
        """What can be shown. `limit_ms`: what was stored later is not known of both streams yet. `now` is of a clock that
        only goes on; with `live` everything before has been read, so that what comes is new."""
        while True:
            head = self._journal[0] if self._journal else None
            piece = self._pieces[0] if self._pieces else None
            if piece is not None and piece.at_ms <= limit_ms and (head is None or _comes_first(piece, head)):
                self._pieces.popleft()
                yield from self._show(piece)
                continue
            if head is None or head.at_ms > limit_ms:
                return
            if head.kind in _ATTEMPT_ENDS and self._lacks(head):
                yield from self._own(head.path)
                if self._lacks(head) and self._waiting(now, live or abs(now_ms - head.at_ms) < _RECENT_MS):
                    return
            self._waits = False
            self._journal.popleft()
            self._pass(head)
            yield head

    def _own(self, path: str) -> Iterator[RunEvent]:
        """All tokens of a visit, wherever they stand."""
        own = [piece for piece in self._pieces if piece.path == path]
        if own:
            self._pieces = deque(piece for piece in self._pieces if piece.path != path)
        for piece in own:
            yield from self._show(piece)

    def _waiting(self, now: float, worthwhile: bool) -> bool:
        if not self._waits:
            self._waits, self._until = True, now + (_LATE if worthwhile else 0)
        return now < self._until

    def _lacks(self, end: RunEvent) -> bool:
        wanted = end.data.get("emitted")
        if not isinstance(wanted, int):
            return False
        attempt = end.data.get("attempts", end.data.get("attempt"))
        return self._seen.get(end.path, (0, 0)) < (attempt if isinstance(attempt, int) else 1, wanted)

    def _show(self, piece: _Piece) -> Iterator[RunEvent]:
        token = piece.token
        end = (token.attempt, token.seq + len(token.text))
        if piece.path in self._over or end <= self._seen.get(piece.path, (0, 0)):
            return  # it was sent twice, or comes too late
        self._seen[piece.path] = end
        yield RunEvent.of_token(str(Position(self._given, piece.id)), piece.path, token, piece.at_ms)

    def _pass(self, event: RunEvent) -> None:
        self._given = event.id
        if event.kind.startswith("run."):
            # What a crash of Redis took from a branch may be put back behind the end: this is the last about the run.
            self.kind = event.kind
            self._seen.clear()
            self._over.clear()
        elif event.kind == Kind.NODE_STARTED:  # it may be the same attempt again, after a crash
            self._seen.pop(event.path, None)
            self._over.pop(event.path, None)
        elif event.kind == Kind.NODE_FINISHED and "emitted" in event.data:
            self._seen.pop(event.path, None)
            self._over[event.path] = None
            if len(self._over) > _MOST_OVER:
                del self._over[next(iter(self._over))]
