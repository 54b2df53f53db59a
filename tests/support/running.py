"""Runs small graphs written in a test, on a server that is there."""

import textwrap
from collections.abc import Iterable
from typing import Any

from orka.agents.registry import Registry, default_registry
from orka.graph.graph import Graph
from orka.graph.load import check_graph
from orka.orchestrator import Orchestrator
from orka.results import NodeResult, RunResult
from orka.settings import Settings
from orka.template.environment import Environment


def graph(text: str, registry: Registry | None = None) -> Graph:
    """The graph of a file's text. Fails with the faults of a text that has errors."""
    specs = (registry or default_registry()).specs()
    report = check_graph(textwrap.dedent(text), source="flow.yml", specs=specs, compile_template=Environment().compile)
    assert report.graph is not None, "\n".join(fault.render() for fault in report.faults)
    return report.graph


def opened(
    settings: Settings,
    text: str,
    *,
    registry: Registry | None = None,
    allow_functions: bool | Iterable[str] = False,
) -> Orchestrator:
    return Orchestrator(graph(text, registry), settings=settings, registry=registry, allow_functions=allow_functions)


async def execute(settings: Settings, text: str, input: Any = "hello", **options: Any) -> RunResult:
    return await opened(settings, text, **options).execute(input)


async def answer(settings: Settings, text: str, input: Any = "hello", **options: Any) -> Any:
    """What `run` gives."""
    return await opened(settings, text, **options).run(input)


def paths(result: RunResult) -> list[str]:
    return [visit.path for visit in result.results]


def at(result: RunResult, path: str) -> NodeResult:
    """The one visit of a path."""
    (found,) = [visit for visit in result.results if visit.path == path]
    return found


def said(result: RunResult, path: str) -> Any:
    """The response of a visit."""
    output = at(result, path).output
    assert isinstance(output, dict)
    return output["response"]
