"""The `orka` command: from arguments to an exit code. Imports little, so that `--help` and `--version` are instant."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence

from orka.cli.arguments import Arguments, arrange
from orka.cli.commands import GROUPS, root_help
from orka.cli.exits import Exit, exit_for
from orka.cli.streams import OutputLost, discard, open_streams
from orka.errors import GraphError, OrkaError
from orka.version import VERSION

_HELP = frozenset({"-h", "--help"})
_VERSION = frozenset({"-V", "--version"})


def main() -> int:
    """The console script."""
    open_streams()
    code = perform(sys.argv[1:])
    if any(not t.daemon and t.is_alive() for t in threading.enumerate() if t is not threading.main_thread()):
        # A function that ignored its cancellation still runs in a thread; the interpreter would wait for it.
        sys.stderr.flush()
        os._exit(code)
    return code


def perform(argv: Sequence[str]) -> int:
    """Executes one command and gives its exit code. Never raises for what a user did."""
    code = _guarded(argv)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _without_reader()
    except OutputLost as error:
        code = _without_room(error)
    return code


def _guarded(argv: Sequence[str]) -> int:
    arguments = arrange(argv, GROUPS)
    try:
        return _dispatch(arguments)
    except BrokenPipeError:
        return _without_reader()
    except OutputLost as error:
        return _without_room(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except OrkaError as error:
        _report(error, arguments.verbose)
        return exit_for(error)
    except Exception as error:  # bulkhead: a defect is one line on the screen, all of it with -v
        from orka.cli.output import warn

        if arguments.verbose:
            _traceback(error)
        warn(f"internal error: {type(error).__name__}: {error}\n(a defect of Orka; -v prints where it happened)")
        return Exit.INTERNAL


def _dispatch(arguments: Arguments) -> int:
    tokens = arguments.tokens
    if not tokens or tokens[0] in _HELP:
        print(root_help())
        return Exit.OK
    if tokens[0] in _VERSION:
        print(f"orka {VERSION}")
        return Exit.OK
    from orka.cli.app import execute

    return execute(tokens, verbose=arguments.verbose)


def _report(error: OrkaError, verbose: bool) -> None:
    from orka.cli.output import warn

    if verbose:
        _traceback(error)
    if isinstance(error, GraphError) and error.diagnostics:  # they say it all, each with its own "error:"
        warn("\n".join(diagnostic.render() for diagnostic in error.diagnostics))
    else:
        warn(f"error: {error}")


def _traceback(error: Exception) -> None:
    import traceback

    from orka.cli.output import warn

    warn("".join(traceback.format_exception(error)).rstrip())


def _without_reader() -> Exit:
    """`orka ... | head`: what is still in the buffer must not raise once more when the interpreter ends."""
    discard(sys.stdout.fileno())
    return Exit.BROKEN_PIPE


def _without_room(error: OutputLost) -> Exit:
    """`orka ... > /dev/full`: nothing of what was printed last is known to have arrived."""
    from orka.cli.output import warn

    discard(sys.stdout.fileno())
    warn(f"error: standard output cannot be written: {error}")
    return Exit.OUTPUT_LOST


if __name__ == "__main__":
    sys.exit(main())
