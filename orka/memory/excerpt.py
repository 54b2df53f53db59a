"""The beginning of a JSON value, for events that tell of it. Pure."""

from __future__ import annotations

from typing import Final

from orka.types import Json

MORE: Final = "\u2026"
"""Stands where something was left out."""
_DEEPEST: Final = 8
"""Lists and mappings inside each other that are shown."""
_MARKUP: Final = 2
"""Characters that an item takes beside its own."""
_LEAST, _MOST = -(2**63), 2**64 - 1
"""Whole numbers that every reader of JSON takes."""


def excerpt(value: Json, room: int) -> Json:
    """`value`, or as much of its beginning as about `room` characters of JSON hold. It looks at no more than that, and can
    be encoded: halves of surrogate pairs are replaced, numbers beyond 64 bits are left out."""
    return _cut(value, _Room(room), _DEEPEST)


class _Room:
    """What is left of it."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


def _cut(value: Json, room: _Room, depth: int) -> Json:
    if isinstance(value, str):
        return _cut_text(value, room)
    if isinstance(value, (list, dict)):
        if depth == 0 and value:
            return MORE
        return _cut_list(value, room, depth) if isinstance(value, list) else _cut_dict(value, room, depth)
    room.left -= _MARKUP
    if isinstance(value, int) and not _LEAST <= value <= _MOST:
        return MORE
    return value


def _cut_text(text: str, room: _Room) -> str:
    if len(text) > room.left:
        text = text[: max(0, room.left - 1)] + MORE
    room.left -= len(text)
    return text if text.isascii() else text.encode(errors="replace").decode()


def _cut_list(values: list[Json], room: _Room, depth: int) -> Json:
    shown: list[Json] = []
    for value in values:
        if room.left <= 0:
            shown.append(MORE)
            break
        room.left -= _MARKUP
        shown.append(_cut(value, room, depth - 1))
    return shown


def _cut_dict(values: dict[str, Json], room: _Room, depth: int) -> Json:
    shown: dict[str, Json] = {}
    for key, value in values.items():
        if room.left <= 0:
            shown[MORE] = MORE
            break
        room.left -= _MARKUP
        shown[_cut_text(key, room)] = _cut(value, room, depth - 1)
    return shown
