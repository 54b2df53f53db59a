"""The score of a round and what is remembered of it. Pure. Rules of workflow-format 8.5; its rule a is in `judging`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

from orka.engine.judging import judge_round
from orka.engine.routing import read_path
from orka.engine.scales import normalise, score_of
from orka.graph.nodes import INSIGHT_FLAGS, Cognition, LoopNode, ScoreStrategy
from orka.template.searching import compile_search
from orka.types import Json

PAST_KEPT: Final = 20
"""Past-loop objects kept, the newest."""
RECENT: Final = 5
"""Past loops that `insights`, `improvements` and `mistakes` are joined from."""
JOINED: Final = ("insights", "improvements", "mistakes")
PRIORITY: Final = ("agreement_moderator", "quality_moderator", "score_moderator")
"""Members whose responses are searched first when the file names none."""
DEFAULT_FIELDS: Final[tuple[tuple[str, str], ...]] = (
    ("loop_number", "{{ loop_number }}"),
    ("score", "{{ score }}"),
    ("timestamp", "{{ timestamp }}"),
    ("insights", "{{ insights }}"),
    ("improvements", "{{ improvements }}"),
    ("mistakes", "{{ mistakes }}"),
)
"""The past-loop object when the file defines none."""

_NUMBER: Final = r"(\d+(?:\.\d+)?)"
_SIGNED: Final = r"-?\d+(?:\.\d+)?"
_LABELS: Final = r"(?:score|rating|confidence|agreement|consensus)"
DEFAULT_PATTERNS: Final = (
    rf"(?i){_LABELS}[^\w.]{{0,20}}(\.\d+)",
    rf"(?i){_LABELS} ?\([^()]{{1,20}}\)\W{{0,20}}{_NUMBER}",
    rf"(?i){_LABELS}\W{{0,20}}{_NUMBER}",
    rf"{_NUMBER}\s*/\s*10\b",
    rf"{_NUMBER}\s*%",
    rf"(?i){_NUMBER}\s+out\s+of\s+10\b",
    rf"(?i){_NUMBER}\s+points?\b",
    r"(?<![\d.])(0\.[6-9]\d?)(?!\d)",
    r"(?<![\d.])(\d+\.\d+)(?!\d)",
)
"""Tried in this order when the file configures no pattern."""
USUAL: Final = (ScoreStrategy(type="pattern", patterns=DEFAULT_PATTERNS), ScoreStrategy(type="direct_key", key="score"))
"""Strategies of a loop whose file configures none."""
_THOUGHT: Final = re.compile(r"</(?:think|thinking|reasoning|thoughts?)\s*>", re.IGNORECASE)
_TEXT_KEYS: Final = ("response", "result", "output", "data")
_MOST_TEXT: Final = 20_000
"""Characters searched per text, half of them its last ones: keeps a careless pattern from holding the loop up."""


def check_patterns(node: LoopNode) -> None:
    """Raises `TemplateError` for a pattern of the file that is none, or could take exponential time."""
    for strategy in node.strategies:
        for pattern in strategy.patterns:
            compile_search(pattern)
    for patterns in node.cognition.patterns.values() if node.cognition is not None else ():
        for pattern in patterns:
            compile_search(pattern, INSIGHT_FLAGS)


def score_round(node: LoopNode, results: Mapping[str, Json]) -> float | None:
    """The score, 0 to 1, of a round whose members gave `results` (by id, in order); None when none can be found."""
    if node.scoring is not None and (score := judge_round(node.scoring, results)) is not None:
        return score
    patterns = _patterns(node)
    for agent in node.priority_agents or PRIORITY:
        for text in _texts(results.get(agent)):
            if (score := _first_match(text, patterns)) is not None:
                return score
    for strategy in node.strategies or USUAL:
        if (score := _by_strategy(strategy, results, patterns)) is not None:
            return score
    return None


def join_recent(past: Sequence[Mapping[str, Json]], name: str) -> str:
    """`insights` and its like: the non-empty values of the last five loops, newest first; other fields: the last value."""
    if name in JOINED:
        values = [str(loop.get(name) or "") for loop in reversed(past[-RECENT:])]
        joined = " | ".join(value for value in values if value.strip())
        return joined or f"No {name} available"
    value = past[-1].get(name) if past else None
    return str(value) if value not in (None, "") else f"No {name} available"


def extract_insights(cognition: Cognition | None, results: Mapping[str, Json]) -> dict[str, str]:
    """What `cognitive_extraction` finds in the texts of a round, by category."""
    found: dict[str, str] = dict.fromkeys(JOINED, "")
    if cognition is None:
        return found
    for category, patterns in cognition.patterns.items():
        kept: dict[str, str] = {}
        for output in results.values():
            for text in _texts(output):
                if len(text) >= 20:
                    for match in _matches(text, patterns, INSIGHT_FLAGS):
                        value = " ".join(match.split())
                        if 10 < len(value) <= 200:
                            kept.setdefault(value.lower(), value)
        joined = " | ".join(kept.values())
        if len(joined) > cognition.max_length:
            joined = joined[: cognition.max_length] + "..."
        found[category] = joined
    return found


def find_key(results: Mapping[str, Json], key: str, default: Json) -> Json:
    """The first value of `key` in any member's result, or in the JSON of its text."""
    for output in results.values():
        if isinstance(output, dict) and key in output:
            return output[key]
        for text in _texts(output):
            if (
                match := re.search(rf'"{re.escape(key)}"\s*:\s*("([^"]*)"|{_SIGNED})', _both_ends(text, _MOST_TEXT))
            ) is not None:
                return match.group(2) if match.group(2) is not None else float(match.group(1))
    return default


