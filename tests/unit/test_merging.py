"""Journal and tokens become one feed in order, whatever comes late, twice or not at all. No Redis, no waiting."""

import json
import math
from typing import Any

from orka.journal.events import Position, RunEvent, parse_position
from orka.journal.merging import Merge


def entry(entry_id: str, kind: str, path: str = "", **data: Any) -> tuple[str, str, str, bytes]:
    return entry_id, kind, path, json.dumps(data).encode()


def token(token_id: str, path: str, text: str, seq: int, attempt: int = 1) -> tuple[str, str, bytes]:
    return token_id, path, json.dumps({"id": path, "attempt": attempt, "text": text, "seq": seq}).encode()


def take(merge: Merge, now: float = 0.0, *, now_ms: int = 0, live: bool = True, limit: float = math.inf) -> list[str]:
    return [shown(event) for event in merge.take(now, now_ms, live=live, limit_ms=limit)]


def shown(event: RunEvent) -> str:
    return f"{event.kind} {event.path} {event.data.get('text', '')}".rstrip()


def test_streams_are_merged_by_time() -> None:
    merge = Merge(parse_position("0"))
    merge.add(
        [entry("10-0", "node.started", "a"), entry("30-0", "node.started", "b")],
        [token("20-0", "a", "x", 0), token("40-0", "b", "y", 0)],
    )
    assert take(merge) == ["node.started a", "node.token a x", "node.started b", "node.token b y"]
    assert merge.read == ("30-0", "40-0")


def test_of_one_millisecond_beginnings_come_first_and_ends_last() -> None:
    merge = Merge(parse_position("0"))
    merge.add(
        [
            entry("10-0", "node.started", "a"),
            entry("10-1", "node.retrying", "a", attempt=1, emitted=1),
            entry("10-2", "run.cancelled"),
        ],
        [token("10-0", "a", "x", 0)],
    )
    assert take(merge) == ["node.started a", "node.token a x", "node.retrying a", "run.cancelled"]


def test_the_end_of_a_visit_waits_for_tokens_on_their_way() -> None:
    merge = Merge(parse_position("0"))
    merge.add([entry("10-0", "node.started", "a")], [token("11-0", "a", "on", 0)])
    merge.add([entry("12-0", "node.finished", "a", emitted=5), entry("13-0", "node.started", "b")], [])
    assert take(merge, 1.0) == ["node.started a", "node.token a on"]
    assert merge.left(1.1) is not None
    merge.add([], [token("14-0", "b", "later", 0), token("14-1", "a", "ly!", 2)])
    assert take(merge, 1.1) == ["node.token a ly!", "node.finished a", "node.started b", "node.token b later"]
    assert merge.left(1.1) is None


def test_tokens_that_were_dropped_hold_nothing_up_for_long() -> None:
    merge = Merge(parse_position("0"))
    merge.add([entry("12-0", "node.finished", "a", emitted=5)], [])
    assert take(merge, 1.0) == []
    left = merge.left(1.0)
    assert left is not None
    assert 0 < left < 0.5
    assert take(merge, 1.0 + left) == ["node.finished a"]
    merge.add([], [token("14-0", "a", "late", 1)])
    assert take(merge, 2.0) == []  # never behind the end


def test_the_past_does_not_wait() -> None:
    merge = Merge(parse_position("0"))
    merge.add([entry("12-0", "node.finished", "a", emitted=5)], [])
    assert take(merge, 1.0, now_ms=60_000, live=False) == ["node.finished a"]
    merge.add([entry("59990-0", "node.finished", "b", emitted=5)], [])
    assert take(merge, 1.0, now_ms=60_000, live=False) == []  # a moment ago: they may still come


def test_what_was_sent_twice_is_shown_once() -> None:
    merge = Merge(parse_position("0"))
    merge.add([], [token("1-0", "a", "one ", 0), token("1-1", "a", "two", 4)])
    merge.add([], [token("2-0", "a", "one ", 0), token("2-1", "a", "two", 4), token("2-2", "a", "!", 7)])
    assert take(merge) == ["node.token a one", "node.token a two", "node.token a !"]


def test_another_attempt_and_another_life_begin_anew() -> None:
    merge = Merge(parse_position("0"))
    merge.add(
        [entry("2-0", "node.started", "a"), entry("4-0", "run.resumed"), entry("5-0", "node.started", "a")],
        [
            token("1-0", "a", "x", 0),
            token("3-0", "a", "x", 0, 2),
            token("3-1", "a", "late", 0, 1),
            token("6-0", "a", "x", 0),
        ],
    )
    assert take(merge) == [
        "node.token a x",
        "node.started a",
        "node.token a x",
        "run.resumed",
        "node.started a",
        "node.token a x",
    ]


def test_what_is_not_known_of_both_streams_is_kept_back() -> None:
    merge = Merge(parse_position("0"))
    merge.add([entry("10-0", "node.started", "a")], [token("11-0", "a", "x", 0), token("50-0", "b", "y", 0)])
    assert take(merge, limit=10) == ["node.started a"]
    merge.add([entry("40-0", "node.started", "b")], [])
    assert take(merge) == ["node.token a x", "node.started b", "node.token b y"]


def test_a_position_names_the_entry_before_and_the_token_itself() -> None:
    merge = Merge(parse_position("0"))
    merge.add([entry("10-3", "node.started", "a")], [token("11-7", "a", "x", 0)])
    events = list(merge.take(0, 0, live=True, limit_ms=math.inf))
    assert [event.id for event in events] == ["10-3", "10-3+11-7"]
    assert events[1].at_ms == 11
    assert parse_position("10-3+11-7") == Position("10-3", "11-7")
    assert parse_position("0") == Position("0", "0")
    assert parse_position("10-3").tokens.startswith("9-")  # of the same millisecond on
