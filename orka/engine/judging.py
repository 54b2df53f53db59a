"""A round's score by the yes-or-no judgements among its results, and by how much its responses agree. Pure.

The judgements are rule a of the score extraction in workflow-format 8.5, the agreement is its rule d.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

from orka.engine.scales import score_of
from orka.graph.nodes import Scoring
from orka.scoring import BooleanScoreCalculator
from orka.scoring.reading import Criteria, Evaluations, find_objects, read_object
from orka.types import Json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def judge_round(scoring: Scoring, results: Mapping[str, Json]) -> float | None:
    """The score, 0 to 1, of the first member that has judged at least half of the criteria, or says a
    `validation_score`; None when none does."""
    calculator = BooleanScoreCalculator(scoring.preset, scoring.context, scoring.weights)
    for output in results.values():
        for evaluations in _evaluations(output, calculator.criteria):
            if evaluations is None:
                score = _validation_score(output)
            elif 2 * sum(map(len, evaluations.values())) >= len(calculator.weights):
                score = cast(float, calculator.calculate(evaluations)["score"])
            else:
                score = None
            if score is not None:
                return score
    return None


def _evaluations(output: Json, criteria: Criteria) -> Iterator[Evaluations | None]:
    """Where one member's judgements may stand, in the order in which they count; None stands for its own score."""
    given = _own(output, "boolean_evaluations")
    if isinstance(given, dict) and _has_shape(given):
        yield read_object(given, criteria)
    yield None
    if isinstance(output, str):
        yield find_objects(output, criteria)
    elif isinstance(output, dict):
        if isinstance(text := output.get("response"), str):
            yield find_objects(text, criteria)
        # JSON of a model's answer lies spread over its result
        spread = {name: output[name] for name in criteria if isinstance(output.get(name), dict)}
        yield read_object(spread, criteria)


def _has_shape(evaluations: Mapping[str, Json]) -> bool:
    """Two dimensions at least, or one with two criteria."""
    dimensions = [value for value in evaluations.values() if isinstance(value, dict)]
    return len(dimensions) > 1 or (len(dimensions) == 1 and len(dimensions[0]) > 1)


def _validation_score(output: Json) -> float | None:
    return score_of(_own(output, "validation_score"))


def _own(output: Json, key: str) -> Json:
    """A key of an output, or of a mapping under its `response` or `result`."""
    if not isinstance(output, dict):
        return None
    places: list[Json] = [output, output.get("response"), output.get("result")]
    return next((place[key] for place in places if isinstance(place, dict) and key in place), None)


def responses_of(results: Mapping[str, Json]) -> list[str]:
    """The texts that a round's members answered; what is no text, or empty, is left out."""
    found: list[str] = []
    for output in results.values():
        text = output.get("response") if isinstance(output, dict) else output
        if isinstance(text, str) and text.strip():
            found.append(text)
    return found


def agreement(vectors: NDArray[np.float32]) -> float:
    """The mean cosine of all pairs of rows, 0 to 1. `vectors`: shape (n, dimension) with n from 2 on, rows of length 1 or
    0. Rounded to four decimals, so that the last bits of another machine's arithmetic make no difference."""
    rows = vectors.astype("float64")
    total = rows.sum(axis=0)
    count = rows.shape[0]
    # The squared length of the sum holds every pair twice, and every row's own square once.
    mean = (float(total @ total) - float((rows * rows).sum())) / (count * (count - 1))
    return min(1.0, max(0.0, round(mean, 4)))
