"""What an endpoint's refusal means and what to do about it. Pure."""

from __future__ import annotations

import sys
from typing import Any, cast

import msgspec

from orka.errors import LLMBadAnswer, LLMError, LLMRateLimited, LLMTimeout
from orka.llm.address import without_query
from orka.llm.base import Endpoint

_LONGEST = 300
"""Characters of what an endpoint says."""


def label_of(endpoint: Endpoint) -> str:
    return without_query(endpoint.url) if endpoint.url else endpoint.provider


def refusal(endpoint: Endpoint, model: str, status: int, body: object, *, retry_after: float | None = None) -> LLMError:
    """The error for an answer with this HTTP status. `body`: as decoded, or bytes."""
    where, said = label_of(endpoint), f"{status}: {said_by(endpoint, body)}"
    if status == 429:
        after = f"; it wants to be left alone for {retry_after:g} s" if retry_after else ""
        return LLMRateLimited(
            f"{where} takes no more questions now ({said}){after}", provider=where, retry_after=retry_after
        )
    if status in (401, 403):
        remedy = "the key is not valid for it" if endpoint.key else "it wants a key: set `api_key_env` of the agent"
        return LLMError(f"{where} refuses ({said}): {remedy}", provider=where, status=status)
    if status in (404, 405):
        return LLMError(
            f"{where} has no model {model!r}, or its address is wrong ({said}): look at `model` and `model_url`",
            provider=where,
            status=status,
        )
    if status in (408, 504):
        return _with_status(LLMTimeout(f"{where} gave no answer in time ({said})", provider=where), status)
    if status >= 500:
        return LLMError(f"{where} has failed ({said})", provider=where, status=status)
    return LLMError(f"{where} refuses the question ({said})", provider=where, status=status)


def transport_errors() -> tuple[type[Exception], ...]:
    """What the libraries let through from below them when a connection breaks in the middle of an answer. Which of the two
    they stand on is a matter of their version."""
    loaded = (sys.modules.get(name) for name in ("httpx", "httpx2"))
    return tuple(module.HTTPError for module in loaded if module is not None)


def broken(endpoint: Endpoint, why: str) -> LLMError:
    where = label_of(endpoint)
    said = redacted(endpoint, why) or "the connection was lost"
    return LLMError(f"{where} broke its answer off: {said}", provider=where)


def late(endpoint: Endpoint, model: str, seconds: float | None) -> LLMTimeout:
    within = f" within {seconds:g} s" if seconds else " in time"
    where = label_of(endpoint)
    return LLMTimeout(f"{where} gave no answer{within} (model {model!r}): raise `timeout` of the agent", provider=where)


def unreachable(endpoint: Endpoint, why: str) -> LLMError:
    where = label_of(endpoint)
    return LLMError(
        f"{where} cannot be reached ({redacted(endpoint, why)}): is the server running, and `model_url` right?",
        provider=where,
    )


_BROKEN = {"RemoteProtocolError", "ReadError", "WriteError", "ServerDisconnectedError", "ClientPayloadError"}
"""Names that the libraries below have for a connection that ended in the middle of something."""


def lost(endpoint: Endpoint, error: Exception) -> LLMError:
    """For a library's error about the connection: there was none, or it ended before the answer did."""
    cause = error.__cause__ or error
    if {type(cause).__name__, type(cause.__cause__).__name__} & _BROKEN:
        return broken(endpoint, str(cause))
    return unreachable(endpoint, str(cause) or type(cause).__name__)


def unreadable(endpoint: Endpoint, model: str, body: object) -> LLMBadAnswer:
    where = label_of(endpoint)
    return LLMBadAnswer(
        f"{where} does not answer as {endpoint.provider} does (model {model!r}): is `provider` right? It says: "
        f"{said_by(endpoint, body)}",
        provider=where,
    )


def said_by(endpoint: Endpoint, body: object) -> str:
    """What the endpoint says, on one line, without the key."""
    if isinstance(body, bytes):
        body = _decoded(body)
    text = _words(body)
    text = " ".join(redacted(endpoint, text).split())
    text = "".join(char if char.isprintable() else "?" for char in text)
    return (text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}...") or "(nothing)"


def redacted(endpoint: Endpoint, text: str) -> str:
    return text.replace(endpoint.key, "***") if endpoint.key else text


def _decoded(body: bytes) -> object:
    try:
        return msgspec.json.decode(body[:100_000])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body[:2000].decode("utf-8", "replace")


def _words(body: object) -> str:
    """`{"error": {"message": ...}}`, `{"error": "..."}`, `{"message": ...}`, `{"detail": ...}`: all are in use."""
    for _ in range(3):
        if not isinstance(body, dict):
            break
        table = cast("dict[str, Any]", body)
        body = next((table[key] for key in ("error", "message", "detail") if table.get(key)), str(table))
    return "" if body is None else str(body)


def _with_status(error: LLMError, status: int) -> LLMError:
    error.status = status
    return error
