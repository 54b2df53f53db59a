"""The argument parser, made from the table of commands. Only the command that is asked for is imported."""

from __future__ import annotations

from typing import Any, TextIO, cast

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from orka.cli.commands import COMMANDS, GROUPS
from orka.cli.exits import Exit
from orka.cli.output import StandardError, warn
from orka.logs import Format, configure
from orka.settings import Settings, load_env_file


def execute(tokens: tuple[str, ...], *, verbose: bool) -> int:
    """Parses and runs one command; a mistake in the arguments is one sentence and exit code 2."""
    load_env_file()
    settings = Settings.from_environment()
    level, form = "info" if verbose else settings.log_level, cast("Format", settings.log_format)
    configure(level, form, stream=cast("TextIO", StandardError()))
    try:
        code: Any = build()(tokens)
    except CycloptsError as error:
        chain = " ".join(error.command_chain or ())
        words = chain == "run" and isinstance(error, UnusedCliTokensError)
        hint = '\nAn input of several words is quoted: orka run FILE "two words"' if words else ""
        warn(f"error: {error}{hint}\nTry: orka{' ' + chain if chain else ''} --help")
        return Exit.USAGE
    return code if isinstance(code, int) else Exit.OK


def build() -> App:
    """The parser. Help is plain text: rendering Markdown costs another 100 ms."""
    app = _app("orka", "Run YAML graphs of agents, durably, on Redis.")
    groups = {name: _app(name, summary) for name, summary in GROUPS.items()}
    for name, target, summary in COMMANDS:
        group, _, word = name.rpartition(" ")
        (groups[group] if group else app).command(target, name=word, help=summary)
    for group in groups.values():
        app.command(group)
    return app


def _app(name: str, summary: str) -> App:
    return App(
        name=name,
        help=summary,
        help_format="plaintext",
        version_flags=(),
        default_parameter=Parameter(negative="", show_default=lambda value: value or None),
        result_action="return_value",
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
    )
