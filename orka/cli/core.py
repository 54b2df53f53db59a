"""The other import path of OrKa 0.9 for running a file: `from orka.cli.core import run_cli_entrypoint`."""

from orka.entrypoint import run_cli_entrypoint

__all__ = ["run_cli_entrypoint"]
