"""What PyYAML says about text that is no YAML, in our words. Wording only: reading is `tree.py`'s business."""

from __future__ import annotations

import re

import yaml

from orka.graph.diagnostics import NOWHERE, Findings, Mark


def report_syntax(exc: yaml.MarkedYAMLError, findings: Findings, *, most_nested: int) -> None:
    """A scanner's or parser's error in our words, at the place where the author has to look."""
    problem = exc.problem or "not YAML"
    if "maximum nesting" in problem:  # PyYAML from 6.0.4 has a limit of its own, which its look-ahead meets before ours
        problem = f"nested deeper than {most_nested} levels"
    mark = exc.problem_mark or exc.context_mark
    if "end of stream" in problem and exc.context_mark is not None:
        mark = exc.context_mark  # where the unclosed quote or bracket began
        problem = f"{exc.context or 'this'} is not closed".replace("while scanning ", "").replace("while parsing ", "")
        problem = problem.replace("quoted scalar", "quoted text")
    at = NOWHERE if mark is None else Mark(mark.line + 1, mark.column + 1)
    line = findings.line(at.line)
    if "\\t" in problem or re.match(r" *\t", line):
        findings.error("YAML syntax: a tab in the indentation", at, hint="indent with spaces")
    else:
        findings.error(f"YAML syntax: {problem}", at, hint=_syntax_hint(problem, line))


def _syntax_hint(problem: str, line: str) -> str | None:
    if "mapping values are not allowed" in problem:
        return "quote text that contains ': ', or check the indentation"
    if re.search(r":\s+\{\{", line) or re.match(r"\s*-\s+\{\{", line):
        return 'quote a value that begins with a template: "{{ ... }}"'
    if "expected key" in problem or "expected '-' indicator" in problem or "block end" in problem:
        return "check the indentation of this line and of those before it"
    return None
