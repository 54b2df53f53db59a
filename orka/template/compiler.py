"""From a syntax tree to its root function: Jinja's code generator, with every tag guarded by itself.

Each expression of a tag is evaluated in a `try` of its own, whose failure `Rendering` notes; and every operation that
can make much out of little goes through `Rendering` or `limits`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import StringIO
from typing import TYPE_CHECKING, Any, NoReturn, cast

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame

from orka.errors import TemplateError
from orka.template.rendering import FAILURES, Rendering, Tag
from orka.template.syntax import price

if TYPE_CHECKING:
    from orka.template.environment import Sandbox


def generate(environment: Sandbox, tree: nodes.Template, tags: list[Tag]) -> Callable[[Rendering], Iterator[str]]:
    """Compiles the tree to its root function. Raises `TemplateError`."""
    try:
        written = StringIO()
        generator = GuardedCodeGenerator(environment, None, None, written, optimized=False)
        generator.tags = tags
        generator.visit(tree)
        code = compile(written.getvalue(), "<template>", "exec")
    except SyntaxError as error:
        raise TemplateError(f"the template cannot be compiled: {error.msg}") from None
    except (RecursionError, MemoryError, ValueError, OverflowError) as error:
        raise TemplateError(f"the template cannot be compiled: {error or type(error).__name__}") from None
    namespace: dict[str, Any] = {"environment": environment, "FAILURES": FAILURES}
    exec(code, namespace)
    return cast("Callable[[Rendering], Iterator[str]]", namespace["root"])


class GuardedCodeGenerator(CodeGenerator):
    """Jinja's code generator; what it emits for a tag cannot fail, and every operation that can grow is bounded."""

    tags: list[Tag]
    """Set by `generate`: syntax nodes carry indexes of these where Jinja has lines."""

    def fail(self, msg: str, lineno: int) -> NoReturn:
        raise TemplateError(msg, line=self.tags[lineno or 0].line)

    def write_commons(self) -> None:
        super().write_commons()
        self.writeline("text = context.text")
        self.writeline("cond_expr_undefined = environment.nothing")

    def _guard(self, otherwise: str, tag: int, body: Callable[[], None]) -> None:
        """Emits `body` in a `try` whose failure is noted and followed by the statement `otherwise`."""
        self.writeline(f"context.tag = {tag}")
        self.writeline("try:")
        self.indent()
        body()
        self.outdent()
        self.writeline("except FAILURES as error:")
        self.indent()
        self.writeline(f"context.tag = {tag}")
        self.writeline(otherwise)
        self.outdent()

    def _value(self, node: nodes.Node, frame: Frame, before: str, after: str = ")", otherwise: str = "''") -> str:
        """Emits the guarded evaluation of an expression; gives the name of the local that holds its value."""
        name = self.temporary_identifier()

        def body() -> None:
            self.writeline(f"{name} = {before}")
            self.visit(node, frame)
            self.write(after)

        self._guard(f"{name} = context.failed(error, {otherwise})", node.lineno, body)
        return name

    def _stand_in(self, name: str, tag: int) -> nodes.InternalName:
        """A node that reads the local `name`."""
        node = object.__new__(nodes.InternalName)
        nodes.Node.__init__(node, name, lineno=tag)
        return node

    def visit_Output(self, node: nodes.Output, frame: Frame) -> None:
        for child in node.nodes:
            if isinstance(child, nodes.TemplateData):
                self._put(repr(child.data), frame)
            else:
                self._put(self._value(child, frame, "text("), frame)

    def _put(self, text: str, frame: Frame) -> None:
        """Emits the output of a Python expression that is text."""
        self.writeline(f"yield {text}" if frame.buffer is None else f"{frame.buffer}.append({text})")

    def start_write(self, frame: Frame, node: nodes.Node | None = None) -> None:
        # What blocks put out is whatever their filter or macro gave.
        super().start_write(frame, node)
        self.write("text(")

    def end_write(self, frame: Frame) -> None:
        self.write(")")
        super().end_write(frame)

    def visit_ExprStmt(self, node: nodes.ExprStmt, frame: Frame) -> None:
        # Only `check` makes these: the price of one pass through a repeated body.
        self.writeline("context.spend(")
        self.visit(node.node, frame)
        self.write(")")

    def visit_If(self, node: nodes.If, frame: Frame) -> None:
        inner = frame.soft()
        self.writeline(f"if {self._value(node.test, inner, 'bool(', otherwise='False')}:")
        self.indent()
        self.blockvisit(node.body, inner)
        self.outdent()
        if node.elif_ or node.else_:
            self.writeline("else:")
            self.indent()
            if node.elif_:
                following = node.elif_[0]
                rest = nodes.If(following.test, following.body, node.elif_[1:], node.else_, lineno=following.lineno)
                self.visit_If(rest, inner)
            else:
                self.blockvisit(node.else_, inner)
            self.outdent()

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        width = self._width(node.target)
        before, after = ("context.iterate(", ")") if width == 0 else ("context.rows(", f", {width})")
        name = self._value(node.iter, frame, before, after, otherwise="()")
        node.iter = self._stand_in(name, node.lineno)
        if node.test is not None:
            node.test = nodes.MarkSafe(node.test, lineno=node.test.lineno)
        super().visit_For(node, frame)

    def visit_MarkSafe(self, node: nodes.MarkSafe, frame: Frame) -> None:
        # The parser never makes these; `visit_For` marks the test of a loop, which has no room for a statement.
        self.write(f"context.holds({node.lineno}, {price(node.expr)}, lambda: ")
        self.visit(node.expr, frame)
        self.write(")")

    def _width(self, target: nodes.Node) -> int:
        """Number of names that a target unpacks into, 0 for a plain one."""
        if not isinstance(target, nodes.Tuple):
            return 0
        if any(isinstance(item, nodes.Tuple) for item in target.items):
            self.fail("unpacking within unpacking is not available", target.lineno)
        return len(target.items)

    def visit_Assign(self, node: nodes.Assign, frame: Frame) -> None:
        width = self._width(node.target)
        tag = node.lineno
        before, after, otherwise = "(", ")", "cond_expr_undefined()"
        if width:
            before, after, otherwise = "context.unpack(", f", {width})", f"({otherwise},) * {width}"
        node.node = self._stand_in(self._value(node.node, frame, before, after, otherwise), tag)
        if node.find(nodes.NSRef) is None:
            super().visit_Assign(node, frame)
        else:
            self._guard("context.failed(error, None)", tag, lambda: CodeGenerator.visit_Assign(self, node, frame))

    def visit_AssignBlock(self, node: nodes.AssignBlock, frame: Frame) -> None:
        self._guard(
            "context.failed(error, None)", node.lineno, lambda: CodeGenerator.visit_AssignBlock(self, node, frame)
        )

    def visit_FilterBlock(self, node: nodes.FilterBlock, frame: Frame) -> None:
        self._guard(
            "context.failed(error, None)", node.lineno, lambda: CodeGenerator.visit_FilterBlock(self, node, frame)
        )

    def visit_CallBlock(self, node: nodes.CallBlock, frame: Frame) -> None:
        self._guard(
            "context.failed(error, None)", node.lineno, lambda: CodeGenerator.visit_CallBlock(self, node, frame)
        )

    def visit_With(self, node: nodes.With, frame: Frame) -> None:
        values = [self._value(value, frame, "(", otherwise="cond_expr_undefined()") for value in node.values]
        node.values = [self._stand_in(name, node.lineno) for name in values]
        super().visit_With(node, frame)

    def visit_Call(self, node: nodes.Call, frame: Frame, forward_caller: bool = False) -> None:
        self.write("context.call(")
        self.visit(node.node, frame)
        self.signature(node, frame, {"caller": "caller"} if forward_caller else None)
        self.write(")")

    def visit_Filter(self, node: nodes.Filter, frame: Frame) -> None:
        self.write(f"context.{_way(node.name)}({self.filters[node.name]}, ")
        if node.node is None:
            self.write(f"concat({frame.buffer})")
        else:
            self.visit(node.node, frame)
        self.signature(node, frame)
        self.write(")")

    def visit_Test(self, node: nodes.Test, frame: Frame) -> None:
        self.write(f"context.{_way(node.name)}({self.tests[node.name]}, ")
        self.visit(node.node, frame)
        self.signature(node, frame)
        self.write(")")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        self.write("(")
        self._weighed(node.expr, frame)
        for operand in node.ops:
            self.visit(operand, frame)
        self.write(")")

    def visit_Operand(self, node: nodes.Operand, frame: Frame) -> None:
        self.write(f" {_COMPARISONS[node.op]} ")
        self._weighed(node.expr, frame)

    def _weighed(self, node: nodes.Expr, frame: Frame) -> None:
        if isinstance(node, nodes.Const):
            self.visit(node, frame)
            return
        self.write("context.weigh(")
        self.visit(node, frame)
        self.write(")")

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self.write("{")
        for pair in node.items:
            self._weighed(pair.key, frame)
            self.write(": ")
            self.visit(pair.value, frame)
            self.write(", ")
        self.write("}")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("context.concat((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        self.write("environment.getitem(")
        self.visit(node.node, frame)
        self.write(", ")
        self.visit(node.arg, frame)
        self.write(")")

    def visit_Slice(self, node: nodes.Slice, frame: Frame) -> None:
        self.write("slice(")
        for part in (node.start, node.stop, node.step):
            if part is None:
                self.write("None")
            else:
                self.visit(part, frame)
            self.write(", ")
        self.write(")")


_LOOKING = {
    *("attr", "count", "d", "default", "first", "last", "length", "safe", "safe_get"),
    *("boolean", "callable", "defined", "false", "float", "integer", "iterable", "mapping", "none", "number", "sameas"),
    *("sequence", "string", "true", "undefined"),
}
"""Filters and tests that do not read all of their value, however large it is."""


def _way(name: str) -> str:
    """The method of `Rendering` that runs a filter or test."""
    return "look" if name in _LOOKING else "apply"


_COMPARISONS = {
    "eq": "==",
    "ne": "!=",
    "gt": ">",
    "gteq": ">=",
    "lt": "<",
    "lteq": "<=",
    "in": "in",
    "notin": "not in",
}
