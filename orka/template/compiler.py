"""From source to a compiled root function: Jinja's parser and code generator, with every tag guarded by itself.

Two things differ from Jinja. A token's line number is the index of the tag it stands in, so that each syntax node knows the
source text it came from. And each expression of a tag is evaluated in a `try` of its own, whose failure `Rendering` notes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, cast

from jinja2 import TemplateSyntaxError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.lexer import TokenStream
from jinja2.parser import Parser

from orka.errors import TemplateError
from orka.template.limits import DEPTH_LIMIT, NODE_LIMIT, NODE_WORK, SOURCE_LIMIT, breach
from orka.template.rendering import Rendering, Tag

if TYPE_CHECKING:
    from orka.template.environment import Sandbox

_UNAVAILABLE: Mapping[type[nodes.Node], str] = {
    nodes.Block: "block",
    nodes.Extends: "extends",
    nodes.FromImport: "from",
    nodes.Import: "import",
    nodes.Include: "include",
}
RESULT = "result"
"""The variable that the root of a compiled expression assigns."""


def parse(environment: Sandbox, source: str) -> tuple[nodes.Template, list[Tag]]:
    """The syntax tree of `source`, whose line numbers are indexes of the tags. Raises `TemplateError`."""
    if len(source) > SOURCE_LIMIT:
        raise breach(f"{SOURCE_LIMIT:,} characters of source")
    tags: list[Tag] = [Tag(1, "")]
    try:
        tokens = list(_numbered(environment, source, tags))
    except TemplateSyntaxError as error:
        raise TemplateError(error.message or "bad syntax", line=error.lineno) from None
    parser = Parser(environment, "")
    try:
        parser.stream = TokenStream(environment.lexer.wrap(iter(tokens)), None, None)
        tree = parser.parse()
    except TemplateSyntaxError as error:
        raise TemplateError(error.message or "bad syntax", line=tags[error.lineno].line) from None
    except RecursionError:
        raise breach(f"{DEPTH_LIMIT} levels of nesting") from None
    return tree, tags


def _numbered(environment: Sandbox, source: str, tags: list[Tag]) -> Iterator[tuple[int, str, str]]:
    """The raw tokens of `source`; in place of the line, the index in `tags` of the tag they belong to."""
    for line, kind, text in environment.lexer.tokeniter(source, None):
        if kind in ("variable_begin", "block_begin"):
            tags.append(Tag(line, text))
        elif kind not in ("data", "raw_begin", "raw_end") and "comment" not in kind:
            tags[-1].source += text
        yield len(tags) - 1, kind, text


def check(tree: nodes.Template, tags: list[Tag], environment: Sandbox) -> list[str]:
    """Refuses what is too large or not available, makes unknown filters harmless, and charges repeated bodies.

    Gives one sentence for every unknown filter.
    """
    notes: list[str] = []
    for node in list(_walk(tree)):
        tag = tags[node.lineno or 0]
        if type(node) in _UNAVAILABLE:
            raise TemplateError(f"`{_UNAVAILABLE[type(node)]}` is not available: a template stands alone", line=tag.line)
        if isinstance(node, nodes.Filter) and node.name not in environment.filters:
            notes.append(f"{tag}: unknown filter {node.name!r} leaves its value as it is")
            node.args, node.kwargs, node.dyn_args, node.dyn_kwargs = [nodes.Const(node.name)], [], None, None
            node.name = "unknown_filter"
        elif isinstance(node, nodes.Test) and node.name not in environment.tests:
            raise TemplateError(f"{tag}: unknown test {node.name!r}", line=tag.line)
        elif isinstance(node, (nodes.For, nodes.Macro, nodes.CallBlock)):
            node.body.insert(0, nodes.ExprStmt(nodes.Const(_price(node)), lineno=node.lineno))
    return notes


def constant_text(tree: nodes.Template) -> str | None:
    """The text of a template with nothing to evaluate; None for any other."""
    parts: list[str] = []
    for node in tree.body:
        if not isinstance(node, nodes.Output):
            return None
        for child in node.nodes:
            if not isinstance(child, nodes.TemplateData):
                return None
            parts.append(child.data)
    return "".join(parts)


def assigned(tree: nodes.Template, source: str) -> nodes.Template:
    """The tree of `{{ expression }}` as one that assigns the value to `RESULT`. Raises `TemplateError`."""
    outputs = tree.body[0].nodes if len(tree.body) == 1 and isinstance(tree.body[0], nodes.Output) else []
    if len(outputs) != 1 or isinstance(outputs[0], nodes.TemplateData):
        raise TemplateError(f"{source[:200]!r} is not one expression", line=1)
    target = nodes.Name(RESULT, "store", lineno=outputs[0].lineno)
    tree.body = [nodes.Assign(target, outputs[0], lineno=outputs[0].lineno)]
    return tree


def _price(*roots: nodes.Node) -> int:
    """Units of work for one pass through `roots`."""
    return NODE_WORK + sum(_cost(node) for root in roots for node in _walk(root))


def _cost(node: nodes.Node) -> int:
    return NODE_WORK + (len(node.data) if isinstance(node, nodes.TemplateData) else 0)


def _walk(root: nodes.Node) -> Iterator[nodes.Node]:
    """All nodes, `root` first. Raises `TemplateError` when there are too many or too deep."""
    stack = [(root, 0)]
    count = 0
    while stack:
        node, depth = stack.pop()
        count += 1
        if depth > DEPTH_LIMIT or count > NODE_LIMIT:
            raise breach(f"{DEPTH_LIMIT} levels of nesting" if depth > DEPTH_LIMIT else f"{NODE_LIMIT:,} syntax nodes")
        yield node
        stack.extend((child, depth + 1) for child in node.iter_child_nodes())


def generate(environment: Sandbox, tree: nodes.Template) -> Callable[[Rendering], Iterator[str]]:
    """Compiles the tree to its root function. Raises `TemplateError`."""
    try:
        generator = GuardedCodeGenerator(environment, None, None, optimized=False)
        generator.visit(tree)
        code = compile(generator.stream.getvalue(), "<template>", "exec")
    except TemplateSyntaxError as error:
        raise TemplateError(error.message or "bad syntax") from None
    except (RecursionError, MemoryError, SyntaxError, ValueError, OverflowError) as error:
        raise TemplateError(f"the template is nested too deeply or names what it cannot: {error}") from None
    namespace: dict[str, Any] = {"environment": environment}
    exec(code, namespace)
    return cast("Callable[[Rendering], Iterator[str]]", namespace["root"])


class GuardedCodeGenerator(CodeGenerator):
    """Jinja's code generator; what it emits for a tag cannot fail, and every operation that can grow is bounded."""

    def fail(self, msg: str, lineno: int) -> NoReturn:
        raise TemplateError(msg)

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
        self.writeline("except Exception as error:")
        self.indent()
        self.writeline(f"context.tag = {tag}")
        self.writeline(otherwise)
        self.outdent()

    def _value(self, node: nodes.Expr, frame: Frame, before: str, after: str = ")", otherwise: str = "''") -> str:
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
                self.simple_write(repr(child.data), frame)
            else:
                self.simple_write(self._value(child, frame, "text("), frame)

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
        self.write(f"context.holds({node.lineno}, {_price(node.expr)}, lambda: ")
        self.visit(node.expr, frame)
        self.write(")")

    def _width(self, target: nodes.Expr) -> int:
        """Number of names that a target unpacks into, 0 for a plain one."""
        if not isinstance(target, nodes.Tuple):
            return 0
        if any(isinstance(item, nodes.Tuple) for item in target.items):
            raise TemplateError("unpacking within unpacking is not available")
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
        self.write(f"context.apply({self.filters[node.name]}, ")
        if node.node is None:
            self.write(f"concat({frame.buffer})")
        else:
            self.visit(node.node, frame)
        self.signature(node, frame)
        self.write(")")

    def visit_Test(self, node: nodes.Test, frame: Frame) -> None:
        self.write(f"context.apply({self.tests[node.name]}, ")
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
