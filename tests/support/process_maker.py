"""A process that forks workers and orchestrators, at a few milliseconds each: everything is imported once, and every line
of standard input starts one child, whose pid is printed. Children are killed, stopped and woken from outside.

    python -m support.process_maker      then lines of JSON:
    {"log": FILE, "environment": {...}, "worker": ["--concurrency", "4", ...]}
    {"log": FILE, "environment": {...}, "graph": FILE, "jobs": [...], "out": FILE}

A worker is `orka worker`. An orchestrator carries out jobs, all at once: {"mode": "submit" | "run" | "resume", "run_id",
"input"}, and writes a line of JSON for each that has ended.
"""

import asyncio
import contextlib
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from orka.cli.main import perform
from orka.errors import LeaseLost, OrkaError, RunAlive, RunNotFound
from orka.orchestrator import Orchestrator
from orka.results import RunResult
from orka.settings import Settings
from orka.types import RunId

ALLOWED = "support.chaos_agents"


async def carry_out(graph: str, jobs: list[dict[str, Any]], out: Path) -> None:
    settings = Settings.from_environment()
    async with Orchestrator(graph, settings=settings, allow_functions={ALLOWED}) as orchestrator:
        with out.open("a") as file:

            async def one(job: dict[str, Any]) -> None:
                ended = await outcome_of(orchestrator, job)
                file.write(json.dumps({"run_id": job["run_id"], **ended}) + "\n")
                file.flush()

            await asyncio.gather(*(one(job) for job in jobs))


async def outcome_of(orchestrator: Orchestrator, job: dict[str, Any]) -> dict[str, Any]:
    run_id, given = RunId(job["run_id"]), job["input"]
    while True:
        try:
            result = await end_of(orchestrator, job["mode"], run_id, given)
            return {"status": str(result.status), "answer": result.output}
        except RunAlive as exc:  # its owner is asleep: its lease has to run out
            await asyncio.sleep(exc.left_ms / 1000 + 0.01)
        except RunNotFound:  # its owner was killed before it was there, or the server has lost it
            if job["mode"] == "submit":
                continue
            result = await orchestrator.execute(given, run_id=run_id, distributed=True)
            return {"status": str(result.status), "answer": result.output}
        except LeaseLost:
            return {"status": "taken over", "answer": None}
        except OrkaError as exc:
            return {"status": f"{type(exc).__name__}: {exc}", "answer": None}


async def end_of(orchestrator: Orchestrator, mode: str, run_id: RunId, given: Any) -> RunResult:
    match mode:
        case "submit":
            handle = await orchestrator.submit(given, run_id=run_id)
            return await handle.finished()
        case "run":
            return await orchestrator.execute(given, run_id=run_id, distributed=True)
        case _:
            return await orchestrator.finish(run_id, visits=False)


def become(line: dict[str, Any]) -> int:
    """What a child does."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    os.environ.update(line["environment"])
    log = os.open(line["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(log, number)
    if "worker" in line:
        return int(perform(["worker", *line["worker"]]))
    asyncio.run(carry_out(line["graph"], line["jobs"], Path(line["out"])))
    return 0


def bury(logs: dict[int, str]) -> None:
    """Writes how each child ended under its log, and only then lets go of it."""
    for pid in list(logs):
        with contextlib.suppress(ChildProcessError):  # another signal came in the middle of this
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            file = logs.pop(pid, None) if ended is not None else None
            if ended is not None and file is not None:
                with Path(file).open("a") as log:
                    print("exit" if ended.si_code == os.CLD_EXITED else "signal", ended.si_status, file=log)
                os.waitpid(pid, 0)


def main() -> None:
    importlib.import_module(ALLOWED)  # before the forks, as the rest
    for name in ("orka.cli.worker", "orka.worker", "redis.asyncio", "numpy"):
        importlib.import_module(name)
    logs: dict[int, str] = {}
    signal.signal(signal.SIGCHLD, lambda *_: bury(logs))
    print("ready", flush=True)
    for text in sys.stdin:
        line = json.loads(text)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # until its log is known
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = become(line)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                raise
            finally:
                sys.stderr.flush()
                os._exit(code)
        logs[child] = line["log"]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        print(child, flush=True)


if __name__ == "__main__":
    main()
