"""The import path under which programs written for OrKa 0.9 ran a file: `from orka.orka_cli import run_cli_entrypoint`."""

from orka.entrypoint import run_cli_entrypoint

__all__ = ["run_cli_entrypoint"]
