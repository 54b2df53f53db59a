"""Run ids as people type them: the first characters are enough while only one run has them."""

from __future__ import annotations

from orka.cli.arguments import as_written
from orka.errors import ConfigError, RunNotFound
from orka.runs import Runs
from orka.types import RunId

_WHOLE = 36
"""Characters of a whole id."""


async def find_run(runs: Runs, text: str) -> RunId:
    """The run that `text` names. `ConfigError` where it is the beginning of several, `RunNotFound` of none."""
    text = as_written(text)
    if not text.strip():
        raise ConfigError("RUN is empty: give a run id, or the beginning of one; `orka runs list` shows them")
    if len(text) >= _WHOLE:
        return (await runs.info(RunId(text))).run_id
    try:
        return await runs.find(text)
    except RunNotFound as error:
        if "begin with" in str(error):
            raise ConfigError(str(error)) from None
        raise
