"""The input of a run: the argument itself, standard input, or JSON inline or in a file."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from orka.cli.arguments import STANDARD_INPUT
from orka.errors import ConfigError
from orka.types import Json


def read_input(argument: str, *, as_json: bool) -> Json:
    """A string, or any JSON value with `as_json`. One newline at the end of standard input is dropped.

    `ConfigError` when it is not UTF-8, or not JSON where JSON was promised.
    """
    if argument == STANDARD_INPUT:
        data = sys.stdin.buffer.read()
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
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} is not JSON: {error}") from None
