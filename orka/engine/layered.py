"""Outputs seen through layers: a branch or a round sees its own over those of what surrounds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orka.types import Json


class Layered(Mapping[str, Json]):
    """Own outputs over those of the surrounding context, without copying either."""

    __slots__ = ("_base", "_own")

    def __init__(self, own: Mapping[str, Json], base: Mapping[str, Json]) -> None:
        self._own = own
        self._base = base

    def __getitem__(self, key: str) -> Json:
        own = self._own
        return own[key] if key in own else self._base[key]

    def __contains__(self, key: object) -> bool:
        return key in self._own or key in self._base

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        for key in self._base:
            if key not in self._own:
                yield key

    def __len__(self) -> int:
        return sum(1 for _ in self)
