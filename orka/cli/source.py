"""Graphs that commands are given: a file, or standard input where the argument is a lone `-`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orka.cli.arguments import STANDARD_INPUT
from orka.cli.input import read_bytes
from orka.errors import ConfigError
from orka.graph.load import Loaded
from orka.services import load_file, load_text

SHOWN = "<stdin>"
"""Standard input, in messages."""


def load_source(file: Path, *, strict: bool = False) -> Loaded:
    """`GraphError` with every fault; `ConfigError` when standard input cannot be read."""
    if str(file) != STANDARD_INPUT:
        return load_file(file, strict=strict)
    return load_text(read_bytes(), SHOWN, strict=strict)


def shown_name(file: Path) -> str:
    return SHOWN if str(file) == STANDARD_INPUT else str(file)


def refuse_twice(arguments: Sequence[str | Path]) -> None:
    """`ConfigError` where more than one argument is standard input, which can be read once."""
    if sum(str(argument) == STANDARD_INPUT for argument in arguments) > 1:
        raise ConfigError("only one argument can be '-': standard input is read once")
