"""`Missing`: what a template gets for something that is not there. It is empty in every use, and its use is noted."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, SupportsIndex, cast

from jinja2 import Undefined

from orka.template.limits import current


def _neutral(other: object) -> object:
    """What an undefined value counts as beside `other`: the zero or empty value of its kind."""
    if isinstance(other, (str, list, tuple)):
        return type(cast("list[object]", other))()
    return 0


def _left(operate: Callable[[Any, Any], Any]) -> Callable[[Missing, object], object]:
    """`missing <op> other`: missing beside missing, zero or empty beside a value."""

    def operation(self: Missing, other: object) -> object:
        self.used()
        return self if isinstance(other, Undefined) else operate(_neutral(other), other)

    return operation


def _right(operate: Callable[[Any, Any], Any]) -> Callable[[Missing, object], object]:
    """`other <op> missing`."""

    def operation(self: Missing, other: object) -> object:
        self.used()
        return operate(other, 0 if operate is operator.mul else _neutral(other))

    return operation


_truediv = cast("Callable[[Any, Any], Any]", operator.truediv)
_floordiv = cast("Callable[[Any, Any], Any]", operator.floordiv)
_pow = cast("Callable[[Any, Any], Any]", operator.pow)


class Missing(Undefined):
    """Prints empty, is false, has no elements, any attribute of it is missing too. Reading it is noted once per tag.

    Truth tests, `is defined` and `default(...)` are how a template handles what may be missing: they note nothing.
    """

    __slots__ = ()

    def used(self) -> None:
        """Tells the rendering that this was read. In strict mode raises `TemplateError`."""
        meter = current.meter
        if meter is not None and self._undefined_name is not None:
            meter.undefined(self._undefined_name)

    def __getattr__(self, name: str) -> Missing:
        if name[:2] == "__":
            raise AttributeError(name)
        return self

    def __getitem__(self, key: object) -> Missing:
        return self

    def __call__(self, *args: object, **kwargs: object) -> Missing:
        self.used()
        return self

    def __str__(self) -> str:
        self.used()
        return ""

    def __iter__(self) -> Iterator[object]:
        self.used()
        return iter(())

    def __reversed__(self) -> Iterator[object]:
        return iter(self)

    def __len__(self) -> int:
        self.used()
        return 0

    def __contains__(self, item: object) -> bool:
        self.used()
        return False

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        self.used()
        return other is None or other == "" or isinstance(other, Undefined)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return 0

    def __int__(self) -> int:
        self.used()
        return 0

    def __float__(self) -> float:
        self.used()
        return 0.0

    def __round__(self, digits: SupportsIndex | None = None) -> Missing:
        self.used()
        return self

    def __neg__(self) -> Missing:
        self.used()
        return self

    __pos__ = __abs__ = __trunc__ = __floor__ = __ceil__ = __neg__

    __add__, __radd__ = _left(operator.add), _right(operator.add)
    __sub__, __rsub__ = _left(operator.sub), _right(operator.sub)
    __mul__, __rmul__ = _left(operator.mul), _right(operator.mul)
    __truediv__, __rtruediv__ = _left(_truediv), _right(_truediv)
    __floordiv__, __rfloordiv__ = _left(_floordiv), _right(_floordiv)
    __mod__, __rmod__ = _left(operator.mod), _right(operator.mod)
    __pow__, __rpow__ = _left(_pow), _right(_pow)
    __lt__, __gt__ = _left(operator.lt), _left(operator.gt)
    __le__, __ge__ = _left(operator.le), _left(operator.ge)


def nothing(_hint: str = "") -> Missing:
    """What `x if false` without an else is: empty on purpose, so using it is not noted."""
    return Missing()
