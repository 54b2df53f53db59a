"""What one rendering may cost, and the bounded forms of operations that grow their operands.

Templates can come from strangers, and a rendering runs on the event loop. Every limit here is a count, never a clock: a
rendering that is repeated on replay ends the same way on a slow machine and on a fast one.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from orka.errors import TemplateError

SOURCE_LIMIT = 1_000_000
"""Characters of template source."""
TOKEN_LIMIT = 50_000
"""Tokens of one template, white space within tags included."""
NODE_LIMIT = 5_000
"""Syntax nodes of one template."""
DEPTH_LIMIT = 100
"""Syntax nodes inside each other."""
SIZE_LIMIT = 8_000_000
"""Characters of a rendered text or of any text that an expression makes; elements of any list that one makes."""
WORK_LIMIT = 16_000_000
"""Units of work of one rendering: 1 for a character read, and the two below."""
NODE_WORK = 16
"""Units for executing one syntax node."""
ELEMENT_WORK = 32
"""Units for reading one element of a list or mapping."""
RANGE_LIMIT = 100_000
"""Elements of one `range()`."""
BITS_LIMIT = 4096
"""Bits of an integer that a template computes."""

_WIDE = re.compile(r"\d{5}|\*|\{[^{}]*\{")


_SCALARS = frozenset({int, float, bool, type(None)})


class Meter(Protocol):
    """The rendering under way, as values and operations see it (`orka.template.rendering.Rendering`)."""

    def spend(self, units: int) -> None: ...
    def undefined(self, name: object) -> None: ...
    def outputs(self) -> object:
        """The mapping of earlier outputs."""
        ...


class _Current(threading.local):
    meter: Meter | None = None


current = _Current()
"""The rendering of this thread: a rendering is synchronous, so there is at most one."""


def breach(limit: str) -> TemplateError:
    """The error for a template that goes beyond `limit`, which is said in words."""
    return TemplateError(f"the template goes beyond the limit of {limit}")


def spend(units: int) -> None:
    """Charges the rendering of this thread. Raises `TemplateError` when its work is used up."""
    meter = current.meter
    if meter is not None:
        meter.spend(units)


def claim(size: int) -> int:
    """`size` characters or elements are about to be made: charges them. `TemplateError` beyond `SIZE_LIMIT`."""
    if size > SIZE_LIMIT:
        raise breach(f"{SIZE_LIMIT:,} characters or elements in one value")
    spend(size)
    return size


def weigh(value: Any) -> int:
    """Units of work to read all of `value`: a thing that a list holds twice counts twice.

    Raises `TemplateError` beyond `WORK_LIMIT`.
    """
    if value.__class__ is str:
        return len(value)
    if value.__class__ in _SCALARS:
        return 1
    units = 0
    stack: list[Any] = [value]
    while stack:
        item = stack.pop()
        units += ELEMENT_WORK
        if isinstance(item, str):
            units += len(item)
        elif item.__class__ in _SCALARS:
            continue
        elif isinstance(item, (list, tuple)):
            stack.extend(cast("list[Any]", item))
        elif isinstance(item, Mapping):
            stack.extend(cast("Mapping[Any, Any]", item))
            stack.extend(cast("Mapping[Any, Any]", item).values())
        if units > WORK_LIMIT:
            raise breach(f"{WORK_LIMIT:,} units of work")
    return units


def _bits(value: object) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def add(left: Any, right: Any) -> object:
    if isinstance(left, (str, list, tuple)) and isinstance(right, (str, list, tuple)):
        claim(len(cast("Sequence[object]", left)) + len(cast("Sequence[object]", right)))
    return _small(cast(Any, left) + cast(Any, right))


def multiply(left: Any, right: Any) -> object:
    for many, count in ((left, right), (right, left)):
        if isinstance(many, (str, list, tuple)) and isinstance(count, int):
            claim(len(cast("Sequence[object]", many)) * max(count, 0))
    if _bits(left) + _bits(right) > BITS_LIMIT:
        raise breach(f"{BITS_LIMIT} bits in an integer")
    return left * right


def power(left: Any, right: Any) -> object:
    if isinstance(left, int) and isinstance(right, int) and _bits(left) * abs(right) > BITS_LIMIT:
        raise breach(f"{BITS_LIMIT} bits in an integer")
    return left**right


def modulo(left: Any, right: Any) -> object:
    if isinstance(left, str):
        return percent(left, right)
    return left % right


def percent(pattern: str, values: object) -> str:
    """`pattern % values`, refusing widths of five digits and widths taken from the values."""
    _refuse_wide(pattern)
    claim(len(pattern) + weigh(values) + 10_000 * pattern.count("%"))
    return pattern % values


def _refuse_wide(pattern: str) -> None:
    if _WIDE.search(pattern):
        raise breach("four digits in the width or precision of a format")


def check_format(pattern: str, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
    """Charges a `str.format` before it runs. `TemplateError` for widths of five digits or taken from values."""
    _refuse_wide(pattern)
    claim(len(pattern) + (weigh(list(args)) + weigh(list(kwargs.values())) + 10_000) * pattern.count("{"))


def _small(value: object) -> object:
    if isinstance(value, int) and value.bit_length() > BITS_LIMIT:
        raise breach(f"{BITS_LIMIT} bits in an integer")
    return value


def bounded_range(*bounds: int) -> range:
    """`range` of at most `RANGE_LIMIT` elements."""
    made = range(*bounds)
    if len(made) > RANGE_LIMIT:
        raise breach(f"{RANGE_LIMIT:,} elements of a range")
    return made


OPERATORS: Mapping[str, Callable[[Any, Any], object]] = {
    "+": add,
    "*": multiply,
    "**": power,
    "%": modulo,
}
"""Binary operators that can make much out of little; the others run as Python has them."""
