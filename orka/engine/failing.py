"""What a failed visit leaves behind: its error, and the output that templates still print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import msgspec

from orka.agents.values import as_output, output_value
from orka.engine.context import Frame
from orka.engine.copies import private_output
from orka.engine.outcome import Outcome
from orka.engine.program import Step
from orka.engine.retry import failure_of, inner_error
from orka.errors import AgentError
from orka.results import Failure, Usage
from orka.secrets import redact
from orka.types import Json


def failed_outcome(
    frame: Frame,
    step: Step,
    error: Exception | Failure,
    at_ms: int,
    attempts: int = 1,
    warnings: tuple[str, ...] = (),
    emitted: int = 0,
) -> Outcome:
    """The outcome of a visit whose last attempt ended in `error`, with the output that the error brings, else the one
    that the agent's type makes of it."""
    failure = error if isinstance(error, Failure) else failure_of(error)
    given: object
    given, usage = (None, None) if isinstance(error, Failure) else _brought(error)
    if given is None and step.on_failure is not None:
        given = step.on_failure(failure, at_ms)
    try:
        whole = as_output(dict(cast("Mapping[str, Json]", given)) if isinstance(given, Mapping) else given)
        output = output_value(msgspec.structs.replace(whole, usage=usage))
        if given is None:
            return Outcome(error=failure, attempts=attempts, usage=usage, warnings=warnings, emitted=emitted)
        output = cast("dict[str, Json]", redact(output))  # it quotes the error, which may quote a server
        stored, values = frame.run.codec.store(output)
    except AgentError as exc:  # the error matters more than an output that cannot be kept
        note = f"the output that came with the error is dropped: {exc}"
        return Outcome(error=failure, attempts=attempts, warnings=(*warnings, note), emitted=emitted)
    if not step.trusted:
        output = private_output(output, stored, values)
    return Outcome(
        output=output,
        stored=stored,
        values=values,
        error=failure,
        attempts=attempts,
        usage=usage,
        warnings=warnings,
        emitted=emitted,
    )


def _brought(error: Exception) -> tuple[object, Usage | None]:
    """Foreign code may have put anything there."""
    inner = inner_error(error)
    return (inner.output, inner.usage) if isinstance(inner, AgentError) else (None, None)
