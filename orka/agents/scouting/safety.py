"""How safe a path is for a question. Pure. Workflow-format 14.1, step 4: words, capabilities and length."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from orka.agents.scouting.profile import Profile

Guard = Literal["default", "moderate", "strict"]

_WORDS: Final[Mapping[str, re.Pattern[str]]] = {
    "personal": re.compile(
        r"\b\d{3}-\d{2}-\d{4}\b|\b(?:\d[ -]?){13,19}\b|\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}\b"
        r"|\b(?:social security|passport|credit card|bank account) (?:number|no\.?)",
        re.IGNORECASE,
    ),
    "medical": re.compile(r"\b(?:prescri(?:be|ption)|dosage|diagnos(?:e|is) (?:me|my)|overdose)\b", re.IGNORECASE),
    "legal": re.compile(r"\b(?:legal advice|sue (?:him|her|them|my)|plead guilty|custody battle)\b", re.IGNORECASE),
    "harmful": re.compile(
        r"\b(?:(?:build|make) (?:a )?(?:bomb|explosive|weapon)s?|kill (?:myself|someone)|malware|ransomware"
        r"|steal (?:a )?(?:password|identity)s?)\b",
        re.IGNORECASE,
    ),
}
"""Kind of risk -> what gives it away in a question or a prompt."""
_PENALTY: Final[Mapping[Guard, Mapping[str, float]]] = {
    "default": {"personal": 0.5, "medical": 0.25, "legal": 0.25, "harmful": 1.0},
    "moderate": {"personal": 0.75, "medical": 0.5, "legal": 0.5, "harmful": 1.0},
    "strict": {"personal": 1.0, "medical": 1.0, "legal": 1.0, "harmful": 1.0},
}
"""What each kind takes off the score of the words."""
_FORBIDDEN: Final[Mapping[Guard, frozenset[str]]] = {
    "default": frozenset({"destructive", "data_deletion", "unsafe"}),
    "moderate": frozenset({"destructive", "data_deletion", "unsafe", "code_execution", "file_write"}),
    "strict": frozenset(
        {"destructive", "data_deletion", "unsafe", "code_execution", "file_write", "payment", "send_message"}
    ),
}
"""Capabilities that no agent of a path may have."""
_LONGEST: Final = 5
"""Agents of a path that is not long."""
_LONG: Final = 0.5
_CHARS_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Safety:
    """Of one path."""

    score: float
    """Mean of the three checks, 0 to 1."""
    reasons: tuple[str, ...] = ()


def judge_safety(question: str, path: Sequence[Profile], *, guard: Guard, preview_tokens: int) -> Safety:
    """The words of the question and of the beginnings of the prompts, the capabilities, and the length."""
    text = "\n".join([question, *preview(path, preview_tokens)])
    kinds = [kind for kind, words in _WORDS.items() if words.search(text) is not None]
    words = max(0.0, 1 - sum(_PENALTY[guard][kind] for kind in kinds))
    forbidden = sorted({tag for agent in path for tag in agent.capabilities & _FORBIDDEN[guard]})
    long = len(path) > _LONGEST
    reasons = [f"{kind} content" for kind in kinds]
    reasons += [f"capability {tag}" for tag in forbidden]
    reasons += [f"{len(path)} agents"] if long else []
    return Safety(score=(words + (0.0 if forbidden else 1.0) + (_LONG if long else 1.0)) / 3, reasons=tuple(reasons))


def is_safe(safety: Safety, threshold: float) -> bool:
    """`threshold`: how much of the score may be missing."""
    return safety.score >= 1 - threshold - 1e-9


def preview(path: Iterable[Profile], tokens: int) -> list[str]:
    """The beginnings of the prompts."""
    return [agent.prompt[: tokens * _CHARS_PER_TOKEN] for agent in path]
