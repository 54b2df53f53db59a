"""A process that starts processes which run graphs, at a few milliseconds each: everything is imported once, and every
line of standard input forks a child that runs or resumes one run. Its pid is printed. Children are killed from outside.

    python -m support.nursery GRAPH HOME      then lines of JSON: {"resume": false, "run_id": ..., "input": ...}
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from orka.orchestrator import Orchestrator
from orka.settings import Settings
from orka.types import RunId


async def carry_out(graph: str, home: str, job: dict[str, Any]) -> None:
    settings = Settings(home=Path(home), server_linger=0, log_level="critical")
    orchestrator = Orchestrator(graph, settings=settings, allow_functions={"support.effects"})
    if job["resume"]:
        await orchestrator.finish(job["run_id"])
    else:
        await orchestrator.execute(job["input"], run_id=RunId(job["run_id"]))


def main(graph: str, home: str) -> None:
    import support.effects  # noqa: F401  (before the forks)

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    Orchestrator(graph)  # loads what children need
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            code = 1
            try:
                asyncio.run(carry_out(graph, home, json.loads(line)))
                code = 0
            finally:
                os._exit(code)
        print(child, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
