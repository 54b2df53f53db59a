"""From source to a checked syntax tree whose nodes know the tag they stand in.

A token's line number is replaced by the index of its tag before Jinja parses it: the number reaches every syntax node,
and leads to the tag's line and its text as it stands in the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from jinja2 import TemplateSyntaxError, nodes
from jinja2.lexer import TokenStream
from jinja2.parser import Parser

from orka.errors import TemplateError
from orka.template.limits import DEPTH_LIMIT, NODE_LIMIT, NODE_WORK, SOURCE_LIMIT, TOKEN_LIMIT, breach
from orka.template.rendering import Tag

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
        tokens = _limited(_numbered(environment, source, tags))
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


def _limited(tokens: Iterator[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    taken = list(islice(tokens, TOKEN_LIMIT + 1))
    if len(taken) > TOKEN_LIMIT:
        raise breach(f"{TOKEN_LIMIT:,} tokens")
    return taken


def check(tree: nodes.Template, tags: list[Tag], environment: Sandbox) -> list[str]:
    """Refuses what is too large or not available, makes unknown filters harmless, and charges repeated bodies.

    Gives one sentence for every unknown filter.
    """
    notes: list[str] = []
    for node in list(_walk(tree)):
        tag = tags[node.lineno or 0]
        if type(node) in _UNAVAILABLE:
            raise TemplateError(
                f"`{_UNAVAILABLE[type(node)]}` is not available: a template stands alone", line=tag.line
            )
        if isinstance(node, nodes.Filter) and node.name not in environment.filters:
            notes.append(f"{tag}: unknown filter {node.name!r} leaves its value as it is")
            node.args, node.kwargs, node.dyn_args, node.dyn_kwargs = [nodes.Const(node.name)], [], None, None
            node.name = "unknown_filter"
        elif isinstance(node, nodes.Test) and node.name not in environment.tests:
            raise TemplateError(f"{tag}: unknown test {node.name!r}", line=tag.line)
        elif isinstance(node, (nodes.For, nodes.Macro, nodes.CallBlock)):
            node.body.insert(
                0,
                nodes.ExprStmt(
                    nodes.Const(price(*(node.body if isinstance(node, nodes.For) else [node]))), lineno=node.lineno
                ),
            )
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


def is_path(tree: nodes.Template) -> bool:
    """Whether a tree of `assigned` only follows names and keys, so that its value is a part of the view."""
    assign = next(iter(tree.body), None)
    steps = (nodes.Assign, nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Const)
    return assign is not None and all(isinstance(node, steps) for node in _walk(assign))


def price(*roots: nodes.Node) -> int:
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
