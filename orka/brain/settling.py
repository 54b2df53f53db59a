"""Changing a skill that others may change at the same moment: decided on one version, and anew when that is not the latest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from orka.brain.opening import Opened
from orka.brain.skill import Skill
from orka.brain.store import Found
from orka.errors import StoreError
from orka.ids import new_nonce

_ATTEMPTS: Final = 200
"""Times that one change is decided anew because others came before it."""


async def settle(
    opened: Opened,
    known: Found | None,
    change: Callable[[Skill | None], Skill | None],
    visit: str | None,
    vector: bytes = b"",
) -> Skill | None:
    """Writes what `change` makes of what is there, `known` as far as the caller knows; gives what is written, or what is there
    when the same `visit` has written before. None when `change` makes nothing. `vector` is that of a new one. `StoreError`."""
    name = visit or new_nonce()
    # Tasks of one process do not get into each other's way: each would make the others decide anew.
    async with opened.turn:
        for _ in range(_ATTEMPTS):
            skill = change(None if known is None else known.skill)
            if skill is None:
                return None
            version = 0 if known is None else known.version
            put = await opened.store.put_skill(
                skill, version, visit=name, model=opened.embedder.name, vector=b"" if version else vector
            )
            if put.status == "ok":
                return skill
            if put.status == "done":
                found = await opened.store.skill(put.skill)
                return skill if found is None else found.skill
            known = put.now
    raise StoreError("a skill changes faster than it can be written: try again")
