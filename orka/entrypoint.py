"""A file run in one call, as programs written for OrKa 0.9 do it. Its import paths are `orka.orka_cli` and `orka.cli.core`."""

from __future__ import annotations

import os
from pathlib import Path

import anyio

from orka.engine.answer import log_entries, value_of
from orka.journal.entries import encode_json
from orka.orchestrator import Orchestrator
from orka.secrets import redact
from orka.types import Json

__all__ = ["run_cli_entrypoint"]

_LOG = "orka_trace.log"


async def run_cli_entrypoint(
    config_path: str | os.PathLike[str], input_text: Json, log_to_file: bool = False, verbose: bool = False
) -> Json:
    """Runs a file on an input and gives its answer. `log_to_file` writes the log entries to `orka_trace.log` in the working
    directory, without secrets; `verbose` gives them in place of the answer. Errors as `Orchestrator.run`."""
    result = await Orchestrator(config_path).execute(input_text)
    if log_to_file:
        await anyio.to_thread.run_sync(_store, list[Json](log_entries(result.results, result.run_id)))
    return value_of(result, return_logs=verbose)


def _store(log: Json) -> None:
    Path(_LOG).write_bytes(encode_json(redact(log)) + b"\n")
