"""Types of the values in a graph file, for the models: what pydantic does not say in our words or is too lenient about."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, TypeAlias

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from orka.ids import QUEUE, QUEUE_SHAPE

Ignored: TypeAlias = Annotated[Any, Field(json_schema_extra={"ignored": True})]
"""A key that files may have and that changes nothing."""
_TAKEN = frozenset({"input", "index", "previous_outputs"})
"""Names that templates know already."""
PERIODS: Final = {"s": 1, "sec": 1, "min": 60, "h": 3600, "hour": 3600, "day": 86_400}
"""Seconds of what a rate may be per."""
RATE: Final = re.compile(rf"\s*([1-9][0-9]{{0,5}})\s*/\s*({'|'.join(PERIODS)})\s*")
"""Up to 999,999 per second: turns are counted in microseconds."""
MOST_BURST: Final = 10_000
"""Turns at once: with one a day, their time still fits the numbers of a Lua script (2**53 microseconds)."""


def _number(value: object) -> object:
    # YAML's yes/no would become 1/0.
    if isinstance(value, bool):
        raise PydanticCustomError("number_expected", "a number is expected")
    return value


def _variable(value: object) -> object:
    if isinstance(value, str) and (not (value.isidentifier() and value.isascii()) or value in _TAKEN):
        raise PydanticCustomError("name_expected", "a name is expected")
    return value


def _rate(value: object) -> object:
    if not isinstance(value, str) or RATE.fullmatch(value) is None:
        raise PydanticCustomError("rate_expected", "a rate is expected")
    return value


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


def shape(words: str) -> WrapValidator:
    """For text with a `pattern`: what a message says in its place, because few can read a regular expression."""

    def say(value: object, inner: ValidatorFunctionWrapHandler) -> object:
        try:
            return inner(value)
        except ValidationError as exc:
            if any(error["type"] == "string_pattern_mismatch" for error in exc.errors(include_url=False)):
                raise PydanticCustomError("shape_expected", "{expected}", {"expected": words}) from None
            raise

    return WrapValidator(say)


# The bounds stand before the validator, else they are missing from the JSON Schema.
Positive: TypeAlias = Annotated[int, Field(ge=1), BeforeValidator(_number)]
Attempts: TypeAlias = Annotated[int, Field(ge=0, le=1000), BeforeValidator(_number)]
Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_number)]
Seconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_number)]
Amount: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_number)]
Rounds: TypeAlias = Annotated[int, Field(ge=1, le=100_000), BeforeValidator(_number)]
Factor: TypeAlias = Annotated[float, Field(ge=1, allow_inf_nan=False), BeforeValidator(_number)]
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1), BeforeValidator(_number)]
Pause: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_number)]
Texts: TypeAlias = Annotated[list[str], BeforeValidator(_one_or_many, json_schema_input_type=str | list[str])]
_NAMES: list[JsonValue] = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
Names: TypeAlias = Annotated[Any, WithJsonSchema({"anyOf": [*_NAMES, {"type": "null"}]})]
"""An id or a list of ids, or nothing. `entry.read_names` checks them, because it knows the place of each."""
SomeNames: TypeAlias = Annotated[Any, WithJsonSchema({"anyOf": _NAMES})]
"""The same with at least one."""
Variable: TypeAlias = Annotated[str, BeforeValidator(_variable)]
Queue: TypeAlias = Annotated[str, Field(pattern=f"^{QUEUE.pattern}$"), shape(QUEUE_SHAPE)]
"""Name of a queue or a resource: part of a Redis key."""
RateText: TypeAlias = Annotated[
    str, BeforeValidator(_rate), WithJsonSchema({"type": "string", "pattern": f"^{RATE.pattern}$"})
]
"""`60/min` and the like."""
Burst: TypeAlias = Annotated[int, Field(ge=1, le=MOST_BURST), BeforeValidator(_number)]
Label: TypeAlias = str | int | float
