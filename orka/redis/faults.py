"""redis-py's errors as Orka's, translated once: what is wrong with which server, and the way out."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from typing import cast

from redis import exceptions as redis

from orka.errors import ServerError, StoreError

_START = "start it, correct REDIS_URL, or unset REDIS_URL to use the private server"

_DENIED = "does not allow this user what Orka needs: give it the permission named in the answer"
_DENIALS = ("NOPERM", "ERR ACL failure in script", "ERR The user executing the script can't")
"""The others come from within a script, in the words of newer and older servers."""
REPLIES: tuple[tuple[str, str], ...] = (
    ("NOAUTH", "asks for a password: put it into REDIS_URL (redis://:password@host:port/0)"),
    ("WRONGPASS", "refuses the user name or password in REDIS_URL"),
    *((start, _DENIED) for start in _DENIALS),
    ("OOM", "is full (its maxmemory is reached): give it more memory or delete data"),
    (
        "MISCONF",
        "cannot write to its disk and refuses writes: free some space on the server's disk, then look at its log",
    ),
    ("READONLY", "is a replica: put the address of its primary into REDIS_URL"),
    ("LOADING", "is still loading its data: try again in a while"),
    ("CLUSTERDOWN", "is a cluster that is down or has slots without a node: look at `CLUSTER INFO`"),
    ("MASTERDOWN", "has lost its primary"),
    ("ERR max number of clients reached", "accepts no more connections: raise its `maxclients`"),
    ("ERR DB index is out of range", "has no database of that number: correct the end of REDIS_URL"),
    ("ERR invalid DB index", "has no database of that number: correct the end of REDIS_URL"),
    ("ERR invalid password", "refuses the user name or password in REDIS_URL"),
    ("ERR Client sent AUTH, but no password is set", "has no password: remove it from REDIS_URL"),
    ("ERR AUTH <password> called without any password", "has no password: remove it from REDIS_URL"),
    ("BUSY ", "is busy with a script"),
)
"""How an error reply begins (https://valkey.io/topics/protocol/#simple-errors) and what that means for the reader."""


_PLACE = re.compile(r"\.?,? *script: (?:[0-9a-f]{40}, )?on @user_script:\d+\.?")


def translate(exc: BaseException, where: str = "", *, tls: bool = False) -> StoreError:
    """The `StoreError` for an error of redis-py, the network or TLS, to raise `from exc`.

    `where` is the target's label, `tls` whether it was spoken to in TLS.
    """
    name = f"Redis at {where}" if where else "Redis"
    chain = list(_chain(exc))
    for cause in chain:
        if isinstance(cause, StoreError):
            return cause
        if isinstance(cause, ServerError):  # the private server could not be revived
            return StoreError(str(cause))
        if (found := _network(cause, name)) is not None:
            late = tls and isinstance(cause, TimeoutError | redis.TimeoutError)
            return StoreError(f"{found}; use redis:// if the server has no TLS" if late else found)
    text = reply_text(exc) or type(exc).__name__
    for start, meaning in REPLIES:
        if any(_answer(cause).startswith(start) for cause in chain):
            return StoreError(f"{name} {meaning} ({text})")
    if isinstance(exc, redis.AuthenticationError):
        return StoreError(f"{name} refuses the user name or password in REDIS_URL ({text})")
    if isinstance(exc, redis.InvalidResponse):
        return StoreError(
            f"what listens at {where or 'REDIS_URL'} does not speak as Redis does ({text}): correct REDIS_URL"
        )
    if isinstance(exc, redis.RedisClusterException | redis.ClusterError):
        return StoreError(f"{name} cannot be used as a cluster ({text}): look at `CLUSTER INFO` and `CLUSTER SLOTS`")
    if isinstance(exc, redis.ConnectionError | OSError):
        return StoreError(f"the connection to {name} is lost ({text}): {_START}")
    return StoreError(f"{name} answered with an error: {text}")


def reply_text(reply: BaseException) -> str:
    """An error reply for people: without the place in our own script that the server adds."""
    if isinstance(reply, redis.AskError):  # whose text are two numbers
        slot, _, node = str(cast("object", reply.args[0])).partition(" ")
        return f"slot {slot} of the cluster moves to {node}, or has moved there"
    return _PLACE.sub("", str(reply)).strip()


def _network(cause: BaseException, name: str) -> str | None:
    match cause:
        case ssl.SSLCertVerificationError():
            return (
                f"{name} has a certificate that is not trusted ({cause.verify_message}): "
                "give its authority with ?ssl_ca_certs=FILE at the end of REDIS_URL"
            )
        case ssl.SSLError():
            return f"{name} and Orka do not agree on TLS ({cause.reason}): use redis:// if the server has no TLS"
        case socket.gaierror():
            return f"{name} cannot be found (unknown host name): correct REDIS_URL"
        case ConnectionRefusedError():
            return f"nobody listens at {name.removeprefix('Redis at ')} (connection refused): {_START}"
        case FileNotFoundError():
            return f"there is no socket {name.removeprefix('Redis at ')}: {_START}"
        case PermissionError():
            return f"you may not use {name} (permission denied)"
        case TimeoutError() | redis.TimeoutError():
            return (
                f"{name} does not answer in time: is it reachable from here, is it overloaded? "
                "ORKA_REDIS_TIMEOUT waits longer"
            )
        case _:
            return None


def _answer(cause: BaseException) -> str:
    """The error reply as the server wrote it: redis-py keeps the codes that it knows beside the text."""
    code = cast("str | None", getattr(cause, "status_code", None))
    return f"{code} {cause}" if code else str(cause)


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, outermost first."""
    seen: BaseException | None = exc
    for _ in range(10):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__


_TRANSIENT = frozenset(
    {"LOADING", "READONLY", "MISCONF", "OOM", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS"}
)
"""Error replies that pass by themselves (Redis error prefixes)."""


_SCRIPT_DOWN = "while the cluster is down"
"""What becomes of CLUSTERDOWN within a script, whose errors have no code of their own."""


def denied(reply: redis.ResponseError) -> bool:
    """The user may not do this: it is no fault of what was sent."""
    return _answer(reply).startswith(_DENIALS)


def passes(reply: redis.ResponseError) -> bool:
    """The same command may succeed later. (redis-py keeps the codes that it knows beside the text, and leaves the others in
    it.)"""
    code = cast("str | None", getattr(reply, "status_code", None)) or str(reply).partition(" ")[0]
    return code in _TRANSIENT or _SCRIPT_DOWN in str(reply)
