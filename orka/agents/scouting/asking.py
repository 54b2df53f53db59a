"""What a model is asked about the paths, and how its answer is read. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from orka.agents.scouting.budget import Estimate
from orka.agents.scouting.paths import Route
from orka.agents.scouting.profile import Profile
from orka.types import Json, NodeId

UNKNOWN: Final = 0.5
"""Relevance of a path that the model says nothing about."""
_RECOMMENDED: Final = 0.9
_MOST_TEXT: Final = 1000
_SHOWN: Final = 300
"""Characters of one remark that are kept."""

SCHEMA: Final[Mapping[str, Json]] = {
    "type": "object",
    "properties": {
        "recommended_path": {"type": "array", "items": {"type": "string"}},
        "reasoning": {"type": "string"},
        "confidence": {"type": "number"},
        "expected_outcome": {"type": "string"},
        "path_evaluations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "path": {"type": "array", "items": {"type": "string"}},
                    "score": {"type": "number"},
                    "pros": {"type": "array", "items": {"type": "string"}},
                    "cons": {"type": "array", "items": {"type": "string"}},
                    "expected_outcome": {"type": "string"},
                },
                "required": ["path", "score"],
            },
        },
    },
    "required": ["recommended_path", "reasoning", "confidence", "path_evaluations"],
}
"""JSON Schema of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What the model says of one path."""

    score: float
    expected: str = ""
    pros: tuple[str, ...] = ()
    cons: tuple[str, ...] = ()
    recommended: bool = False
    reasoning: str = ""
    """Of the recommendation, on the path that it is for."""


def make_prompt(
    question: str,
    guidance: str,
    paths: Sequence[tuple[Route, Estimate]],
    profiles: Mapping[NodeId, Profile],
    *,
    preview_tokens: int,
) -> str:
    """The question that is put to the model. `guidance`: what the author of the graph says."""
    used = dict.fromkeys(name for path, _ in paths for name in path)
    agents = "\n".join(f"- {_introduced(profiles[name], preview_tokens)}" for name in used)
    listed = "\n".join(
        f"{number}. {' -> '.join(path)} (about {use.tokens:.0f} tokens, {use.latency_ms:.0f} ms)"
        for number, (path, use) in enumerate(paths, 1)
    )
    hints = f"\nWhat the author of this workflow asks for:\n{guidance[:_MOST_TEXT]}\n" if guidance else ""
    return (
        "Several agents could work on a request, one after another. Judge which sequence of them serves it best.\n\n"
        f"The request:\n{question}\n{hints}\n"
        f"The agents:\n{agents}\n\n"
        f"The sequences to compare:\n{listed}\n\n"
        "Give every sequence a score between 0 (of no use) and 1 (does all that is asked and nothing more), then name"
        " the one you would run. Answer with one JSON object:\n"
        '{"recommended_path": ["id", "id"], "reasoning": "why", "confidence": 0.0, "expected_outcome": "what it gives",'
        ' "path_evaluations": [{"path": ["id"], "score": 0.0, "pros": ["..."], "cons": ["..."],'
        ' "expected_outcome": "..."}]}'
    )


def _introduced(agent: Profile, preview_tokens: int) -> str:
    tags = f", can {', '.join(sorted(agent.capabilities))}" if agent.capabilities else ""
    prompt = " ".join(agent.prompt[: preview_tokens * 4].split())
    return f"{agent.id} ({agent.type}{tags})" + (f": {prompt}" if prompt else "")


def read_opinions(answer: Mapping[str, Json] | None, paths: Sequence[Route]) -> dict[Route, Opinion] | None:
    """The opinions by path. None when the answer judges none of these paths."""
    if answer is None:
        return None
    known = set(paths)
    found: dict[Route, Opinion] = {}
    listed = answer.get("path_evaluations")
    for number, item in enumerate(listed if isinstance(listed, list) else []):
        if not isinstance(item, dict):
            continue
        path = _path_in(item.get("path"), known)
        if path is None and "path" not in item and number < len(paths):
            path = paths[number]
        score = _number(item.get("score"))
        if path is None or score is None:
            continue
        found[path] = Opinion(
            score=score,
            expected=_text(item.get("expected_outcome")),
            pros=_texts(item.get("pros")),
            cons=_texts(item.get("cons")),
        )
    best = _path_in(answer.get("recommended_path"), known)
    if best is not None:
        sure = _number(answer.get("confidence"))
        given = found.get(best)
        found[best] = Opinion(
            score=given.score if given is not None else _RECOMMENDED if sure is None else sure,
            expected=(given.expected if given is not None else "") or _text(answer.get("expected_outcome")),
            pros=given.pros if given is not None else (),
            cons=given.cons if given is not None else (),
            recommended=True,
            reasoning=_text(answer.get("reasoning")),
        )
    return found or None


def _path_in(value: Json, known: set[Route]) -> Route | None:
    """One of the paths, however the model writes it: a list, or text with arrows or commas."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                value = cast(Json, json.loads(text))
            except ValueError:
                value = text.strip("[]")
        if isinstance(value, str):
            value = [part.strip().strip("\"'`") for part in re.split(r"->|→|,", value)]
    if not isinstance(value, list):
        return None
    path = tuple(NodeId(name.strip()) for name in value if isinstance(name, str))
    return path if path in known else None


def _number(value: Json) -> float | None:
    """A score as 0 to 1; a percentage is one, too."""
    if isinstance(value, str):
        try:
            value = float(value.strip().rstrip("%")) / (100 if value.strip().endswith("%") else 1)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    return min(1.0, max(0.0, value / 100 if 1 < value <= 100 else float(value)))


def _text(value: Json) -> str:
    return value.strip()[:_SHOWN] if isinstance(value, str) else ""


def _texts(value: Json) -> tuple[str, ...]:
    found = value if isinstance(value, list) else [value]
    return tuple(text for item in found[:5] if (text := _text(item)))
