"""`orka workers`: who serves which queue, how busy, and when it gave its last signs of life and of progress."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from orka.cli.exits import Exit
from orka.cli.interrupt import run_until_stopped
from orka.cli.output import print_json, print_table, span, warn
from orka.cli.runs import AsJson
from orka.clock import now_ms
from orka.dispatch.roster import WorkerInfo
from orka.runs import open_runs
from orka.settings import Settings

TITLES = ("WORKER", "HOST", "PID", "QUEUES", "RUNNING", "PARKED", "DONE", "SEEN", "PROGRESS", "STATE")


def workers(*, json: AsJson = False) -> int:
    """List the workers, the latest sign of life first.

    `late`: its sign of life is overdue by more than a lease, and what it had goes to others. `dead`: its process is gone.
    Both stay on the list for a while.
    """

    async def work() -> int:
        async with open_runs(Settings.from_environment()) as runs:
            found = await runs.workers()
        now = now_ms()
        if json:
            print_json([described(info, now) for info in found])
        elif found:
            print_table(TITLES, (row(info, now) for info in found))
        else:
            warn("there are no workers; `orka worker` starts one")
        return Exit.OK

    return run_until_stopped(work)


def described(info: WorkerInfo, now: int) -> dict[str, Any]:
    """For programs. `state` is what the worker said, `condition` what is to be thought of it."""
    return {**asdict(info), "late_ms": info.late_ms(now), "dead": info.dead, "condition": info.condition(now)}


def row(info: WorkerInfo, now: int) -> tuple[str, ...]:
    """One line for people, under `TITLES`."""
    return (
        *(info.worker, info.host, str(info.pid), ",".join(info.queues)),
        *(f"{info.running}/{info.concurrency}", str(info.parked), str(info.done)),
        *(f"{span(now - info.seen_ms)} ago", f"{span(now - info.progress_ms)} ago", info.condition(now)),
    )
