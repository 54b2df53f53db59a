"""Whole-graph checks over parsed data."""

from __future__ import annotations

from orka.graph.diagnostics import Findings
from orka.graph.nodes import Scope
from orka.graph.outline import Area
from orka.graph.spec import CompileTemplate


def check_areas(
    top: Area, scope: Scope, findings: Findings, *, compile_template: CompileTemplate, strict: bool
) -> None:
    """Reports to `findings`."""