def shown_loop(loop: Mapping[str, Json]) -> dict[str, Json]:
    """The output of a loop as templates see it: workflow-format 6.3."""
    return {**loop, "response": dict(loop), "confidence": 1.0, "internal_reasoning": "", "status": "success"}


def _patterns(node: LoopNode) -> tuple[str, ...]:
    configured = tuple(pattern for strategy in node.strategies for pattern in strategy.patterns)
    return configured or DEFAULT_PATTERNS


def _by_strategy(strategy: ScoreStrategy, results: Mapping[str, Json], patterns: tuple[str, ...]) -> float | None:
    wanted = strategy.patterns or patterns
    match strategy.type:
        case "direct_key":
            return _direct(results, strategy.key or "score")
        case "pattern":
            return _by_pattern(list(results.values()), wanted)
        case "agent_key":
            fields = (_field(results.get(agent), strategy.key or "response") for agent in strategy.agents)
            return next((score for field in fields if (score := _by_pattern([field], wanted)) is not None), None)


def _by_pattern(outputs: Sequence[Json], patterns: Sequence[str]) -> float | None:
    """The first pattern that fits any of the outputs: the ones before say more plainly that a number is a score."""
    texts: list[str] = []
    for output in outputs:
        if isinstance(output, int | float) and (score := score_of(output)) is not None:
            return score
        texts += _texts(output)
    found = (score for pattern in patterns for text in texts if (score := _first_match(text, (pattern,))) is not None)
    return next(found, None)


def _direct(results: Mapping[str, Json], key: str) -> float | None:
    """`key` of the inner results: a dotted path, or a key that any member's output has."""
    candidates: list[object] = [read_path(results, key)]
    candidates += [output[key] for output in results.values() if isinstance(output, dict) and key in output]
    for value in candidates:
        if isinstance(value, dict):
            value = cast("dict[str, object]", value).get("response")
        if (score := score_of(value)) is not None:
            return score
    return None


def _field(output: Json, key: str) -> Json:
    return output.get(key) if isinstance(output, dict) else output


def _texts(output: Json) -> Iterator[str]:
    if isinstance(output, str):
        yield output
    elif isinstance(output, dict):
        for key in _TEXT_KEYS:
            value = output.get(key)
            if isinstance(value, str):
                yield value
            elif isinstance(value, dict):
                yield from _texts(value)
            elif isinstance(value, int | float) and not isinstance(value, bool) and key in {"result", "response"}:
                yield str(value)


def _matches(text: str, patterns: Sequence[str], flags: int) -> Iterator[str]:
    for pattern in patterns:
        for match in compile_search(pattern, flags).every(_both_ends(text, _MOST_TEXT)):
            yield (match.group(1) if match.re.groups else match.group(0)) or ""


def _first_match(text: str, patterns: Sequence[str]) -> float | None:
    searched = _both_ends(_answered(text), _MOST_TEXT)
    for pattern in patterns:
        match = compile_search(pattern).first(searched)
        if match is None:
            continue
        group = 1 if match.re.groups and match.group(1) is not None else 0
        number = match.group(group)
        right, whole = searched[match.end() : match.end() + 12], searched[match.start(group) : match.end()]
        score = normalise(number, right, whole)
        if score is not None:
            return score
    return None


def _answered(text: str) -> str:
    """What follows the thoughts of a reasoning model, in which it weighs other scores; without any, the text."""
    thought = max((match.end() for match in _THOUGHT.finditer(text)), default=0)
    return text[thought:] if text[thought:].strip() else text


def _both_ends(text: str, most: int) -> str:
    """`most` characters of a text, its last ones among them: that is where a verdict stands."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]}\n{text[-(most // 2) :]}"
