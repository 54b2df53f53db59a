"""`orka submit` and `orka cancel`: runs that workers execute, begun and ended from here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from orka.cli.exits import Exit
from orka.cli.input import read_input
from orka.cli.interrupt import run_until_stopped
from orka.cli.lookup import find_run
from orka.cli.modules import Modules, import_agents
from orka.cli.output import warn
from orka.cli.run import report
from orka.cli.runs import RunArgument
from orka.cli.source import load_source, refuse_twice
from orka.clock import now_ms
from orka.dispatch.roster import remedy_for, serving
from orka.engine.away import SHARED
from orka.ids import parse_queue, parse_session
from orka.operations import cancel_run
from orka.orchestrator import Orchestrator, refuse_warnings
from orka.runs import Runs
from orka.services import open_services
from orka.settings import Settings
from orka.types import RunStatus


def submit(
    file: Annotated[Path, Parameter(help="The graph file; - reads standard input.")],
    input: Annotated[str, Parameter(help="The input; - reads standard input.")],
    /,
    *,
    json_input: Annotated[bool, Parameter(help="The input is JSON, or the name of a JSON file.")] = False,
    queue: Annotated[str, Parameter(help="The queue whose workers may take it.")] = SHARED,
    wait: Annotated[bool, Parameter(help="Wait for the end, and print the answer as orka run does.")] = False,
    strict: Annotated[bool, Parameter(help="Warnings, and undefined names in templates, are errors.")] = False,
    session: Annotated[
        str | None, Parameter(help="The session that the run belongs to: session_id of templates.")
    ] = None,
    quiet: Annotated[bool, Parameter(help="Show no warnings.")] = False,
    import_: Modules = None,
    tokens: Annotated[
        bool, Parameter(help="Have orka runs events --follow show what agents say, as they say it.")
    ] = False,
) -> int:
    """Put a run on a queue for a worker, and print its id.

    With --wait the answer alone goes to standard output, and the id to standard error. Ctrl-C then ends the waiting, not
    the run.
    """
    parse_queue(queue)
    parse_session(session)
    refuse_twice((file, input))
    import_agents(import_)
    loaded = load_source(file, strict=strict)
    if strict:
        refuse_warnings(loaded.warnings)
    for fault in () if quiet else loaded.warnings:
        warn(fault.render())
    orchestrator = Orchestrator(loaded.graph, settings=Settings.from_environment(), strict=strict)
    value = read_input(input, as_json=json_input)
    submitted: list[str] = []

    async def work() -> int:
        async with orchestrator:
            handle = await orchestrator.submit(value, queue=queue, tokens=tokens, session_id=session)
            submitted.append(handle.run_id)
            if wait:
                warn(f"submitted {handle.run_id}")
            else:
                print(handle.run_id, flush=True)
            if not quiet:
                await _warn_if_unserved(orchestrator.runs, queue)
            return report(await handle.finished(), sys.stdout, as_log=False, quiet=quiet) if wait else Exit.OK

    code = run_until_stopped(work)
    if code in (Exit.INTERRUPTED, Exit.TERMINATED) and submitted:
        warn(f"the run goes on; see orka runs show {submitted[0]}, or end it with orka cancel {submitted[0]}")
    return code


async def _warn_if_unserved(runs: Runs, queue: str) -> None:
    if queue not in serving(await runs.workers(), now_ms()):
        warn(f"warning: nobody serves queue {queue!r} now; start {remedy_for(queue)}")


def cancel(run: RunArgument, /) -> int:
    """End a run wherever it is executed. It stays readable, and can be resumed.

    Returns when it is over: at once where nobody executes it, else within a lease and a few seconds.
    """

    async def work() -> int:
        async with open_services(Settings.from_environment()) as services:
            run_id = await find_run(Runs(services.registry, services.router), run)
            status = await cancel_run(services, run_id)
            if status is not RunStatus.CANCELLED:
                warn(f"error: run {run_id} is {status} already; there is nothing to cancel")
                return Exit.FAILED
            print(f"run {run_id} is cancelled")
            warn(f"resume it with: orka resume {run_id}")
            return Exit.OK

    return run_until_stopped(work)
