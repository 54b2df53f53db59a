"""`orka run` and `orka resume`: progress while it goes on, then the answer alone on standard output."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, TextIO

from cyclopts import Parameter

from orka.cli.arguments import ANY_FILE, ANY_MODULE
from orka.cli.dry import rehearsal, scripted, scripted_search
from orka.cli.exits import Exit
from orka.cli.input import read_input
from orka.cli.interrupt import run_until_stopped
from orka.cli.live import Show
from orka.cli.lookup import find_run
from orka.cli.modules import Modules, import_agents, search_here
from orka.cli.output import print_json, print_value, safe_line, usage_text, warn
from orka.cli.remarks import remarks
from orka.cli.showing import choose_progress
from orka.cli.source import load_source, refuse_twice
from orka.cli.streams import OutputLost, set_output_aside
from orka.engine.answer import log_entries
from orka.errors import BudgetExceeded, RunTimeout, StepsExceeded
from orka.ids import new_run_id, parse_session
from orka.journal.paths import readable
from orka.orchestrator import Orchestrator, RunResult, finish, refuse_warnings
from orka.runs import RunEvent, open_runs
from orka.settings import Settings
from orka.types import RunId, RunStatus

AllowFunctions = Annotated[
    str | None,
    Parameter(help="Let function agents call Python code: of any module, or of those named with =MODULE,MODULE."),
]
Watch = Annotated[bool, Parameter(help="Show progress also where there is no terminal.")]
Quiet = Annotated[bool, Parameter(help="Show no progress and no warnings.")]
TraceFile = Annotated[
    str | None,
    Parameter(name="--trace", help="Leave a trace file, in the folder of ORKA_LOG_DIR or logs, or as =FILE says."),
]
Stream = Annotated[bool, Parameter(help="Print on standard error what agents say, as they say it.")]
AsLog = Annotated[bool, Parameter(help="Print the list of log entries instead of the answer.")]


def run(
    file: Annotated[Path, Parameter(help="The graph file; - reads standard input.")],
    input: Annotated[str, Parameter(help="The input; - reads standard input.")],
    /,
    *,
    json: AsLog = False,
    json_input: Annotated[bool, Parameter(help="The input is JSON, or the name of a JSON file.")] = False,
    watch: Watch = False,
    quiet: Quiet = False,
    allow_functions: AllowFunctions = None,
    import_: Modules = None,
    distributed: Annotated[bool, Parameter(help="Send branches to the shared queues that orka worker serves.")] = False,
    strict: Annotated[bool, Parameter(help="Warnings, and undefined names in templates, are errors.")] = False,
    session: Annotated[
        str | None, Parameter(help="The session that the run belongs to: session_id of templates.")
    ] = None,
    trace: TraceFile = None,
    dry_run: Annotated[
        bool,
        Parameter(
            help="Ask no model, search nothing: show what would be asked, go on with made-up answers, and keep nothing."
        ),
    ] = False,
    stream: Stream = False,
) -> int:
    """Run a graph on an input and print its answer.

    An input that begins with a dash stands after a double dash: orka run FILE -- "-5 degrees".
    """
    progress = choose_progress(watch=watch, quiet=quiet, stream=stream, lines=dry_run)
    refuse_twice((file, input))
    parse_session(session)
    settings, allowed = Settings.from_environment(), permission(allow_functions)
    run_id = new_run_id()
    stored: list[RunId] = []
    with set_output_aside() as out, rehearsal(settings) if dry_run else nullcontext(settings) as settings:
        import_agents(import_)
        loaded = load_source(file, strict=strict)
        if strict:
            refuse_warnings(loaded.warnings)
        for fault in () if quiet else loaded.warnings:
            warn(fault.render())
        orchestrator = Orchestrator(
            loaded.graph,
            settings=settings,
            allow_functions=allowed,
            strict=strict,
            llm=scripted(quiet=quiet) if dry_run else None,
            search=scripted_search(quiet=quiet) if dry_run else None,
        )
        value = read_input(input, as_json=json_input)

        async def work() -> int:
            def execute(on_event: Show) -> Awaitable[RunResult]:
                def note(event: RunEvent) -> None:
                    stored[:] = [] if dry_run else [run_id]
                    on_event(event)

                return orchestrator.execute(
                    value,
                    run_id=run_id,
                    on_event=note,
                    distributed=distributed,
                    session_id=session,
                    trace=False if dry_run and trace is None else _wish(trace),
                    tokens=progress.tokens,
                )

            result = await progress.show(execute, orchestrator.graph)
            return report(result, out, as_log=json, quiet=quiet, kept=not dry_run)

        return _until_stopped(work, stored)


def resume(
    run_id: Annotated[str, Parameter(name="RUN", help="A run id, or the beginning of one.")],
    /,
    *,
    take_over: Annotated[bool, Parameter(help="Take the run from the process that executes it.")] = False,
    graph: Annotated[Path | None, Parameter(help="Go on with this changed graph.")] = None,
    json: AsLog = False,
    watch: Watch = False,
    quiet: Quiet = False,
    allow_functions: AllowFunctions = None,
    import_: Modules = None,
    trace: TraceFile = None,
    stream: Stream = False,
) -> int:
    """Finish a run that was interrupted or failed. What has finished is not executed again.

    Of a completed run the stored answer is printed, or its log.
    """
    progress = choose_progress(watch=watch, quiet=quiet, stream=stream)
    settings = Settings.from_environment()
    allowed = permission(allow_functions)
    found: list[RunId] = []
    with set_output_aside() as out:
        import_agents(import_)
        changed = load_source(graph).graph if graph is not None else None

        async def work() -> int:
            async with open_runs(settings) as runs:
                found.append(await find_run(runs, run_id))
            result = await progress.show(
                lambda on_event: finish(
                    found[0],
                    settings=settings,
                    allow_functions=allowed,
                    take_over=take_over,
                    graph=changed,
                    on_event=on_event,
                    visits=json,
                    trace=_wish(trace),
                    tokens=progress.tokens,
                ),
                None,
            )
            return report(result, out, as_log=json, quiet=quiet)

        return _until_stopped(work, found)


def _wish(trace: str | None) -> str | bool | None:
    return True if trace == ANY_FILE else trace


def permission(argument: str | None) -> bool | frozenset[str]:
    """Which functions may be called."""
    if argument is None:
        return False
    search_here("functions")
    return True if argument == ANY_MODULE else frozenset(name.strip() for name in argument.split(",") if name.strip())


def report(result: RunResult, out: TextIO, *, as_log: bool, quiet: bool, kept: bool = True) -> int:
    """Prints what a run gave, and gives its exit code. A failed one gives its log too, if that was asked for. `kept`: it can
    be read and resumed afterwards."""
    failed = result.status is not RunStatus.COMPLETED
    if result.trace is not None and not quiet:
        warn(f"trace: {result.trace}")
    if not failed and not quiet:
        for line in (*result.warnings, *remarks(result.results, result.run_id)):
            warn(safe_line(f"warning: {line}", 400))
    if as_log:
        print_json(log_entries(result.results, result.run_id), out)
    elif not failed:
        print_value(result.output, out)
    try:
        out.flush()
    except OutputLost:
        warn(f"run {result.run_id} {result.status}; what it gave is printed by: orka resume {result.run_id}")
        raise
    if kept and not quiet and (used := usage_text(result.usage)):
        warn(f"used {used}")
    if not failed:
        return Exit.OK
    where = f" at {readable(result.error_path)}" if result.error_path else ""
    if result.status is RunStatus.CANCELLED:
        warn(f"error: the run was cancelled{f': {result.error.message}' if result.error else ''}")
    else:
        why = f": {result.error.kind}: {result.error.message}" if result.error else ""
        warn(f"error: the run failed{where}{why}")
    if kept:
        _say_how_to_resume(result.run_id, _exceeded(result))
    return Exit.CANCELLED if result.status is RunStatus.CANCELLED else Exit.FAILED


def _exceeded(result: RunResult) -> str | None:
    """The key of the limit that ended the run: as it is it would end there again."""
    if result.error is None or result.error_path:
        return None
    keys = {RunTimeout: "deadline", StepsExceeded: "max_steps", BudgetExceeded: "budget"}
    return {kind.__name__: key for kind, key in keys.items()}.get(result.error.kind)


def _say_how_to_resume(run_id: str, exceeded: str | None = None) -> None:
    if exceeded is None:
        warn(f"resume it with: orka resume {run_id}")
    else:
        warn(f"resume it with a larger `{exceeded}` in FILE: orka resume {run_id} --graph FILE")


def _until_stopped(work: Callable[[], Coroutine[Any, Any, int]], stored: Sequence[RunId]) -> int:
    """`stored` holds the run's id as soon as there is something to resume."""

    def stopping() -> None:
        warn("stopping; press Ctrl-C again to leave at once")

    code = run_until_stopped(work, stopping=stopping)
    if code in (Exit.INTERRUPTED, Exit.TERMINATED) and stored:
        _say_how_to_resume(stored[0])
    return code
