"""What a strict reader of graph files does not let pass. Pure."""

from __future__ import annotations

from dataclasses import replace

from orka.errors import GraphError
from orka.graph.codec import make_graph
from orka.graph.diagnostics import Fault
from orka.graph.graph import Graph


def refuse_warnings(warnings: tuple[Fault, ...]) -> None:
    """`GraphError` with what a strict reader does not let pass."""
    if warnings:
        faults = tuple(replace(fault, severity="error") for fault in warnings)
        message = "\n".join(fault.render() for fault in faults)
        raise GraphError(message, diagnostics=faults, path=faults[0].file)


def as_strict(graph: Graph) -> Graph:
    """The same graph with undefined names as errors."""
    limits = replace(graph.limits, strict_templates=True)
    return make_graph(graph.id, graph.scope, limits, graph.options, source=graph.source)
