"""`orka run` and `orka resume`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from orka.cli.arguments import ANY_MODULE
from orka.cli.exits import Exit
from orka.cli.input import read_input
from orka.cli.interrupt import run_until_stopped
from orka.cli.live import LiveTree, on_terminal, print_event
from orka.cli.output import print_value, warn
from orka.errors import ConfigError
from orka.orchestrator import Orchestrator
from orka.runs import RunEvent, open_runs
from orka.settings import Settings
from orka.types import RunId

AllowFunctions = Annotated[
    str | None,
    Parameter(help="Let function agents call Python code: any module, or those named with =mod,mod."),
]
Watch = Annotated[bool, Parameter(help="Show progress also when nobody is at a terminal.")]
Quiet = Annotated[bool, Parameter(help="Show no progress.")]
Log = Annotated[bool, Parameter(name="--json", help="Print the list of log entries instead of the answer.")]
