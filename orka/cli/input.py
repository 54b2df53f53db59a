"""The input of a run: the argument itself, standard input, or JSON inline or in a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from orka.agents.values import MAX_DEPTH, ensure_json
from orka.cli.arguments import STANDARD_INPUT
from orka.errors import AgentError, ConfigError
from orka.types import Json


def open_input() -> BinaryIO:
    """Standard input. `ConfigError` when it is closed."""
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]  # closed by the caller of the process
        raise ConfigError("standard input is closed: '-' needs something to read from")
    return sys.stdin.buffer


def read_bytes() -> bytes:
    """All of standard input. `ConfigError` when it is closed or cannot be read."""
    source = open_input()
    try:
        return source.read()
    except (OSError, ValueError) as error:
        raise ConfigError(f"standard input cannot be read: {error}") from error


def read_input(argument: str, *, as_json: bool) -> Json:
    """A string, or any JSON value with `as_json`. One newline at the end of standard input is dropped.

    `ConfigError` when it is not UTF-8, or not JSON where JSON was promised.
    """
    if argument == STANDARD_INPUT:
        data = read_bytes()
        if as_json:
            return _decode(data, "standard input")
        return _text(data, "standard input").removesuffix("\n").removesuffix("\r")
    data = argument.encode("utf-8", "surrogateescape")
    if not as_json:
        return _text(data, "the input")
    try:
        file = Path(argument)
        if not argument.lstrip().startswith(("{", "[", '"')) and file.is_file():
            return _decode(file.read_bytes(), f"the file {argument!r}")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {argument!r}: {error}", path=argument) from error
    return _decode(data, "the input, which is not the name of a file either,")


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not UTF-8 text: {error.reason} at byte {error.start}") from None


def _decode(data: bytes, name: str) -> Json:
    try:
        return ensure_json(msgspec.json.decode(data), "input")
    except AgentError as error:  # a number or a nesting that JSON's readers do not agree on
        reason = str(error)
        shown = reason if len(reason) <= 200 else f"...{reason[-150:]}"
        raise ConfigError(f"{name.partition(',')[0]} cannot be used: {shown}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} is not JSON: {error}") from None
    except RecursionError:
        raise ConfigError(f"{name} is nested too deeply: at most {MAX_DEPTH} levels") from None
