"""The stream of changes as written and read, and which own writes need not be read again."""

from __future__ import annotations

from typing import Any

import pytest

from orka.memory.changes import announce, parse_change
from orka.memory.own import MOST_KEPT, OwnWrites
from orka.memory.record import PREFIX, new_key, new_record


def read_back(command: tuple[Any, ...]) -> Any:
    words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
    fields = words[words.index(b"*") + 1 :]
    return parse_change(dict(zip(fields[::2], fields[1::2], strict=True)))


def test_keys_come_back_in_entries_of_a_hundred() -> None:
    keys = [new_key() for _ in range(249)] + [PREFIX + "odd \x00 \U0001f680"]
    commands = announce("me:1", keys)
    assert {key for key, _ in commands} == {"{orka:0}:memory:changes"}
    changes = [read_back(command) for _, command in commands]
    assert [len(change.keys) for change in changes] == [100, 100, 50]
    assert [key for change in changes for key in change.keys] == keys
    assert {change.batch for change in changes} == {"me:1"}
    assert announce("me:2", []) == []


def test_own_writes_are_known_until_somebody_else_changes_the_same_memory() -> None:
    own = OwnWrites()
    one, two = new_record("one"), new_record("two")
    name = own.begin([one.key, two.key], {one.key: (one, b"1"), two.key: (two, b"2")})
    assert own.owns(name)
    assert not own.owns("somebody:1")
    own.disturb([two.key, new_key()])
    assert own.returned(name, [one.key]) == ({one.key: (one, b"1")}, False)
    assert own.returned(name, [two.key]) == ({}, True)
    own.end(name)
    assert own.returned(name, [one.key]) == ({}, False)


def test_a_search_waits_for_what_is_stored_and_has_not_come_back() -> None:
    own = OwnWrites()
    first, second = own.begin(["a"], {}), own.begin(["b"], {})
    assert own.stored() == []
    own.confirm(first)
    assert own.stored() == [first]
    assert own.waits([first])
    own.end(first)
    own.end(second)
    assert not own.waits([first, second])
    assert len(own) == 0
    own.confirm(second)
    assert own.stored() == []


@pytest.mark.parametrize("batches", [3])
def test_what_is_kept_of_own_writes_is_bounded(batches: int) -> None:
    own = OwnWrites()
    half = {f"{PREFIX}{i}": None for i in range(MOST_KEPT // 2)}
    names = [own.begin(list(half), dict(half)) for _ in range(batches)]
    known = [len(own.returned(name, list(half))[0]) for name in names]
    assert known == [MOST_KEPT // 2, MOST_KEPT // 2, 0]
    for name in names:
        own.end(name)
    assert own.returned(own.begin(["a"], {"a": None}), ["a"]) == ({"a": None}, True)
