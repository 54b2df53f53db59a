"""What is done to arguments before the parser sees them: options before the command, words it cannot express."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

STANDARD_INPUT = "\0stdin"
"""Stands for a lone `-`. No argument of a process can hold NUL, so `orka run FILE -- -` still means the text `-`."""

ANY_MODULE = "*"
"""Value of `--allow-functions` without one."""

_LEADING = frozenset({"--json", "--json-input"})
_VERBOSE = frozenset({"-v", "--verbose"})
ANY_FILE = "*"
"""Value of `--trace` without one: a name of its own in the folder of traces."""

_REWRITTEN = {
    "-": STANDARD_INPUT,
    "--allow-functions": f"--allow-functions={ANY_MODULE}",
    "--trace": f"--trace={ANY_FILE}",
    "--log-to-file": f"--trace={ANY_FILE}",  # of OrKa 0.9
}


@dataclass(frozen=True, slots=True)
class Arguments:
    """`tokens` for the parser, and whether `-v` stood anywhere before a `--`."""

    tokens: tuple[str, ...]
    verbose: bool


def as_written(argument: str) -> str:
    """An argument that is never standard input, such as a name."""
    return "-" if argument == STANDARD_INPUT else argument


def arrange(argv: Sequence[str], groups: Iterable[str]) -> Arguments:
    """Options before the command go behind it (and behind the second word of a group); everything after `--` stays."""
    end = argv.index("--") if "--" in argv else len(argv)
    own = [token for token in argv[:end] if token not in _VERBOSE]
    verbose = len(own) < end
    count = next((i for i, token in enumerate(own) if token not in _LEADING), len(own))
    leading, own = own[:count], [_REWRITTEN.get(token, token) for token in own[count:]]
    command = 2 if own and own[0] in groups else 1
    return Arguments((*own[:command], *leading, *own[command:], *argv[end:]), verbose)
