"""`Rendering`: one rendering under way. Compiled templates talk to it and to nothing else.

It stands where Jinja has its `Context`, but copies nothing: names are read from the `View` when a template asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, cast

from jinja2 import TemplateRuntimeError
from jinja2.runtime import LoopContext, Macro
from jinja2.utils import Cycler, Joiner, Namespace, missing

from orka.errors import TemplateError
from orka.template.functions import FUNCTIONS, NAMES
from orka.template.limits import NODE_WORK, WORK_LIMIT, bounded_range, breach, claim, weigh
from orka.template.missing import Missing, nothing
from orka.template.text import plain, text_of
from orka.template.view import View

if TYPE_CHECKING:
    from jinja2.nodes import EvalContext

    from orka.template.environment import Sandbox

_view_functions = frozenset(FUNCTIONS.values())
_GLOBALS: dict[str, object] = {
    **FUNCTIONS,
    "cycler": Cycler,
    "dict": dict,
    "joiner": Joiner,
    "namespace": Namespace,
    "range": bounded_range,
}
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
    TemplateRuntimeError,
)
"""What evaluating an expression may raise. `TemplateError` of ours is not among them: it ends the rendering."""
_CALLABLE = (FunctionType, Macro, LoopContext, Cycler, Joiner, Missing)


class Tag:
    """One `{{ }}` or `{% %}` of a template: its line, from 1, and its text as it stands there."""

    __slots__ = ("line", "source")

    def __init__(self, line: int, source: str) -> None:
        self.line = line
        self.source = source

    def __str__(self) -> str:
        source = self.source if len(self.source) <= 120 else f"{self.source[:117]}..."
        return f"`{source}` (line {self.line})"


class Rendering:
    """Owned by the thread that renders. The names `vars`, `exported_vars` and `eval_ctx` are Jinja's."""

    __slots__ = ("_noted", "_tags", "_work", "environment", "eval_ctx", "exported_vars", "tag", "vars", "view")

    def __init__(self, environment: Sandbox, tags: Sequence[Tag], view: View) -> None:
        self.environment = environment
        self.eval_ctx: EvalContext = environment.eval_context
        self.view = view
        self.vars: dict[str, object] = {}
        self.exported_vars: set[str] = set()
        self.tag = 0
        """Index of the tag being evaluated; the compiled code sets it."""
        self._tags = tags
        self._noted: set[int] | None = None
        self._work = WORK_LIMIT

    def resolve_or_missing(self, name: str) -> object:
        """What a name means: a variable of the visit, a part of the view, a function, else Jinja's `missing`."""
        view = self.view
        if view.variables and name in view.variables:
            return view.variables[name]
        read = NAMES.get(name)
        return _GLOBALS.get(name, missing) if read is None else read(view)

    def text(self, value: Any) -> str:
        """`value` as it is printed."""
        kind = value.__class__
        if kind is str:
            self._work -= len(value)
            if self._work < 0:
                raise breach(f"{WORK_LIMIT:,} units of work")
            return value
        return str(value) if kind is int else text_of(value)

    def spend(self, units: int) -> None:
        """Charges `units` of work. Raises `TemplateError` when the budget is used up."""
        self._work -= units
        if self._work < 0:
            raise breach(f"{WORK_LIMIT:,} units of work")

    def weigh(self, value: object) -> object:
        """Charges for all of `value`, which is about to be read whole, and gives it back."""
        self.spend(weigh(value))
        return value

    def concat(self, values: Iterable[object]) -> str:
        """`a ~ b`."""
        texts = [self.text(value) for value in values]
        claim(sum(map(len, texts)))
        return "".join(texts)

    def apply(self, function: Callable[..., object], value: object, /, *args: object, **kwargs: object) -> object:
        """A filter or a test that reads all of `value`."""
        self.spend(NODE_WORK + weigh(value))
        if args:
            self.spend(weigh(args))
        return function(value, *args, **kwargs)

    def look(self, function: Callable[..., object], value: object, /, *args: object, **kwargs: object) -> object:
        """A filter or a test that only looks at `value`."""
        self.spend(NODE_WORK)
        return function(value, *args, **kwargs)

    def call(self, target: object, /, *args: object, **kwargs: object) -> object:
        """A call in a template. Functions of ours get the view; methods are charged for what they read."""
        self.spend(NODE_WORK)
        if target.__class__ is FunctionType:
            if target in _view_functions:
                return cast("Callable[..., object]", target)(self.view, *args, **kwargs)
        elif target.__class__ is MethodType:
            owner = cast(MethodType, target).__self__
            self.spend(weigh(owner) + weigh(args) + weigh(kwargs))
        elif isinstance(target, type):
            self.spend(weigh(args))  # A key of a new dict is hashed, all of it.
        elif not isinstance(target, _CALLABLE):
            raise TypeError(f"a {type(target).__name__} cannot be called")
        return cast("Callable[..., object]", target)(*args, **kwargs)

    def iterate(self, value: object) -> object:
        """What a `for` goes over. Raises TypeError for what has no elements."""
        iter(cast("Iterable[object]", value))
        return value

    def rows(self, value: object, width: int) -> Iterable[tuple[object, ...]]:
        """What a `for a, b in` goes over: rows that do not fit are missing, and noted."""
        return [self.unpack(row, width) for row in cast("Iterable[object]", value)]

    def unpack(self, row: object, width: int) -> tuple[object, ...]:
        """`row` as `width` values; missing ones, noted, when it is something else."""
        if isinstance(row, (list, tuple)):
            values = cast("Sequence[object]", row)
            if len(values) == width:
                return tuple(values)
        if not isinstance(row, Missing):
            self.failed(ValueError(f"not {width} values"), None)
        return (nothing(),) * width

    def holds(self, tag: int, price: int, test: Callable[[], object]) -> bool:
        """The test of a `for ... if`, whose failure is noted for `tag` and counts as false."""
        self.spend(price)
        self.tag = tag
        try:
            return bool(test())
        except FAILURES as error:
            return bool(self.failed(error, False))

    def undefined(self, name: object) -> None:
        """Notes that the tag under way read something undefined. In strict mode raises `TemplateError`."""
        self._note(f"{name!r} is undefined" if isinstance(name, str) else f"{name} is undefined")

    def failed(self, error: Exception, otherwise: object) -> object:
        """An expression failed: notes it and gives what stands in for its value. Running out of stack is a breach."""
        if isinstance(error, (RecursionError, MemoryError)):
            raise breach("nesting of calls or values") from error
        self._note(f"failed with {type(error).__name__}: {str(error)[:200]}")
        return otherwise

    def outputs(self) -> object:
        return self.view.outputs

    def located(self, error: Exception) -> TemplateError:
        """`error`, which ends the rendering, as one that says at which tag."""
        tag = self._tags[self.tag]
        if isinstance(error, TemplateError):
            return error if error.line is not None else TemplateError(f"{tag}: {error}", line=tag.line)
        if isinstance(error, RecursionError):
            return self.located(breach("nesting of calls or values"))
        return TemplateError(f"{tag}: failed with {type(error).__name__}: {str(error)[:200]}", line=tag.line)

    def plain(self, value: object) -> object:
        """`value` as JSON, or None, noted, when it is no value."""
        try:
            return plain(value)
        except TypeError as error:
            return self.failed(error, None)

    def note(self, message: str) -> None:
        """Notes `message` about the tag under way, once. In strict mode raises `TemplateError`."""
        self._note(message)

    def _note(self, message: str) -> None:
        index = self.tag
        tag = self._tags[index]
        if self.view.strict:
            raise TemplateError(f"{tag}: {message}", line=tag.line)
        if self._noted is None:
            self._noted = set()
        if index not in self._noted:
            self._noted.add(index)
            self.view.warnings.append(f"{tag}: {message}")
