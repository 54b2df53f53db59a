"""`Environment` compiles the templates and expressions of a graph, once each; `Template` renders against a `View`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, cast

from jinja2 import nodes
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Namespace

from orka.errors import TemplateError
from orka.template import compiler, syntax
from orka.template.filters import FILTERS
from orka.template.limits import OPERATORS, SIZE_LIMIT, breach, current
from orka.template.missing import Missing, nothing
from orka.template.reads import reads_of
from orka.template.rendering import FAILURES, Rendering, Tag
from orka.template.values import attribute, element
from orka.template.view import View
from orka.types import Json

_CACHED = 512
"""Compiled templates kept; larger sources than `_CACHED_SOURCE` characters are not kept."""
_CACHED_SOURCE = 50_000
_JINJA_OBJECTS = frozenset({Cycler, LoopContext, Macro, Namespace})
_LOOP_NAMES = frozenset(name for name in vars(LoopContext) if name[0] != "_")


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox reading values our way; what is not a value goes on to Jinja's own rules."""

    intercepted_binops = frozenset(OPERATORS)
    nothing = staticmethod(nothing)

    def __init__(self) -> None:
        super().__init__(undefined=Missing, autoescape=False, optimized=False)
        self.code_generator_class = compiler.GuardedCodeGenerator
        self.filters = dict(FILTERS)
        self.eval_context = nodes.EvalContext(self)

    def getattr(self, obj: Any, attribute: str) -> object:
        kind = obj.__class__
        if kind is dict and attribute in obj:
            return obj[attribute]
        if kind is LoopContext and attribute in _LOOP_NAMES:
            return getattr(obj, attribute)
        return super().getattr(obj, attribute) if kind in _JINJA_OBJECTS else _attribute(obj, attribute)

    def getitem(self, obj: object, argument: object) -> object:
        return super().getitem(obj, argument) if isinstance(obj, Namespace) else element(obj, argument)

    def call_binop(self, context: object, operator: str, left: object, right: object) -> object:
        return OPERATORS[operator](left, right)


class _Compiled:
    """What `Template` and `Expression` share: the root function, its tags, and what the source reads."""

    __slots__ = ("environment", "notes", "reads", "reads_all", "root", "tags")

    def __init__(self, environment: Sandbox, tree: nodes.Template, tags: list[Tag]) -> None:
        self.environment = environment
        self.tags = tuple(tags)
        self.notes = tuple(syntax.check(tree, tags, environment))
        self.reads, self.reads_all = reads_of(tree)
        self.root: Callable[[Rendering], Iterator[str]] = compiler.generate(environment, tree, tags)


class Template:
    """A compiled template. Immutable; any thread may render it."""

    __slots__ = ("_code", "_text", "constant", "notes", "reads", "reads_all", "source")

    def __init__(self, source: str, code: _Compiled | None, text: str) -> None:
        self.source = source
        self._code = code
        self._text = text
        self.constant = code is None
        """True when there is nothing to evaluate."""
        self.reads: frozenset[str] = frozenset() if code is None else code.reads
        """Node ids whose outputs the template names as constants."""
        self.reads_all = code is not None and code.reads_all
        """True when it reads earlier outputs in a way whose ids are known only when it renders."""
        self.notes: tuple[str, ...] = () if code is None else code.notes
        """Warnings found at compile time, one sentence each."""

    def render(self, view: View) -> str:
        """The text. What was undefined or failed is empty and noted in `view.warnings`, or raises in strict mode.

        Raises `TemplateError` for a template that goes beyond a limit. Synchronous, and bounded in work and size.
        """
        code = self._code
        if code is None:
            return self._text
        rendering = Rendering(code.environment, code.tags, view)
        current.meter = rendering
        try:
            text = "".join(code.root(rendering))
        except (TemplateError, *FAILURES) as error:
            raise rendering.located(error) from error.__cause__
        finally:
            current.meter = None
        if len(text) > SIZE_LIMIT:
            raise breach(f"{SIZE_LIMIT:,} characters")
        return text


class Expression:
    """A compiled expression, as in `map: {items: previous_outputs.search}`. Immutable."""

    __slots__ = ("_code", "_is_path", "notes", "reads", "reads_all", "source")

    def __init__(self, source: str, code: _Compiled, is_path: bool) -> None:
        self._is_path = is_path
        self.source = source
        self._code = code
        self.reads = code.reads
        self.reads_all = code.reads_all
        self.notes = code.notes

    def evaluate(self, view: View) -> Json:
        """The value, as JSON. What is undefined or failed is None and noted, or raises in strict mode.

        Raises `TemplateError` as `Template.render` does.
        """
        code = self._code
        rendering = Rendering(code.environment, code.tags, view)
        current.meter = rendering
        try:
            for _ in code.root(rendering):
                pass
            value = rendering.vars.get(syntax.RESULT)
            if self._is_path and value.__class__ in (dict, list, str):
                return cast(Json, value)  # An output is JSON already, and may be larger than what templates may make.
            rendering.weigh(value)
            return cast(Json, rendering.plain(value))
        except (TemplateError, *FAILURES) as error:
            raise rendering.located(error) from error.__cause__
        finally:
            current.meter = None


class Environment:
    """Compiles. One per process is enough; compiled sources are kept. Safe to share between threads."""

    def __init__(self) -> None:
        self._sandbox = Sandbox()
        self._template = lru_cache(_CACHED)(self._compile)
        self._expression = lru_cache(_CACHED)(self._compile_expression)

    def compile(self, source: str) -> Template:
        """Raises `TemplateError`, its `line` counting within `source`."""
        return self._template(source) if len(source) <= _CACHED_SOURCE else self._compile(source)

    def compile_expression(self, source: str) -> Expression:
        """`source` with or without `{{ }}` around it. Raises `TemplateError`."""
        return self._expression(source) if len(source) <= _CACHED_SOURCE else self._compile_expression(source)

    def _compile(self, source: str) -> Template:
        tree, tags = syntax.parse(self._sandbox, source)
        text = syntax.constant_text(tree)
        return Template(source, _Compiled(self._sandbox, tree, tags) if text is None else None, text or "")

    def _compile_expression(self, source: str) -> Expression:
        bare = source.strip()
        tree, tags = syntax.parse(self._sandbox, bare if bare.startswith("{{") else f"{{{{ {bare} }}}}")
        tree = syntax.assigned(tree, source)
        is_path = syntax.is_path(tree)
        return Expression(source, _Compiled(self._sandbox, tree, tags), is_path)


_attribute = attribute
