"""`orka check`, `orka validate` and `orka schema`: what can be said about graph files without running them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from orka.cli.arguments import STANDARD_INPUT
from orka.cli.exits import Exit
from orka.cli.modules import Modules, import_agents
from orka.cli.output import print_json, render_json, safe_text
from orka.cli.source import load_source, refuse_twice, shown_name
from orka.errors import ConfigError, GraphError
from orka.graph.diagnostics import Fault
from orka.services import format_schema
from orka.types import Json


def check(
    first: Annotated[Path, Parameter(name="FILE", help="A graph file; - reads standard input.")],
    /,
    *rest: Annotated[Path, Parameter(name="FILES", help="More graph files.")],
    json: Annotated[bool, Parameter(help="Print a list with one object per file.")] = False,
    strict: Annotated[bool, Parameter(help="Exit with 1 when there are warnings.")] = False,
    import_: Modules = None,
) -> int:
    """Report every fault of graph files, without running them.

    Exit code 0: clean (warnings allowed unless --strict). 1: warnings with --strict. 2: errors.
    """
    refuse_twice((first, *rest))
    import_agents(import_)
    reports: list[dict[str, Json]] = []
    worst = Exit.OK
    for file in (first, *rest):
        code, faults, text = _check_one(file, strict)
        worst = max(worst, code)
        reports.append({"file": shown_name(file), "ok": code == Exit.OK, "faults": faults})
        if not json:
            print(safe_text(text))
    if json:
        print_json(reports)
    return worst


def _check_one(file: Path, strict: bool) -> tuple[Exit, list[Json], str]:
    """Exit code, faults as JSON, and the same as text."""
    try:
        faults = load_source(file, strict=strict).warnings
    except GraphError as error:
        faults = tuple(fault for fault in error.diagnostics if isinstance(fault, Fault))
    errors = sum(fault.severity == "error" for fault in faults)
    warnings = len(faults) - errors
    code = Exit.USAGE if errors else Exit.FAILED if strict and warnings else Exit.OK
    name = shown_name(file)
    summary = f"{name}: {_count(errors, 'error')}, {_count(warnings, 'warning')}" if faults else f"{name}: ok"
    return code, [fault.as_json() for fault in faults], "\n".join([*(fault.render() for fault in faults), summary])


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def schema(
    *, output: Annotated[Path | None, Parameter(name=["--output", "-o"], help="Write it to a file.")] = None
) -> int:
    """Print the JSON Schema of the graph format, for editors."""
    text = render_json(format_schema())
    if output is None or str(output) == STANDARD_INPUT:
        print(text)
        return Exit.OK
    try:
        output.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {str(output)!r}: {error.strerror}", path=str(output)) from error
    return Exit.OK
