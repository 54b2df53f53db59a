"""A few words with a server over its unix socket, without a client library: is it there, how is it, please stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import anyio

from orka.errors import ServerError


class Unreachable(ServerError):
    """Nobody listens on the socket, or the connection broke."""


class Silent(ServerError):
    """Somebody listens and does not answer."""


async def ask(socket: Path, *words: str, timeout: float) -> bytes:
    """Sends one command and gives its reply (RESP2): the line of a status or an error with its sign (`+PONG`,
    `-LOADING ...`), the bytes of a bulk string. Raises `Unreachable` or, after `timeout` seconds, `Silent`."""
    writer: asyncio.StreamWriter | None = None
    try:
        with anyio.fail_after(timeout):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            writer.write(_pack(words))
            line = (await reader.readuntil(b"\r\n"))[:-2]
            if line.startswith(b"$") and line != b"$-1":
                return (await reader.readexactly(int(line[1:]) + 2))[:-2]
            return line
    except TimeoutError as exc:
        raise Silent(f"no answer on {socket} within {timeout:g} s") from exc
    except (OSError, asyncio.IncompleteReadError) as exc:
        raise Unreachable(f"nobody answers on {socket}: {exc}") from exc
    finally:
        if writer is not None:
            writer.transport.abort()


async def ask_info(socket: Path, *sections: str, timeout: float) -> dict[str, str]:
    """INFO as a mapping; empty while the server refuses it."""
    return parse_info(await ask(socket, "INFO", *sections, timeout=timeout))


def parse_info(reply: bytes) -> dict[str, str]:
    """The `name:value` lines of an INFO reply (https://valkey.io/commands/info/)."""
    pairs = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines() if not line.startswith("#"))
    return {name: value for name, colon, value in pairs if colon}


def _pack(words: tuple[str, ...]) -> bytes:
    encoded = [word.encode() for word in words]
    parts = [b"*%d\r\n" % len(encoded), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)]
    return b"".join(parts)
