"""From a file to a checked `Graph`: the one entrance of this package. The only module of it that opens files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from orka.errors import GraphError
from orka.graph.assemble import assemble
from orka.graph.check import check_areas
from orka.graph.codec import make_graph
from orka.graph.diagnostics import Fault, Findings
from orka.graph.graph import Graph
from orka.graph.parse import parse_tree
from orka.graph.spec import AgentSpecs, CheckPattern, CompileTemplate
from orka.graph.tree import MAX_BYTES, decode_text, read_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A graph without errors, with the warnings of its file in file order."""

    graph: Graph
    warnings: tuple[Fault, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All faults of a file, in file order; `graph` is None when one of them is an error."""

    graph: Graph | None
    faults: tuple[Fault, ...]


def load_graph(
    path: str | Path,
    *,
    specs: AgentSpecs,
    compile_template: CompileTemplate,
    check_pattern: CheckPattern = re.compile,
    strict: bool = False,
) -> Loaded:
    """Reads and checks a file. `GraphError`, with every fault, when it has an error or cannot be read."""
    source = str(path)
    report = check_graph(
        _read(Path(path), source),
        source=source,
        specs=specs,
        compile_template=compile_template,
        check_pattern=check_pattern,
        strict=strict,
    )
    return loaded(report, source)


def loaded(report: Report, source: str) -> Loaded:
    """`GraphError`, with every fault, when there is an error among them."""
    if report.graph is None:
        raise GraphError("\n".join(fault.render() for fault in report.faults), diagnostics=report.faults, path=source)
    return Loaded(graph=report.graph, warnings=report.faults)


def check_graph(
    text: str | bytes,
    *,
    source: str,
    specs: AgentSpecs,
    compile_template: CompileTemplate,
    check_pattern: CheckPattern = re.compile,
    strict: bool = False,
) -> Report:
    """Everything there is to say about a graph. Never raises for a fault of the text.

    `strict` makes errors of undefined ids in loop bodies and of what templates report as unknown. Without a
    `check_pattern`, every regular expression that compiles is good.
    """
    decoded, findings = decode_text(text, source)
    tree = None if findings.failed else read_tree(decoded, findings)
    if tree is None:
        return Report(graph=None, faults=findings.faults())
    parsed = parse_tree(tree, specs, findings, check_pattern)
    if parsed is None:
        return Report(graph=None, faults=findings.faults())
    scope = assemble(parsed.top, findings)
    check_areas(parsed.top, scope, findings, compile_template=compile_template, strict=strict)
    faults = findings.faults()
    if findings.failed:
        return Report(graph=None, faults=faults)
    return Report(graph=make_graph(parsed.id, scope, parsed.limits, parsed.options, source=source), faults=faults)


def _read(path: Path, source: str) -> bytes:
    """The file's bytes, at most one more than is allowed. `GraphError` names the remedy."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        problem = _missing(path)
    except IsADirectoryError:
        problem = "is a folder; name the graph file in it"
    except PermissionError:
        problem = "may not be read; change its permissions or owner"
    except (OSError, ValueError) as exc:
        problem = f"cannot be read: {getattr(exc, 'strerror', None) or exc}"
    findings = Findings(source)
    findings.error(f"the file {problem}")
    faults = findings.faults()
    raise GraphError("\n".join(fault.render() for fault in faults), diagnostics=faults, path=source)


def _missing(path: Path) -> str:
    twin = next((path.with_suffix(end) for end in (".yml", ".yaml") if path.with_suffix(end).is_file()), None)
    if twin is not None:
        return f"does not exist; did you mean {str(twin)!r}?"
    try:
        return f"does not exist (looked in {str(path.absolute().parent)!r})"
    except FileNotFoundError:
        return "does not exist, nor does the working folder: it was deleted"
