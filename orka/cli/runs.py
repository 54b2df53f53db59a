"""`orka runs list`, `show`, `events` and `trace`: what is in the registry and in the journals. Reads only."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from orka.cli.exits import Exit
from orka.cli.interrupt import run_until_stopped
from orka.cli.lookup import find_run
from orka.cli.modules import Modules, import_agents
from orka.cli.output import cost_text, print_json, print_table, render_json, safe_line, safe_text, usage_text
from orka.clock import iso
from orka.errors import ConfigError
from orka.journal.entries import Kind
from orka.journal.paths import readable
from orka.results import Usage
from orka.runs import RunEvent, RunInfo, RunReport, Runs, VisitInfo, open_runs
from orka.services import open_services
from orka.settings import Settings
from orka.traces import read_trace, write_trace
from orka.types import RunStatus

_EVENT_ID = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?(?:\+([0-9]{1,20})(?:-([0-9]{1,20}))?)?")
"""An entry id of a stream: milliseconds, and a number within them; both have 64 bits. Of a token, that of the entry before
it and its own."""
RunArgument = Annotated[str, Parameter(name="RUN", help="A run id, or the beginning of one.")]
AsJson = Annotated[bool, Parameter(help="Print JSON.")]


def list_runs(
    *,
    status: Annotated[RunStatus | None, Parameter(help="Only runs of this status.")] = None,
    limit: Annotated[int, Parameter(help="At most so many.")] = 50,
    stale: Annotated[bool, Parameter(help="Only runs under way that no process executes, and no worker will.")] = False,
    json: AsJson = False,
) -> int:
    """List runs, newest first."""
    if limit < 1:
        raise ConfigError(f"--limit must be at least 1, not {limit}")

    async def work(runs: Runs) -> None:
        found = await runs.list(status=status, limit=limit, stale=stale)
        if json:
            print_json([_info(info) for info in found])
        elif found:
            rows = ((i.run_id, _status(i), i.graph, iso(i.created_ms)[:19], safe_line(i.input, 60)) for i in found)
            print_table(("RUN", "STATUS", "GRAPH", "STARTED", "INPUT"), rows)

    return _with_runs(work)


def show(run: RunArgument, /, *, json: AsJson = False) -> int:
    """Show one run and its visits, in the order in which they ended."""

    async def work(runs: Runs) -> None:
        report = await runs.show(await find_run(runs, run))
        if json:
            print_json(
                {
                    **_info(report.info),
                    "error": report.error,
                    "error_path": report.error_path,
                    "usage": asdict(report.usage),
                    "warnings": list(report.warnings),
                    "visits": [asdict(visit) for visit in report.visits],
                }
            )
        else:
            _print_report(report)

    return _with_runs(work)


def events(
    run: RunArgument,
    /,
    *,
    follow: Annotated[bool, Parameter(help="Wait for more until the run ends.")] = False,
    after: Annotated[str, Parameter(name="--from", help="Begin after the event of this id.")] = "0",
    json: Annotated[bool, Parameter(help="Print one JSON object per line.")] = False,
) -> int:
    """Print a run's events in order."""
    found = _EVENT_ID.fullmatch(after)
    if found is None or any(int(part) >= 2**64 for part in found.groups("0")):
        raise ConfigError(f"--from takes the id of an event, such as 1720000000000-0, not {after!r}")

    async def work(runs: Runs) -> None:
        async for event in runs.events(await find_run(runs, run), after=after, follow=follow):
            if json:
                print(render_json(asdict(event), indent=None), flush=follow)
            else:
                print(_line(event), flush=follow)

    return _with_runs(work)


def trace(
    run: RunArgument,
    /,
    *,
    output: Annotated[Path | None, Parameter(help="Write this file instead of standard output.")] = None,
    whole: Annotated[bool, Parameter(help="Every payload where it belongs, without the blob store.")] = False,
    import_: Modules = None,
) -> int:
    """Print the trace of a completed run, made from its journal. Nothing is executed.

    Agent types of a module are named with --import, as when it was run.
    """
    import_agents(import_)

    async def main() -> int:
        async with open_services(Settings.from_environment()) as services:
            run_id = await find_run(Runs(services.registry, services.router), run)
            made = await read_trace(services, run_id, whole=whole or None)
            if output is not None:
                await write_trace(made, output)
        if output is None:
            print_json(made)
        return Exit.OK

    return run_until_stopped(main)


def _with_runs(work: Callable[[Runs], Awaitable[None]]) -> int:
    async def main() -> int:
        async with open_runs(Settings.from_environment()) as runs:
            await work(runs)
        return Exit.OK

    return run_until_stopped(main)


def _info(info: RunInfo) -> dict[str, Any]:
    return {**asdict(info), "stale": info.stale}


def _status(info: RunInfo) -> str:
    if info.stale:
        return "stale"
    return "queued" if info.waiting and not info.status.ended else info.status.value


def _line(event: RunEvent) -> str:
    """One event for people: id, time, kind, path, and what matters of its data."""
    shown = {
        name: event.data[name] for name in ("status", "error", "output", "input", "branches") if name in event.data
    }
    facts = safe_line(render_json(shown, indent=None), 200) if shown else ""
    if event.kind == Kind.NODE_TOKEN:
        facts = safe_line(render_json(event.data.get("text"), indent=None), 200)
    return (
        f"{event.id}  {iso(event.at_ms)[11:23]}  {event.kind:<14}  {safe_line(readable(event.path))}  {facts}".rstrip()
    )


def _print_report(report: RunReport) -> None:
    info = report.info
    facts = {
        "run": info.run_id,
        "status": _status(info) + (f" (executed by {info.holder})" if info.lease_left_ms else ""),
        **({"queue": info.queue} if info.queue else {}),
        "graph": f"{info.graph} ({info.digest})",
        "input": safe_line(info.input),
        "started": iso(info.created_ms),
        "ended": iso(info.ended_ms) if info.ended_ms else "-",
        "generation": str(info.generation),
        "entries": str(info.entries),
    }
    if used := usage_text(report.usage):
        facts["used"] = used
    if report.error:
        facts["error"] = safe_line(f"{readable(report.error_path or 'run')}: {report.error}")
    for name, value in facts.items():
        print(f"{name:<11} {safe_text(value)}")
    print()
    priced = any(visit.usage for visit in report.visits)
    titles = ("PATH", "STATUS", "TIME", "ATTEMPTS", *(("TOKENS", "COST") if priced else ()), "ERROR")
    print_table(titles, (_visit(visit, priced) for visit in report.visits))
    warnings = [f"{readable(visit.path)}: {text}" for visit in report.visits for text in visit.warnings]
    if warnings or report.warnings:
        print("\nWARNINGS")
    for text in (*report.warnings, *warnings):
        print(safe_line(text, 400))


def _visit(visit: VisitInfo, priced: bool) -> tuple[str, ...]:
    time = "" if visit.duration_ms is None else f"{visit.duration_ms / 1000:.3f} s"
    usage = visit.usage or Usage()
    price = (f"{usage.tokens:,}" if usage.tokens else "", cost_text(usage.cost_usd) if usage.cost_usd else "")
    used = price if priced else ()
    return readable(visit.path), visit.status, time, str(visit.attempts), *used, safe_line(visit.error or "", 200)
