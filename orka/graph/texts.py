"""Checks of the templates and expressions in a parsed file: do they compile, and can what they read exist."""

from __future__ import annotations

from collections.abc import Mapping

from orka.errors import TemplateError
from orka.graph.diagnostics import Findings, Mark, suggest
from orka.graph.outline import Area, Definition, Text
from orka.graph.reach import Branch, branch_members
from orka.graph.spec import CompileTemplate, TemplateFacts
from orka.types import NodeId

MAX_TAGS = 2_000
"""Template tags of one text, and ten times that of one file: each costs about half a millisecond to compile."""
_NOT_IDS = frozenset({"past_loops", "get", "items", "keys", "values", "loop_number", "input"})
"""Names that templates may find in `previous_outputs` without a node of that id."""


def check_texts(
    top: Area,
    places: Mapping[NodeId, int],
    findings: Findings,
    *,
    compile_template: CompileTemplate,
    strict: bool,
) -> None:
    """`places`: where the ids of the file's own list run that can run nowhere else."""
    everywhere = frozenset(definition.id for _, definition in top.walk())
    members = branch_members(top, places)
    tags = 0
    for area, definition in top.walk():
        for text in definition.texts:
            tags += _tags(text)
            if _tags(text) > MAX_TAGS or tags > 10 * MAX_TAGS:
                findings.error(
                    f"more than {MAX_TAGS if _tags(text) > MAX_TAGS else 10 * MAX_TAGS:,} template tags",
                    text.scalar.at,
                    agent=text.owner,
                    key=text.key,
                )
                return
            facts = _compile(text, findings, compile_template)
            if facts is None:
                continue
            for note in facts.notes:
                report = findings.error if strict else findings.warning
                report(f"{_label(text)}: {note}", text.scalar.at, agent=text.owner, key=text.key)
            _check_reads(text, facts, area, definition, everywhere, places, findings)
            if area is top and (here := places.get(definition.id)) is not None:
                _check_visible(text, facts, here, members, findings)


def _tags(text: Text) -> int:
    return text.scalar.text.count("{{") + text.scalar.text.count("{%")


def _label(text: Text) -> str:
    return f"{text.key!r} of {text.owner!r}"


def _compile(text: Text, findings: Findings, compile_template: CompileTemplate) -> TemplateFacts | None:
    source = text.scalar.text
    try:
        return compile_template(f"{{{{ {source} }}}}" if text.expression else source)
    except TemplateError as exc:
        message, line = str(exc), exc.line
    except (RecursionError, MemoryError) as exc:
        message, line = f"too deeply nested ({type(exc).__name__})", None
    what = "expression" if text.expression else "template"
    if text.certain:
        findings.error(f"bad {what} in {_label(text)}: {message}", _place(text, line, findings), agent=text.owner)
    else:
        findings.warning(
            f"{_label(text)} looks like a template but does not compile: {message}",
            _place(text, line, findings),
            agent=text.owner,
            key=text.key,
        )
    return None


def _place(text: Text, line: int | None, findings: Findings) -> Mark:
    """The file's place of a line of a template; lines of a `|` block are lines of the file."""
    at = text.scalar.at
    if line is None or not text.scalar.literal:
        return at
    shown = findings.line(at.line + line)
    return Mark(at.line + line, len(shown) - len(shown.lstrip()) + 1)


def _check_reads(
    text: Text,
    facts: TemplateFacts,
    area: Area,
    definition: Definition,
    everywhere: frozenset[NodeId],
    places: Mapping[NodeId, int],
    findings: Findings,
) -> None:
    here = places.get(definition.id)
    for read in sorted(facts.reads):
        name = NodeId(read if read in everywhere else read.split(".")[0])
        if name in _NOT_IDS:
            continue
        if name not in everywhere:
            findings.warning(
                f"{_label(text)} reads the output of {name!r}, which nothing in this file defines",
                _where(text, name, findings),
                hint=suggest(name, area.visible()),
                agent=text.owner,
                key=text.key,
            )
        elif here is not None and area.parent is None and places.get(name, -1) > here:
            findings.warning(
                f"{_label(text)} reads the output of {name!r}, which runs only later",
                _where(text, name, findings),
                hint=f"list it after {name!r}, or give it 'depends_on: {name}'",
                agent=text.owner,
                key=text.key,
            )


def _check_visible(
    text: Text, facts: TemplateFacts, here: int, members: Mapping[NodeId, Branch], findings: Findings
) -> None:
    """Outputs of branches that are read in the file's own list, at the place `here`, before a join brings them in."""
    for name in sorted({NodeId(read if read in members else read.split(".")[0]) for read in facts.reads}):
        branch = members.get(name)
        if branch is not None and branch.opened < here < branch.joined:
            findings.warning(
                f"{_label(text)} reads the output of {name!r}, which runs in fork {branch.fork!r} and is not visible"
                " here: nothing joins the fork before",
                _where(text, name, findings),
                hint=f"list a join of {branch.fork!r} before {text.owner!r}",
                agent=text.owner,
                key=text.key,
            )


def _where(text: Text, name: str, findings: Findings) -> Mark:
    """The place of `name` in the template as the file has it, where that can be told."""
    at = text.scalar.at
    first = at.line + 1 if text.scalar.literal else at.line
    for number in range(first, first + text.scalar.text.count("\n") + 1):
        start = at.column - 1 if number == at.line else 0
        if (found := findings.line(number).find(name, start)) >= 0:
            return Mark(number, found + 1)
    return at
