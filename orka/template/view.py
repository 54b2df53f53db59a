"""`View`: everything one rendering can see. Plain data, made by the engine for every visit."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from orka.types import Json

_NOTHING: Mapping[str, Json] = MappingProxyType({})


class View(msgspec.Struct, kw_only=True):
    """Not frozen: `warnings` collects what the rendering read that was undefined. (A struct: every step makes one.)"""

    input: Json
    """The run's input."""
    outputs: Mapping[str, Json]
    """`previous_outputs`: results by node id, own frame first, outer ones as fall-back."""
    agent_id: str = ""
    run_id: str = ""
    session_id: str = ""
    step: int = 0
    now_ms: int = 0
    """The visit's time: what `now()`, `timestamp` and `current_time` print."""
    loop_number: int = 1
    """Round of the enclosing loop, from 1."""
    past_loops: list[Json] | None = None
    """Past-loop objects of the enclosing loop, oldest first; None outside loops."""
    past_loops_metadata: Mapping[str, Json] = _NOTHING
    score_threshold: float | None = None
    scoring_context: str = ""
    """Of the enclosing loop's boolean scoring; empty: it has none."""
    variables: Mapping[str, Json] = _NOTHING
    """Further names: `item` and `index` of a map, `score` and `insights` of a past-loop template."""
    members: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict[str, tuple[str, ...]])
    """Agent ids of every fork and join of the graph, by the fork's or join's id (for `get_fork_responses`)."""
    strict: bool = False
    """Undefined names raise `TemplateError` instead of becoming empty."""
    warnings: list[str] = msgspec.field(default_factory=list[str])
    """One sentence for every expression that read something undefined or failed, with the expression's source."""
