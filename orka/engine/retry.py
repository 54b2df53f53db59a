"""Whether a failed attempt is repeated, and after how long. Pure."""

from __future__ import annotations

from typing import Final, cast

from orka.errors import AgentError, RunTimeout
from orka.graph.nodes import Retry
from orka.results import Failure
from orka.secrets import redact_text

_MOST_MESSAGE: Final = 4_000
"""Characters of an error's message that are kept: joins, failovers and the end of the run repeat it in their entries."""


def failure_of(error: Exception) -> Failure:
    """An exception as data. An `AgentError` speaks for the error it stands for, a group of one for the one in it. Without
    secrets: what quotes a server's answer may quote what was sent."""
    error = inner_error(error)
    kind = message_of(error.kind) if isinstance(error, AgentError) else type(error).__name__
    message = redact_text(_encodable(message_of(error)))
    if len(message) > _MOST_MESSAGE:
        message = f"{message[: _MOST_MESSAGE - 1]}…"
    return Failure(kind=_encodable(kind), message=message or kind)


def message_of(value: object) -> str:
    """`str(value)`, which for an agent's own error is foreign code."""
    try:
        return str.__str__(str(value))
    except Exception as exc:  # bulkhead: what is kept then says so
        return f"(its text cannot be told: {type(exc).__name__})"


def _encodable(text: str) -> str:
    """Without halves of surrogate pairs, which no journal can hold; names of files bring them into messages."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def inner_error(error: Exception) -> Exception:
    """What an agent's task groups have wrapped, as long as it is alone in them."""
    while isinstance(error, ExceptionGroup):
        within = cast("ExceptionGroup[Exception]", error).exceptions
        if len(within) != 1:
            break
        error = within[0]
    return cast(Exception, error)


def names_of(error: Exception) -> frozenset[str]:
    """What a retry policy's `on` may call this error: its class, the classes above it, and its kind."""
    names = {cls.__name__ for cls in type(error).__mro__ if issubclass(cls, Exception)}
    if (inner := inner_error(error)) is not error:
        names |= names_of(inner)
    if isinstance(error, AgentError):
        names.add(message_of(error.kind))
        cause = error.__cause__
        if isinstance(cause, Exception) and type(cause).__name__ == error.kind:  # it stands for that one
            names |= names_of(cause)
    if isinstance(error, RunTimeout):
        names |= {"TimeoutError", "timeout"}
    return frozenset(names)


def wants_retry(retry: Retry, attempt: int, error: Exception) -> bool:
    """`attempt` is the one that failed, from 1."""
    if attempt >= retry.attempts:
        return False
    return not retry.on or not names_of(error).isdisjoint(retry.on)


def delay_after(retry: Retry, attempt: int, draw: float) -> float:
    """Seconds to wait after the failed `attempt`. `draw` is uniform in 0..1 and chooses within the jitter."""
    try:
        delay = min(retry.max_delay, retry.delay * retry.factor ** (attempt - 1))
    except OverflowError:
        delay = retry.max_delay if retry.delay else 0.0
    return max(0.0, delay * (1 + retry.jitter * (2 * draw - 1)))
