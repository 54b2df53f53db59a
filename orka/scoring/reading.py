"""Judgements by criterion, read out of JSON or of what a model wrote instead of it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias, cast

from orka.scoring.calculator import judgement

Criteria: TypeAlias = Mapping[str, Sequence[str]]
"""Dimension -> its criteria. No criterion stands in two dimensions."""
Evaluations: TypeAlias = dict[str, dict[str, bool]]
"""Dimension -> criterion -> met; only those that were judged."""

MOST_TEXT: Final = 20_000
"""Characters of a text that are read, the last ones: models reason first and answer then."""
_MOST_OBJECTS: Final = 200
"""Places of a text at which an object is tried."""
_DEEPEST: Final = 6
_NEAR: Final = 60
"""Characters behind a criterion's name that may judge it."""

_PAIR: Final = r"[\"'`*\])]*\s*[:=]\s*[\"'`*\[(]*\s*(true|false|yes|no|passed|pass|failed|fail|1|0)\b"
_YES: Final = frozenset({"true", "yes", "pass", "passed", "1"})
_NEGATIVE: Final = (
    r"\b(?:no|not|never|none|without|false|fail\w*|miss\w*|lack\w*|unmet|cannot|absent|insufficient\w*)\b|n't\b"
)
_POSITIVE: Final = r"\b(?:yes|true|pass\w*|met|meets?|satisf\w*|ok|okay|good|achieved|fulfil\w*|clear\w*|present)\b"
_VERDICT: Final = re.compile(rf"(?P<no>{_NEGATIVE}|[✗✘❌])|(?P<yes>{_POSITIVE}|[✓✔✅])", re.IGNORECASE)
_MARK: Final = re.compile(r"(?P<no>[✗✘❌]|\[\s\])|(?P<yes>[✓✔✅]|\[[xX]\])")
_NEGATED: Final = re.compile(rf"(?:{_NEGATIVE})[^.;\n]*$", re.IGNORECASE)

_HINTS: Final[Mapping[str, re.Pattern[str]]] = {
    name: re.compile(pattern, re.IGNORECASE)
    for name, pattern in {
        "better_than_previous": r"\b(?:improv\w+|better|progress\w*|stronger)\b",
        "significant_delta": r"\b(?:significant\w*|substantial\w*|considerabl\w+|marked\w*)\b",
        "approaching_target": r"\b(?:approach\w+|clos\w+ to|near\w*) (?:the |its |our )?(?:target|goal|threshold)\b",
        "not_degrading": r"\b(?:stable|stability|maintain\w*|(?:not|no|without)[ -]+(?:degrad|regress|declin)\w*)\b",
        "consistent_direction": r"\b(?:consistent\w*|steadi?l?y)\b",
        "delta_decreasing": r"\b(?:diminish\w*|decreas\w+|shrink\w*|plateau\w*|smaller (?:changes?|deltas?))\b",
        "within_tolerance": r"\b(?:toleranc\w+|converged|convergence (?:is )?reached|sufficiently close)\b",
    }.items()
}
"""Wordings that speak for a criterion of loops."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text says of criteria."""

    evaluations: Evaluations
    by: Literal["json", "pairs", "words", "nothing"]
    """How it was found."""

    @property
    def found(self) -> int:
        """Criteria that were judged."""
        return sum(map(len, self.evaluations.values()))


def read_object(value: object, criteria: Criteria) -> Evaluations:
    """The judgements in a JSON value: by dimension, as `dimension.criterion`, or by the criterion's name alone, wherever
    they stand in it. The last one of a criterion counts."""
    found: dict[str, bool] = {}
    _collect(value, {name: dimension for dimension, names in criteria.items() for name in names}, found, _DEEPEST)
    return _by_dimension(found, criteria)


