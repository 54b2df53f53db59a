"""The stream of changes as written and read."""

from __future__ import annotations

from typing import Any

from orka.memory.changes import announce, parse_change
from orka.memory.record import PREFIX, new_key


def read_back(command: tuple[Any, ...]) -> Any:
    words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
    fields = words[words.index(b"*") + 1 :]
    return parse_change(dict(zip(fields[::2], fields[1::2], strict=True)))


def test_keys_come_back_in_entries_of_a_hundred() -> None:
    keys = [new_key() for _ in range(249)] + [PREFIX + "odd \x00 \U0001f680"]
    commands = announce(keys)
    assert {key for key, _ in commands} == {"{orka:0}:memory:changes"}
    changes = [read_back(command) for _, command in commands]
    assert [len(change) for change in changes] == [100, 100, 50]
    assert [key for change in changes for key in change] == keys
    assert announce([]) == []
