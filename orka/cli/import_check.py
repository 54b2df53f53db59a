"""`orka import-check`: which files of a folder run here, and what they do otherwise than with OrKa 0.9."""

from __future__ import annotations

import io
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from orka.cli.exits import Exit
from orka.cli.modules import Modules, import_agents
from orka.cli.output import print_json, safe_line, safe_text, warn
from orka.errors import ConfigError
from orka.graph.diagnostics import Fault
from orka.graph.differences import Difference, find_differences
from orka.graph.legacy import is_workflow, read_workflow
from orka.graph.tree import MAX_BYTES, decode_text, plain, read_tree
from orka.services import check_file
from orka.types import Json

_ENDS = (".yml", ".yaml")
_SKIPPED = frozenset({"node_modules", "__pycache__", "site-packages"})
"""Folders in which nobody keeps workflows; hidden ones are skipped as well."""
_SHOWN = 3
"""Reasons of one file."""


class Verdict(StrEnum):
    """What becomes of a file."""

    SAME = "runs as is"
    DIFFERS = "runs with differences"
    CANNOT = "cannot run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One workflow file."""

    name: str
    """Below the folder."""
    verdict: Verdict
    faults: tuple[Fault, ...]
    """As `orka check` reports them."""
    differences: tuple[Difference, ...]

    @property
    def errors(self) -> tuple[Fault, ...]:
        return tuple(fault for fault in self.faults if fault.severity == "error")

    def as_json(self) -> dict[str, Json]:
        return {
            "file": self.name,
            "verdict": str(self.verdict),
            "differences": [difference.as_json() for difference in self.differences],
            "faults": [fault.as_json() for fault in self.faults],
        }


def import_check(
    folder: Annotated[Path, Parameter(name="FOLDER", help="Where the files lie; folders inside it count.")],
    /,
    *,
    json: Annotated[bool, Parameter(help="Print one object, with every difference and fault.")] = False,
    strict: Annotated[bool, Parameter(help="Exit with 1 when a file runs with differences.")] = False,
    import_: Modules = None,
) -> int:
    """Tell for a folder of OrKa 0.9 files which run as they are, which differ, and which cannot run, and why.

    Exit code 0: all run. 1: some differ, with --strict. 2: some cannot run, or there are none.
    """
    import_agents(import_)
    if not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is no folder; `orka check FILE` looks at one file", path=str(folder))
    findings: list[Finding] = []
    others: list[str] = []
    for path in yaml_files(folder):
        name = path.relative_to(folder).as_posix()
        finding = _look_at(path, name)
        if finding is None:
            others.append(name)
        else:
            findings.append(finding)
    counts = Counter(finding.verdict for finding in findings)
    if json:
        totals: dict[str, Json] = {str(verdict): counts[verdict] for verdict in Verdict}
        totals["no workflow"] = len(others)
        report = [finding.as_json() for finding in findings]
        print_json({"folder": str(folder), "files": report, "others": others, "counts": totals})
    else:
        _print(findings, others, counts)
    if not findings:
        warn(f"no workflow file was found in {str(folder)!r} (*.yml and *.yaml with `orchestrator:`)")
    if counts[Verdict.CANNOT] or not findings:
        return Exit.USAGE
    return Exit.FAILED if strict and counts[Verdict.DIFFERS] else Exit.OK


def yaml_files(folder: Path) -> Iterator[Path]:
    """Every YAML file below a folder, sorted; links to folders are not followed."""
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
        yield from (Path(root, name) for name in sorted(files) if name.lower().endswith(_ENDS))


def _look_at(path: Path, name: str) -> Finding | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)  # a graph file may have one byte less
    except OSError as error:
        fault = Fault(severity="error", message=f"the file cannot be read: {error.strerror}", file=name)
        return Finding(name=name, verdict=Verdict.CANNOT, faults=(fault,), differences=())
    return examine(name, data)