def find_objects(text: str, criteria: Criteria) -> Evaluations:
    """The judgements in the JSON objects of a text, wherever they stand in it; of several, the last one counts."""
    owners = {name: dimension for dimension, names in criteria.items() for name in names}
    found: dict[str, bool] = {}
    for value in _objects(text[-MOST_TEXT:]):
        _collect(value, owners, found, _DEEPEST)
    return _by_dimension(found, criteria)


def read_text(text: str, criteria: Criteria) -> Reading:
    """The judgements in a text: its JSON; else `criterion: true`; else words of approval or refusal behind the criterion's
    name. The first way that finds any is the one."""
    text = text[-MOST_TEXT:]
    if evaluations := find_objects(text, criteria):
        return Reading(evaluations, "json")
    names = [name for inside in criteria.values() for name in inside]
    if evaluations := _by_dimension(dict(_pairs(text, names)), criteria):
        return Reading(evaluations, "pairs")
    if evaluations := _by_dimension(dict(_words(text, names)), criteria):
        return Reading(evaluations, "words")
    return Reading({}, "nothing")


def infer_convergence(text: str) -> dict[str, bool]:
    """The criteria of loops, by wordings that usually go with them. A criterion that nothing speaks for is not met."""
    text = text[-MOST_TEXT:]
    found: dict[str, bool] = {}
    for name, pattern in _HINTS.items():
        matches = list(pattern.finditer(text))
        found[name] = any(not _NEGATED.search(text[max(0, match.start() - 30) : match.start()]) for match in matches)
    return found


def complete(evaluations: Evaluations, criteria: Criteria) -> Evaluations:
    """Every criterion, false where it was not judged."""
    return {
        dimension: {name: evaluations.get(dimension, {}).get(name, False) for name in names}
        for dimension, names in criteria.items()
    }


def _collect(value: object, owners: Mapping[str, str], found: dict[str, bool], depth: int) -> None:
    if not isinstance(value, dict) or not depth:
        return
    for key, item in cast("dict[object, object]", value).items():
        name = re.sub(r"[\s-]+", "_", str(key).strip().lower()).rpartition(".")[2]
        if name in owners:
            if (judged := judgement(item)) is not None:
                found[name] = judged
        else:
            _collect(item, owners, found, depth - 1)


def _by_dimension(found: Mapping[str, bool], criteria: Criteria) -> Evaluations:
    evaluations: Evaluations = {}
    for dimension, names in criteria.items():
        if inside := {name: found[name] for name in names if name in found}:
            evaluations[dimension] = inside
    return evaluations


def _objects(text: str) -> Iterator[object]:
    decoder = json.JSONDecoder()
    start = text.find("{")
    for _ in range(_MOST_OBJECTS):
        if start < 0:
            return
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            yield value
        start = text.find("{", end)


@lru_cache(maxsize=256)
def _named(name: str) -> str:
    """The name as people and models write it: with blanks or hyphens, too."""
    return rf"(?<![a-z0-9]){'[_ -]+'.join(map(re.escape, name.split('_')))}(?![a-z0-9])"


def _pairs(text: str, names: Sequence[str]) -> Iterator[tuple[str, bool]]:
    for name in names:
        for match in re.finditer(_named(name) + _PAIR, text, re.IGNORECASE):
            yield name, match.group(1).lower() in _YES


def _words(text: str, names: Sequence[str]) -> Iterator[tuple[str, bool]]:
    places = [(match, name) for name in names if (match := re.search(_named(name), text, re.IGNORECASE)) is not None]
    places.sort(key=lambda place: place[0].start())
    for index, (match, name) in enumerate(places):
        following = places[index + 1][0].start() if index + 1 < len(places) else len(text)
        behind = text[match.end() : min(match.end() + _NEAR, following)].partition("\n")[0]
        before = text[max(0, match.start() - 6) : match.start()].rpartition("\n")[2]
        verdict = _MARK.search(before) or _VERDICT.search(behind)
        if verdict is not None:
            yield name, verdict.group("yes") is not None