def examine(name: str, data: bytes) -> Finding | None:
    """What becomes of a file of this content; None: it is no workflow."""
    text, findings = decode_text(data, name)
    tree = None if findings.failed else read_tree(text, findings)
    document = None if tree is None else plain(tree)
    if document is None and findings.failed:
        # What YAML cannot read may yet be meant as a workflow: then its author wants to know why.
        if not any(line.startswith(b"orchestrator:") for line in data.splitlines()):
            return None
        return Finding(name=name, verdict=Verdict.CANNOT, faults=findings.faults(), differences=())
    if not isinstance(document, dict) or not is_workflow(document):
        return None
    report = check_file(data, name)
    differences = find_differences(read_workflow(document))
    if report.graph is None:
        verdict = Verdict.CANNOT
    else:
        # What the other warnings tell, such as a key that nothing reads, was so in 0.9, too.
        skipped = any(fault.key == "group" for fault in report.faults)
        verdict = Verdict.DIFFERS if differences or skipped else Verdict.SAME
    return Finding(name=name, verdict=verdict, faults=report.faults, differences=differences)


def _print(findings: Sequence[Finding], others: Sequence[str], counts: Counter[Verdict]) -> None:
    """A table of the files, what the codes in it mean, and the totals."""
    if findings:
        _print_files(findings)
        _print_codes(findings)
    totals = ", ".join(f"{counts[verdict]} {_plural(verdict, counts[verdict])}" for verdict in Verdict)
    number = f"{len(findings)} workflow{'' if len(findings) == 1 else 's'}"
    print(f"{number}: {totals}." + (f" {_others(others)}" if others else ""))


def _others(others: Sequence[str]) -> str:
    shown = ", ".join(safe_line(name, 60) for name in others[:5])
    more = ", ..." if len(others) > 5 else ""
    return f"No workflows: {len(others)} ({shown}{more})."


def _plural(verdict: Verdict, count: int) -> str:
    return str(verdict) if count == 1 else str(verdict).replace("runs", "run")


def _print_files(findings: Iterable[Finding]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("what differs, or why not", overflow="fold")
    styles = {Verdict.SAME: "green", Verdict.DIFFERS: "yellow", Verdict.CANNOT: "red"}
    for finding in findings:
        verdict = Text(str(finding.verdict), style=styles[finding.verdict])
        table.add_row(Text(safe_line(finding.name)), verdict, Text(safe_text(_reason(finding))))
    if sys.stdout.isatty():
        Console().print(table)
    else:  # wide enough that a line of the table stays a line, and without the blanks that fill it up
        text = io.StringIO()
        Console(file=text, width=160).print(table)
        print("\n".join(line.rstrip() for line in text.getvalue().splitlines()))
    print()


def _reason(finding: Finding) -> str:
    if finding.verdict is Verdict.CANNOT:
        return _why_not(finding)
    codes = [difference.code for difference in finding.differences]
    warnings = len(finding.faults)
    if warnings:
        codes.append(f"{warnings} warning{'' if warnings == 1 else 's'} of orka check")
    return ", ".join(codes)


def _why_not(finding: Finding) -> str:
    """The first errors, those of one wording together."""
    lines: dict[str, list[str]] = {}
    for fault in finding.errors:
        lines.setdefault(fault.message, []).append(str(fault.line))
    shown = [
        message if places == ["0"] else f"line{'s' if len(places) > 1 else ''} {_listed(places)}: {message}"
        for message, places in list(lines.items())[:_SHOWN]
    ]
    return "\n".join(shown if len(lines) <= _SHOWN else [*shown, f"and more: orka check {finding.name}"])


def _listed(places: Sequence[str]) -> str:
    return ", ".join(places[:5]) + (", ..." if len(places) > 5 else "")


def _print_codes(findings: Iterable[Finding]) -> None:
    used = {d.code: d.message for f in findings if f.verdict is not Verdict.CANNOT for d in f.differences}
    for code, message in used.items():
        print(f"{code}: {message}")
    if used:
        print()
